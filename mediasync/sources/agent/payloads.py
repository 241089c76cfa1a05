"""The payload of a frame from the agent, taken apart. Whatever is not as it should be, also a name that is no path below the root, is
SOURCE_PROTOCOL: the far side may be hostile."""

from __future__ import annotations

import enum
import struct

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, display
from mediasync.sources.base import FileEntry

U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
I64 = struct.Struct(">q")
LARGEST = 1 << 63  # sizes and inodes are kept as signed 64-bit numbers

_ENTRY = struct.Struct(">QqqQ")
_DOTS = (b".", b"..")


def broken(what: str) -> MediasyncError:
    """The error for a far side that does not keep to the protocol."""
    return MediasyncError(Reason.SOURCE_PROTOCOL, f"the program at the far side sent {what}")


class Fields:
    """Takes a payload apart; running over its end is SOURCE_PROTOCOL."""

    def __init__(self, kind: enum.IntEnum, data: bytes) -> None:
        self._kind = kind
        self._data = data
        self._at = 0

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        """The next numbers."""
        end = self._at + form.size
        if end > len(self._data):
            raise broken(f"a cut frame ({self._kind.name})")
        values: tuple[int, ...] = form.unpack_from(self._data, self._at)
        self._at = end
        return values

    def number(self, form: struct.Struct) -> int:
        """The next number."""
        return self.unpack(form)[0]

    def byte(self) -> int:
        """The next byte."""
        data = self._data[self._at : self._at + 1]
        if not data:
            raise broken(f"a cut frame ({self._kind.name})")
        self._at += 1
        return data[0]

    def text(self) -> bytes:
        """The next length and bytes."""
        return self.take(self.number(U16))

    def take(self, length: int) -> bytes:
        """So many bytes."""
        value = self._data[self._at : self._at + length]
        if len(value) != length:
            raise broken(f"a cut frame ({self._kind.name})")
        self._at += length
        return value

    def texts(self) -> list[bytes]:
        """The next number of texts, and these."""
        return [self.text() for _ in range(self.number(U32))]

    def message(self) -> str:
        """The next text, which people may read."""
        return display(self.text()[:1000])

    def done(self) -> None:
        """Nothing is left."""
        if self._at != len(self._data):
            raise broken(f"a frame with too much in it ({self._kind.name})")


def check_name(name: bytes, room: int) -> bytes:
    """`name` if it is one of at most `room` bytes."""
    if not name or len(name) > room or b"/" in name or b"\0" in name or name in _DOTS:
        raise broken(f"a name that is none: {display(name[:200])!r}")
    return name


def check_path(path: bytes) -> bytes:
    """`path` if it is one below the root (see `mediasync.paths.check_relative`). Raises SOURCE_PROTOCOL."""
    if len(path) > MAX_PATH_BYTES:
        raise broken(f"a path of {len(path)} bytes")
    for part in path.split(b"/"):
        check_name(part, MAX_NAME_BYTES)
    return path


def entry_of(fields: Fields, path: bytes) -> FileEntry:
    """The next file, which is at `path`."""
    size, mtime, ctime, inode = fields.unpack(_ENTRY)
    if size >= LARGEST or inode >= LARGEST:
        raise broken(f"a size of {size} bytes or an inode {inode}")
    return FileEntry(path, size, mtime, ctime, inode)
