"""Whole clean-ups of a real folder: plan, sweep, and what becomes of one that is repeated, refused, stopped or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupSummary, Engine, KeptReason, SyncSpec
from mediasync.sources.base import Connection
from services.cleanup.attempt import Tools
from services.cleanup.counting import CleanupProgress
from services.cleanup.plan_store import PlanStore
from services.cleanup.planning import make_plan
from services.cleanup.runs import Runs
from services.cleanup.sources import source_of
from services.cleanup.verification import READERS, CopyCheck
from tests.fixtures.cleanup import CleanupPlace
from tests.fixtures.ssh import shared_sshd


@dataclass
class Running:
    """What runs are made of. `wrap` stands between a run and its connection."""

    place: CleanupPlace
    plans: PlanStore
    readers: ThreadPoolExecutor
    wrap: Callable[[Connection], Connection] = lambda connection: connection
    progress: list[CleanupProgress] = field(default_factory=list)
    connections: int = 0

    def runs(self) -> Runs:
        async def nothing() -> None:
            pass

        tools = Tools(
            self.place.journal,
            self.plans,
            self.place.transfer,
            lambda library, policy: CopyCheck(library.root, library.uuid, self.readers, without_copies=not policy.verify_synced),
            nothing,
        )
        return Runs(tools, lambda spec: Opened(self, spec), nothing)

    async def run(self, spec: SyncSpec, sync_id: str = "sync_1") -> CleanupSummary:
        runs = self.runs()
        try:
            return await runs.run(sync_id, "job_1", spec, self.progress.append)
        finally:
            await runs.close()


@dataclass
class Opened:
    """A source whose connections are wrapped."""

    running: Running
    spec: SyncSpec

    async def connect(self) -> Connection:
        self.running.connections += 1
        return self.running.wrap(await source_of(self.spec, self.running.place.folder / "home").connect())


class Through:
    """A connection, to be interfered with."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@pytest.fixture
async def running(place: CleanupPlace) -> AsyncIterator[Running]:
    with ThreadPoolExecutor(READERS) as readers:
        yield Running(place, PlanStore(place.database), readers)


def _counted(summary: CleanupSummary) -> None:
    assert summary.files_scanned == summary.files_deleted + summary.files_vanished + summary.files_kept


async def test_old_files_go_and_each_other_stays_for_its_reason(place: CleanupPlace, running: Running) -> None:
    for number in range(20):
        place.synced(f"txt2img/{number}.png")
    place.synced("txt2img/young.png", days=0.5)
    place.write("txt2img/new.png")
    place.synced("txt2img/bad.png", b"good bytes")
    (place.library / "txt2img/bad.png").write_bytes(b"bad! bytes")
    summary = await running.run(place.spec())
    assert place.left() == ["txt2img/bad.png", "txt2img/new.png", "txt2img/young.png"]
    assert summary.files_deleted == 20
    assert {reason: files.files for reason, files in summary.kept.items()} == {
        KeptReason.TOO_YOUNG: 1,
        KeptReason.NOT_SYNCED: 1,
        KeptReason.COPY_CORRUPT: 1,
    }
    _counted(summary)
    assert summary.errors == 1 and not summary.dry_run
    assert summary.free_bytes_after is not None
    assert running.progress[-1].files_done == running.progress[-1].files_total == 21
    run = await place.journal.run("job_1")
    assert run is not None and run.ended and run.summary == summary
    # Repeated, it is known to have ended.
    place.synced("txt2img/another.png")
    assert await running.run(place.spec()) == summary
    assert "txt2img/another.png" in place.left()


async def test_a_dry_run_deletes_nothing(place: CleanupPlace, running: Running) -> None:
    place.synced("a.png")
    summary = await running.run(place.spec(dry_run=True))
    assert place.left() == ["a.png"] and summary.dry_run and summary.files_deleted == 1


async def test_a_line_that_breaks_is_connected_again_and_nothing_is_counted_twice(place: CleanupPlace, running: Running) -> None:
    for number in range(9):
        place.synced(f"{number}.png")

    class Breaking(Through):
        async def delete_unchanged(self, files):
            count = 0
            async for outcome in self._connection.delete_unchanged(files):
                count += 1
                if count == 4:
                    # Told by nobody, and gone all the same.
                    raise MediasyncError(Reason.CONNECTION_LOST, "the line broke")
                yield outcome

    running.wrap = lambda connection: Breaking(connection) if running.connections == 1 else connection
    spec = place.spec(max_files_per_batch=3)
    summary = await running.run(replace(spec, options=replace(spec.options, retry_delay_seconds=0.0)))
    assert place.left() == [] and running.connections == 2
    assert (summary.files_deleted, summary.files_scanned, summary.files_vanished) == (9, 9, 0)
    _counted(summary)
    assert sorted(place.transfer.cleaned) == [f"{number}.png".encode() for number in range(9)]
    for numbers in ([item.files_done for item in running.progress], [item.files_total for item in running.progress]):
        assert numbers == sorted(numbers)


