"""A coordinator process killed with SIGKILL at each named point, and started again (invariant I5)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from mediasync.ids import new_request_id
from mediasync.runtime.home import Home
from mediasync.v1 import coordinator_pb2, types_pb2
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, environment_of, sync_spec
from tests.fixtures.ingest import StartProcess

POINTS = (
    "coordinator.after_accept",
    "coordinator.before_step_sync",
    "coordinator.before_step_sync:3",
    "coordinator.after_unit",
    "coordinator.after_unit:3",
    "coordinator.before_publish",
    "coordinator.after_publish",
    "coordinator.before_terminal",
    "coordinator.after_terminal",
)
UNITS = [b"one", b"two", b"three"]


@pytest.mark.parametrize("point", POINTS)
async def test_i5_a_coordinator_killed_at_any_point_finishes_the_job_once_it_is_back(
    point: str, peers: Peers, start_process: StartProcess, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    peers.transfer.units = list(UNITS)
    environment = environment_of(peers)
    doomed = await start_process("services.coordinator", home, {**environment, "MEDIASYNC_CRASH_AT": point})
    client = CoordinatorClient(doomed.addresses[0])
    request = coordinator_pb2.StartSyncRequest(request_id=new_request_id(), spec=sync_spec(*UNITS))
    try:
        await client.stub.StartSync(request, timeout=BOUND_SECONDS)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert await doomed.ended() == -9

    # The same environment: a point at which a process died once kills nobody again.
    await start_process("services.coordinator", home, {**environment, "MEDIASYNC_CRASH_AT": point})
    accepted = (await client.stub.StartSync(request, timeout=BOUND_SECONDS, wait_for_ready=True)).job
    job = await client.finished(accepted.job_id)

    assert job.state == types_pb2.JOB_STATE_COMPLETE
    assert (job.summary.files_transferred, job.summary.bytes_transferred) == (9, 90)
    [event] = peers.events.log.values()
    assert (event.sync_id, event.sync.summary.files_transferred) == (job.sync_id, 9)
    listed = await client.stub.ListJobs(coordinator_pb2.ListJobsRequest(), timeout=BOUND_SECONDS)
    assert [found.job_id for found in listed.jobs] == [accepted.job_id]
    assert max(peers.transfer.calls[unit] for unit in UNITS) <= 2
    # The job's row is the first to know; progress hears of it a moment later.
    async with asyncio.timeout(BOUND_SECONDS):
        while not peers.progress.reports or peers.progress.reports[-1].job.status != types_pb2.PROGRESS_STATUS_COMPLETE:
            await asyncio.sleep(0.01)
    assert peers.progress.statuses == sorted(peers.progress.statuses)
    await client.close()


async def test_i9_a_watcher_that_was_cut_off_by_a_kill_goes_on_with_its_token_and_hears_of_the_end(
    peers: Peers, start_process: StartProcess, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    gate = peers.transfer.hold(b"txt2img-images")
    first = await start_process("services.coordinator", home, environment_of(peers))
    client = CoordinatorClient(first.addresses[0])
    job = await client.start()
    await peers.transfer.reach(b"txt2img-images")
    await peers.progress.say(job.sync_id, status=types_pb2.PROGRESS_STATUS_TRANSFERRING, files_done=1)

    seen, token = [], ""
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        async for event in client.events_of(job.job_id):
            token = event.resume_token
            if event.WhichOneof("event") == "progress":
                seen.append(event.progress.files_done)
                if event.progress.files_done == 1:
                    await first.kill()
    assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
    await peers.progress.say(job.sync_id, status=types_pb2.PROGRESS_STATUS_TRANSFERRING, files_done=2)

    await start_process("services.coordinator", home, environment_of(peers))
    gate.set()
    kinds = []
    async for event in client.events_of(job.job_id, token):
        kinds.append(event.WhichOneof("event"))
        if event.WhichOneof("event") == "progress":
            seen.append(event.progress.files_done)
    assert seen == sorted(seen)
    assert 2 in seen
    assert kinds.count("finished") == 1
    assert kinds[-1] == "finished"
    await client.close()


async def test_a_killed_coordinator_loses_no_cancelling(peers: Peers, start_process: StartProcess, tmp_path: Path) -> None:
    home = tmp_path / "home"
    peers.transfer.hold(b"txt2img-images")
    first = await start_process("services.coordinator", home, environment_of(peers, {"MEDIASYNC_CRASH_AT": "coordinator.before_publish"}))
    client = CoordinatorClient(first.addresses[0])
    job = await client.start()
    await peers.transfer.reach(b"txt2img-images")
    await client.cancel(job.job_id)
    assert await first.ended() == -9
    await start_process("services.coordinator", home, environment_of(peers))
    assert (await client.finished(job.job_id)).state == types_pb2.JOB_STATE_CANCELLED
    [event] = peers.events.log.values()
    assert event.sync.state == types_pb2.JOB_STATE_CANCELLED
    await client.close()


async def test_a_second_coordinator_on_the_same_data_folder_runs_no_job(
    peers: Peers, start_process: StartProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.transfer.hold(b"txt2img-images")
    first = await start_process("services.coordinator", tmp_path / "home", environment_of(peers))
    client = CoordinatorClient(first.addresses[0])
    await client.start()
    await peers.transfer.reach(b"txt2img-images")
    with pytest.raises(AssertionError, match="before it served"):
        await start_process("services.coordinator", tmp_path / "home", environment_of(peers))
    assert peers.transfer.calls[b"txt2img-images"] == 1
    assert Home(tmp_path / "home").socket_path("coordinator").exists()
    await client.close()
