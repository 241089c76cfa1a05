"""From a plan to files that are gone: batch after batch, and nothing that the journal does not know.

Of each batch the intents are written down; the library's copies are read from the disk and told to the transfer worker; what is good is
written down as verified; the source deletes what is unchanged; the transfer worker hears of it; the outcomes are written down with the
events that tell of them. Batches overlap: while the source hashes one, the next one's copies are read here, and of the one before the
outcomes are written down. A few at most are between their intent and their outcome.

What it does not guarantee: that it gets to the end. A line that breaks ends it, with intents left open: recovery looks at them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DeletionOutcome, KeptReason, SyncSpec
from mediasync.runtime import crash
from mediasync.sources.base import Connection, DeleteStatus, DoomedFile, FileDeleted
from services.cleanup.answers import closable
from services.cleanup.counting import Tally
from services.cleanup.entities import CheckedFile, OriginLibrary, Outcome, PlanRow
from services.cleanup.peers import Transfer
from services.cleanup.store import Journal

BATCHES = 3
"""One that is read here, one that the source is at, one that is written down."""

_KEPT = {
    DeleteStatus.CHANGED: KeptReason.CHANGED_MEANWHILE,
    DeleteStatus.REFUSED: KeptReason.REFUSED,
    DeleteStatus.KEPT: KeptReason.COMPANION,
}


class Checker(Protocol):
    """Reads the library's copies."""

    async def check(self, rows: Sequence[PlanRow]) -> list[CheckedFile]:
        """What the library has of files now, one answer each and in order; what goes together is kept together. Raises MediasyncError where
        the library cannot be believed."""


@dataclass(frozen=True)
class SweepParts:
    """What a sweep works with. `trash` is the folder that files are moved to, empty where they are deleted. `on_written` is told when there
    are events to publish. At most `batches` are under way at once."""

    spec: SyncSpec
    library: OriginLibrary
    sync_id: str
    connection: Connection
    journal: Journal
    transfer: Transfer
    checker: Checker
    tally: Tally
    stop: asyncio.Event
    on_written: Callable[[], Awaitable[None]]
    trash: bytes = b""
    batches: int = BATCHES


@dataclass
class _Batch:
    """Files that are on their way to the source, with their numbers in the journal."""

    numbers: list[int]
    rows: list[PlanRow]
    outcomes: list[Outcome]

    @property
    def known(self) -> _Batch | None:
        """The files whose outcome is known; None if there are none."""
        count = len(self.outcomes)
        return _Batch(self.numbers[:count], self.rows[:count], self.outcomes) if count else None

    @property
    def doomed(self) -> list[DoomedFile]:
        return [DoomedFile(row.path, row.size_bytes, row.mtime_ns, row.inode, row.sha256, row.joined) for row in self.rows]


