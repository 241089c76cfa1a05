"""Files of this machine, read by the agent's rules: what the scan saw, complete, and still the same after the last byte.

Looking at files and moving their bytes blocks, and happens in a thread of the connection's own, for many files at a time: handing over to
it and back costs more than a small file does. Where a sink is a file, bytes go into it there; else they are read there, and given to the
sink on the event loop.
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
from mediasync.sources.base import FileRead, FileSink, Pace, ReadStatus, Sink, SinkOpener, WantedFile
from mediasync.sources.local import rules
from mediasync.sources.local.copying import Copier, SourceError

P = ParamSpec("P")
T = TypeVar("T")

GROUP_FILES = 64
LEAST_BYTES, MOST_BYTES = 1 << 20, 16 << 20
READ_BYTES = 1 << 20


@dataclass
class _Opened:
    """A file that is to be read, or the outcome for one that is not, or is read. `at` is how far it was read."""

    wanted: WantedFile
    outcome: FileRead | None = None
    fd: int = -1
    before: os.stat_result | None = None
    at: int = 0
    incomplete: bool = False
    sink: Sink | None = None

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
        self._file_sinks: dict[type, bool] = {}
        self._step_bytes = LEAST_BYTES
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
            opened = await self._in_thread(self._look, batch[done : done + GROUP_FILES], self._step_bytes)
            self._open.extend(opened)
            done += len(opened)
            group: list[_Opened] = []
            for item in opened:
                if item.outcome is None:
                    item.sink = self._open_sink(item.wanted, item.at)
                    if self._is_file(item.sink):
                        group.append(item)
            # One that is larger than a step is read in several of them.
            while any(item.outcome is None for item in group):
                await self._paced(await self._in_thread(self._copy, group, self._step_bytes))
            for item in opened:
                outcome = item.outcome or await self._take(item)
                self._open.popleft().close()
                yield outcome

    def _is_file(self, sink: Sink) -> bool:
        kind = type(sink)
        if kind not in self._file_sinks:
            self._file_sinks[kind] = isinstance(sink, FileSink)
        return self._file_sinks[kind]

    async def _take(self, item: _Opened) -> FileRead:
        """Reads one whose sink is no file."""
        assert item.sink is not None
        problem: OSError | None = None
        while item.at < item.wanted.size_bytes:
            found = await self._in_thread(_piece, item.fd, item.at, min(READ_BYTES, item.wanted.size_bytes - item.at))
            if isinstance(found, OSError):
                problem = found
                break
            if not found:
                break
            item.sink.write(found)
            item.at += len(found)
            await self._paced(len(found))
        return await self._in_thread(self._verdict, item, problem)

    async def _paced(self, count: int) -> None:
        seconds = self._pace.took(count) if self._pace is not None else 0.0
        # Nobody is held back in large steps.
        self._step_bytes = LEAST_BYTES if seconds > 0 else min(2 * self._step_bytes, MOST_BYTES)
        if seconds > 0:
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

    def _look(self, wanted: Sequence[WantedFile], most_bytes: int) -> list[_Opened]:
        """The first of `wanted`, at least one, opened: as many as hold so many bytes."""
        opened: list[_Opened] = []
        left = most_bytes
        for file in wanted:
            opened.append(item := self._look_at(file))
            if item.outcome is None:
                left -= file.size_bytes - item.at
            if left <= 0:
                break
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
            item.outcome = _unreadable(wanted, error)
        if item.outcome is not None:
            item.close()
        return item

    def _open_file(self, item: _Opened, name: bytes) -> None:
        """Decides about an open file."""
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
            item.at = partial.size_bytes

    def _copy(self, items: Sequence[_Opened], most_bytes: int) -> int:
        """Moves the next bytes, about so many, into the files of the sinks. Returns how many it were. An OSError is one of a sink."""
        moved = 0
        for item in items:
            while item.outcome is None:
                assert isinstance(item.sink, FileSink)
                count, problem = 0, None
                left = item.wanted.size_bytes - item.at
                try:
                    count = self._copier.copy(item.fd, item.sink.fileno(), item.at, min(left, most_bytes)) if left else 0
                except SourceError as error:
                    problem = error.problem
                if count > left:
                    # It grew meanwhile, which the verdict says; the sink is not given more than was announced.
                    os.ftruncate(item.sink.fileno(), item.wanted.size_bytes)
                    count = left
                if count:
                    item.sink.copied(count)
                    item.at += count
                    moved += count
                if not count or item.at == item.wanted.size_bytes:
                    item.outcome = self._verdict(item, problem)
                if moved >= most_bytes or self.failure is not None:
                    return moved
        return moved

    def _verdict(self, item: _Opened, problem: OSError | None) -> FileRead:
        """Whether the file stood still, now that its bytes are here."""
        assert item.before is not None
        before = rules.entry_of(item.wanted.path, item.before)
        if problem is not None:
            return FileRead(item.wanted, ReadStatus.UNREADABLE, before, item.incomplete, os.strerror(problem.errno or 0))
        try:
            after = os.fstat(item.fd)
        except OSError as error:
            return FileRead(item.wanted, ReadStatus.UNREADABLE, before, item.incomplete, os.strerror(error.errno or 0))
        whole = item.at == item.wanted.size_bytes
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
