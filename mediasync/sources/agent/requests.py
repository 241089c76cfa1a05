"""What the agent is asked, as frames (`program/answering.py` takes them apart)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FollowSymlinks
from mediasync.sources.agent.wire import MAX_FRAME, VERSION, Request, frame
from mediasync.sources.base import DoomedFile, ScanRequest, WantedFile
from mediasync.sources.selection import Rule, Selection

MAX_REQUEST = 64 * 1024  # so that a slow line is seen to move

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_WANTED = struct.Struct(">QqQddQ")
_DOOMED = struct.Struct(">QqQB32s")
_SELECT = struct.Struct(">BQQdd")
_FOLLOW = {FollowSymlinks.NONE: 0, FollowSymlinks.FILES: 1, FollowSymlinks.ALL: 2}
_EXACT, _QUICK, _EXPLAIN, _AGES = 1, 2, 4, 8
_JOINED, _NOT_HASHED = 1, 2
_NEGATED, _FOLDERS_ONLY = 1, 2


def _text(value: bytes) -> bytes:
    return _U16.pack(len(value)) + value


def _texts(values: Sequence[bytes]) -> bytes:
    return _U32.pack(len(values)) + b"".join(_text(value) for value in values)


def hello(nonce: bytes, roots: Sequence[bytes], selection: Selection) -> bytes:
    """The first request: who asks, where the root may be, what is a result."""
    return frame(Request.HELLO, _text(nonce) + _U16.pack(VERSION) + _texts(roots) + _selection(selection))


def select(selection: Selection) -> bytes:
    """Says what is a result from now on. Raises INVALID_ARGUMENT for more patterns than fit into a frame."""
    payload = _selection(selection)
    if len(payload) > MAX_FRAME:
        raise MediasyncError(Reason.INVALID_ARGUMENT, "the patterns of the sync are too many", "Give fewer, or shorter ones.")
    return frame(Request.SELECT, payload)


def _selection(selection: Selection) -> bytes:
    head = _SELECT.pack(
        _FOLLOW[selection.follow_symlinks],
        selection.min_size_bytes,
        selection.max_size_bytes,
        selection.min_age_seconds,
        selection.max_age_seconds,
    )
    tables = (selection.hidden_prefixes, selection.temporary_suffixes, selection.foreign_names, selection.extensions)
    return head + b"".join(map(_texts, tables)) + _rules(selection.included) + _rules(selection.excluded)


def _rules(rules: Sequence[Rule]) -> bytes:
    return _U32.pack(len(rules)) + b"".join(
        bytes([_NEGATED * rule.negated | _FOLDERS_ONLY * rule.folders_only]) + _U32.pack(len(rule.expression)) + rule.expression
        for rule in rules
    )


def list_folders(limit: int) -> bytes:
    """Asks for the folders in the root."""
    return frame(Request.LIST, _U32.pack(limit))


def missing_folders(folders: Sequence[bytes]) -> bytes:
    """Asks which of `folders` are none."""
    return frame(Request.MISSING, _texts(folders))


def _batches(items: Iterable[bytes], room: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and size + len(item) > room:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    if batch:
        yield batch


def _known(directories: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
    for batch in _batches((_U64.pack(inode) + _text(path) for path, inode in directories), MAX_REQUEST):
        yield frame(Request.KNOWN, _U32.pack(len(batch)) + b"".join(batch))


def scan(request: ScanRequest, folders: Sequence[bytes]) -> Iterator[bytes]:
    """Asks for a scan, in several frames where many directories are known."""
    yield from _known(request.known_directories.items())
    exact = request.changed_since_ns is not None
    flags = _EXACT * exact | _QUICK * (exact and request.quick) | _EXPLAIN * request.explain | _AGES * request.ages
    yield frame(Request.SCAN, _I64.pack(request.changed_since_ns or 0) + bytes([flags]) + _text(request.folder) + _texts(folders))


def watch(request: ScanRequest, folders: Sequence[bytes]) -> Iterator[bytes]:
    """Asks to be told what moves."""
    yield from _known(request.known_directories.items())
    yield frame(Request.WATCH, _text(request.folder) + _texts(folders))


def _wanted(file: WantedFile) -> bytes:
    have = file.partial.size_bytes if file.partial else 0
    head = _WANTED.pack(file.size_bytes, file.mtime_ns, file.inode, file.settle_seconds, file.incomplete_after_seconds, have)
    return head + _text(file.path) + (file.partial.sha256 if file.partial and have else b"")


def read(files: Sequence[WantedFile], folders: Sequence[bytes], kind: Request = Request.READ) -> Iterator[bytes]:
    """Asks for files, or with HASH for their hashes, in several frames where they are many."""
    entries = _texts(folders)
    for batch in _batches(map(_wanted, files), MAX_REQUEST):
        yield frame(kind, entries + _U32.pack(len(batch)) + b"".join(batch))


def _doomed(file: DoomedFile, *, first: bool) -> bytes:
    flags = _JOINED * (not first) | _NOT_HASHED * (not file.sha256)
    return _DOOMED.pack(file.size_bytes, file.mtime_ns, file.inode, flags, file.sha256) + _text(file.path)


def delete(groups: Sequence[Sequence[DoomedFile]], folders: Sequence[bytes], into: bytes = b"") -> Iterator[bytes]:
    """Asks for deletions, or with `into` for moving aside. A group is in one frame."""
    kind = Request.MOVE_ASIDE if into else Request.DELETE
    head = (_text(into) if into else b"") + _texts(folders)
    items: list[bytes] = []
    count = size = 0
    for group in groups:
        item = b"".join(_doomed(file, first=file is group[0]) for file in group)
        if items and size + len(item) > MAX_REQUEST:
            yield frame(kind, head + _U32.pack(count) + b"".join(items))
            items, count, size = [], 0, 0
        items.append(item)
        count += len(group)
        size += len(item)
    if items:
        yield frame(kind, head + _U32.pack(count) + b"".join(items))


def empty_aside(folder: bytes, before: str) -> bytes:
    """Asks for the end of what was moved aside."""
    return frame(Request.EMPTY_ASIDE, _text(folder) + _text(before.encode()))


def remove_folders(asked: Sequence[bytes], folders: Sequence[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Asks for the end of empty folders: frames, and which they ask for."""
    entries = _texts(folders)
    left = iter(asked)
    for batch in _batches(map(_text, asked), MAX_REQUEST):
        yield frame(Request.REMOVE_FOLDERS, entries + _U32.pack(len(batch)) + b"".join(batch)), [next(left) for _ in batch]


def surroundings() -> bytes:
    """Asks what else is there."""
    return frame(Request.SURROUNDINGS, b"")