async def test_a_cap_counts_over_all_attempts_at_a_run(place: CleanupPlace, running: Running) -> None:
    for number in range(10):
        place.synced(f"{number}.png")

    class Breaking(Through):
        async def delete_unchanged(self, files):
            async for outcome in self._connection.delete_unchanged(files):
                yield outcome
                if outcome.doomed.path == b"2.png":
                    raise MediasyncError(Reason.CONNECTION_LOST, "the line broke")

    running.wrap = lambda connection: Breaking(connection) if running.connections == 1 else connection
    spec = place.spec(max_delete_share=0.5, max_files_per_batch=1)
    summary = await running.run(replace(spec, options=replace(spec.options, retry_delay_seconds=0.0)))
    assert len(place.left()) == 5 and summary.files_deleted == 5
    assert summary.kept[KeptReason.CAP].files == 5
    _counted(summary)


async def test_one_clean_up_at_a_time_of_a_source_and_one_that_is_left_ends(place: CleanupPlace, running: Running) -> None:
    for number in range(6):
        place.synced(f"{number}.png")
    reached, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Through):
        async def delete_unchanged(self, files):
            async for outcome in self._connection.delete_unchanged(files):
                reached.set()
                await goes_on.wait()
                yield outcome

    running.wrap = Slow
    runs = running.runs()
    first = asyncio.create_task(runs.run("sync_1", "job_1", place.spec(max_files_per_batch=1), running.progress.append))
    await reached.wait()
    with pytest.raises(MediasyncError) as caught:
        await runs.run("sync_2", "job_2", place.spec(), running.progress.append)
    assert caught.value.reason is Reason.CLEANUP_BUSY
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    # The same run asked for again waits for what is under way, and goes on.
    again = asyncio.create_task(runs.run("sync_1", "job_1", place.spec(), running.progress.append))
    await asyncio.sleep(0)
    goes_on.set()
    summary = await again
    await runs.close()
    assert place.left() == [] and summary.files_deleted == 6
    _counted(summary)


async def test_a_plan_is_what_goes_and_nothing_beside_it(place: CleanupPlace, running: Running) -> None:
    place.synced("planned.png")
    dry = await running.run(place.spec(dry_run=True), "sync_dry")
    assert dry.files_deleted == 1
    async with place.connection() as connection:
        plan_id = await make_plan(connection, place.spec(), place.origin, place.transfer, running.plans)
    place.synced("later.png")
    summary = await running.run(place.spec(plan_id=plan_id), "sync_planned")
    assert place.left() == ["later.png"] and summary.files_deleted == 1
    with pytest.raises(MediasyncError) as caught:
        await running.run(place.spec(plan_id=plan_id, age_hours=1), "sync_other")
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    with pytest.raises(MediasyncError) as caught:
        await running.run(place.spec(plan_id="gone"), "sync_gone")
    assert caught.value.reason is Reason.CLEANUP_PLAN_EXPIRED


async def test_a_plan_is_gone_on_with_where_it_was(place: CleanupPlace, running: Running) -> None:
    for number in range(4):
        for ending in ("png", "txt"):
            place.synced(f"{number}.{ending}", days=9 - number)
    async with place.connection() as connection:
        plan_id = await make_plan(connection, place.spec(), place.origin, place.transfer, running.plans)

    class Breaking(Through):
        async def delete_unchanged(self, files):
            async for outcome in self._connection.delete_unchanged(files):
                if outcome.doomed.path == b"1.txt":
                    # Half of a group is known to be gone.
                    (place.source / "1.txt").write_bytes(b"1.txt")
                    raise MediasyncError(Reason.CONNECTION_LOST, "the line broke")
                yield outcome

    running.wrap = lambda connection: Breaking(connection) if running.connections == 1 else connection
    spec = place.spec(plan_id=plan_id, max_files_per_batch=2)
    summary = await running.run(replace(spec, options=replace(spec.options, retry_delay_seconds=0.0)))
    assert place.left() == ["1.txt"]
    assert (summary.files_deleted, summary.files_scanned, summary.kept[KeptReason.CHANGED_MEANWHILE].files) == (7, 8, 1)
    _counted(summary)


