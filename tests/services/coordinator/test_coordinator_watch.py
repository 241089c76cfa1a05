"""Following a job to its end (invariant I9)."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import grpc.aio
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import coordinator_pb2 as pb
from mediasync.v1 import types_pb2
from services.coordinator import watch
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, StartCoordinator, until

TRANSFERRING = types_pb2.PROGRESS_STATUS_TRANSFERRING


async def running_job(client: CoordinatorClient, peers: Peers) -> tuple[types_pb2.Job, asyncio.Event]:
    """A job whose only folder stalls until the event is set."""
    gate = peers.transfer.hold(b"txt2img-images")
    job = await client.start()
    await peers.transfer.reach(b"txt2img-images")
    return job, gate


def kind(event: pb.WatchJobResponse) -> str:
    return event.WhichOneof("event") or ""


async def test_a_watch_relays_snapshots_and_ends_with_the_job(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=1)
    seen = []
    async for event in coordinator.events_of(job.job_id):
        seen.append(event)
        if kind(event) == "progress" and event.progress.files_done == 1:
            await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=2)
        if kind(event) == "progress" and event.progress.files_done == 2:
            gate.set()
    assert [event.progress.files_done for event in seen if kind(event) == "progress"] == [1, 2, 10**6]
    assert [kind(event) for event in seen].count("finished") == 1
    assert kind(seen[-1]) == "finished"
    assert seen[-1].finished == await coordinator.get(job.job_id)
    assert all(event.resume_token for event in seen)


async def test_a_watcher_sees_the_row_while_nothing_was_reported(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    kinds = []
    async for event in coordinator.events_of(job.job_id):
        kinds.append(kind(event))
        if len(kinds) == 1:
            assert (event.progress.status, event.progress.job_id) == (types_pb2.PROGRESS_STATUS_INITIALIZING, job.job_id)
            await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=1)
        if kind(event) == "progress" and event.progress.files_done == 1:
            gate.set()
    assert kinds == ["progress", "progress", "progress", "finished"]


async def test_i9_a_watcher_that_reconnects_with_its_token_misses_nothing(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=1)
    async with contextlib.aclosing(coordinator.events_of(job.job_id)) as events:
        first = await anext(events)
    await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=2)
    async with contextlib.aclosing(coordinator.events_of(job.job_id, first.resume_token)) as events:
        second = await anext(events)
    assert (first.progress.files_done, second.progress.files_done) == (1, 2)
    gate.set()
    await coordinator.finished(job.job_id)
    # Behind the end of the job it is told of the end, whatever it had seen before.
    rest = [event async for event in coordinator.events_of(job.job_id, second.resume_token)]
    assert [kind(event) for event in rest] == ["progress", "finished"]
    again = [event async for event in coordinator.events_of(job.job_id, rest[0].resume_token)]
    assert [kind(event) for event in again] == ["finished"]
    last = [event async for event in coordinator.events_of(job.job_id, again[0].resume_token)]
    assert kind(last[-1]) == "finished"


async def test_i9_progress_that_forgot_something_makes_no_number_go_down(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    await peers.progress.say(job.sync_id, status=TRANSFERRING, files_total=9, files_done=5, bytes_done=50, percent=40)
    seen = []
    async for event in coordinator.events_of(job.job_id):
        if kind(event) != "progress":
            continue
        seen.append(event.progress)
        if len(seen) == 1:
            # Started again with an empty memory.
            await peers.stop("progress")
            peers.progress.snapshots[job.sync_id] = []
            peers.progress.expired = {"0"}
            await peers.progress.say(job.sync_id, status=types_pb2.PROGRESS_STATUS_SCANNING, files_total=4, files_done=1)
            await peers.start("progress")
        if len(seen) == 2:
            await peers.progress.say(job.sync_id, status=TRANSFERRING, files_total=12, files_done=8, bytes_done=80, percent=90)
        if len(seen) == 3:
            gate.set()
    numbers = [(each.status, each.files_total, each.files_done, each.bytes_done, each.percent) for each in seen[:3]]
    assert numbers == [(TRANSFERRING, 9, 5, 50, 40.0), (TRANSFERRING, 9, 5, 50, 40.0), (TRANSFERRING, 12, 8, 80, 90.0)]
    assert [each.files_done for each in seen] == sorted(each.files_done for each in seen)


async def test_i9_the_end_is_told_though_the_progress_service_is_down(
    coordinator: CoordinatorClient, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LAST_SNAPSHOT_SECONDS", 0.1)
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr("mediasync.reporting.CLOSE_SECONDS", 0.1)
    job, gate = await running_job(coordinator, peers)
    await peers.stop("progress")
    kinds = []
    async for event in coordinator.events_of(job.job_id):
        kinds.append(kind(event))
        if kinds.count("heartbeat") == 2:
            gate.set()
    assert set(kinds) == {"heartbeat", "finished"}
    assert kinds.count("finished") == 1
    assert kinds[-1] == "finished"


async def test_a_watch_goes_on_when_the_progress_service_is_back(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=1)
    seen = []
    async for event in coordinator.events_of(job.job_id):
        if kind(event) != "progress":
            continue
        seen.append(event.progress.files_done)
        if len(seen) == 1:
            await peers.stop("progress")
            await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=2)
            await peers.start("progress")
        if event.progress.files_done == 2:
            gate.set()
    assert seen == [1, 2, 10**6]
    # Taken up where it was left.
    assert peers.progress.watches[1:] == ["0"] * len(peers.progress.watches[1:])


async def test_an_idle_watch_sends_heartbeats_with_the_last_token(
    coordinator: CoordinatorClient, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.02)
    peers.progress.heartbeat = True
    job, gate = await running_job(coordinator, peers)
    await peers.progress.say(job.sync_id, status=TRANSFERRING, files_done=1)
    async with contextlib.aclosing(coordinator.events_of(job.job_id)) as events:
        first, second, third = [await anext(events) for _ in range(3)]
    assert [kind(event) for event in (first, second, third)] == ["progress", "heartbeat", "heartbeat"]
    assert first.resume_token == second.resume_token == third.resume_token
    gate.set()


async def test_many_watchers_see_the_same_end(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    watching = [asyncio.ensure_future(coordinator.finished(job.sync_id)) for _ in range(20)]
    await until(lambda: len(peers.progress.watches) >= 20)
    gate.set()
    ends = await asyncio.gather(*watching)
    assert all(end == ends[0] for end in ends)


async def test_a_token_that_nobody_gave_out_is_refused(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.start()
    with pytest.raises(MediasyncError) as refused, rpc_errors("the coordinator"):
        await anext(coordinator.events_of(job.job_id, "nonsense"))
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refused.value.fields] == ["resume_token"]
    await coordinator.finished(job.job_id)


async def test_a_watcher_of_a_coordinator_that_drains_is_told_to_call_again(start_coordinator: StartCoordinator, peers: Peers) -> None:
    running = await start_coordinator()
    job, gate = await running_job(running.client, peers)
    events = running.client.events_of(job.job_id)
    await anext(events)
    stopping = asyncio.ensure_future(running.service.stop())
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async with asyncio.timeout(BOUND_SECONDS):
            async for _ in events:
                pass
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    gate.set()
    await stopping


async def test_a_watch_that_is_left_leaves_nothing_behind(coordinator: CoordinatorClient, peers: Peers) -> None:
    job, gate = await running_job(coordinator, peers)
    async with contextlib.aclosing(coordinator.events_of(job.job_id)) as events:
        await anext(events)
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("progress of")])
    gate.set()
    await coordinator.finished(job.job_id)
