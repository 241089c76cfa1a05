"""Files hashed, or deleted, at the far side by way of its shell."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from mediasync.model import FollowSymlinks
from mediasync.sources.base import DoomedFile, FileDeleted, FileHashed, ReadStatus, WantedFile
from mediasync.sources.groups import grouped, untrue
from mediasync.sources.posix import wire
from mediasync.sources.posix.answers import checked, read_answer, read_bytes
from mediasync.sources.posix.pipeline import Far, Lines, Pipeline
from mediasync.sources.posix.stream import SLOWEST_HASH, STALL_SECONDS
from mediasync.sources.selection import Selection

_DROPPED_AT_ONCE = 50  # the answers to so many wait for their reader without holding up the shell
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
        for group in grouped(batch):
            if len(group) == 1:
                self._lines.ask(b"remove", group[0], group[0].sha256.hex().encode())
            else:
                self._lines.ask_together(group)
            outcomes: list[FileDeleted] = []
            for _ in group:
                self._pipeline.expect(partial(self._take, group, outcomes))

    async def _take(self, group: Sequence[DoomedFile], outcomes: list[FileDeleted]) -> FileDeleted:
        """The next outcome of a group, whose answers come together."""
        if not outcomes:
            self._stream.patience_seconds = STALL_SECONDS + sum(file.size_bytes for file in group) / SLOWEST_HASH
            found = []
            for doomed in group:
                answer = await read_answer(self._stream)
                if answer.deleted is None:
                    raise wire.broken("bytes of a file that was to be deleted")
                found.append(FileDeleted(doomed, answer.deleted, answer.message))
            self._stream.patience_seconds = STALL_SECONDS
            if (lie := untrue(found)) is not None:
                raise wire.broken(lie)
            outcomes.extend(reversed(found))
        return outcomes.pop()


class Dropping:
    """One `Connection.remove_empty_folders`."""

    def __init__(self, far: Far) -> None:
        self._stream = far.stream
        self._lines = Lines(far, FollowSymlinks.NONE)

    async def run(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those that went."""
        gone = []
        for start in range(0, len(folders), _DROPPED_AT_ONCE):
            some = folders[start : start + _DROPPED_AT_ONCE]
            for folder in some:
                self._lines.ask_to_drop(folder)
            await self._stream.drain()
            for folder in some:
                answer = await self._stream.line()
                if answer not in (b"D", b"K"):
                    raise wire.broken(f"an answer that is none: {answer[:100]!r}")
                if answer == b"D":
                    gone.append(folder)
        return gone