async def test_what_was_never_synced_is_refused_as_a_whole(place: CleanupPlace, running: Running) -> None:
    place.write("a.png")
    place.transfer.libraries_[:] = [replace(place.origin, files=0)]
    with pytest.raises(MediasyncError) as caught:
        await running.run(place.spec())
    assert caught.value.reason is Reason.CLEANUP_NOTHING_SYNCED
    assert place.left() == ["a.png"]


async def test_without_verification_files_go_to_the_trash_and_old_trash_goes(place: CleanupPlace, running: Running) -> None:
    place.write("a.png")
    old = place.write(".mediasync/trash/2020-01-01/sync_old/b.png")
    summary = await running.run(place.spec(verify_synced=False, i_mean_it=True))
    assert summary.trashed and summary.files_deleted == 1
    (left,) = place.left()
    assert left.startswith(".mediasync/trash/") and left.endswith("/sync_1/a.png") and left != old.path.decode()


async def test_empty_dated_folders_go_and_named_ones_stay(place: CleanupPlace, running: Running) -> None:
    place.synced("out/2020-01-01/a.png")
    place.synced("out/2020-01-02/b.png")
    place.write("out/2020-01-02/new.png")
    (place.source / "out/2020-01-03").mkdir()
    (place.source / "out/empty").mkdir()
    summary = await running.run(replace(place.spec(), folders=(b"out",)))
    assert sorted(path.name for path in (place.source / "out").iterdir()) == ["2020-01-02", "empty"]
    assert summary.folders_removed == 2


async def test_a_service_that_goes_down_ends_its_runs_and_they_can_be_gone_on_with(place: CleanupPlace, running: Running) -> None:
    for number in range(8):
        place.synced(f"{number}.png")
    runs = running.runs()

    class Stopping(Through):
        async def delete_unchanged(self, files):
            async for outcome in self._connection.delete_unchanged(files):
                runs.stop()
                yield outcome

    running.wrap = Stopping
    with pytest.raises(MediasyncError) as caught:
        await runs.run("sync_1", "job_1", place.spec(max_files_per_batch=1), running.progress.append)
    assert caught.value.reason is Reason.SERVICES_UNREACHABLE
    run = await place.journal.run("sync_1")
    assert run is not None and not run.ended
    assert 0 < run.summary.files_deleted == 8 - len(place.left()) < 8
    assert not await place.journal.open_intents("name:box")
    with pytest.raises(MediasyncError, match="going down"):
        await runs.run("sync_1", "job_1", place.spec(), running.progress.append)
    running.wrap = lambda connection: connection
    summary = await running.run(place.spec())
    assert place.left() == [] and summary.files_deleted == 8
    _counted(summary)


@pytest.mark.needs_sshd
@pytest.mark.parametrize("engine", [Engine.AGENT, Engine.POSIX, Engine.SFTP, Engine.RSYNC])
async def test_over_a_real_server_each_engine_cleans_up_and_looks_at_what_was_left_open(
    place: CleanupPlace, running: Running, engine: Engine
) -> None:
    server = shared_sshd(place.source, "Subsystem sftp internal-sftp\n")
    for number in range(5):
        place.synced(f"2020-01-01/{number}.png", days=4)
        place.synced(f"2020-01-01/{number}.txt", days=4)
    place.synced("young.png", days=0.2)
    (place.library / "2020-01-01/3.txt").write_bytes(b"x")
    left = place.synced("left.png")
    await place.begin("sync_old")
    numbers = await place.journal.add_intents("sync_old", [place.row(left)])
    await place.journal.verified([(numbers[0], left.path)])
    (place.source / "left.png").unlink()
    # What was synced by one of the coarse engines is known again by all.
    place.transfer.coarse = engine in (Engine.SFTP, Engine.RSYNC)
    spec = replace(place.spec(max_files_per_batch=4), source=server.spec(place.source, name="box", engine=engine))
    summary = await running.run(spec)
    assert place.left() == ["2020-01-01/3.png", "2020-01-01/3.txt", "young.png"]
    assert summary.files_deleted == 8
    assert {reason: files.files for reason, files in summary.kept.items()} == {
        KeptReason.TOO_YOUNG: 1,
        KeptReason.COPY_CORRUPT: 1,
        KeptReason.COMPANION: 1,
    }
    _counted(summary)
    assert not await place.journal.open_intents("name:box")
    assert b"left.png" in place.transfer.cleaned
