"""Names that came from a source: bytes to open, and a display form for people.

A name is never a command and never a way out of the library (invariant I7): `check_relative` is the one gate that every
path from a far side passes before it is used.
"""

from __future__ import annotations

from mediasync.errors import MediasyncError, Reason

MAX_NAME_BYTES = 255  # NAME_MAX of Linux file systems
MAX_PATH_BYTES = 4095  # PATH_MAX less its NUL


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
    parts = path.split(b"/")
    bad = (
        not path
        or len(path) > MAX_PATH_BYTES
        or b"\0" in path
        or any(part in (b"", b".", b"..") or len(part) > MAX_NAME_BYTES for part in parts)
    )
    if bad:
        raise MediasyncError(Reason.FILE_NAME_UNSAFE, f"the source named a file {display(path[:200])!r}, which is no path below its root")
    return path
