"""What rsync prints of files, read back exactly.

`--list-only` prints a line for each: mode, size, time, name. With `-8` only control characters are escaped, as `\\#ooo`, and a
backslash where it would otherwise look like that, so that every name can be told, line breaks included. Times are whole seconds of
the zone that rsync runs in: ours runs in UTC.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import check_relative, display

LIST = ("--list-only", "--no-human-readable", "--8-bit-output")

_LINE = re.compile(rb"([-dlpscbD])[-rwxsStT]{9}\S? +(\d+) (-?\d+)/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) (.+)", re.DOTALL)
_ESCAPE = re.compile(rb"\\#([0-7]{3})")
_QUOTED = re.compile(rb'"(.*)"', re.DOTALL)
_ERRNO = re.compile(rb"failed(?: to open[^:]*)?:? (.*) \((\d+)\)$")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing at the far side. `path` is empty for the root; `kind` is the mode's first letter."""

    kind: str
    size_bytes: int
    mtime_ns: int
    path: bytes


def unescaped(name: bytes) -> bytes:
    """A name as it is."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), name)


def parse(line: bytes) -> Line:
    """Reads one line, without its end. Raises SOURCE_PROTOCOL."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise _broken(f"rsync's list has a line that is none: {display(line[:200])}")
    kind, size, *moment, name = found.groups()
    path = unescaped(name)
    if path == b".":
        path = b""
    else:
        try:
            check_relative(path)
        except MediasyncError as error:
            raise _broken(f"rsync lists a name that leads elsewhere: {display(path)}") from error
    try:
        seconds = calendar.timegm((*map(int, moment), 0, 0, 0))
    except ValueError as error:
        raise _broken(f"rsync's list has a time that is none: {display(line[:200])}") from error
    return Line(kind.decode(), int(size), seconds * 10**9, path)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A line of rsync's stderr. `path` is what stands in quotes, absolute at the far side; `errno` 0 where it says none."""

    text: str
    path: bytes = b""
    errno: int = 0
    why: str = ""
    here: bool = False

    def is_of(self, relative: bytes) -> bool:
        """Whether it may speak of that path below the root: rsync says it in full, by a name of the root that is not known here."""
        return self.path == relative or self.path.endswith(b"/" + relative)


def trouble(line: bytes) -> Trouble:
    """Reads one line."""
    quoted = _QUOTED.search(line)
    errno = _ERRNO.search(line)
    return Trouble(
        display(unescaped(line)[:500]),
        unescaped(quoted[1]) if quoted else b"",
        int(errno[2]) if errno else 2 if line.startswith(b"file has vanished") else 0,
        display(errno[1]) if errno else "",
        b"[receiver]" in line or b"[generator]" in line,
    )


def _broken(message: str) -> MediasyncError:
    return MediasyncError(Reason.SOURCE_PROTOCOL, message)
