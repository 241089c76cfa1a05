"""Jobs that are held, limited and tried again; watches and previews."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.model import SyncSummary
from mediasync.runtime.status import from_rpc_error
from mediasync.v1 import coordinator_pb2 as pb
from mediasync.v1 import transfer_pb2, types_pb2
from tests.fixtures.coordinator import (
    BOUND_SECONDS,
    CoordinatorClient,
    Peers,
    StartCoordinator,
    environment_of,
    sync_spec,
    until,
)
from tests.fixtures.ingest import StartProcess

FOLDER = b"txt2img-images"
PAUSED, RUNNING = types_pb2.JOB_STATE_PAUSED, types_pb2.JOB_STATE_RUNNING


async def change(client: CoordinatorClient, method: str, job_id: str, request_id: str = "", **fields: Any) -> types_pb2.Job:
    request = getattr(pb, f"{method}Request")(request_id=request_id or new_request_id(), job_id=job_id, **fields)
    job: types_pb2.Job = (await getattr(client.stub, method)(request, timeout=BOUND_SECONDS, wait_for_ready=True)).job
    return job


async def refused(client: CoordinatorClient, method: str, job_id: str, **fields: Any) -> Reason:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await change(client, method, job_id, **fields)
    return from_rpc_error(caught.value).reason


async def under_way(client: CoordinatorClient, peers: Peers, **options: Any) -> types_pb2.Job:
    """A job whose folder stalls."""
    peers.transfer.hold(FOLDER)
    job = await client.start(sync_spec(FOLDER, **options))
    await peers.transfer.reach(FOLDER)
    return job


async def test_a_paused_job_stops_its_work_and_goes_on_with_it_when_it_is_resumed(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await under_way(coordinator, peers)
    paused = await change(coordinator, "PauseJob", job.job_id)
    assert (paused.state, (await coordinator.get(job.job_id)).state) == (PAUSED, PAUSED)
    await until(lambda: peers.transfer.running == 0)
    assert peers.transfer.cancelled[FOLDER] == 1
    await until(lambda: peers.progress.reports[-1].job.pause_changes == 1)
    # Once more is no more.
    assert (await change(coordinator, "PauseJob", job.sync_id)).state == PAUSED
    assert peers.transfer.calls[FOLDER] == 1
    peers.transfer.held[FOLDER].set()
    assert (await change(coordinator, "ResumeJob", job.job_id)).state == RUNNING
    ended = await coordinator.finished(job.job_id)
    assert (ended.state, ended.summary.files_transferred, peers.transfer.calls[FOLDER]) == (types_pb2.JOB_STATE_COMPLETE, 3, 2)
    assert peers.progress.reports[-1].job.pause_changes == 2
    assert peers.transfer.discarded == [], "what came in part is gone on with"
    assert await refused(coordinator, "PauseJob", job.job_id) is Reason.JOB_ENDED
    assert await refused(coordinator, "ResumeJob", job.job_id) is Reason.JOB_ENDED
    assert await refused(coordinator, "SetJobLimit", job.job_id, megabits=1) is Reason.JOB_ENDED
    assert await refused(coordinator, "PauseJob", "job_none") is Reason.JOB_NOT_FOUND


async def test_a_pause_outlives_a_restart_and_a_paused_job_can_be_cancelled(start_coordinator: StartCoordinator, peers: Peers) -> None:
    first = await start_coordinator()
    job = await under_way(first.client, peers)
    await change(first.client, "PauseJob", job.job_id)
    await until(lambda: peers.transfer.running == 0)
    await first.service.stop(0)
    client = (await start_coordinator()).client
    assert (await client.get(job.job_id)).state == PAUSED
    # The one that was recovered says so too.
    await until(lambda: peers.progress.reports[-1].job.pause_changes == 1 and len(peers.progress.reports) > 1)
    await client.cancel(job.job_id)
    ended = await client.finished(job.job_id)
    assert (ended.state, peers.transfer.calls[FOLDER]) == (types_pb2.JOB_STATE_CANCELLED, 1)
    assert peers.transfer.discarded == [("/media/library", (FOLDER,))]


@pytest.mark.parametrize("resumed", [True, False])
async def test_i5_a_coordinator_killed_as_a_job_was_paused_keeps_it_paused(
    resumed: bool, peers: Peers, start_process: StartProcess, tmp_path: Path
) -> None:
    environment = {**environment_of(peers), "MEDIASYNC_CRASH_AT": "coordinator.after_pause"}
    peers.transfer.units = [FOLDER]
    doomed = await start_process("services.coordinator", tmp_path / "home", environment)
    client = CoordinatorClient(doomed.addresses[0])
    job = await under_way(client, peers)
    request_id = new_request_id()
    with pytest.raises(grpc.aio.AioRpcError):
        await change(client, "PauseJob", job.job_id, request_id)
    assert await doomed.ended() == -9
    await start_process("services.coordinator", tmp_path / "home", environment)
    # The same request has one effect (invariant I10).
    assert (await change(client, "PauseJob", job.job_id, request_id)).state == PAUSED
    assert (await client.get(job.job_id)).state == PAUSED
    peers.transfer.held[FOLDER].set()
    if resumed:
        await change(client, "ResumeJob", job.job_id)
    else:
        await client.cancel(job.job_id)
    ended = await client.finished(job.job_id)
    assert ended.state == (types_pb2.JOB_STATE_COMPLETE if resumed else types_pb2.JOB_STATE_CANCELLED)
    await client.close()


async def test_i9_watchers_see_the_pause_and_what_the_job_was_at_again(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await under_way(coordinator, peers)
    seen: list[int] = []
    said = [types_pb2.PROGRESS_STATUS_TRANSFERRING, types_pb2.PROGRESS_STATUS_PAUSED, types_pb2.PROGRESS_STATUS_SCANNING]
    await peers.progress.say(job.sync_id, status=said[0], files_done=2)
    async for event in coordinator.events_of(job.job_id):
        if not event.HasField("progress"):
            continue
        seen.append(event.progress.status)
        assert event.progress.files_done == 2
        if len(seen) == len(said):
            break
        await peers.progress.say(job.sync_id, status=said[len(seen)], files_done=1)
    assert seen == [*said[:2], types_pb2.PROGRESS_STATUS_TRANSFERRING]


async def test_a_limit_reaches_the_worker_and_what_begins_later(start_coordinator: StartCoordinator, peers: Peers) -> None:
    first = await start_coordinator()
    job = await under_way(first.client, peers, bandwidth_limit_mbps=5, bandwidth_timetable=["08:00-18:00 1mbit"])
    assert not (await first.client.get(job.job_id)).HasField("limit_mbps")
    assert (await change(first.client, "SetJobLimit", job.job_id, megabits=20)).limit_mbps == 20
    assert peers.transfer.limits == [(job.sync_id, 20.0)]
    await first.service.stop(0)
    client = (await start_coordinator()).client
    await until(lambda: peers.transfer.calls[FOLDER] == 2)
    options = peers.transfer.requests[-1].options
    assert (options.bandwidth_limit_mbps, list(options.bandwidth_timetable)) == (20, [])
    # A worker that cannot be told now is told with the next call.
    await peers.stop("transfer")
    assert (await change(client, "SetJobLimit", job.job_id)).HasField("limit_mbps") is False
    await peers.start("transfer")
    await until(lambda: peers.transfer.calls[FOLDER] == 3)
    options = peers.transfer.requests[-1].options
    assert (options.bandwidth_limit_mbps, list(options.bandwidth_timetable)) == (5, ["08:00-18:00 1mbit"])
    for wrong in (-1, 2e6, float("nan")):
        assert await refused(client, "SetJobLimit", job.job_id, megabits=wrong) is Reason.INVALID_ARGUMENT


async def test_a_retry_takes_the_failed_files_of_finished_folders_and_all_of_others(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = [b"good", b"some", b"lost"]
    peers.transfer.summaries[b"some"] = SyncSummary(files_transferred=1, files_failed=2, problems_total=2)
    peers.transfer.failures[b"lost"] = [MediasyncError(Reason.CONNECTION_LOST, "the line broke")]
    gate = peers.transfer.hold(b"lost")
    job = await coordinator.start(sync_spec(b"good", b"some", b"lost"))
    assert await refused(coordinator, "RetryJob", job.job_id) is Reason.JOB_NOT_ENDED
    gate.set()
    former = await coordinator.finished(job.job_id)
    assert former.state == types_pb2.JOB_STATE_FAILED

    peers.transfer.requests.clear()
    request_id = new_request_id()
    retry = await change(coordinator, "RetryJob", job.job_id, request_id)
    assert retry == await change(coordinator, "RetryJob", job.job_id, request_id)
    assert (retry.retry_of, retry.spec) == (former.job_id, former.spec)
    again = await coordinator.finished(retry.job_id)
    taken = {request.folder.raw: request.only_failed_of for request in peers.transfer.requests if hasattr(request, "only_failed_of")}
    # It may have come to its end, or been stopped by the folder that was lost.
    assert taken.pop(b"good", "") == ""
    assert taken[b"lost"] == ""
    assert taken[b"some"] in (former.sync_id, "")
    # Its files fail once more.
    assert again.state == types_pb2.JOB_STATE_COMPLETE_WITH_ERRORS
    peers.transfer.summaries.clear()
    peers.transfer.requests.clear()
    last = await coordinator.finished((await change(coordinator, "RetryJob", again.sync_id)).job_id)
    asked = [(request.folder.raw, request.only_failed_of) for request in peers.transfer.requests if hasattr(request, "only_failed_of")]
    assert (last.state, asked) == (types_pb2.JOB_STATE_COMPLETE, [(b"some", again.sync_id)])
    assert await refused(coordinator, "RetryJob", last.job_id) is Reason.NOTHING_FAILED


async def test_a_retry_of_a_job_that_never_got_to_its_folders_takes_everything(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.failures[b"probe"] = [MediasyncError(Reason.HOST_UNREACHABLE, "forge.lan cannot be reached")]
    former = await coordinator.finished((await coordinator.start()).job_id)
    again = await coordinator.finished((await change(coordinator, "RetryJob", former.job_id)).job_id)
    assert (again.state, again.summary.files_transferred) == (types_pb2.JOB_STATE_COMPLETE, 3)


async def test_a_watch_says_what_it_is_at_and_what_it_brought_until_it_is_cancelled(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = [b"folder-%d" % number for number in range(6)]
    peers.transfer.landed = (7, 70)
    gone = transfer_pb2.FolderActivity(text="the source is gone", gone_since=convert.timestamp(100.0), next_try=convert.timestamp(140.0))
    peers.transfer.activities = {b"folder-1": [transfer_pb2.FolderActivity(text="watching")], b"folder-5": [gone]}
    job = await coordinator.start(sync_spec(watch=True))
    # All of its folders, however many.
    await until(lambda: peers.transfer.running == 6)
    async with asyncio.timeout(BOUND_SECONDS):
        while len((shown := await coordinator.get(job.job_id)).activities) < 2 or not shown.summary.files_transferred:
            await asyncio.sleep(0.01)
    assert [(activity.folder.raw, activity.text) for activity in shown.activities] == [
        (b"folder-5", "the source is gone"),
        (b"folder-1", "watching"),
    ]
    assert (shown.activities[0].gone_since.seconds, shown.activities[0].next_try.seconds) == (100, 140)
    assert (shown.state, shown.summary.files_transferred, shown.summary.bytes_transferred) == (RUNNING, 7, 70)
    await change(coordinator, "PauseJob", job.job_id)
    assert not (await coordinator.get(job.job_id)).activities
    await change(coordinator, "ResumeJob", job.job_id)
    await until(lambda: peers.transfer.running == 6)
    await coordinator.cancel(job.job_id)
    ended = await coordinator.finished(job.job_id)
    assert (ended.state, ended.summary.files_transferred, len(ended.activities)) == (types_pb2.JOB_STATE_CANCELLED, 7, 0)


async def test_a_watch_waits_for_a_source_that_is_not_there_yet(
    coordinator: CoordinatorClient, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.coordinator.steps._FIRST_TRY_SECONDS", 0.5)
    peers.transfer.failures[b"probe"] = [MediasyncError(Reason.HOST_UNREACHABLE, "forge.lan cannot be reached")]
    job = await coordinator.start(sync_spec(watch=True))
    async with asyncio.timeout(BOUND_SECONDS):
        while not (shown := await coordinator.get(job.job_id)).activities:
            await asyncio.sleep(0.01)
    activity = shown.activities[0]
    assert activity.text == "forge.lan cannot be reached"
    assert 0 < activity.gone_since.seconds <= activity.next_try.seconds
    await until(lambda: peers.transfer.running == 1)
    assert not (await coordinator.get(job.job_id)).activities


async def test_a_preview_takes_nothing_and_sums_up_its_folders(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = [b"a", b"b"]
    file = types_pb2.PreviewedFile(path=convert.file_path(b"a/\xff.png"), size_bytes=5, decision=types_pb2.PREVIEW_DECISION_TAKE)
    summary = types_pb2.PreviewSummary(files_to_take=1, bytes_to_take=5, files_vanished=2)
    peers.transfer.previews = {
        b"a": [
            transfer_pb2.PreviewFolderResponse(files=types_pb2.PreviewedFiles(files=[file])),
            transfer_pb2.PreviewFolderResponse(heartbeat=types_pb2.Heartbeat()),
            transfer_pb2.PreviewFolderResponse(summary=summary),
        ],
        b"b": [transfer_pb2.PreviewFolderResponse(summary=summary)],
    }
    call = coordinator.stub.PreviewSync(pb.PreviewSyncRequest(spec=sync_spec(b"a", b"b")), timeout=BOUND_SECONDS)
    events = [event async for event in call]
    assert [event.WhichOneof("event") for event in events] == ["files", "heartbeat", "summary"]
    assert list(events[0].files.files) == [file]
    assert events[-1].summary == types_pb2.PreviewSummary(files_to_take=2, bytes_to_take=10, files_vanished=4)
    # A library that is not there yet is not made for a look.
    assert [request.dest_path for request in peers.transfer.requests] == ["", "/media/library", "/media/library"]
    assert not (await coordinator.stub.ListJobs(pb.ListJobsRequest(), timeout=BOUND_SECONDS)).jobs
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in coordinator.stub.PreviewSync(pb.PreviewSyncRequest(spec=sync_spec(dest_path="media")), timeout=BOUND_SECONDS):
            pass
    assert from_rpc_error(caught.value).reason is Reason.INVALID_ARGUMENT


async def test_a_job_that_lives_through_many_restarts_is_not_given_up_for_it(
    start_coordinator: StartCoordinator, peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "home" / "coordinator-workflows.db"

    def attempts() -> int:
        with contextlib.closing(sqlite3.connect(records)) as connection:
            count: int = connection.execute("SELECT recovery_attempts FROM workflow_status").fetchone()[0]
            return count

    first = await start_coordinator()
    await under_way(first.client, peers)
    await first.service.stop(0)
    second = await start_coordinator()
    await until(lambda: peers.transfer.calls[FOLDER] == 2)
    assert attempts() == 2
    await second.service.stop(0)
    monkeypatch.setattr("services.coordinator.workflow.SURVIVED_SECONDS", 0.0)
    await start_coordinator()
    await until(lambda: peers.transfer.calls[FOLDER] == 3)
    await until(lambda: attempts() == 1)
