"""What the agent says of a scan, and of what moves while it watches."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

from mediasync.model import FilterReason
from mediasync.paths import MAX_NAME_BYTES, MAX_PATH_BYTES
from mediasync.sources.agent.payloads import LARGEST, U32, U64, Fields, broken, check_name, check_path
from mediasync.sources.agent.wire import Answer
from mediasync.sources.base import (
    DirectoryGone,
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    FileFiltered,
    ScanFinished,
    ScanRecord,
)
from mediasync.sources.packed import Columns, PackedFiles

_SCANNED = struct.Struct(f">qQQ{len(FilterReason)}Q")  # the last ones by reason, in their order
_REASONS = {reason.value: reason for reason in FilterReason}
_COMPLETE, _HAS_NAMES, _MORE, _YOUNG, _AGED = 1, 2, 4, 8, 16
_AGED_COLUMNS = len(Columns._fields)
_COLUMNS = _AGED_COLUMNS - 2


def _files(fields: Fields, prefix: bytes, room: int, *, aged: bool) -> Sequence[FileEntry]:
    """The files of a DIRECTORY frame. A million pass here in a full scan, so they stay as they are until somebody looks at one."""
    count = fields.number(U32)
    columns = Columns(*(fields.take(fields.number(U32)) for _ in range(_AGED_COLUMNS if aged else _COLUMNS)))
    if not count:
        if any(columns):
            raise broken("columns of no files")
        return ()
    try:
        return PackedFiles(prefix, count, columns, room)
    except ValueError as error:
        raise broken(str(error)) from None


def _directory(payload: bytes) -> DirectoryScanned:
    fields = Fields(Answer.DIRECTORY, payload)
    flags = fields.byte()
    path = fields.text()
    prefix = check_path(path) + b"/" if path else b""
    room = min(MAX_NAME_BYTES, MAX_PATH_BYTES - len(prefix))
    inode = fields.number(U64)
    if inode >= LARGEST:
        raise broken(f"an inode {inode}")
    files = _files(fields, prefix, room, aged=bool(flags & _AGED))
    found = [check_name(name, room) for name in fields.texts()]
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
    fields = Fields(Answer.FILTERED, payload)
    reason, size, path = fields.byte(), fields.number(U64), fields.text()
    fields.done()
    if reason not in _REASONS or size >= LARGEST:
        raise broken(f"a reason {reason} or a size of {size} bytes")
    return FileFiltered(check_path(path), _REASONS[reason], size)


def scan_record(kind: int, payload: bytes) -> ScanRecord:
    """Reads one record of a scan."""
    if kind == Answer.DIRECTORY:
        return _directory(payload)
    if kind == Answer.UNREADABLE_DIRECTORY:
        fields = Fields(Answer.UNREADABLE_DIRECTORY, payload)
        path, message = fields.text(), fields.message()
        fields.done()
        return DirectoryUnreadable(check_path(path) if path else b"", message)
    if kind == Answer.GONE:
        fields = Fields(Answer.GONE, payload)
        path = fields.text()
        fields.done()
        return DirectoryGone(check_path(path) if path else b"")
    if kind == Answer.FILTERED:
        return _filtered(payload)
    if kind == Answer.SCANNED:
        fields = Fields(Answer.SCANNED, payload)
        started, seen, size, *filtered = fields.unpack(_SCANNED)
        fields.done()
        return ScanFinished(started, seen, size, {reason: count for reason, count in zip(FilterReason, filtered, strict=True) if count})
    raise broken(f"a frame of kind {kind} in a scan")


def moved(payload: bytes) -> frozenset[bytes]:
    """Reads MOVED: directories in which something moved."""
    fields = Fields(Answer.MOVED, payload)
    paths = frozenset(check_path(path) if path else b"" for path in fields.texts())
    fields.done()
    return paths