class Sweep:
    """One sweep over a plan's files."""

    def __init__(self, parts: SweepParts) -> None:
        self._parts = parts
        self._room = asyncio.Semaphore(parts.batches)
        self._sent: deque[_Batch] = deque()
        self._failure: MediasyncError | None = None
        self.folders: set[bytes] = set()
        """Where something was deleted."""

    async def run(self, batches: AsyncIterator[Sequence[PlanRow]]) -> None:
        """Deletes what may go of the batches, each of whole groups. When it was told to stop, what is not at the source yet is kept. Raises
        MediasyncError, once what is under way at the source has ended and is written down as far as that can be."""
        ready: asyncio.Queue[_Batch | None] = asyncio.Queue()
        ended: asyncio.Queue[_Batch | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._prepare(batches, ready), name="prepare batches")
            group.create_task(self._write_down(ended), name="write down outcomes")
            with self._failing():
                await self._delete(ready, ended)
            preparing.cancel()
            if self._sent and self._failure is None:
                self._failure = MediasyncError(Reason.SOURCE_PROTOCOL, "the source did not say what became of every file that was to go")
            if self._sent and (known := self._sent[0].known):
                ended.put_nowait(known)
            ended.put_nowait(None)
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """The first thing that fails ends the others in good order."""
        try:
            yield
        except MediasyncError as error:
            self._failure = self._failure or error

    async def _prepare(self, batches: AsyncIterator[Sequence[PlanRow]], ready: asyncio.Queue[_Batch | None]) -> None:
        """Intents, copies, and the word that they are good."""
        with self._failing():
            async for rows in batches:
                await self._room.acquire()
                if self._parts.stop.is_set() or self._failure is not None:
                    break
                batch = await self._prepared(rows)
                if batch.rows:
                    ready.put_nowait(batch)
                else:
                    self._room.release()
        ready.put_nowait(None)

    async def _prepared(self, rows: Sequence[PlanRow]) -> _Batch:
        parts = self._parts
        trash_paths = [parts.trash + b"/" + row.path for row in rows] if parts.trash else ()
        numbers = await parts.journal.add_intents(parts.sync_id, rows, trash_paths)
        crash.point("cleanup.after_intent")
        checked = await self._checked(rows)
        batch = _Batch([], [], [])
        copies: list[tuple[int, bytes]] = []
        kept: list[tuple[PlanRow, Outcome]] = []
        for number, file in zip(numbers, checked, strict=True):
            if file.kept is None:
                copies.append((number, file.library_path))
                batch.numbers.append(number)
                batch.rows.append(file.row)
            else:
                kept.append((file.row, Outcome(number, DeletionOutcome.KEPT, file.kept, file.message)))
        await parts.journal.verified(copies)
        crash.point("cleanup.after_verify")
        await self._settle(kept)
        return batch

    async def _checked(self, rows: Sequence[PlanRow]) -> list[CheckedFile]:
        parts = self._parts
        checked = await parts.checker.check(rows)
        if reports := [report for file in checked for report in file.reports]:
            await parts.transfer.report_copies(parts.spec.source, parts.library.root, reports)
        return checked

    async def _delete(self, ready: asyncio.Queue[_Batch | None], ended: asyncio.Queue[_Batch | None]) -> None:
        """What the source does."""
        async with aclosing(self._outcomes(ready)) as outcomes:
            async for deleted in outcomes:
                batch = self._sent[0]
                at = len(batch.outcomes)
                batch.outcomes.append(self._outcome(batch.numbers[at], deleted))
                if at == 0:
                    crash.point("cleanup.during_delete")
                if at + 1 == len(batch.rows):
                    self._sent.popleft()
                    crash.point("cleanup.after_delete")
                    ended.put_nowait(batch)

    def _outcomes(self, ready: asyncio.Queue[_Batch | None]) -> AsyncGenerator[FileDeleted]:
        parts = self._parts
        batches = self._feed(ready)
        call = parts.connection.move_aside(batches, parts.trash) if parts.trash else parts.connection.delete_unchanged(batches)
        return closable(call)

    async def _feed(self, ready: asyncio.Queue[_Batch | None]) -> AsyncGenerator[Sequence[DoomedFile]]:
        while (batch := await ready.get()) is not None:
            if self._failure is not None:
                return
            if self._parts.stop.is_set():
                # It was never sent, so nothing can have become of it.
                stopped = [Outcome(number, DeletionOutcome.KEPT, KeptReason.STOPPED) for number in batch.numbers]
                await self._settle(list(zip(batch.rows, stopped, strict=True)))
                self._room.release()
                continue
            self._sent.append(batch)
            yield batch.doomed

    def _outcome(self, number: int, deleted: FileDeleted) -> Outcome:
        match deleted.status:
            case DeleteStatus.DELETED:
                return Outcome(number, DeletionOutcome.TRASHED if self._parts.trash else DeletionOutcome.DELETED)
            case DeleteStatus.VANISHED:
                return Outcome(number, DeletionOutcome.VANISHED)
            case status:
                return Outcome(number, DeletionOutcome.KEPT, _KEPT[status], deleted.message)

    async def _write_down(self, ended: asyncio.Queue[_Batch | None]) -> None:
        while (batch := await ended.get()) is not None:
            with self._failing():
                await self._write(batch)
            self._room.release()

    async def _write(self, batch: _Batch) -> None:
        parts = self._parts
        settled = list(zip(batch.rows, batch.outcomes, strict=True))
        gone = [row for row, outcome in settled if outcome.kept is None and outcome.outcome is not DeletionOutcome.VANISHED]
        if gone and parts.library.root:
            # Before the outcome: what is open is looked at again after a crash, and told then.
            await parts.transfer.note_cleaned(parts.spec.source, parts.library.root, [row.file for row in gone])
        self.folders.update([row.path.rpartition(b"/")[0] for row in gone])
        await self._settle(settled)
        crash.point("cleanup.after_outcome")

    async def _settle(self, settled: Sequence[tuple[PlanRow, Outcome]]) -> None:
        if not settled:
            return
        if await self._parts.journal.record_outcomes([outcome for _, outcome in settled]):
            await self._parts.on_written()
        self._parts.tally.settled(settled)
