"""This side's view of the agent's frames (`program/frames.py` has the other's), as strict as it must be against a hostile far side. What is
sent is made by `requests`; what a scan says is read by `scanned`; `payloads` takes frames apart.

Everything received is bounded: a frame by `MAX_FRAME`, the text before the marker by `MAX_GREETING`. A frame that is not what it
should be, and a name that is no path below the root, raise SOURCE_PROTOCOL.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import MAX_PATH_BYTES, display
from mediasync.sources.agent.payloads import I64, LARGEST, U32, U64, Fields, broken, check_path, entry_of
from mediasync.sources.base import DeleteStatus, FileEntry, ReadStatus, Surroundings

VERSION = 4
MARKER = b"\0mediasync-agent "
MAX_FRAME = 1 << 20

_HEADER = struct.Struct(">BI")
_SPACE = struct.Struct(">QQ")


class Request(enum.IntEnum):
    """Kinds of frames that are sent."""

    HELLO = 1
    LIST = 2
    MISSING = 3
    KNOWN = 4
    SCAN = 5
    READ = 6
    SELECT = 7
    HASH = 8
    DELETE = 9
    WATCH = 10
    SURROUNDINGS = 11
    MOVE_ASIDE = 12
    EMPTY_ASIDE = 13
    REMOVE_FOLDERS = 14


class Answer(enum.IntEnum):
    """Kinds of frames that are received."""

    READY = 65
    FAILED = 66
    NAMES = 67
    DIRECTORY = 68
    UNREADABLE_DIRECTORY = 69
    SCANNED = 70
    BEGIN = 71
    END = 72
    SKIPPED = 73
    TICK = 74
    ALIVE = 75
    GONE = 76
    FILTERED = 77
    HASHED = 78
    DELETED = 79
    MOVED = 80
    FREE = 81
    EMPTIED = 82


_VERDICTS = (ReadStatus.OK, ReadStatus.UNSETTLED, ReadStatus.CHANGED, ReadStatus.VANISHED, ReadStatus.UNREADABLE)
_DELETIONS = (DeleteStatus.DELETED, DeleteStatus.CHANGED, DeleteStatus.VANISHED, DeleteStatus.REFUSED, DeleteStatus.KEPT)
_DIGEST_BYTES = 32
_HAS_ENTRY, _INCOMPLETE = 1, 2
_ROOT_MISSING, _ROOT_UNREADABLE = 1, 2


def frame(kind: int, payload: bytes) -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


@dataclass(frozen=True)
class Ready:
    """What the agent says of itself."""

    clock_ns: int
    python: str
    platform: str
    root: bytes


def ready(payload: bytes) -> Ready:
    """Reads READY."""
    fields = Fields(Answer.READY, payload)
    clock = fields.number(I64)
    python, platform, root = fields.message(), fields.message(), fields.text()
    fields.done()
    if not root.startswith(b"/") or b"\0" in root or len(root) > MAX_PATH_BYTES:
        raise broken(f"a root that is none: {display(root[:200])!r}")
    return Ready(clock, python, platform, root)


def failed(payload: bytes, place: str) -> MediasyncError:
    """Reads FAILED, and says it as an error."""
    fields = Fields(Answer.FAILED, payload)
    kind = fields.byte()
    if kind not in (_ROOT_MISSING, _ROOT_UNREADABLE):
        return MediasyncError(Reason.SOURCE_PROTOCOL, f"the program at {place} failed: {fields.message()}")
    problems = []
    for _ in range(fields.number(U32)):
        missing = bool(fields.byte())
        path, why, parent = display(fields.text()), fields.message(), display(fields.text())
        total = fields.number(U32)
        names = ", ".join(display(name) for name in fields.texts())
        there = f"{parent} holds {names}{f' and {total - 12} more' if total > 12 else ''}" if names else f"{parent} is empty"
        if not missing:
            # One that is there decides; further candidates that are not are of no interest then.
            return MediasyncError(Reason.SOURCE_UNREADABLE, f"{path} at {place} cannot be read: {why}")
        problems.append((path, there))
    if not problems:
        raise broken("a failure without a reason")
    tried = " nor ".join(path for path, _ in problems)
    there = "; ".join(dict.fromkeys(there for _, there in problems))
    return MediasyncError(
        Reason.SOURCE_ROOT_MISSING,
        f"there is no folder {tried} at {place}; {there}",
        "Give the folder that holds the results as the path of the source: ssh://host/path, docker://container/path or /path.",
    )


def emptied(payload: bytes) -> tuple[int, str]:
    """Reads EMPTIED: how many files went, and why others did not."""
    fields = Fields(Answer.EMPTIED, payload)
    count, message = fields.number(U64), fields.message()
    fields.done()
    if count >= LARGEST:
        raise broken(f"the end of {count} files")
    return count, message


def names(payload: bytes) -> list[bytes]:
    """Reads NAMES."""
    fields = Fields(Answer.NAMES, payload)
    result = [check_path(name) for name in fields.texts()]
    fields.done()
    return result


def free(payload: bytes) -> Surroundings:
    """Reads FREE: what else is there."""
    fields = Fields(Answer.FREE, payload)
    left, total = fields.unpack(_SPACE)
    tools = tuple(display(tool[:200]) for tool in fields.texts())
    fields.done()
    if max(left, total) >= LARGEST:
        raise broken(f"a disk of {total} bytes")
    return Surroundings(left, total, tools) if total else Surroundings(tools=tools)


def begin(payload: bytes, path: bytes) -> tuple[FileEntry, bool, int]:
    """Reads BEGIN: the file that follows, whether its end is missing, and where its bytes begin."""
    fields = Fields(Answer.BEGIN, payload)
    flags = fields.byte()
    entry = entry_of(fields, path)
    offset = fields.number(U64)
    fields.done()
    return entry, bool(flags & _INCOMPLETE), offset


def hashed(payload: bytes, path: bytes) -> tuple[ReadStatus, FileEntry | None, str, bytes | None]:
    """Reads HASHED: what became of a file, and its sha256 if that is good."""
    fields = Fields(Answer.HASHED, payload)
    status = _verdict(fields)
    entry = entry_of(fields, path) if fields.byte() & _HAS_ENTRY else None
    message = fields.message()
    digest = fields.take(_DIGEST_BYTES) if status is ReadStatus.OK else None
    fields.done()
    if status is ReadStatus.UNSETTLED or (status is ReadStatus.OK and entry is None):
        raise broken("a hash that is none")
    return status, entry, message, digest


def deleted(payload: bytes) -> tuple[DeleteStatus, str]:
    """Reads DELETED: what became of a file."""
    fields = Fields(Answer.DELETED, payload)
    number, message = fields.byte(), fields.message()
    fields.done()
    if number >= len(_DELETIONS):
        raise broken(f"a deletion of kind {number}")
    return _DELETIONS[number], message


def _verdict(fields: Fields) -> ReadStatus:
    number = fields.byte()
    if number >= len(_VERDICTS):
        raise broken(f"a verdict of {number}")
    return _VERDICTS[number]


def end(payload: bytes, path: bytes) -> tuple[ReadStatus, FileEntry, str]:
    """Reads END: what became of the file whose bytes came before it."""
    fields = Fields(Answer.END, payload)
    status = _verdict(fields)
    entry = entry_of(fields, path)
    message = fields.message()
    fields.done()
    return status, entry, message


def skipped(payload: bytes, path: bytes) -> tuple[ReadStatus, FileEntry | None, str]:
    """Reads SKIPPED: why no byte of a file is sent."""
    fields = Fields(Answer.SKIPPED, payload)
    status = _verdict(fields)
    entry = entry_of(fields, path) if fields.byte() & _HAS_ENTRY else None
    message = fields.message()
    fields.done()
    if status is ReadStatus.OK:
        raise broken("a good verdict on a file that was not sent")
    return status, entry, message


class FrameParser:
    """Cuts what arrives into frames and runs of raw bytes, without copying the latter where they come in one piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = _HEADER.size
        self.raw_left = 0

    def next(self, data: memoryview) -> tuple[int, bytes, memoryview] | None:
        """The next frame (kind, payload, what comes after it), or None after keeping all of `data` for later.

        Only to be called while `raw_left` is 0. Raises SOURCE_PROTOCOL for an oversize frame.
        """
        buffer = self._buffer
        if not buffer and len(data) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(data)
            end = _HEADER.size + self._checked(length)
            if len(data) >= end:
                return kind, bytes(data[_HEADER.size : end]), data[end:]
        while True:
            take = min(self._need - len(buffer), len(data))
            buffer += data[:take]
            data = data[take:]
            if len(buffer) < self._need:
                return None
            kind, length = _HEADER.unpack_from(buffer)
            self._need = _HEADER.size + self._checked(length)
            if len(buffer) == self._need:
                payload = bytes(buffer[_HEADER.size :])
                buffer.clear()
                self._need = _HEADER.size
                return kind, payload, data

    @staticmethod
    def _checked(length: int) -> int:
        if length > MAX_FRAME:
            raise broken(f"a frame of {length} bytes")
        return length
