"""Syncs and clean-ups that are begun at their times, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import grpc
import grpc.aio
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.model import CleanupPolicy, Job, JobKind, JobState, SourceSpec, SshConnection, SyncOptions, SyncSpec
from mediasync.runtime.status import from_rpc_error
from mediasync.storage.database import Database
from mediasync.v1 import coordinator_pb2 as pb
from mediasync.v1 import types_pb2
from services.coordinator.configured import ConfiguredFile
from services.coordinator.jobs import Jobs
from services.coordinator.plans import Plan, plans_of
from services.coordinator.schedule_store import ScheduleStore
from services.coordinator.schedules import Schedules
from services.coordinator.schema import MIGRATIONS
from services.coordinator.store import Request, Store
from tests.fixtures.coordinator import BOUND_SECONDS, Peers, StartCoordinator, until

ZONE = ZoneInfo("Europe/Berlin")


def spec(host: str = "forge.lan", *, watch: bool = False) -> SyncSpec:
    policy = CleanupPolicy(after_sync=True)
    return SyncSpec(SourceSpec(SshConnection(host), b"/outputs", name="forge"), "/media", (), SyncOptions(watch=watch), policy)


@dataclass
class Idle:
    """An engine and a hold that do nothing by themselves, and a configuration."""

    plans: dict[str, Plan] = field(default_factory=dict)
    problem: MediasyncError | None = None

    async def submit(self, job_id: str) -> None: ...

    def cancel(self, job_id: str) -> None: ...

    async def look(self, job_id: str) -> None: ...

    async def recover(self) -> None: ...

    async def begin(self, job_id: str) -> None: ...

    def end(self, job_id: str) -> None: ...

    async def configured(self) -> Mapping[str, Plan]:
        if self.problem:
            raise self.problem
        return self.plans


@dataclass
class Bench:
    """Schedules over a real store, and the time."""

    store: Store
    idle: Idle
    jobs: Jobs
    now: float = datetime(2026, 11, 21, 12, 0, 30, tzinfo=ZONE).timestamp()

    def schedules(self) -> Schedules:
        """Those of a coordinator that was just started."""
        return Schedules(ScheduleStore(self.store), self.jobs, self.idle.configured, lambda: self.now, ZONE)

    def at(self, *parts: int) -> None:
        self.now = datetime(2026, *parts, tzinfo=ZONE).timestamp()  # type: ignore[arg-type,misc]

    async def begun(self) -> list[Job]:
        """Oldest first."""
        return (await self.jobs.list(100, "", ()))[::-1]

    async def end(self, job: Job) -> None:
        await self.store.finish(replace(job, state=JobState.COMPLETE, end_time=self.now), ())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database.open(f"sqlite:///{tmp_path}/coordinator.db", MIGRATIONS)
    store, idle = Store(database), Idle()
    yield Bench(store, idle, Jobs(store, idle, idle))
    await database.close()


async def test_a_job_is_begun_at_each_of_its_times(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "30 3 * * *"}, {"forge": ("forge", "@hourly", spec())})
    schedules = bench.schedules()
    await schedules.look()
    assert await bench.begun() == [], "what was due before it was written, nobody meant"
    bench.at(11, 21, 13, 0, 2)
    await schedules.look()
    [cleanup] = await bench.begun()
    assert (cleanup.kind, cleanup.spec) == (JobKind.CLEANUP, spec())
    await bench.end(cleanup)
    await schedules.look()
    assert len(await bench.begun()) == 1
    bench.at(11, 22, 3, 30)
    await schedules.look()
    assert sorted(job.kind for job in await bench.begun()) == [JobKind.CLEANUP, JobKind.CLEANUP, JobKind.SYNC]


async def test_what_is_due_while_its_job_is_under_way_goes_by(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "every 15m"}, {})
    schedules = bench.schedules()
    await schedules.look()
    for minute in (15, 30, 45):
        bench.at(11, 21, 12, minute, 1)
        await schedules.look()
    [job] = await bench.begun()
    await bench.end(job)
    await schedules.look()
    assert len(await bench.begun()) == 1
    bench.at(11, 21, 13, 0, 1)
    await schedules.look()
    assert len(await bench.begun()) == 2


async def test_what_was_due_while_nothing_ran_is_begun_once_at_the_start(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "@daily"}, {})
    await bench.schedules().look()
    bench.at(11, 27, 15)
    later = bench.schedules()
    await later.look()
    await later.look()
    [job] = await bench.begun()
    await bench.end(job)
    await bench.schedules().look()
    assert len(await bench.begun()) == 1


async def test_an_hour_that_comes_twice_has_one_job(bench: Bench) -> None:
    bench.at(10, 24, 12)
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "30 2 * * *"}, {})
    schedules = bench.schedules()
    await schedules.look()
    bench.at(10, 25, 2, 30)
    for _ in range(6):
        await schedules.look()
        for job in await bench.begun():
            await bench.end(job)
        bench.now += 1800
    assert len(await bench.begun()) == 1


async def test_a_job_is_begun_once_for_a_time_also_by_one_who_was_killed_before_it_was_noted(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "@hourly"}, {})
    await bench.schedules().look()
    before = (await ScheduleStore(bench.store).all())["forge"]
    bench.at(11, 21, 13, 0, 2)
    await bench.schedules().look()
    [job] = await bench.begun()
    await ScheduleStore(bench.store).put(before)
    bench.at(11, 21, 13, 0, 9)
    await bench.schedules().look()
    assert [found.job_id for found in await bench.begun()] == [job.job_id]
    assert (await ScheduleStore(bench.store).all())["forge"].last_job_id == job.job_id


async def test_a_schedule_that_is_held_begins_nothing_and_makes_up_for_nothing(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "@hourly"}, {})
    schedules = bench.schedules()
    request = Request("r1", "PauseScheduleRequest", b"d")
    held = await schedules.pause(request, "forge", paused=True)
    assert (held.paused, held.next_time) == (True, 0.0)
    bench.at(11, 21, 15, 0, 1)
    restarted = bench.schedules()
    await restarted.look()
    let_go = await restarted.pause(Request("r2", "PauseScheduleRequest", b"d"), "forge", paused=False)
    assert (let_go.paused, let_go.next_time) == (False, datetime(2026, 11, 21, 16, tzinfo=ZONE).timestamp())
    await restarted.look()
    assert await bench.begun() == []
    # The first request once more has its first answer, and no effect (invariant I10).
    assert (await restarted.pause(request, "forge", paused=True)).paused
    assert not (await restarted.list(10, ""))[0].paused
    bench.at(11, 21, 16, 0, 1)
    await restarted.look()
    [job] = await bench.begun()
    [shown] = await restarted.list(10, "")
    assert (shown.last_job_id, shown.last_time, shown.kind, shown.source) == (job.job_id, bench.now, JobKind.SYNC, "forge")
    with pytest.raises(MediasyncError) as caught:
        await restarted.pause(Request("r3", "PauseScheduleRequest", b"d"), "forgge", paused=True)
    assert caught.value.reason is Reason.SCHEDULE_NOT_FOUND
    assert "did you mean `forge`" in caught.value.message


async def test_a_change_of_the_times_counts_from_then_on_and_mistakes_change_nothing(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "@daily"}, {})
    schedules = bench.schedules()
    await schedules.look()
    bench.at(11, 21, 18)
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "every 15m"}, {})
    await schedules.look()
    assert await bench.begun() == []
    bench.at(11, 21, 18, 15)
    bench.idle.problem = MediasyncError(Reason.CONFIGURATION_INVALID, "1 mistake")
    await schedules.look()
    assert await bench.begun() == []
    bench.idle.problem = None
    await schedules.look()
    assert len(await bench.begun()) == 1


async def test_a_schedule_that_was_taken_out_and_a_clock_that_was_wrong_leave_nothing_to_make_up_for(bench: Bench) -> None:
    bench.idle.plans = daily = plans_of({"forge": spec()}, {"forge": "@daily"}, {})
    schedules = bench.schedules()
    await schedules.look()
    bench.idle.plans = {}
    await schedules.look()
    assert await ScheduleStore(bench.store).all() == {}
    bench.at(11, 23, 12)
    bench.idle.plans = daily
    await schedules.look()
    await schedules.look()
    # For a moment it seemed to be December.
    bench.at(12, 20, 12)
    await schedules.look()
    [job] = await bench.begun()
    await bench.end(job)
    bench.at(11, 24, 13)
    await schedules.look()
    bench.at(11, 25, 0, 1)
    await schedules.look()
    assert len(await bench.begun()) == 2


async def test_the_store_is_asked_only_when_something_is_due(bench: Bench) -> None:
    bench.idle.plans = plans_of({"forge": spec()}, {"forge": "@hourly"}, {})
    schedules = bench.schedules()
    await schedules.look()
    await ScheduleStore(bench.store).drop("forge")
    await schedules.look()
    assert await ScheduleStore(bench.store).all() == {}
    bench.at(11, 21, 13)
    await schedules.look()
    assert (await ScheduleStore(bench.store).all())["forge"].seen_time == bench.now


async def test_a_job_that_cannot_be_is_not_begun(bench: Bench) -> None:
    nowhere = replace(spec(), dest_path="")
    bench.idle.plans = plans_of({"forge": nowhere}, {"forge": "@hourly"}, {"forge": ("forge", "@hourly", nowhere)})
    schedules = bench.schedules()
    await schedules.look()
    bench.at(11, 21, 13, 0, 1)
    await schedules.look()
    # A sync needs its library named; a clean-up finds it in what is on record.
    assert [job.kind for job in await bench.begun()] == [JobKind.CLEANUP]


def test_a_source_that_is_watched_is_cleaned_up_now_and_then_and_not_synced_by_schedule() -> None:
    watched = {"forge": spec(watch=True), "other": replace(spec(watch=True), cleanup=CleanupPolicy()), "third": spec()}
    plans = plans_of(watched, {"forge": "@daily", "third": "@daily"}, {})
    assert {name: plan.times.text for name, plan in plans.items()} == {"third": "@daily", "cleanup:forge": "every 15m"}
    assert not plans["cleanup:forge"].spec.options.watch
    plans = plans_of(watched, {}, {"forge": ("forge", "@hourly", spec(watch=True))})
    assert {name: plan.times.text for name, plan in plans.items()} == {"cleanup:forge": "@hourly"}


async def test_schedules_of_the_file_are_listed_and_held_over_the_wire(
    start_coordinator: StartCoordinator, peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = (await start_coordinator()).client
    file = tmp_path / "config.yaml"
    file.write_text(
        "sources:\n"
        "  forge: {type: forge, host: forge.lan, destination: /media, schedule: '@daily', cleanup: {schedule: every 2h}}\n"
        "cleanup: {targets: [{name: disk, path: /mnt/outputs, schedule: '@weekly'}]}\n"
    )
    monkeypatch.setenv("MEDIASYNC_CONFIG", str(file))
    found, token = [], ""
    while True:
        request = pb.ListSchedulesRequest(page_size=2, page_token=token)
        response = await client.stub.ListSchedules(request, timeout=BOUND_SECONDS)
        found += response.schedules
        if not (token := response.next_page_token):
            break
    assert [(one.name, one.kind, one.source, one.times) for one in found] == [
        ("cleanup:disk", types_pb2.JOB_KIND_CLEANUP, "disk", "@weekly"),
        ("cleanup:forge", types_pb2.JOB_KIND_CLEANUP, "forge", "every 2h"),
        ("forge", types_pb2.JOB_KIND_SYNC, "forge", "@daily"),
    ]
    assert all(one.HasField("next_time") and not one.paused for one in found)
    pause = pb.PauseScheduleRequest(request_id=new_request_id(), name="cleanup:disk", paused=True)
    schedule = (await client.stub.PauseSchedule(pause, timeout=BOUND_SECONDS)).schedule
    assert (schedule.paused, schedule.HasField("next_time")) == (True, False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.PauseSchedule(pb.PauseScheduleRequest(request_id="r", name="none"), timeout=BOUND_SECONDS)
    assert from_rpc_error(caught.value).reason is Reason.SCHEDULE_NOT_FOUND


async def test_under_mediasync_up_what_is_due_is_begun(
    start_coordinator: StartCoordinator, peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("sources: {forge: {type: forge, host: forge.lan, destination: /media, cleanup: {schedule: '@hourly'}}}")
    monkeypatch.setenv("MEDIASYNC_CONFIG", str(file))
    # It was seen yesterday, and nothing ran since.
    folder = tmp_path / "home"
    folder.mkdir()
    database = Database.open(f"sqlite:///{folder}/coordinator.db", MIGRATIONS)
    schedules = Schedules(
        ScheduleStore(Store(database)), Jobs(Store(database), Idle(), Idle()), ConfiguredFile().plans, lambda: 1_700_000_000.0
    )
    await schedules.look()
    await database.close()
    monkeypatch.setenv("MEDIASYNC_LISTEN", "127.0.0.1:0")
    client = (await start_coordinator()).client
    await until(lambda: bool(peers.cleanup.runs))
    job = await client.finished(peers.cleanup.runs[0].job_id)
    assert (job.state, job.kind, len(peers.cleanup.runs)) == (types_pb2.JOB_STATE_COMPLETE, types_pb2.JOB_KIND_CLEANUP, 1)
