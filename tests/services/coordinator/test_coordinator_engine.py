"""What surrounds a job: its trace, its hold on the supervisor, its records, and jobs that were given up."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry import trace

from mediasync.errors import MediasyncError, Reason
from mediasync.local.control import SOCKET_NAME, ControlServer
from mediasync.model import Job, JobProgressReport, JobState, ProgressStatus, SourceSpec, SyncSpec, SyncSummary
from mediasync.runtime import telemetry
from mediasync.runtime.home import Home
from mediasync.storage.database import Database
from mediasync.v1 import types_pb2
from services.coordinator.cleanup_peer import GrpcCleanupPeer
from services.coordinator.holding import SupervisorHold
from services.coordinator.jobs import Endings
from services.coordinator.patience import Patience
from services.coordinator.peers import GrpcPeers
from services.coordinator.reporting import JobReports
from services.coordinator.schema import MIGRATIONS
from services.coordinator.steps import Outcome, Steps
from services.coordinator.store import Request, Store
from services.coordinator.workflow import WorkflowEngine
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, StartCoordinator, connection, until

tracer = trace.get_tracer("tests.coordinator")


def spans_of(home: Home) -> list[dict[str, object]]:
    telemetry.shutdown()
    return [json.loads(line) for line in (home.logs / "test.spans.jsonl").read_text().splitlines()]


async def test_a_job_is_part_of_the_trace_of_the_one_who_asked_also_after_a_recovery(
    start_coordinator: StartCoordinator, peers: Peers, telemetry_home: Home
) -> None:
    first = await start_coordinator()
    peers.transfer.hold(b"txt2img-images")
    with tracer.start_as_current_span("a command") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
        job_id = (await first.client.start()).job_id
    await peers.transfer.reach(b"txt2img-images")
    await first.service.stop(0)
    del peers.transfer.held[b"txt2img-images"]
    second = await start_coordinator()
    job = await second.client.finished(job_id)
    await second.service.stop(0)

    called = peers.transfer.metadata
    for metadata in (*called["ProbeSource"], *called["SyncFolder"], *called["WatchProcessing"], *peers.events.metadata):
        assert metadata["traceparent"].split("-")[1] == trace_id
        assert f"sync.id={job.sync_id}" in metadata["baggage"]
    assert len(called["SyncFolder"]) == 2
    spans = [span for span in spans_of(telemetry_home) if span["trace_id"] == trace_id]
    by_name = {str(span["name"]): span for span in spans}
    assert {"a command", "sync", "sync.probe", "sync.folder", "sync.processing", "sync.publish"} <= set(by_name)
    attributes = by_name["sync"]["attributes"]
    assert isinstance(attributes, dict)
    assert (attributes["sync.id"], attributes["job.state"], attributes["files"], attributes["bytes"]) == (
        job.sync_id,
        "complete",
        3,
        30,
    )
    assert attributes["recovered"] is True
    # Of the two ends of the call, the coordinator's.
    starts = [span["attributes"] for span in spans if span["name"] == "mediasync.v1.Coordinator/StartSync"]
    assert [start["job.id"] for start in starts if isinstance(start, dict) and start.get("sync.id") == job.sync_id] == [job_id]


class Supervised:
    """What a control socket controls, for tests of who holds it."""

    stopping = False

    def status(self) -> dict[str, object]:
        return {}

    async def ready(self) -> None:
        return

    def stop(self) -> None:
        return

    def holds_changed(self, *, lost: bool = False) -> None:
        return

    async def staying(self) -> bool:
        return True


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[ControlServer]:
    """A supervisor's control socket in the coordinator's run folder."""
    home = Home(tmp_path / "home")
    home.prepare()
    server = ControlServer(str(home.run / SOCKET_NAME), Supervised())
    await server.start()
    yield server
    await server.close()


async def test_a_supervisor_is_held_before_a_start_is_answered_and_until_the_job_has_ended(
    supervisor: ControlServer, coordinator: CoordinatorClient, peers: Peers
) -> None:
    gate = peers.transfer.hold(b"txt2img-images")
    job_id = (await coordinator.start()).job_id
    assert supervisor.holds["jobs"] == 1
    other = (await coordinator.start()).job_id
    assert supervisor.holds["jobs"] == 1
    gate.set()
    for each in (job_id, other):
        await coordinator.finished(each)
    await until(lambda: supervisor.holds["jobs"] == 0)


async def test_a_supervisor_that_was_started_again_is_held_again(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    hold = SupervisorHold(tmp_path)
    await hold.begin("job_1")
    servers = []
    for _ in range(2):
        server = ControlServer(str(path), Supervised())
        await server.start()
        servers.append(server)
        await until(lambda: servers[-1].holds["jobs"] == 1)
        await server.close()
    hold.end("job_1")
    await hold.close()


async def test_a_supervisor_that_is_ending_or_dead_is_not_waited_for(tmp_path: Path) -> None:
    ending = Supervised()
    ending.stopping = True
    server = ControlServer(str(tmp_path / SOCKET_NAME), ending)
    await server.start()
    hold = SupervisorHold(tmp_path)
    await hold.begin("job_1")
    assert server.holds.total() == 0
    await hold.close()
    await server.close()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    hold = SupervisorHold(tmp_path)
    await hold.begin("job_1")
    await hold.close()


async def test_no_supervisor_is_no_reason_to_wait(tmp_path: Path) -> None:
    hold = SupervisorHold(tmp_path)
    with pytest.raises(StopIteration):
        # It ends without having waited for anything.
        hold.begin("job_1").send(None)
    hold.end("job_1")
    await hold.close()


async def test_recovered_jobs_hold_the_supervisor_too(start_coordinator: StartCoordinator, peers: Peers, supervisor: ControlServer) -> None:
    first = await start_coordinator()
    gate = peers.transfer.hold(b"txt2img-images")
    job_id = (await first.client.start()).job_id
    await peers.transfer.reach(b"txt2img-images")
    await first.service.stop(0)
    await until(lambda: supervisor.holds["jobs"] == 0)
    second = await start_coordinator()
    await until(lambda: supervisor.holds["jobs"] == 1)
    gate.set()
    await second.client.finished(job_id)


async def test_a_service_that_is_started_on_demand_is_asked_for(tmp_path: Path) -> None:
    hold = SupervisorHold(tmp_path)
    # Nobody starts anything here: who calls it finds out.
    await hold.need("cleanup")
    asked: list[bytes] = []
    answers = [b'{"ready": true}\n', b'{"error": {"reason": "SERVICE_FAILED", "message": "it ends at once"}}\n', b""]

    async def supervise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(answers[len(asked) - 1])
        writer.close()

    async with await asyncio.start_unix_server(supervise, tmp_path / SOCKET_NAME):
        for _ in answers:
            await hold.need("cleanup")
    assert asked == [b'{"op": "need", "service": "cleanup"}\n'] * 3


class Silence:
    """Takes reports, and is one reporter for all."""

    def __init__(self) -> None:
        self.reports: list[JobProgressReport] = []

    def update(self, report: JobProgressReport) -> None:
        self.reports.append(report)

    async def __aenter__(self) -> Silence:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


async def needless() -> None:
    """Every service runs."""


class Bench:
    """An engine with its store, without a server around it."""

    def __init__(self, folder: Path, peers: Peers) -> None:
        from mediasync.runtime.channels import open_channel

        self.folder = folder
        self.channels = {
            name: open_channel(peers.environment[f"MEDIASYNC_{name.upper()}_ADDRESS"])
            for name in ("transfer", "ingest", "progress", "cleanup")
        }
        self.peers = GrpcPeers(*list(self.channels.values())[:3])
        self.database = Database.open(f"sqlite:///{folder}/coordinator.db", MIGRATIONS)
        self.store = Store(self.database)
        self.silence = Silence()
        self.endings = Endings()
        self.engine = self.new_engine(Patience())

    def new_engine(self, patience: Patience) -> WorkflowEngine:
        self.engine = WorkflowEngine(
            self.folder / "workflows.db",
            self.store,
            self.peers,
            GrpcCleanupPeer(self.channels["cleanup"], needless),
            lambda _: self.silence,
            SupervisorHold(self.folder),
            self.endings,
            patience,
        )
        return self.engine

    async def accept(self, number: int = 1) -> Job:
        """An accepted job that nobody has begun."""
        spec = SyncSpec(SourceSpec(connection()), "/media/library")
        job = Job(f"job_{number}", f"sync_{number}", JobState.PENDING, spec, time.time())
        await self.store.accept(Request(f"r{number}", "StartSyncRequest", b"d"), job, {})
        return job

    async def ended(self, job_id: str) -> Job:
        """The job, once it has ended."""
        over = asyncio.Event()
        with self.endings.heard(job_id, over.set):
            if not (await self.store.job(job_id)).job.state.terminal:
                async with asyncio.timeout(BOUND_SECONDS):
                    await over.wait()
        return (await self.store.job(job_id)).job

    async def close(self) -> None:
        await self.database.close()
        for channel in self.channels.values():
            await channel.close()


@pytest.fixture
async def bench(tmp_path: Path, peers: Peers) -> AsyncIterator[Bench]:
    found = Bench(tmp_path, peers)
    yield found
    await found.close()


async def test_an_accepted_job_that_nobody_began_is_begun_at_the_next_start(bench: Bench) -> None:
    job = await bench.accept()
    await bench.engine.open()
    assert (await bench.ended(job.job_id)).state is JobState.COMPLETE
    await bench.engine.close()


async def test_a_job_whose_workflow_died_of_itself_is_given_up_and_everybody_is_told(
    bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = await bench.accept()

    async def broken(*_: object) -> None:
        raise RuntimeError("as a full disk does")

    with monkeypatch.context() as patched:
        patched.setattr(bench.engine, "_sync", broken)
        await bench.engine.open()
        await until(lambda: "as a full disk does" in caplog.text)
        await bench.engine.close()
    assert (await bench.store.job(job.job_id)).job.state is JobState.RUNNING

    await bench.new_engine(Patience()).open()
    ended = await bench.ended(job.job_id)
    assert ended.state is JobState.FAILED
    assert ended.problem is not None
    assert ended.problem.reason is Reason.INTERNAL
    assert [event.sync.state for event in peers.events.log.values()] == [types_pb2.JOB_STATE_FAILED]
    assert bench.silence.reports[-1].status is ProgressStatus.FAILED
    await bench.engine.close()


async def test_a_folder_that_failed_before_a_crash_keeps_the_others_from_being_begun_after_it(bench: Bench, peers: Peers) -> None:
    peers.transfer.units = [b"bad", b"slow"]
    peers.transfer.hold(b"slow")
    peers.transfer.failures[b"bad"] = [MediasyncError(Reason.CONNECTION_LOST, "the connection broke")]
    job = await bench.accept()

    async def killed(job_id: str, summary: SyncSummary) -> None:
        # The failure is on record by now; from here on nothing of this process counts.
        for run in bench.engine._runs.values():
            run.task.cancel()
        await asyncio.Event().wait()

    bench.store.advance = killed  # type: ignore[method-assign]
    await bench.engine.open()
    await until(lambda: not bench.engine._runs and peers.transfer.calls[b"bad"] == 1)
    await bench.engine.close()
    begun = peers.transfer.calls[b"slow"]

    del bench.store.advance  # type: ignore[attr-defined]
    await bench.new_engine(Patience()).open()
    ended = await bench.ended(job.job_id)
    assert (ended.state, ended.problem and ended.problem.reason) == (JobState.FAILED, Reason.CONNECTION_LOST)
    # What the worker was asked for once more is stopped as soon as the failure is replayed.
    assert peers.transfer.calls[b"slow"] <= begun + 1
    assert peers.transfer.calls[b"bad"] == 1
    await bench.engine.close()


async def test_a_bug_in_a_step_fails_the_job_and_is_logged_with_its_traceback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Steps) -> Outcome:
        raise KeyError("a bug")

    monkeypatch.setattr(Steps, "processing", broken)
    job = await bench.accept()
    await bench.engine.open()
    ended = await bench.ended(job.job_id)
    assert (ended.state, ended.problem and ended.problem.reason) == (JobState.FAILED, Reason.INTERNAL)
    assert "KeyError: 'a bug'" in caplog.text
    await bench.engine.close()


async def test_a_worker_that_stays_away_fails_the_job_in_the_end(bench: Bench, peers: Peers) -> None:
    await peers.stop("transfer")
    bench.new_engine(Patience({Reason.SERVICES_UNREACHABLE: 0.3}))
    job = await bench.accept()
    await bench.engine.open()
    ended = await bench.ended(job.job_id)
    assert (ended.state, ended.problem and ended.problem.reason) == (JobState.FAILED, Reason.SERVICES_UNREACHABLE)
    await bench.engine.close()


async def test_records_of_old_workflows_and_requests_are_forgotten_and_jobs_are_not(bench: Bench) -> None:
    job = await bench.accept()
    await bench.engine.open()
    await bench.ended(job.job_id)
    request = Request("r1", "StartSyncRequest", b"d")
    await bench.engine.forget(time.time())
    assert await bench.store.answered(request) is not None
    # The workflow's own end is recorded a moment after the job's.
    from dbos import DBOS

    async with asyncio.timeout(BOUND_SECONDS):
        while await DBOS.list_workflows_async(status="PENDING"):
            await asyncio.sleep(0.01)
    assert len(await DBOS.list_workflows_async()) == 1
    await bench.engine.forget(time.time() + 8 * 86_400)
    assert await bench.store.answered(request) is None
    assert await DBOS.list_workflows_async() == []
    await bench.engine.recover()
    assert (await bench.store.job(job.job_id)).job.state is JobState.COMPLETE
    await bench.engine.close()


async def test_the_engine_writes_nothing_to_the_terminal(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    job = await bench.accept()
    await bench.engine.open()
    await bench.ended(job.job_id)
    await bench.engine.close()
    assert capfd.readouterr() == ("", "")
    assert not [handler for handler in logging.getLogger("dbos").handlers if not isinstance(handler, logging.NullHandler)]


async def test_patience_ends_when_its_time_is_up_and_begins_anew_at_each_sign_of_life() -> None:
    patience = Patience({Reason.SERVICES_UNREACHABLE: 0.25})
    attempts = 0

    async def dead(alive: object) -> None:
        nonlocal attempts
        attempts += 1
        raise MediasyncError(Reason.SERVICES_UNREACHABLE, "gone")

    with pytest.raises(MediasyncError, match="gone"):
        await patience.call("x", dead)
    assert attempts == 2

    async def final(alive: object) -> None:
        raise MediasyncError(Reason.HOST_NOT_FOUND, "no such host")

    with pytest.raises(MediasyncError, match="no such host"):
        await patience.call("x", final)


async def test_patience_with_a_worker_that_dies_of_its_work_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.coordinator.patience._FIRST_PAUSE_SECONDS", 0.0)
    attempts = 0

    async def lively(alive: object) -> None:
        nonlocal attempts
        attempts += 1
        assert callable(alive)
        alive()
        raise MediasyncError(Reason.SERVICES_UNREACHABLE, "gone again")

    with pytest.raises(MediasyncError, match="gone again"):
        await Patience().call("x", lively)
    assert attempts == 51


def test_i9_the_status_of_a_report_never_goes_back() -> None:
    silence = Silence()
    reports = JobReports(silence, Job("job_1", "sync_1", JobState.RUNNING, SyncSpec(SourceSpec(connection()), "/m"), 1.0, 2.0))
    reports.plan(2)
    for status, processed in (
        (ProgressStatus.TRANSFERRING, 0),
        (ProgressStatus.SCANNING, 0),
        (ProgressStatus.PROCESSING, 5),
        (ProgressStatus.PROCESSING, 4),
    ):
        reports.show(status, files_processed=processed)
    assert [report.status for report in silence.reports] == [
        ProgressStatus.TRANSFERRING,
        ProgressStatus.TRANSFERRING,
        ProgressStatus.PROCESSING,
        ProgressStatus.PROCESSING,
    ]
    assert [report.files_processed for report in silence.reports] == [0, 0, 5, 5]
    assert {(report.units_total, report.start_time) for report in silence.reports} == {(2, 2.0)}


def test_an_outcome_is_kept_as_json_without_loss() -> None:
    from mediasync.model import Problem

    problem = Problem(Reason.FILE_UNREADABLE, "ä\n", "try", b"a\xff\n.png")
    for outcome in (
        Outcome(units=(b"", b"a\xff", b"-x")),
        Outcome(stopped=True),
        Outcome(SyncSummary(2**40, 2**50, 3, 4, 5, 6, 7, 8, (problem,), 9, 1.5), problem),
    ):
        assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
