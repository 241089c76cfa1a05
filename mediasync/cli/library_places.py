"""Which library, and which part of it, a person means; and which moment."""

from __future__ import annotations

import os
import time
from datetime import datetime

from mediasync.cli.sync_options import age_seconds, wrong
from mediasync.errors import FieldViolation, MediasyncError, Reason

_MARKER = os.path.join(".mediasync", "library.json")


def find(path: str, library: str, media_base: str) -> tuple[str, bytes]:
    """The library's folder, and the path within it (empty for everything) that `path` means.

    A path that is relative is one of the library, if that is named; else it is one of this machine, as in any other command.
    """
    if library:
        root = absolute(library)
        return root, _within(os.path.join(root, path), root) if path else b""
    named = os.path.abspath(os.path.expanduser(path)) if path else ""
    around = _library_of(named) if named else ""
    if around:
        return around, _within(named, around)
    root = absolute(media_base) if media_base else _library_of(os.getcwd())
    if not root:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"{named or 'this folder'} is in no library, and none is named",
            "Name it with --library DIR, or set MEDIA_BASE; `mediasync library adopt DIR` makes one of a folder.",
            [FieldViolation("--library", "missing")],
        )
    return root, _within(os.path.join(root, path), root) if path else b""


def absolute(path: str) -> str:
    """A folder of this machine. Raises INVALID_ARGUMENT for a name that cannot travel."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise wrong("--library", "the library's name is not UTF-8, which the path of a library has to be") from None
    return os.path.abspath(os.path.expanduser(path))


def moment_ns(option: str, text: str) -> int:
    """A moment by its age or its date, in Unix nanoseconds; 0 for none. Raises INVALID_ARGUMENT."""
    if not text:
        return 0
    try:
        return time.time_ns() - round(age_seconds(text) * 1e9)
    except ValueError:
        pass  # no age; it may be a date
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1e9)
    except ValueError:
        raise wrong(
            option, f"{option} {text!r}: expected an age such as 7d or 12h, or a date such as 2026-11-21 or 2026-11-21T10:00"
        ) from None


def _library_of(path: str) -> str:
    """The folder with a library's marker that `path` is, or is in; empty if there is none."""
    while True:
        if os.path.isfile(os.path.join(path, _MARKER)):
            return path
        parent = os.path.dirname(path)
        if parent == path:
            return ""
        path = parent


def _within(path: str, root: str) -> bytes:
    relative = os.path.relpath(os.path.abspath(path), root)
    if relative == os.curdir:
        return b""
    if relative.startswith(os.pardir + os.sep) or relative == os.pardir:
        raise wrong("PATH", f"{path} is not in the library {root}")
    return os.fsencode(relative)
