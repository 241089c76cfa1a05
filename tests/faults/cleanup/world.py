"""One source, one library and the clean-up between them, in this process, with the real agent: and somebody who does things at any moment
that the agent, or we, could be at."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mediasync.errors import MediasyncError, Reason
from mediasync.library import FindingKind
from mediasync.model import CleanupPolicy, CleanupSummary, Deletion, DeletionOutcome, SourceSpec, SshConnection, SyncOptions, SyncSpec
from mediasync.model.synced import CopyReport, SourceFile, SyncedFile
from mediasync.runtime.notices import Notice
from mediasync.sources.base import Connection, DoomedFile, FileDeleted, ScanFinished, ScanRecord, ScanRequest
from mediasync.storage.database import Database
from services.cleanup import entities
from services.cleanup.attempt import Tools
from services.cleanup.history_store import History, Wanted
from services.cleanup.plan_store import PlanStore
from services.cleanup.runs import Runs
from services.cleanup.schema import MIGRATIONS as CLEANUP_MIGRATIONS
from services.cleanup.store import Journal
from services.cleanup.verification import CopyCheck
from services.transfer.cleaning import CleanupRecord
from services.transfer.keeping import LibraryKeeper
from services.transfer.schema import MIGRATIONS
from services.transfer.worker import TransferWorker
from tests.faults.cleanup.byte_checker import Ledger
from tests.faults.cleanup.disturbing import Disturber
from tests.faults.cleanup.stepped_agent import SteppedAgents

# What a clean-up may say when so much happens around it.
_MAY_FAIL = frozenset({Reason.CLEANUP_NOTHING_SYNCED, Reason.CLEANUP_SOURCE_DIFFERENT, Reason.CONNECTION_LOST, Reason.SOURCE_PROTOCOL})

EVERYTHING = CleanupPolicy(age_hours=0, preserve_recent_minutes=0, keep_counter=False, force_cap=True)


class World:
    """One of them. `totals` counts what happened."""

    def __init__(self, folder: Path, seed: int, executor: ThreadPoolExecutor) -> None:
        self.seed = seed
        self.totals: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self.source, self.library, outside, home = (folder / name for name in ("source", "library", "outside", "home"))
        for path in (self.source, self.library, outside, home):
            path.mkdir(parents=True)
        self._home = home
        self._executor = executor
        self.ledger = Ledger(os.fsencode(self.source), os.fsencode(self.library))
        self.disturber = Disturber(self._rng, self.ledger, os.fsencode(self.source), os.fsencode(self.library), os.fsencode(outside))
        self.agents = SteppedAgents(os.fsencode(self.source), folder, self._agent_looks)
        self._rate = 0.0
        self._busy = False
        self._runs_done = 0
        self._clock_ns = 0
        self._failure: BaseException | None = None
        self._open: list[Callable[[], Awaitable[object]]] = []

    async def start(self) -> None:
        self._open.append(self.agents.close)
        await self.agents.start()
        self._transfer_database = Database.open(f"sqlite:///{self._home}/transfer.db", MIGRATIONS)
        self._open.append(self._transfer_database.close)
        self._database = Database.open(f"sqlite:///{self._home}/cleanup.db", CLEANUP_MIGRATIONS)
        self._open.append(self._database.close)
        self._worker = TransferWorker(self._transfer_database, self._home, lambda spec: _Source(self.agents))
        self._open.append(self._worker.close)
        self._keeper = LibraryKeeper(self._transfer_database, self._home, self._worker.library, Notice(), Notice())
        self._open.append(self._keeper.close)
        self._journal = Journal(self._database)
        tools = Tools(
            journal=self._journal,
            plans=PlanStore(self._database),
            transfer=_Transfer(CleanupRecord(self._transfer_database, self._keeper.library), self),
            checker=lambda library, policy: _Checker(CopyCheck(library.root, library.uuid, self._executor), self),
            on_written=_nothing,
        )
        watched = _Source(self.agents, self)
        self.runs = Runs(tools, lambda spec: watched, _nothing)
        self._open.append(self.runs.close)

    async def close(self) -> None:
        for close in reversed(self._open):
            await close()

    async def interleaving(self) -> None:
        """Files come and are synced, mostly; then a clean-up, with things happening at moments of it."""
        self.disturber.log.clear()
        self.disturber.work()
        if self._rng.random() < 0.8:
            await self.sync()
        self._clock_ns = self._rng.choice((0, 0, 0, 10**9, -(10**9), 10**14, -(10**14)))
        if self._rng.random() < 0.3:
            self.disturber.damage()
        self._rate = self._rng.choice((0.0, 0.02, 0.05, 0.2))
        self.agents.arm(self._rate > 0)
        try:
            summary = await self.clean(self._any_policy())
            self.totals["deleted"] += summary.files_deleted
            self.totals["kept"] += summary.files_kept
            for reason, kept in summary.kept.items():
                self.totals[f"kept: {reason.value}"] += kept.files
            assert not await self._journal.open_intents(self._spec.key), "the journal has open intents after the end"
        except MediasyncError as error:
            if error.reason not in _MAY_FAIL:
                raise
            self.totals[f"failed: {error.reason.value}"] += 1
        finally:
            self.agents.arm(False)
            self._rate = 0.0
            self.disturber.sacred.clear()
            self.disturber.focus.clear()
        if self._failure is not None:
            raise self._failure
        self.ledger.check()
        self.totals["interleavings"] += 1

    @property
    def _spec(self) -> SourceSpec:
        return SourceSpec(SshConnection("child"), os.fsencode(self.source), name="forge")

    async def sync(self) -> None:
        """Everything, as if it had been looked into and were valid."""
        options = SyncOptions(settle_seconds=0, retry_delay_seconds=0.01)
        spec = SyncSpec(self._spec, str(self.library), options=options)
        self._runs_done += 1
        await self._worker.sync_folder(f"sync_{self._runs_done}", spec, b"", lambda tally: None, lambda files, size: None)
        await self.record("DELETE FROM processing")

    async def record(self, statement: str) -> None:
        """Something happens to what the transfer worker has on record."""
        await self._transfer_database.write(lambda connection: connection.exec_driver_sql(statement))

    async def clean(self, policy: CleanupPolicy = EVERYTHING) -> CleanupSummary:
        """One clean-up. Raises MediasyncError."""
        options = SyncOptions(settle_seconds=0, retry_delay_seconds=0.001, retry_attempts=5)
        spec = SyncSpec(self._spec, str(self.library), options=options, cleanup=policy)
        self._runs_done += 1
        return await self.runs.run(f"clean_{self._runs_done}", "job", spec, lambda progress: None)

    async def findings(self) -> dict[bytes, FindingKind]:
        """What is on record as wrong in the library."""
        return {finding.path: finding.kind async for finding in self._keeper.findings(str(self.library))}

    async def journal(self, outcome: DeletionOutcome) -> list[Deletion]:
        """The journal's entries that ended so."""
        page = await History(self._database).page(Wanted(), None, 500)
        return [entry for entry in page.deletions if entry.outcome is outcome]

    def _any_policy(self) -> CleanupPolicy:
        rng = self._rng
        return CleanupPolicy(
            age_hours=rng.choice((0.0, 0.0, 0.0, 24.0)),
            preserve_recent_minutes=0,
            keep_last=rng.choice((0, 0, 0, 2)),
            keep_counter=rng.random() < 0.2,
            max_files_per_batch=rng.choice((1, 2, 100)),
            force_cap=True,
        )

    def we_look(self) -> None:
        """A moment of ours. While the agent is at work it could be between its last look and a removal: nothing happens then."""
        if not self._busy:
            self._perhaps()

    def _agent_looks(self) -> bool:
        """A moment of the agent's. Returns whether it lives on."""
        if self._rng.random() < self._rate / 50:
            self.totals["agents killed"] += 1
            return False
        # A scan looks often, and what changes during it is only not taken.
        self._perhaps(1.0 if self._busy else 0.1)
        return True

    def _perhaps(self, share: float = 1.0) -> None:
        if self._rng.random() < self._rate * share and self._failure is None:
            try:
                self.disturber.disturb()
                self.totals["disturbances"] += 1
            except BaseException as error:
                # Raised where somebody sees it.
                self._failure = error


