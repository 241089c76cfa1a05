"""Sources with `watch: true` are watched under `mediasync up`, as the configuration says at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Job, JobState, SourceSpec, SshConnection, SyncOptions, SyncSpec
from mediasync.storage.database import Database
from mediasync.v1 import coordinator_pb2, types_pb2
from services.coordinator.configured import ConfiguredFile
from services.coordinator.jobs import Jobs
from services.coordinator.schema import MIGRATIONS
from services.coordinator.standing import StandingWatches
from services.coordinator.store import Store
from tests.fixtures.coordinator import Peers, StartCoordinator, until


def watched(host: str = "forge.lan", **options: object) -> SyncSpec:
    return SyncSpec(SourceSpec(SshConnection(host), b"/outputs", name="forge"), "/media", (), SyncOptions(watch=True, **options))  # type: ignore[arg-type]


@dataclass
class Idle:
    """An engine, a hold and a configuration that do nothing by themselves."""

    sources: dict[str, SyncSpec] = field(default_factory=dict)
    problem: MediasyncError | None = None
    cancelled: list[str] = field(default_factory=list)

    async def submit(self, job_id: str) -> None: ...

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    async def look(self, job_id: str) -> None: ...

    async def recover(self) -> None: ...

    async def begin(self, job_id: str) -> None: ...

    def end(self, job_id: str) -> None: ...

    async def configured(self) -> Mapping[str, SyncSpec]:
        if self.problem:
            raise self.problem
        return self.sources


@dataclass
class Bench:
    """Standing watches over a real store."""

    store: Store
    idle: Idle
    jobs: Jobs

    def begin(self) -> StandingWatches:
        return StandingWatches(self.store, self.jobs, self.idle.configured)

    async def end(self, job: Job, state: JobState, end_time: float) -> None:
        await self.store.finish(replace(job, state=state, end_time=end_time), ())


@pytest.fixture
async def bench(tmp_path: Path) -> object:
    database = Database.open(f"sqlite:///{tmp_path}/coordinator.db", MIGRATIONS)
    store, idle = Store(database), Idle()
    yield Bench(store, idle, Jobs(store, idle, idle))
    await database.close()


async def test_what_is_configured_to_be_watched_gets_one_job_and_keeps_it(bench: Bench) -> None:
    bench.idle.sources = {"forge": watched(), "other": replace(watched(), options=SyncOptions())}
    for _ in range(2):
        standing = bench.begin()
        await standing.look()
        await standing.look()
    [job] = await bench.jobs.list(10, "", ())
    assert (job.spec, job.state) == (watched(), JobState.PENDING)
    assert (await bench.store.job(job.job_id)).standing


async def test_a_change_in_the_configuration_ends_the_old_watch_and_begins_another(bench: Bench) -> None:
    bench.idle.sources = {"forge": watched()}
    standing = bench.begin()
    await standing.look()
    [first] = await bench.jobs.list(10, "", ())
    bench.idle.sources = {"forge": watched(newest_first=True)}
    await standing.look()
    second, _ = await bench.jobs.list(10, "", ())
    assert bench.idle.cancelled == [first.job_id]
    assert second.spec.options.newest_first
    # With mistakes in the file everything stays as it is.
    bench.idle.problem = MediasyncError(Reason.CONFIGURATION_INVALID, "1 mistake")
    await standing.look()
    bench.idle.problem, bench.idle.sources = None, {}
    await standing.look()
    assert bench.idle.cancelled == [first.job_id, second.job_id]
    assert await bench.store.standing_watches() == []


async def test_a_watch_that_a_person_cancelled_begins_again_with_the_next_start_only(bench: Bench) -> None:
    bench.idle.sources = {"forge": watched()}
    standing = bench.begin()
    await standing.look()
    [job] = await bench.jobs.list(10, "", ())
    await bench.end(job, JobState.CANCELLED, standing._begun + 1)
    await standing.look()
    assert len(await bench.jobs.list(10, "", ())) == 1
    later = bench.begin()
    later._begun += 2
    await later.look()
    assert len(await bench.jobs.list(10, "", ())) == 2


async def test_a_watch_that_failed_is_tried_again_after_a_pause_that_grows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10_000.0
    monkeypatch.setattr("services.coordinator.standing.time.time", lambda: now)
    bench.idle.sources = {"forge": watched()}
    standing = bench.begin()
    await standing.look()
    for pause in (60.0, 120.0, 240.0):
        newest, *others = await bench.jobs.list(10, "", ())
        await bench.end(newest, JobState.FAILED, now)
        now += pause - 1
        await standing.look()
        assert len(await bench.jobs.list(10, "", ())) == 1 + len(others)
        now += 2
        await standing.look()
        assert len(await bench.jobs.list(10, "", ())) == 2 + len(others)

    # One that went well for hours and fails is like one that never failed.
    newest, *others = await bench.jobs.list(10, "", ())
    await bench.store.start(newest.job_id)
    now += 4000
    await bench.end(newest, JobState.FAILED, now)
    now += 61
    await standing.look()
    assert len(await bench.jobs.list(10, "", ())) == 2 + len(others)


async def test_a_source_that_cannot_be_watched_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.idle.sources = {"forge": replace(watched(), dest_path="")}
    standing = bench.begin()
    await standing.look()
    await standing.look()
    assert [record.message for record in caplog.records] == ["The source forge cannot be watched: forge.dest_path must not be empty"]
    assert await bench.jobs.list(10, "", ()) == []


async def test_the_configuration_file_is_read_again_when_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    monkeypatch.setenv("MEDIASYNC_CONFIG", str(file))
    configured = ConfiguredFile()
    text = "sources: {forge: {host: forge.lan, path: /outputs, watch: true, destination: /media}}"
    file.write_text(text)
    first = await configured.sources()
    assert await configured.sources() is first
    file.write_text(text.replace("true", "false "))
    assert not (await configured.sources())["forge"].options.watch
    file.write_text("sources: [")
    for _ in range(2):
        with pytest.raises(MediasyncError):
            await configured.sources()


async def test_a_coordinator_that_others_can_reach_watches_and_one_of_a_command_does_not(
    start_coordinator: StartCoordinator, peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("sources: {forge: {host: forge.lan, path: /outputs, watch: true, destination: /media}}")
    monkeypatch.setenv("MEDIASYNC_CONFIG", str(file))
    of_a_command = await start_coordinator()
    assert not (await of_a_command.client.stub.ListJobs(coordinator_pb2.ListJobsRequest())).jobs
    await of_a_command.service.stop(0)
    monkeypatch.setenv("MEDIASYNC_LISTEN", "127.0.0.1:0")
    client = (await start_coordinator()).client
    await until(lambda: peers.transfer.running == 1)
    request = next(request for request in peers.transfer.requests if request.options.watch)
    assert (request.source.name, request.source.ssh.host) == ("forge", "forge.lan")
    # Asked for by its name, a sync ends.
    job = await client.start(types_pb2.SyncSpec(source=types_pb2.SourceSpec(name="forge")))
    assert (await client.finished(job.job_id)).state == types_pb2.JOB_STATE_COMPLETE
