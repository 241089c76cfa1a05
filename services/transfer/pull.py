"""Bringing wanted files into staging over several connections, none of which ever waits for a round trip.

Each connection takes batches from one shared queue, the next while the last still streams. A connection that breaks gives back what it
had not delivered, and comes again after a while; only when it has failed too often in a row without delivering a file does the pull fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncOptions
from mediasync.sources.base import FileEntry, FileRead, ReadStatus, WantedFile
from services.transfer.entities import StagedFile
from services.transfer.groups import first_error
from services.transfer.pool import ConnectionPool
from services.transfer.retries import Attempts
from services.transfer.spool import WantedSpool
from services.transfer.staging import Staging, StagingFile

BATCH_FILES = 128
BATCH_BYTES = 8 << 20

_logger = logging.getLogger(__name__)

OnStaged = Callable[[StagedFile], Awaitable[None]]
OnOther = Callable[[FileRead], Awaitable[None]]
OnBytes = Callable[[WantedFile, int], None]


class _CountingSink:
    """A staging file that says how much came in."""

    def __init__(self, wanted: WantedFile, file: StagingFile, on_bytes: OnBytes) -> None:
        self.file = file
        self._wanted = wanted
        self._on_bytes = on_bytes

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self._on_bytes(self._wanted, len(data))


class Pull:
    """One pull of a list of files. `on_staged` and `on_other` are awaited for each outcome, and may slow the pull down by taking
    their time."""

    def __init__(
        self,
        pool: ConnectionPool,
        staging: Staging,
        options: SyncOptions,
        *,
        on_staged: OnStaged,
        on_other: OnOther,
        on_bytes: OnBytes,
        on_stage: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._staging = staging
        self._options = options
        self._on_staged = on_staged
        self._on_other = on_other
        self._on_bytes = on_bytes
        self._on_stage = on_stage
        self._batches: Iterator[Sequence[FileEntry]] = iter(())
        self._outcomes = 0
        self._returned: deque[Sequence[WantedFile]] = deque()

    async def run(self, wanted: WantedSpool) -> None:
        """Pulls everything. Raises MediasyncError when the source is lost for good, OSError when staging fails."""
        self._batches = wanted.batches(BATCH_FILES, BATCH_BYTES)
        batch_count = 1 + max(wanted.files // BATCH_FILES, wanted.size_bytes // BATCH_BYTES)
        connections = min(self._options.parallel_transfers, batch_count)
        with first_error():
            async with asyncio.TaskGroup() as group:
                for number in range(connections):
                    group.create_task(self._pull(), name=f"pull {number}")
        if self._outcomes != wanted.files:
            # Saying nothing would lose files: the next scan believes that everything up to now was dealt with.
            raise MediasyncError(Reason.INTERNAL, f"{wanted.files} files were wanted and {self._outcomes} were heard of again")

    def _next_batch(self) -> Sequence[WantedFile] | None:
        if self._returned:
            return self._returned.popleft()
        entries = next(self._batches, None)
        if entries is None:
            return None
        settle, incomplete = self._options.settle_seconds, self._options.incomplete_after_seconds
        return [WantedFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode, settle, incomplete) for entry in entries]

    async def _pull(self) -> None:
        """One connection's work, over as many reconnects as it takes."""
        attempts = Attempts(self._options)
        while (first := self._next_batch()) is not None:
            # Handed out and not answered yet; what is in here when the connection breaks is handed out again.
            pending: deque[WantedFile] = deque(first)
            sinks: dict[bytes, _CountingSink] = {}

            def open_sink(wanted: WantedFile, offset: int, sinks: dict[bytes, _CountingSink] = sinks) -> _CountingSink:
                sink = _CountingSink(wanted, self._staging.new_file(), self._on_bytes)
                sinks[wanted.path] = sink
                return sink

            try:
                async with self._pool.connection() as connection:
                    async for outcome in connection.read(self._feed(first, pending), open_sink):
                        pending.popleft()
                        self._outcomes += 1
                        await self._settle(outcome, sinks.pop(outcome.wanted.path, None))
                        attempts.succeeded()
            except MediasyncError as error:
                delay = attempts.delay_after(error)
                _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay, "files_left": len(pending)})
                self._on_stage(str(attempts))
                self._returned.append(list(pending))
                await asyncio.sleep(delay)
            finally:
                for sink in sinks.values():
                    sink.file.discard()

    async def _feed(self, first: Sequence[WantedFile], pending: deque[WantedFile]) -> AsyncIterator[Sequence[WantedFile]]:
        yield first
        while (batch := self._next_batch()) is not None:
            pending.extend(batch)
            yield batch

    async def _settle(self, outcome: FileRead, sink: _CountingSink | None) -> None:
        if outcome.status is ReadStatus.OK and sink is not None and outcome.entry is not None:
            sha256 = sink.file.finish(outcome.entry.mtime_ns)
            await self._on_staged(StagedFile(outcome.entry, sink.file.path, sha256, outcome.incomplete))
        else:
            if sink is not None:
                sink.file.discard()
            await self._on_other(outcome)
