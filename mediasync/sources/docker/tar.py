"""A tar archive, taken apart as it streams by: nothing of it is kept but the piece under way.

Knows what Docker engines write: ustar heads, PAX records for long names and large numbers, and GNU's long names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mediasync.paths import MAX_PATH_BYTES

BLOCK = 512
_MAX_RECORDS = 1 << 20


class Bytes(Protocol):
    """Where an archive comes from."""

    async def readany(self) -> bytes:
        """What has come, at least a byte; empty at the end."""


class BrokenArchiveError(Exception):
    """It ended too early, or is no archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `kind` is tar's letter: `0` a file, `1` another name of an earlier one, `2` a link, `5` a folder."""

    name: bytes
    kind: bytes
    size_bytes: int
    mtime_ns: int

    @property
    def is_file(self) -> bool:
        """Whether bytes of a regular file follow."""
        return self.kind in (b"0", b"\0", b"7")


class TarStream:
    """Entries, one after the other, and the bytes of the one under way."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self._buffer = bytearray()
        self._left = 0
        self._padding = 0
        self.bytes_passed = 0

    async def next(self) -> Member | None:
        """The next entry, or None at the end; what is left of the last one is passed over. Raises BrokenArchiveError."""
        while self._left:
            await self.piece()
        await self._take(self._padding)
        self._padding = 0
        records: dict[bytes, bytes] = {}
        while True:
            head = await self._take(BLOCK)
            if not head.strip(b"\0"):
                return None
            size, kind = _number(head[124:136]), head[156:157]
            if _sum(head) != _number(head[148:156]):
                raise BrokenArchiveError("a head without its checksum")
            if kind in (b"x", b"g", b"L", b"K"):
                if size > _MAX_RECORDS:
                    raise BrokenArchiveError(f"a record of {size} bytes")
                data = await self._take(size)
                await self._take(-size % BLOCK)
                if kind == b"x":
                    records |= _pax(data)
                elif kind == b"L":
                    records[b"path"] = data.rstrip(b"\0")
                continue
            return self._member(head, kind, size, records)

    def _member(self, head: bytes, kind: bytes, size: int, records: dict[bytes, bytes]) -> Member:
        name = head[:100].partition(b"\0")[0]
        if head[257:262] == b"ustar" and (prefix := head[345:500].partition(b"\0")[0]) and b"path" not in records:
            name = prefix + b"/" + name
        try:
            size = int(records.get(b"size", size))
            mtime = _nanoseconds(records[b"mtime"]) if b"mtime" in records else _number(head[136:148]) * 10**9
        except ValueError as error:
            raise BrokenArchiveError("a number that is none") from error
        name = records.get(b"path", name)
        if size < 0 or len(name) > 2 * MAX_PATH_BYTES:
            raise BrokenArchiveError("an entry that cannot be")
        # Only files have bytes, whatever the head of others says.
        self._left = size if kind in (b"0", b"\0", b"7") else 0
        self._padding = -self._left % BLOCK
        return Member(name, kind, size, mtime)

    async def piece(self) -> bytes:
        """The next bytes of the entry under way; empty at its end. Raises BrokenArchiveError."""
        if not self._left:
            return b""
        if not self._buffer:
            data = await self._more()
            if len(data) <= self._left:
                self._left -= len(data)
                return data
            self._buffer += data
        data = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(data)
        return data

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _more(self) -> bytes:
        data = await self._source.readany()
        if not data:
            raise BrokenArchiveError("it ended too early")
        self.bytes_passed += len(data)
        return data


def _number(field: bytes) -> int:
    if field[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(field[1:], "big") if field[:1] == b"\x80" else int.from_bytes(field, "big", signed=True)
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError as error:
        raise BrokenArchiveError("a head without numbers") from error


def _sum(head: bytes) -> int:
    return sum(head) - sum(head[148:156]) + 8 * 0x20


def _pax(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space]
        if space < 0 or not length.isdigit() or not space - at < int(length) <= len(data) - at:
            raise BrokenArchiveError("a record without its length")
        key, equals, value = data[space + 1 : at + int(length) - 1].partition(b"=")
        if not equals:
            raise BrokenArchiveError("a record without a value")
        records[key] = value
        at += int(length)
    return records


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    whole = int(seconds) * 10**9
    part = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    return whole - part if text.startswith(b"-") else whole + part
