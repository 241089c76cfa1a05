"""Files hashed, or deleted, at the far side by way of its shell."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from mediasync.model import FollowSymlinks
from mediasync.sources.base import DoomedFile, FileDeleted, FileHashed, ReadStatus, WantedFile
from mediasync.sources.posix import wire
from mediasync.sources.posix.answers import checked, read_answer, read_bytes
from mediasync.sources.posix.pipeline import Far, Lines, Pipeline
from mediasync.sources.posix.stream import SLOWEST_HASH, STALL_SECONDS
from mediasync.sources.selection import Selection

_HASH = re.compile(rb"\\?([0-9a-f]{64})\s.*", re.DOTALL)


class Hashing:
    """One `Connection.hash_files`."""

    def __init__(self, far: Far, selection: Selection, window_bytes: int) -> None:
        self._stream = far.stream
        self._lines = Lines(far, selection.follow_symlinks)
        self._pipeline: Pipeline[WantedFile, FileHashed] = Pipeline(far.stream, window_bytes)

    def run(self, batches: AsyncIterator[Sequence[WantedFile]]) -> AsyncGenerator[FileHashed, None]:
        """The outcomes."""
        return self._pipeline.run(batches, self._prepare)

    async def _prepare(self, batch: Sequence[WantedFile]) -> None:
        for file in batch:
            self._lines.ask(b"sum", file)
            self._pipeline.expect(partial(self._take, file))

    async def _take(self, wanted: WantedFile) -> FileHashed:
        self._stream.patience_seconds = STALL_SECONDS + wanted.size_bytes / SLOWEST_HASH
        answer = await read_answer(self._stream)
        if answer.status is not None:
            self._stream.patience_seconds = STALL_SECONDS
            entry = answer.before.entry(wanted.path) if answer.before is not None else None
            return FileHashed(wanted, answer.status, None, entry, answer.message)
        before = checked(answer, wanted)
        data = bytearray()
        trailer = await read_bytes(self._stream, 1024, data.extend)
        self._stream.patience_seconds = STALL_SECONDS
        after = trailer.after
        if after is None or not before.same(after):
            return FileHashed(wanted, ReadStatus.CHANGED, None, (after or before).entry(wanted.path))
        found = _HASH.fullmatch(bytes(data))
        if trailer.failed:
            return FileHashed(wanted, ReadStatus.UNREADABLE, None, after.entry(wanted.path), "it could not be read to its end")
        if found is None:
            raise wire.broken("a hash that is none")
        return FileHashed(wanted, ReadStatus.OK, bytes.fromhex(found[1].decode()), after.entry(wanted.path))


class Deleting:
    """One `Connection.delete_unchanged`."""

    def __init__(self, far: Far, window_bytes: int) -> None:
        self._stream = far.stream
        self._lines = Lines(far, FollowSymlinks.NONE)
        self._pipeline: Pipeline[DoomedFile, FileDeleted] = Pipeline(far.stream, window_bytes)

    def run(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[FileDeleted, None]:
        """The outcomes."""
        return self._pipeline.run(files, self._prepare)

    async def _prepare(self, batch: Sequence[DoomedFile]) -> None:
        for file in batch:
            self._lines.ask(b"remove", file, file.sha256.hex().encode())
            self._pipeline.expect(partial(self._take, file))

    async def _take(self, doomed: DoomedFile) -> FileDeleted:
        self._stream.patience_seconds = STALL_SECONDS + doomed.size_bytes / SLOWEST_HASH
        answer = await read_answer(self._stream)
        self._stream.patience_seconds = STALL_SECONDS
        if answer.deleted is None:
            raise wire.broken("bytes of a file that was to be deleted")
        return FileDeleted(doomed, answer.deleted, answer.message)
