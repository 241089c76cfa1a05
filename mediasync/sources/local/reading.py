"""Files of this machine, read by the agent's rules: what the scan saw, complete, and still the same after the last byte.

Looking at files and moving their bytes blocks, and happens in a thread of the connection's own. Small files are read there, many at a
time, and given to their sinks whole; a large one goes from file to file inside the kernel where its sink is a file, and piece by piece
else.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from mediasync.errors import MediasyncError
from mediasync.paths import check_relative
from mediasync.sources.base import FileRead, FileSink, Pace, ReadStatus, SinkOpener, WantedFile
from mediasync.sources.local import rules
from mediasync.sources.local.copying import PIECE_BYTES, Copier

P = ParamSpec("P")
T = TypeVar("T")

GATHERED_BYTES = 4 << 20
GATHERED_FILES = 64
READ_BYTES = 1 << 20


@dataclass
class _Opened:
    """A file that is to be read, or the outcome for one that is not. `data` is all of a small one, which is known to have stood still."""

    wanted: WantedFile
    outcome: FileRead | None = None
    fd: int = -1
    before: os.stat_result | None = None
    offset: int = 0
    data: bytes | None = None
    incomplete: bool = False

    def close(self) -> None:
        """Lets go of the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Reading:
    """One read. Close it when it is over, however it ended."""

    def __init__(self, root: bytes | int, folders: Sequence[bytes], open_sink: SinkOpener, pace: Pace | None) -> None:
        self._files = rules.Opener(root, folders)
        self._open_sink = open_sink
        self._pace = pace
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local source")
        self._copier = Copier()
        self._quiet = rules.Quiet()
        self._open: deque[_Opened] = deque()
        self.failure: MediasyncError | None = None
        """Set from outside, ends the read with it at its next step."""

    async def run(self, batches: AsyncIterator[Sequence[WantedFile]]) -> AsyncIterator[FileRead]:
        """The outcomes. The next batch is asked for while the files of the last one are read."""
        following = asyncio.ensure_future(_next(batches))
        try:
            while (batch := await following) is not None:
                following = asyncio.ensure_future(_next(batches))
                async for outcome in self._batch(batch):
                    yield outcome
        finally:
            following.cancel()
            await asyncio.wait([following])

    async def _batch(self, batch: Sequence[WantedFile]) -> AsyncIterator[FileRead]:
        for file in batch:
            check_relative(file.path)
        done = 0
        while done < len(batch):
            opened = await self._in_thread(self._look, batch[done : done + GATHERED_FILES])
            self._open.extend(opened)
            done += len(opened)
            while self._open:
                item = self._open[0]
                outcome = item.outcome if item.outcome is not None and item.data is None else await self._take(item)
                self._open.popleft().close()
                yield outcome

    async def _take(self, item: _Opened) -> FileRead:
        sink = self._open_sink(item.wanted, item.offset)
        if item.data is not None:
            assert item.outcome is not None
            if item.data:
                sink.write(item.data)
                await self._paced(len(item.data))
            return item.outcome
        assert item.before is not None
        at, end = item.offset, item.wanted.size_bytes
        file_sink = sink if isinstance(sink, FileSink) else None
        problem: OSError | None = None
        while at < end and problem is None:
            if file_sink is not None:
                count = await self._in_thread(self._copy, item, file_sink, at, end)
                if count is None:
                    file_sink = None
                    continue
            else:
                found = await self._in_thread(_piece, item.fd, at, min(READ_BYTES, end - at))
                if isinstance(found, OSError):
                    problem = found
                    break
                sink.write(found)
                count = len(found)
            if not count:
                break
            at += count
            await self._paced(count)
        return await self._in_thread(self._verdict, item, at == end, problem)

    async def _paced(self, count: int) -> None:
        if self._pace is not None and (seconds := self._pace.took(count)) > 0:
            await asyncio.sleep(seconds)

    async def _in_thread(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        try:
            found = await asyncio.shield(work)
            if self.failure is None:
                return found
            if isinstance(found, list):
                self._open.extend(found)
            raise self.failure
        except asyncio.CancelledError:
            # The thread still uses the files: they are closed after it.
            await asyncio.wait([work])
            if not work.cancelled() and work.exception() is None and isinstance(found := work.result(), list):
                self._open.extend(found)
            raise

    async def close(self) -> None:
        """Lets go of everything."""
        for item in self._open:
            item.close()
        self._files.close()
        self._thread.shutdown(wait=False)

    # In the thread.

    def _look(self, wanted: Sequence[WantedFile]) -> list[_Opened]:
        """The first of `wanted`: small ones read, up to one that is not small."""
        opened: list[_Opened] = []
        gathered = 0
        for file in wanted:
            opened.append(item := self._look_at(file))
            if item.outcome is None or gathered >= GATHERED_BYTES:
                break
            gathered += len(item.data or b"")
        return opened

    def _look_at(self, wanted: WantedFile) -> _Opened:
        try:
            fd, name = self._files.open(wanted.path)
        except OSError as error:
            if error.errno in rules.NOT_THERE:
                return _Opened(wanted, FileRead(wanted, ReadStatus.VANISHED))
            if error.errno == errno.ELOOP:
                return _Opened(wanted, FileRead(wanted, ReadStatus.CHANGED))
            return _Opened(wanted, _unreadable(wanted, error))
        item = _Opened(wanted, fd=fd)
        try:
            self._open_file(item, name)
        except OSError as error:
            item.outcome, item.data = _unreadable(wanted, error), None
        if item.outcome is not None:
            item.close()
        return item

    def _open_file(self, item: _Opened, name: bytes) -> None:
        """Decides about an open file; reads it if it is small."""
        wanted = item.wanted
        status = rules.settled(self._quiet, item.fd)
        entry = rules.entry_of(wanted.path, status)
        if not stat.S_ISREG(status.st_mode):
            item.outcome = FileRead(wanted, ReadStatus.CHANGED)
            return
        if (entry.size_bytes, entry.mtime_ns, entry.inode) != (wanted.size_bytes, wanted.mtime_ns, wanted.inode):
            item.outcome = FileRead(wanted, ReadStatus.CHANGED, entry)
            return
        take, incomplete = rules.verdict(item.fd, name, status, wanted.settle_seconds, wanted.incomplete_after_seconds)
        if not take:
            item.outcome = FileRead(wanted, ReadStatus.UNSETTLED, entry)
            return
        item.before = status
        item.incomplete = incomplete
        partial = wanted.partial
        if (
            partial is not None
            and partial.size_bytes <= wanted.size_bytes
            and rules.digest_of(self._quiet, item.fd, partial.size_bytes) == partial.sha256
        ):
            item.offset = partial.size_bytes
        if wanted.size_bytes - item.offset > rules.INLINE_BYTES:
            return
        data = rules.rest(item.fd, item.offset, wanted.size_bytes)
        after = os.fstat(item.fd)
        if len(data) != wanted.size_bytes - item.offset or not rules.same(status, after):
            item.outcome = FileRead(wanted, ReadStatus.CHANGED, rules.entry_of(wanted.path, after))
        else:
            item.data = data
            item.outcome = FileRead(wanted, ReadStatus.OK, rules.entry_of(wanted.path, after), incomplete)

    def _copy(self, item: _Opened, sink: FileSink, at: int, end: int) -> int | None:
        """Moves the next bytes into the sink's file; None where the system has no way to."""
        target = sink.fileno()
        if at == 0 and self._copier.clone(item.fd, target):
            count = os.fstat(target).st_size
            if count > end:
                # It grew meanwhile, which the verdict says; the sink is not given more than was announced.
                os.ftruncate(target, end)
                count = end
        else:
            found = self._copier.copy(item.fd, target, at, min(PIECE_BYTES, end - at))
            if found is None:
                return None
            count = found
        if count:
            sink.copied(count)
        return count

    def _verdict(self, item: _Opened, whole: bool, problem: OSError | None) -> FileRead:
        """Whether the file stood still, now that its bytes are here."""
        assert item.before is not None
        before = rules.entry_of(item.wanted.path, item.before)
        if problem is not None:
            return FileRead(item.wanted, ReadStatus.UNREADABLE, before, item.incomplete, os.strerror(problem.errno or 0))
        try:
            after = os.fstat(item.fd)
        except OSError as error:
            return FileRead(item.wanted, ReadStatus.UNREADABLE, before, item.incomplete, os.strerror(error.errno or 0))
        status = ReadStatus.OK if whole and rules.same(item.before, after) else ReadStatus.CHANGED
        return FileRead(item.wanted, status, rules.entry_of(item.wanted.path, after), item.incomplete)


def _piece(fd: int, offset: int, count: int) -> bytes | OSError:
    # The source's error, told apart from one of the sink's.
    try:
        return os.pread(fd, count, offset)
    except OSError as error:
        return error


def _unreadable(wanted: WantedFile, error: OSError) -> FileRead:
    return FileRead(wanted, ReadStatus.UNREADABLE, None, False, os.strerror(error.errno) if error.errno else str(error))


async def _next(batches: AsyncIterator[Sequence[WantedFile]]) -> Sequence[WantedFile] | None:
    async for batch in batches:
        return batch
    return None
