"""This side's view of the agent's frames (`program/frames.py` has the other's), as strict as it must be against a hostile far side. What is
sent is made by `requests`.

Everything received is bounded: a frame by `MAX_FRAME`, the text before the marker by `MAX_GREETING`. A frame that is not what it
should be, and a name that is no path below the root, raise SOURCE_PROTOCOL.
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason
from mediasync.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, display
from mediasync.sources.base import (
    DeleteStatus,
    DirectoryGone,
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    FileFiltered,
    ReadStatus,
    ScanFinished,
    ScanRecord,
    Surroundings,
)
from mediasync.sources.packed import Columns, PackedFiles

VERSION = 3
MARKER = b"\0mediasync-agent "
MAX_FRAME = 1 << 20

_HEADER = struct.Struct(">BI")
_ENTRY = struct.Struct(">QqqQ")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_SPACE = struct.Struct(">QQ")
_SCANNED = struct.Struct(f">qQQ{len(FilterReason)}Q")  # the last ones by reason, in their order
_LARGEST = 1 << 63  # sizes and inodes are kept as signed 64-bit numbers


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


_DOTS = (b".", b"..")
_VERDICTS = (ReadStatus.OK, ReadStatus.UNSETTLED, ReadStatus.CHANGED, ReadStatus.VANISHED, ReadStatus.UNREADABLE)
_DELETIONS = (DeleteStatus.DELETED, DeleteStatus.CHANGED, DeleteStatus.VANISHED, DeleteStatus.REFUSED)
_REASONS = {reason.value: reason for reason in FilterReason}
_COMPLETE, _HAS_NAMES, _MORE, _YOUNG = 1, 2, 4, 8
_DIGEST_BYTES = 32
_HAS_ENTRY, _INCOMPLETE = 1, 2
_ROOT_MISSING, _ROOT_UNREADABLE = 1, 2


def frame(kind: int, payload: bytes) -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def broken(what: str) -> MediasyncError:
    """The error for a far side that does not keep to the protocol."""
    return MediasyncError(Reason.SOURCE_PROTOCOL, f"the program at the far side sent {what}")


class _Fields:
    """Takes a payload apart; running over its end is SOURCE_PROTOCOL."""

    def __init__(self, kind: Answer, data: bytes) -> None:
        self._kind = kind
        self._data = data
        self._at = 0

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        end = self._at + form.size
        if end > len(self._data):
            raise broken(f"a cut frame ({self._kind.name})")
        values: tuple[int, ...] = form.unpack_from(self._data, self._at)
        self._at = end
        return values

    def number(self, form: struct.Struct) -> int:
        return self.unpack(form)[0]

    def byte(self) -> int:
        data = self._data[self._at : self._at + 1]
        if not data:
            raise broken(f"a cut frame ({self._kind.name})")
        self._at += 1
        return data[0]

    def text(self) -> bytes:
        return self.take(self.number(_U16))

    def take(self, length: int) -> bytes:
        value = self._data[self._at : self._at + length]
        if len(value) != length:
            raise broken(f"a cut frame ({self._kind.name})")
        self._at += length
        return value

    def texts(self) -> list[bytes]:
        return [self.text() for _ in range(self.number(_U32))]

    def message(self) -> str:
        return display(self.text()[:1000])

    def done(self) -> None:
        if self._at != len(self._data):
            raise broken(f"a frame with too much in it ({self._kind.name})")


def _check_name(name: bytes, room: int) -> bytes:
    if not name or len(name) > room or b"/" in name or b"\0" in name or name in _DOTS:
        raise broken(f"a name that is none: {display(name[:200])!r}")
    return name


def check_path(path: bytes) -> bytes:
    """`path` if it is one below the root (see `mediasync.paths.check_relative`). Raises SOURCE_PROTOCOL."""
    if len(path) > MAX_PATH_BYTES:
        raise broken(f"a path of {len(path)} bytes")
    for part in path.split(b"/"):
        _check_name(part, MAX_NAME_BYTES)
    return path


def _entry(fields: _Fields, path: bytes) -> FileEntry:
    size, mtime, ctime, inode = fields.unpack(_ENTRY)
    if size >= _LARGEST or inode >= _LARGEST:
        raise broken(f"a size of {size} bytes or an inode {inode}")
    return FileEntry(path, size, mtime, ctime, inode)


@dataclass(frozen=True)
class Ready:
    """What the agent says of itself."""

    clock_ns: int
    python: str
    platform: str
    root: bytes


def ready(payload: bytes) -> Ready:
    """Reads READY."""
    fields = _Fields(Answer.READY, payload)
    clock = fields.number(_I64)
    python, platform, root = fields.message(), fields.message(), fields.text()
    fields.done()
    if not root.startswith(b"/") or b"\0" in root or len(root) > MAX_PATH_BYTES:
        raise broken(f"a root that is none: {display(root[:200])!r}")
    return Ready(clock, python, platform, root)


def failed(payload: bytes, place: str) -> MediasyncError:
    """Reads FAILED, and says it as an error."""
    fields = _Fields(Answer.FAILED, payload)
    kind = fields.byte()
    if kind not in (_ROOT_MISSING, _ROOT_UNREADABLE):
        return MediasyncError(Reason.SOURCE_PROTOCOL, f"the program at {place} failed: {fields.message()}")
    problems = []
    for _ in range(fields.number(_U32)):
        missing = bool(fields.byte())
        path, why, parent = display(fields.text()), fields.message(), display(fields.text())
        total = fields.number(_U32)
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


def names(payload: bytes) -> list[bytes]:
    """Reads NAMES."""
    fields = _Fields(Answer.NAMES, payload)
    result = [check_path(name) for name in fields.texts()]
    fields.done()
    return result


def _files(fields: _Fields, prefix: bytes, room: int) -> Sequence[FileEntry]:
    """The files of a DIRECTORY frame. A million pass here in a full scan, so they stay as they are until somebody looks at one."""
    count = fields.number(_U32)
    columns = Columns(*(fields.take(fields.number(_U32)) for _ in Columns._fields))
    if not count:
        if any(columns):
            raise broken("columns of no files")
        return ()
    try:
        return PackedFiles(prefix, count, columns, room)
    except ValueError as error:
        raise broken(str(error)) from None


def _directory(payload: bytes) -> DirectoryScanned:
    fields = _Fields(Answer.DIRECTORY, payload)
    flags = fields.byte()
    path = fields.text()
    prefix = check_path(path) + b"/" if path else b""
    room = min(MAX_NAME_BYTES, MAX_PATH_BYTES - len(prefix))
    inode = fields.number(_U64)
    if inode >= _LARGEST:
        raise broken(f"an inode {inode}")
    files = _files(fields, prefix, room)
    found = [_check_name(name, room) for name in fields.texts()]
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise broken("names out of order")
    fields.done()
    return DirectoryScanned(
        path,
        inode,
        files,
        complete=bool(flags & _COMPLETE),
        names=tuple(found) if flags & _HAS_NAMES else None,
        more=bool(flags & _MORE),
        young=bool(flags & _YOUNG),
    )


def _filtered(payload: bytes) -> FileFiltered:
    fields = _Fields(Answer.FILTERED, payload)
    reason, size, path = fields.byte(), fields.number(_U64), fields.text()
    fields.done()
    if reason not in _REASONS or size >= _LARGEST:
        raise broken(f"a reason {reason} or a size of {size} bytes")
    return FileFiltered(check_path(path), _REASONS[reason], size)


def scan_record(kind: int, payload: bytes) -> ScanRecord:
    """Reads one record of a scan."""
    if kind == Answer.DIRECTORY:
        return _directory(payload)
    if kind == Answer.UNREADABLE_DIRECTORY:
        fields = _Fields(Answer.UNREADABLE_DIRECTORY, payload)
        path, message = fields.text(), fields.message()
        fields.done()
        return DirectoryUnreadable(check_path(path) if path else b"", message)
    if kind == Answer.GONE:
        fields = _Fields(Answer.GONE, payload)
        path = fields.text()
        fields.done()
        return DirectoryGone(check_path(path) if path else b"")
    if kind == Answer.FILTERED:
        return _filtered(payload)
    if kind == Answer.SCANNED:
        fields = _Fields(Answer.SCANNED, payload)
        started, seen, size, *filtered = fields.unpack(_SCANNED)
        fields.done()
        return ScanFinished(started, seen, size, {reason: count for reason, count in zip(FilterReason, filtered, strict=True) if count})
    raise broken(f"a frame of kind {kind} in a scan")


def moved(payload: bytes) -> frozenset[bytes]:
    """Reads MOVED: directories in which something moved."""
    fields = _Fields(Answer.MOVED, payload)
    paths = frozenset(check_path(path) if path else b"" for path in fields.texts())
    fields.done()
    return paths


def free(payload: bytes) -> Surroundings:
    """Reads FREE: what else is there."""
    fields = _Fields(Answer.FREE, payload)
    left, total = fields.unpack(_SPACE)
    tools = tuple(display(tool[:200]) for tool in fields.texts())
    fields.done()
    if max(left, total) >= _LARGEST:
        raise broken(f"a disk of {total} bytes")
    return Surroundings(left, total, tools) if total else Surroundings(tools=tools)


def begin(payload: bytes, path: bytes) -> tuple[FileEntry, bool, int]:
    """Reads BEGIN: the file that follows, whether its end is missing, and where its bytes begin."""
    fields = _Fields(Answer.BEGIN, payload)
    flags = fields.byte()
    entry = _entry(fields, path)
    offset = fields.number(_U64)
    fields.done()
    return entry, bool(flags & _INCOMPLETE), offset


def hashed(payload: bytes, path: bytes) -> tuple[ReadStatus, FileEntry | None, str, bytes | None]:
    """Reads HASHED: what became of a file, and its sha256 if that is good."""
    fields = _Fields(Answer.HASHED, payload)
    status = _verdict(fields)
    entry = _entry(fields, path) if fields.byte() & _HAS_ENTRY else None
    message = fields.message()
    digest = fields.take(_DIGEST_BYTES) if status is ReadStatus.OK else None
    fields.done()
    if status is ReadStatus.UNSETTLED or (status is ReadStatus.OK and entry is None):
        raise broken("a hash that is none")
    return status, entry, message, digest


def deleted(payload: bytes) -> tuple[DeleteStatus, str]:
    """Reads DELETED: what became of a file."""
    fields = _Fields(Answer.DELETED, payload)
    number, message = fields.byte(), fields.message()
    fields.done()
    if number >= len(_DELETIONS):
        raise broken(f"a deletion of kind {number}")
    return _DELETIONS[number], message


def _verdict(fields: _Fields) -> ReadStatus:
    number = fields.byte()
    if number >= len(_VERDICTS):
        raise broken(f"a verdict of {number}")
    return _VERDICTS[number]


def end(payload: bytes, path: bytes) -> tuple[ReadStatus, FileEntry, str]:
    """Reads END: what became of the file whose bytes came before it."""
    fields = _Fields(Answer.END, payload)
    status = _verdict(fields)
    entry = _entry(fields, path)
    message = fields.message()
    fields.done()
    return status, entry, message


def skipped(payload: bytes, path: bytes) -> tuple[ReadStatus, FileEntry | None, str]:
    """Reads SKIPPED: why no byte of a file is sent."""
    fields = _Fields(Answer.SKIPPED, payload)
    status = _verdict(fields)
    entry = _entry(fields, path) if fields.byte() & _HAS_ENTRY else None
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
