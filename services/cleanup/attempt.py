"""One attempt at a run, over one connection: what is open is settled, a plan is made or taken, swept, and what is empty then is removed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPolicy, CleanupSummary, SyncSpec
from mediasync.runtime import crash
from mediasync.sources.base import Connection
from services.cleanup.counting import CleanupProgress, Tally
from services.cleanup.entities import OriginLibrary, PlanRow
from services.cleanup.folders import remove_empty
from services.cleanup.peers import Transfer
from services.cleanup.plan_store import PlanStore
from services.cleanup.planning import asked_of, make_plan
from services.cleanup.recovery import recover
from services.cleanup.standing import check_standing
from services.cleanup.store import Journal
from services.cleanup.sweep import BATCHES, Checker, Sweep, SweepParts
from services.cleanup.trash import FOLDER, emptied_before, trash_of

_LONG_WAY_SECONDS = 0.03
_MOST_ON_THE_WAY = 3

OnProgress = Callable[[CleanupProgress], object]


@dataclass(frozen=True)
class Tools:
    """What outlives a run. `checker` gives what reads a library's copies; `on_written` is told when there are events to publish."""

    journal: Journal
    plans: PlanStore
    transfer: Transfer
    checker: Callable[[OriginLibrary, CleanupPolicy], Checker]
    on_written: Callable[[], Awaitable[None]]


class Attempt:
    """See the module."""

    def __init__(
        self, tools: Tools, sync_id: str, spec: SyncSpec, library: OriginLibrary, on_progress: OnProgress, stop: asyncio.Event
    ) -> None:
        self._tools = tools
        self._sync_id = sync_id
        self._spec = spec
        self._policy = spec.cleanup or CleanupPolicy()
        self._library = library
        self._on_progress = on_progress
        self._stop = stop
        self._tally: Tally | None = None
        self._stage = ""

    async def run(self, connection: Connection) -> CleanupSummary | None:
        """What it came to; None if it was told to stop before its end. Raises MediasyncError; see `Runs.run`."""
        spec, tools = self._spec, self._tools
        await check_standing(spec, connection.probe.root, tools.transfer)
        self._say("looking at what was left open")
        if await recover(spec.source, connection, tools.journal, tools.transfer):
            await tools.on_written()
        plan_id = self._policy.plan_id or await self._make_plan(connection)
        async with tools.plans.held(plan_id):
            planned = (await tools.plans.get(plan_id, asked_of(spec))).summary
            crash.point("cleanup.after_plan")
            if self._policy.dry_run:
                await tools.journal.end_run(self._sync_id, planned)
                return planned
            return await self._clean(connection, plan_id, planned)

    async def _make_plan(self, connection: Connection) -> str:
        tools, gone = self._tools, (await self._tools.journal.counts(self._sync_id)).gone.files
        return await make_plan(connection, self._spec, self._library, tools.transfer, tools.plans, self._say, gone_before=gone)

    async def _clean(self, connection: Connection, plan_id: str, planned: CleanupSummary) -> CleanupSummary | None:
        tools = self._tools
        # A plan that was made before an earlier attempt lists what that one dealt with.
        gone = await tools.journal.gone(self._sync_id) if self._policy.plan_id else set()
        self._tally = tally = await self._begin_tally(planned, known=bool(gone))
        sweep = self._sweep(connection, tally)
        self._say("deleting")
        async with aclosing(tools.plans.batches(plan_id, self._policy.max_files_per_batch)) as batches:
            await sweep.run(_left(batches, gone))
        if self._stop.is_set():
            await tools.journal.save_summary(self._sync_id, tally.summary())
            return None
        await self._finish(connection, sweep, tally, await tools.plans.empty_folders(plan_id))
        summary = tally.summary()
        crash.point("cleanup.before_end")
        await tools.journal.end_run(self._sync_id, summary)
        return summary

    @property
    def advanced(self) -> bool:
        """Whether files went. What was kept does not count: a far side that says that of a file each time would be asked for ever."""
        return self._tally is not None and self._tally.files_gone > 0

    def progress(self, stage: str) -> CleanupProgress:
        """How far it is."""
        return CleanupProgress(stage) if self._tally is None else self._tally.progress(stage)

    async def save(self) -> None:
        """Remembers what it came to so far, for who asks before it is gone on with."""
        if self._tally is not None:
            with contextlib.suppress(MediasyncError):
                await self._tools.journal.save_summary(self._sync_id, self._tally.summary())

    async def _begin_tally(self, planned: CleanupSummary, *, known: bool) -> Tally:
        """`known` says that what earlier attempts dealt with is in the plan too."""
        counts = await self._tools.journal.counts(self._sync_id)
        if known:
            before = counts.gone + counts.vanished
            planned = replace(
                planned,
                files_scanned=planned.files_scanned - before.files,
                files_deleted=planned.files_deleted - before.files,
                space_freed_bytes=planned.space_freed_bytes - before.size_bytes,
            )
        tally = Tally(planned, counts.gone, counts.vanished, self._changed)
        tally.trashed = not self._policy.verify_synced
        return tally

    def _sweep(self, connection: Connection, tally: Tally) -> Sweep:
        tools, unverified = self._tools, not self._policy.verify_synced
        return Sweep(
            SweepParts(
                spec=self._spec,
                library=self._library,
                sync_id=self._sync_id,
                connection=connection,
                journal=tools.journal,
                transfer=tools.transfer,
                checker=tools.checker(self._library, self._policy),
                tally=tally,
                stop=self._stop,
                on_written=tools.on_written,
                trash=trash_of(self._sync_id, time.time()) if unverified else b"",
                # What is on a long way is neither here nor there.
                batches=BATCHES + min(int(connection.probe.round_trip_seconds / _LONG_WAY_SECONDS), _MOST_ON_THE_WAY),
            )
        )

    async def _finish(self, connection: Connection, sweep: Sweep, tally: Tally, empty_folders: Sequence[bytes]) -> None:
        self._say("removing empty folders")
        tally.folders_removed = await remove_empty(connection, sweep.folders.union(empty_folders), self._spec.folders)
        if not self._policy.verify_synced:
            self._say("emptying the trash")
            try:
                await connection.empty_aside(FOLDER, emptied_before(self._policy, time.time()))
            except MediasyncError as error:
                if error.reason is not Reason.SOURCE_UNREADABLE:
                    raise
                tally.failed(error)
        tally.free_bytes_after = (await connection.surroundings()).free_bytes

    def _say(self, stage: str) -> None:
        self._stage = stage
        self._on_progress(self.progress(stage))

    def _changed(self) -> None:
        self._on_progress(self.progress(self._stage))


async def _left(batches: AsyncIterator[Sequence[PlanRow]], gone: set[bytes]) -> AsyncGenerator[Sequence[PlanRow]]:
    """The same without what is gone. What is left of a group is one still."""
    async for rows in batches:
        left: list[PlanRow] = []
        first = True
        for row in rows:
            first = first or not row.joined
            if row.path not in gone:
                left.append(replace(row, joined=not first))
                first = False
        if left:
            yield left
