"""A job from its acceptance to its end."""

from __future__ import annotations

import asyncio

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.ids import event_id
from mediasync.model import Problem, SyncSummary
from mediasync.v1 import types_pb2
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, StartCoordinator, sync_spec, until


async def test_a_sync_runs_every_step_and_says_what_it_did(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = [b"txt2img-images", b"img2img-images"]
    accepted = await coordinator.start(sync_spec(b"txt2img-images", b"img2img-images"))
    assert accepted.state == types_pb2.JOB_STATE_PENDING
    assert accepted.job_id.startswith("job_")
    assert accepted.sync_id.startswith("sync_")

    job = await coordinator.finished(accepted.job_id)

    assert job.state == types_pb2.JOB_STATE_COMPLETE
    assert (job.summary.files_transferred, job.summary.bytes_transferred) == (6, 60)
    assert job.end_time.ToNanoseconds() - job.start_time.ToNanoseconds() == pytest.approx(job.summary.duration.ToNanoseconds(), abs=1000)
    assert await coordinator.get(accepted.sync_id) == job
    assert peers.transfer.calls == {b"probe": 1, b"txt2img-images": 1, b"img2img-images": 1, b"processing": 1}


async def test_subscribers_are_told_of_the_end_and_the_catalog_is_waited_for(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.finished((await coordinator.start()).job_id)
    [event] = peers.events.log.values()
    assert event.event_id == event_id("sync_complete", job.sync_id)
    assert (event.sync.job_id, event.sync.state, event.sync.library_root) == (job.job_id, types_pb2.JOB_STATE_COMPLETE, "/media/library")
    assert event.sync.summary == job.summary
    assert event.time == job.end_time
    assert peers.events.waited == [("catalog", 1)]


async def test_progress_is_told_each_status_once_and_in_order(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.finished((await coordinator.start()).job_id)
    # Reports are coalesced: which ones are seen in between is a matter of luck, their order is not.
    assert peers.progress.statuses == sorted(peers.progress.statuses)
    last = peers.progress.reports[-1]
    assert (last.reporter, last.sync_id) == ("coordinator", job.sync_id)
    assert (last.job.status, last.job.job_id, last.job.units_total, last.job.files_processed) == (
        types_pb2.PROGRESS_STATUS_COMPLETE,
        job.job_id,
        1,
        3,
    )
    assert last.job.end_time == job.end_time


async def test_no_more_than_four_folders_are_synced_at_once(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = [b"folder-%d" % number for number in range(9)]
    gates = [peers.transfer.hold(unit) for unit in peers.transfer.units]
    job_id = (await coordinator.start()).job_id
    await until(lambda: peers.transfer.running == 4)
    for gate in gates:
        gate.set()
    job = await coordinator.finished(job_id)
    assert job.summary.files_transferred == 27
    assert peers.transfer.most_running == 4


async def test_files_that_failed_make_it_complete_with_errors(coordinator: CoordinatorClient, peers: Peers) -> None:
    problem = Problem(Reason.FILE_UNREADABLE, "cannot be read", path=b"a\xff.png")
    peers.transfer.summaries[b"txt2img-images"] = SyncSummary(files_transferred=2, files_failed=1, problems=(problem,), problems_total=1)
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_COMPLETE_WITH_ERRORS
    assert (job.summary.files_failed, job.summary.problems_total) == (1, 1)
    assert (job.summary.problems[0].reason, job.summary.problems[0].path.raw) == ("FILE_UNREADABLE", b"a\xff.png")
    assert peers.progress.reports[-1].job.errors == 1


async def test_a_folder_that_cannot_be_read_makes_it_complete_with_errors(coordinator: CoordinatorClient, peers: Peers) -> None:
    problem = Problem(Reason.FOLDER_UNREADABLE, "cannot be listed", path=b"secret")
    peers.transfer.summaries[b"txt2img-images"] = SyncSummary(files_transferred=2, problems=(problem,), problems_total=1)
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_COMPLETE_WITH_ERRORS


async def test_an_invalid_file_is_named_and_fails_nothing(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.invalid = [types_pb2.Problem(reason="FILE_INVALID", message="is no PNG", path=types_pb2.FilePath(raw=b"a.png"))]
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_COMPLETE
    assert (job.summary.files_invalid, job.summary.problems[0].reason) == (1, "FILE_INVALID")
    assert (peers.progress.reports[-1].job.errors, peers.progress.reports[-1].job.warnings) == (0, 1)


async def test_a_source_that_refuses_us_fails_the_job_with_its_problem(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.failures[b"probe"] = [MediasyncError(Reason.AUTHENTICATION_FAILED, "forge.lan refused every key", "Try another.")]
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_FAILED
    assert (job.problem.reason, job.problem.message, job.problem.remedy) == (
        "AUTHENTICATION_FAILED",
        "forge.lan refused every key",
        "Try another.",
    )
    [event] = peers.events.log.values()
    assert event.sync.state == types_pb2.JOB_STATE_FAILED
    assert peers.transfer.calls == {b"probe": 1}
    assert peers.progress.reports[-1].job.status == types_pb2.PROGRESS_STATUS_FAILED


async def test_a_connection_that_was_lost_for_good_fails_the_job_and_stops_its_other_folders(
    coordinator: CoordinatorClient, peers: Peers
) -> None:
    peers.transfer.units = [b"bad", b"slow"]
    peers.transfer.hold(b"slow")
    going = peers.transfer.hold(b"bad")
    peers.transfer.failures[b"bad"] = [MediasyncError(Reason.CONNECTION_LOST, "the connection broke")]
    peers.transfer.landed = (5, 50)
    job_id = (await coordinator.start()).job_id
    await peers.transfer.reach(b"slow")
    going.set()
    job = await coordinator.finished(job_id)
    assert (job.state, job.problem.reason) == (types_pb2.JOB_STATE_FAILED, "CONNECTION_LOST")
    assert (job.summary.files_transferred, job.summary.bytes_transferred) == (5, 50)
    await until(lambda: peers.transfer.cancelled[b"slow"] == 1)
    assert peers.transfer.calls[b"bad"] == 1
    assert peers.transfer.calls[b"processing"] == 0


async def test_a_cancelled_job_stops_at_once_and_counts_what_landed(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.hold(b"txt2img-images")
    peers.transfer.landed = (2, 20)
    job_id = (await coordinator.start()).job_id
    await peers.transfer.reach(b"txt2img-images")

    asked = await coordinator.cancel(job_id)
    assert asked.state == types_pb2.JOB_STATE_RUNNING
    async with asyncio.timeout(3):
        job = await coordinator.finished(job_id)

    assert job.state == types_pb2.JOB_STATE_CANCELLED
    assert (job.summary.files_transferred, job.summary.bytes_transferred) == (2, 20)
    assert not job.HasField("problem")
    await until(lambda: peers.transfer.cancelled[b"txt2img-images"] == 1)
    assert peers.transfer.discarded == [("/media/library", (b"txt2img-images",))]
    [event] = peers.events.log.values()
    assert event.sync.state == types_pb2.JOB_STATE_CANCELLED
    assert peers.progress.reports[-1].job.status == types_pb2.PROGRESS_STATUS_CANCELLED


async def test_cancelling_a_job_that_has_ended_does_nothing(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert await coordinator.cancel(job.sync_id) == job
    assert await coordinator.get(job.job_id) == job


async def test_a_worker_that_dies_is_waited_for_and_asked_again(coordinator: CoordinatorClient, peers: Peers) -> None:
    gate = peers.transfer.hold(b"txt2img-images")
    job_id = (await coordinator.start()).job_id
    await peers.transfer.reach(b"txt2img-images")
    await peers.stop("transfer")
    gate.set()
    peers.transfer.failures[b"txt2img-images"] = [MediasyncError(Reason.SYNC_IN_PROGRESS, "the call before is not quite gone")]
    await peers.start("transfer")
    job = await coordinator.finished(job_id)
    assert (job.state, job.summary.files_transferred) == (types_pb2.JOB_STATE_COMPLETE, 3)
    assert peers.transfer.calls[b"txt2img-images"] == 3


async def test_a_full_worker_is_asked_again(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.failures[b"txt2img-images"] = [MediasyncError(Reason.WORKER_FULL, "no free slot")] * 2
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_COMPLETE


async def test_an_event_log_that_refuses_the_end_is_no_secret(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.events.failures = [MediasyncError(Reason.DATA_FOLDER_UNUSABLE, "the disk is full", "Free some space.")]
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_COMPLETE_WITH_ERRORS
    assert job.summary.problems[0].message == "subscribers could not be told that the sync has ended: the disk is full"


async def test_a_slow_catalog_does_not_keep_a_job_from_ending(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.events.delivery = MediasyncError(Reason.DEADLINE_EXCEEDED, "behind")
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert job.state == types_pb2.JOB_STATE_COMPLETE


async def test_a_source_without_anything_to_sync_is_complete(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = []
    job = await coordinator.finished((await coordinator.start()).job_id)
    assert (job.state, job.summary.files_transferred) == (types_pb2.JOB_STATE_COMPLETE, 0)


async def test_what_a_running_job_has_done_so_far_shows_in_its_row(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.units = [b"quick", b"slow"]
    gate = peers.transfer.hold(b"slow")
    job_id = (await coordinator.start()).job_id
    async with asyncio.timeout(BOUND_SECONDS):
        while (await coordinator.get(job_id)).summary.files_transferred != 3:
            await asyncio.sleep(0.01)
    assert (await coordinator.get(job_id)).state == types_pb2.JOB_STATE_RUNNING
    gate.set()
    assert (await coordinator.finished(job_id)).summary.files_transferred == 6


async def test_a_drained_coordinator_lets_go_and_the_next_one_goes_on(start_coordinator: StartCoordinator, peers: Peers) -> None:
    peers.transfer.units = [b"done", b"cut"]
    first = await start_coordinator()
    gate = peers.transfer.hold(b"cut")
    job_id = (await first.client.start()).job_id
    await peers.transfer.reach(b"cut")
    async with asyncio.timeout(BOUND_SECONDS):
        while (await first.client.get(job_id)).summary.files_transferred != 3:
            await asyncio.sleep(0.01)
    await first.service.stop(0)
    assert peers.transfer.cancelled[b"cut"] == 1
    gate.set()

    second = await start_coordinator()
    job = await second.client.finished(job_id)
    assert (job.state, job.summary.files_transferred) == (types_pb2.JOB_STATE_COMPLETE, 6)
    assert peers.transfer.calls == {b"probe": 1, b"done": 1, b"cut": 2, b"processing": 1}
    assert len(peers.events.log) == 1


async def test_a_job_cancelled_just_before_the_end_of_the_coordinator_is_cancelled_by_the_next(
    start_coordinator: StartCoordinator, peers: Peers
) -> None:
    first = await start_coordinator()
    peers.transfer.hold(b"txt2img-images")
    job_id = (await first.client.start()).job_id
    await peers.transfer.reach(b"txt2img-images")
    await first.service.stop(0)
    # As if it had been killed between the note and the stop.
    from mediasync.storage.database import Database
    from services.coordinator.schema import MIGRATIONS
    from services.coordinator.store import Request, Store

    database = Database.open(first.service.home.database_url("coordinator"), MIGRATIONS)
    await Store(database).request_cancel(Request("c", "CancelJobRequest", b"d"), job_id)
    await database.close()

    second = await start_coordinator()
    assert (await second.client.finished(job_id)).state == types_pb2.JOB_STATE_CANCELLED
