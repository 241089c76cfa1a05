"""What is said to the shell of the POSIX engine and how its answers read (`mediasync.sources.shell_posix` has the other end), as strict
as it must be against a hostile far side: whatever is not as it should be is SOURCE_PROTOCOL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.sources import shell_posix
from mediasync.sources.base import FileEntry

LARGEST = 1 << 63  # sizes and inodes are kept as signed 64-bit numbers
MAX_RECORD = 64 * 1024
SECOND_NS = 10**9

_PLAIN = re.compile(rb"[A-Za-z0-9._/+=@%,:-]+")
_MODE_KINDS = {0o100000: "f", 0o040000: "d", 0o120000: "l"}
_STAMP = re.compile(rb"(-?\d{1,18})(?:\.(\d{1,9})\d*)?")
_DATE = re.compile(rb"[^.|]*?(?:\.(\d{9})[^.|]*)?")


def broken(what: str) -> MediasyncError:
    """The error for a far side that does not keep to the protocol."""
    return MediasyncError(Reason.SOURCE_PROTOCOL, f"the shell at the far side sent {what}")


def word(value: bytes) -> bytes:
    """`value`, which is not empty, as a word that the shell's `printf %b` makes into the same bytes."""
    if _PLAIN.fullmatch(value):
        return value
    return b"".join(b"%c" % byte if _PLAIN.match(b"%c" % byte) else b"\\0%03o" % byte for byte in value)


def path_word(path: bytes) -> bytes:
    """A path below the root, as a word; empty for the root itself. It begins with `./`, so that no tool takes it for an option."""
    return word(b"./" + path) if path else b"."


def request(*words: bytes) -> bytes:
    """One line."""
    return b" ".join(words) + b"\n"


def program() -> bytes:
    """The program as the first line of the shell's stdin."""
    return shell_posix.program().strip().encode().replace(b"\\", b"\\0134").replace(b"\n", b"\\0012") + b"\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a path told. `kind` is `f`, `d`, `l` or anything else, as `find` has it; `links` is 0 where it was not told."""

    kind: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int = 0
    birth_ns: int | None = None
    accessed_ns: int | None = None

    def entry(self, path: bytes) -> FileEntry:
        """As a file of a scan."""
        return FileEntry(path, self.size_bytes, self.mtime_ns, self.ctime_ns, self.inode, self.birth_ns, self.accessed_ns)

    def same(self, later: Seen) -> bool:
        """Whether a file stood still until a later look. What was deleted meanwhile is complete, and its ctime moved for that alone."""
        if (self.size_bytes, self.mtime_ns, self.inode) != (later.size_bytes, later.mtime_ns, later.inode):
            return False
        return self.ctime_ns == later.ctime_ns or self.links != later.links


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise broken(f"{display(text[:100])!r} for a number")
    value = int(text)
    # Overlay and network file systems use the highest bit of inodes too.
    return value & (LARGEST - 1)


def size(text: bytes) -> int:
    """A number of bytes."""
    if not text.isdigit() or len(text) > 19 or int(text) >= LARGEST:
        raise broken(f"{display(text[:100])!r} for a size")
    return int(text)


def _stamp(text: bytes) -> int:
    found = _STAMP.fullmatch(text)
    if found is None:
        raise broken(f"{display(text[:100])!r} for a time")
    return _clamp(int(found[1]) * SECOND_NS + (int(found[2].ljust(9, b"0")) if found[2] else 0))


def _dated(seconds: bytes, date: bytes) -> int:
    found = _DATE.fullmatch(date)
    if found is None or _STAMP.fullmatch(seconds) is None:
        raise broken(f"{display(date[:100])!r} for a date")
    return _clamp(int(seconds) * SECOND_NS + (int(found[1]) if found[1] else 0))


def _clamp(moment_ns: int) -> int:
    # Some file systems hold times that 64 bits do not.
    return max(-(1 << 62), min(1 << 62, moment_ns))


def seen(fields: bytes) -> Seen:
    """What `stat` or `find` told of one path."""
    parts = fields.split(b"|")
    if len(parts) == shell_posix.FIELDS_OF_FIND:
        kind = parts[4].decode("ascii", "replace")
        return Seen(kind, size(parts[0]), _stamp(parts[2]), _stamp(parts[3]), _number(parts[1]))
    ages = parts[shell_posix.FIELDS_OF_STAT :]
    if len(parts) not in (shell_posix.FIELDS_OF_STAT, shell_posix.FIELDS_OF_AGED_STAT):
        raise broken(f"a record that is none: {display(fields[:200])!r}")
    length, inode, mtime, mdate, ctime, cdate, mode, links = parts[: shell_posix.FIELDS_OF_STAT]
    try:
        kind = _MODE_KINDS.get(int(mode, 16) & 0o170000, "?")
    except ValueError:
        raise broken(f"{display(mode[:100])!r} for a mode") from None
    birth, accessed = (_known(*ages[:2]), _known(*ages[2:])) if ages else (None, None)
    return Seen(kind, size(length), _dated(mtime, mdate), _dated(ctime, cdate), _number(inode), _number(links), birth, accessed)


def _known(seconds: bytes, date: bytes) -> int | None:
    """A time that the far side may not know: it says nothing, 0, a dash or the letters that it was asked with then."""
    if not seconds.strip(b"-").isdigit() or int(seconds) <= 0:
        return None
    return _dated(seconds, date)


def identity(size_bytes: int, mtime_ns: int, inode: int) -> tuple[bytes, bytes]:
    """The words that say which file is meant; the shell compares them with the beginning of what `stat` prints."""
    seconds, fraction = divmod(mtime_ns, SECOND_NS)
    return b"%d|%d|%d" % (size_bytes, inode, seconds), b".%09d" % fraction


class RecordParser:
    """Cuts a listing into its records. None of its paths holds two slashes in a row, and no field a slash."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records (path, fields) that are whole now. Those about the listing have an empty path."""
        pieces = (self._rest + data).split(b"//")
        path = pieces[0]
        for piece in pieces[1:-1]:
            fields, newline, following = piece.partition(b"\n")
            if not newline:
                raise broken(f"a record that does not end: {display(piece[:200])!r}")
            yield path, fields
            path = following
        last = pieces[-1]
        if len(pieces) > 1:
            fields, newline, following = last.partition(b"\n")
            self._rest = following if newline else path + b"//" + last
            if newline:
                yield path, fields
        else:
            self._rest = last
        if len(self._rest) > MAX_RECORD:
            raise broken("a record without an end")

    @property
    def rest(self) -> bytes:
        """What is left of a record."""
        return self._rest


_LISTED = re.compile(rb"\./[^\0]+")


def listed_path(path: bytes) -> bytes:
    """The path of a record, relative to the root."""
    if path == b".":
        return b""
    if not _LISTED.fullmatch(path) or path.endswith(b"/"):
        raise broken(f"a name that is none: {display(path[:200])!r}")
    below = path[2:]
    if below.startswith(b"/") or any(part in (b".", b"..") for part in below.split(b"/")):
        raise broken(f"a name that is none: {display(path[:200])!r}")
    return below


def clock_ns(text: bytes) -> int:
    """What `date` printed; without nanoseconds where it knows none."""
    seconds, _, fraction = text.partition(b".")
    return _stamp(seconds + b"." + fraction if fraction.isdigit() else seconds)