class _Source:
    """The agents as a source; the one of clean-ups is watched, and kept until it breaks."""

    def __init__(self, agents: SteppedAgents, world: World | None = None) -> None:
        self.agents = agents
        self._world = world
        self._kept: Connection | None = None

    async def connect(self) -> Any:
        if self._world is None:
            return await self.agents.connect()
        if self._kept is None or self._kept.broken:
            self._kept = await self.agents.connect()
        return _Watched(self._kept, self._world)

    async def host_key(self) -> Any:
        raise AssertionError("a child process has no host key")

    async def trust_host_key(self, fingerprint: str) -> str:
        raise AssertionError("a child process has no host key")


class _Watched:
    """A connection between whose answers things happen, and to which one batch at a time is sent. Its clock may jump."""

    def __init__(self, inner: Connection, world: World) -> None:
        self._inner = inner
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def close(self) -> None:
        """Kept for the next clean-up."""

    async def scan(self, request: ScanRequest) -> AsyncGenerator[ScanRecord]:
        self._world.we_look()
        async for record in self._inner.scan(request):
            if isinstance(record, ScanFinished):
                record = ScanFinished(record.started_ns + self._world._clock_ns, record.files_seen, record.bytes_seen, record.filtered)
            yield record
        self._world.we_look()

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[FileDeleted]:
        world = self._world
        async for batch in files:
            world.we_look()
            world._busy, world.disturber.focus[:] = True, [doomed.path for doomed in batch]
            try:
                outcomes = [deleted async for deleted in self._inner.delete_unchanged(_one(batch))]
            finally:
                world._busy = False
                world.disturber.focus.clear()
            for deleted in outcomes:
                world.disturber.sacred[deleted.doomed.sha256] -= 1
            world.we_look()
            for deleted in outcomes:
                yield deleted


