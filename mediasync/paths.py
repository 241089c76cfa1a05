"""Names that came from a source: bytes to open, and a display form for people.

A name is never a command and never a way out of the library (invariant I7): `check_relative` is the one gate that every
path from a far side passes before it is used.
"""

from __future__ import annotations

import re

from mediasync.errors import MediasyncError, Reason

MAX_NAME_BYTES = 255  # NAME_MAX of Linux file systems
MAX_PATH_BYTES = 4095  # PATH_MAX less its NUL
_PART = rb"(?!\.{1,2}(?:/|\Z))[^/\0]{1,%d}" % MAX_NAME_BYTES
_RELATIVE = re.compile(_PART + rb"(?:/" + _PART + rb")*\Z")


def display(path: bytes) -> str:
    """`path` for people: UTF-8 where it is, anything undecodable, control or bidirectional as an escape, so that no name
    can fake a line of output or move a cursor. Not reversible, never to be opened."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def check_relative(path: bytes) -> bytes:
    """Returns `path` if it is a safe relative path: no absolute one, no empty, `.` or `..` part, no NUL, no part over 255 bytes.

    Raises MediasyncError with FILE_NAME_UNSAFE.
    """
    if len(path) > MAX_PATH_BYTES or _RELATIVE.match(path) is None:
        raise MediasyncError(Reason.FILE_NAME_UNSAFE, f"the source named a file {display(path[:200])!r}, which is no path below its root")
    return path
