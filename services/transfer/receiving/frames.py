"""What goes between the worker and a receiver process.

A frame is its kind (1 byte), the length of its payload (4 bytes) and the payload. To the receiver go pickles of our own plain data. From
it, as it reads what a hostile far side sends, come fixed records and JSON only: whatever came to control it could do no more than tell
untruths about files.
"""

from __future__ import annotations

import asyncio
import enum
import json
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, reason_of
from mediasync.model import SourceSpec
from mediasync.sources.base import FileEntry, FileRead, ReadStatus, WantedFile
from mediasync.sources.selection import Selection
from mediasync.sources.ssh_program import Program
from services.transfer.entities import StagedFile
from services.transfer.receiving.reception import Received
from services.transfer.receiving.windows import Line
from services.transfer.staging import StagingArea

_HEADER = struct.Struct("<BI")
_RECORD = struct.Struct("<BBQqqQ32sHH")
_BYTES = struct.Struct("<QI")
_OPENED = struct.Struct("<d")
_HAS_ENTRY, _STAGED, _INCOMPLETE = 1, 2, 4
_STATUSES = tuple(ReadStatus)
_STATUS_NUMBERS = {status: number for number, status in enumerate(_STATUSES)}
_NO_HASH = bytes(32)
_MAX_FRAME_BYTES = 16 << 20


class Order(enum.IntEnum):
    """What the worker says."""

    OPEN = 1
    WINDOW = 2
    PULL = 3
    BATCH = 4
    NO_MORE = 5
    RATE = 6


class Answer(enum.IntEnum):
    """What the receiver says."""

    OPENED = 65
    """It is connected; the round trip in seconds follows."""
    WANTS = 66
    """It has room for another batch."""
    RECEIVED = 67
    """What became of some files, in the order in which they were asked for."""
    BYTES = 68
    """So many bytes of the file that is the so-manieth still to be answered came in."""
    PULLED = 69
    """Every file was answered."""
    FAILED = 70
    """It cannot go on; the error follows."""


@dataclass(frozen=True)
class Open:
    """Connect to this source. `home` is the data folder; `program` is the client for a host that is near. With `line` it goes
    on from its login by itself, without waiting for its window."""

    spec: SourceSpec
    home: str
    folders: tuple[bytes, ...]
    program: Program | None = None
    line: Line | None = None


@dataclass(frozen=True)
class PullOrder:
    """Receive batches into this area. `bytes_per_second` is the limit, None for none."""

    area: StagingArea
    selection: Selection
    bytes_per_second: float | None


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def order(kind: Order, value: object) -> bytes:
    """An order with what belongs to it."""
    return frame(kind, pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def value_of(payload: bytes) -> object:
    """What `order` packed. Only for what comes from the worker."""
    return pickle.loads(payload)  # noqa: S301 - a pipe from our own parent process


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame. Raises asyncio.IncompleteReadError at the end, ValueError for one that cannot be."""
    kind, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if length > _MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    return kind, await reader.readexactly(length) if length else b""


def opened(round_trip_seconds: float) -> bytes:
    """OPENED."""
    return frame(Answer.OPENED, _OPENED.pack(round_trip_seconds))


def read_opened(payload: bytes) -> float:
    """The round trip."""
    (seconds,) = _OPENED.unpack(payload)
    return float(seconds)


def failed(error: MediasyncError) -> bytes:
    """FAILED."""
    said = {"reason": error.reason.value, "message": error.message, "remedy": error.remedy, "metadata": dict(error.metadata)}
    return frame(Answer.FAILED, json.dumps(said).encode())


def read_failed(payload: bytes) -> MediasyncError:
    """The error."""
    said = json.loads(payload)
    return MediasyncError(reason_of(said["reason"]), said["message"], said["remedy"], metadata=said["metadata"])


def bytes_came(count: int, place: int) -> bytes:
    """BYTES: `place` is how many files are to be answered before that one."""
    return frame(Answer.BYTES, _BYTES.pack(count, place))


def read_bytes_came(payload: bytes) -> tuple[int, int]:
    """(count, place)."""
    count, place = _BYTES.unpack(payload)
    return count, place


def received(files: Sequence[Received]) -> bytes:
    """RECEIVED."""
    parts = []
    for item in files:
        outcome, staged = item.outcome, item.staged
        entry = outcome.entry or FileEntry(b"", 0, 0, 0, 0)
        message = outcome.message.encode("utf-8", "replace")[:1000]
        path = staged.staged_path if staged else b""
        flags = (_HAS_ENTRY if outcome.entry else 0) | (_STAGED if staged else 0) | (_INCOMPLETE if outcome.incomplete else 0)
        parts.append(
            _RECORD.pack(
                _STATUS_NUMBERS[outcome.status],
                flags,
                entry.size_bytes,
                entry.mtime_ns,
                entry.ctime_ns,
                entry.inode,
                staged.sha256 if staged else _NO_HASH,
                len(path),
                len(message),
            )
        )
        parts += (path, message)
    return frame(Answer.RECEIVED, b"".join(parts))


def read_received(payload: bytes, asked: Sequence[WantedFile]) -> list[Received]:
    """What became of the first of `asked`. Raises ValueError, struct.error or IndexError for what cannot be."""
    result: list[Received] = []
    at = 0
    while at < len(payload):
        status, flags, size, mtime, ctime, inode, sha256, path_length, message_length = _RECORD.unpack_from(payload, at)
        at += _RECORD.size
        path = payload[at : at + path_length]
        at += path_length
        message = payload[at : at + message_length].decode("utf-8", "replace")
        at += message_length
        wanted = asked[len(result)]
        entry = FileEntry(wanted.path, size, mtime, ctime, inode) if flags & _HAS_ENTRY else None
        incomplete = bool(flags & _INCOMPLETE)
        staged = StagedFile(entry, path, sha256, incomplete) if flags & _STAGED and entry is not None else None
        result.append(Received(FileRead(wanted, _STATUSES[status], entry, incomplete, message), staged))
    if at != len(payload):
        raise ValueError("a cut record")
    return result