class _Checker:
    """Reads copies; what was read and may go is sacred until the source has dealt with it."""

    def __init__(self, inner: CopyCheck, world: World) -> None:
        self._inner = inner
        self._world = world

    async def check(self, rows: Sequence[entities.PlanRow]) -> list[entities.CheckedFile]:
        self._world.we_look()
        sacred = self._world.disturber.sacred
        for row in rows:
            sacred[row.sha256] += 1
        checked = await self._inner.check(rows)
        for file in checked:
            if file.kept is not None:
                sacred[file.row.sha256] -= 1
        self._world.we_look()
        return checked


class _Transfer:
    """The transfer worker, asked without a wire."""

    def __init__(self, record: CleanupRecord, world: World) -> None:
        self._record = record
        self._world = world

    async def libraries(self, source: SourceSpec | None) -> list[entities.OriginLibrary]:
        shares = await self._record.libraries(source)
        return [entities.OriginLibrary(os.fsdecode(share.library.root), share.library.uuid, share.files) for share in shares]

    async def synced(self, source: SourceSpec, library_root: str, files: Sequence[SourceFile]) -> list[SyncedFile]:
        self._world.we_look()
        found = await self._record.synced(source, library_root, files)
        self._world.we_look()
        return found

    async def note_cleaned(self, source: SourceSpec, library_root: str, files: Sequence[SourceFile]) -> None:
        await self._record.note_cleaned(source, library_root, files)
        self._world.we_look()

    async def report_copies(self, source: SourceSpec, library_root: str, copies: Sequence[CopyReport]) -> None:
        await self._record.report_copies(source, library_root, copies)
        self._world.we_look()


async def _one(batch: Sequence[DoomedFile]) -> AsyncGenerator[Sequence[DoomedFile]]:
    yield batch


async def _nothing() -> None:
    return None
