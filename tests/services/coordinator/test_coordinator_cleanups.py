"""Clean-ups: jobs like any other, the last step of a sync, and what clients ask of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.runtime.status import from_rpc_error
from mediasync.v1 import cleanup_pb2, types_pb2
from mediasync.v1 import coordinator_pb2 as pb
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

COMPLETE, WITH_ERRORS = types_pb2.JOB_STATE_COMPLETE, types_pb2.JOB_STATE_COMPLETE_WITH_ERRORS
CANCELLED, FAILED = types_pb2.JOB_STATE_CANCELLED, types_pb2.JOB_STATE_FAILED


def cleaned_after(**policy: Any) -> types_pb2.SyncSpec:
    """A sync that ends with a clean-up."""
    spec = sync_spec()
    spec.cleanup.CopyFrom(types_pb2.CleanupPolicy(after_sync=True, **policy))
    return spec


async def change(client: CoordinatorClient, method: str, job_id: str) -> types_pb2.Job:
    request = getattr(pb, f"{method}Request")(request_id=new_request_id(), job_id=job_id)
    job: types_pb2.Job = (await getattr(client.stub, method)(request, timeout=BOUND_SECONDS, wait_for_ready=True)).job
    return job


async def refused(call: Any) -> MediasyncError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_a_clean_up_is_a_job_whose_summary_says_what_it_did(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.clean(sync_spec(b"txt2img-images", min_size_bytes=5))
    assert job.kind == types_pb2.JOB_KIND_CLEANUP
    ended = await coordinator.finished(job.job_id)
    assert (ended.state, ended.kind, ended.summary.cleanup.files_deleted) == (COMPLETE, types_pb2.JOB_KIND_CLEANUP, 3)
    assert ended.summary.cleanup.space_freed_bytes == 30
    [run] = peers.cleanup.runs
    assert (run.sync_id, run.job_id, run.spec.options.min_size_bytes) == (job.sync_id, job.job_id, 5)
    assert run.spec.cleanup.age_hours == 24, "what nobody said is the default"
    last = peers.progress.reports[-1].job
    assert (last.files_to_clean, last.files_cleaned, last.bytes_to_clean, last.bytes_cleaned) == (3, 3, 30, 30)
    assert types_pb2.PROGRESS_STATUS_CLEANING in peers.progress.statuses
    assert not peers.transfer.calls, "nothing was brought"
    assert peers.events.log == {}, "what was deleted the cleanup service tells"


async def test_a_sync_ends_with_a_clean_up_where_its_policy_has_it(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.cleanup.summary = types_pb2.CleanupSummary(
        kept=[types_pb2.KeptFiles(reason=types_pb2.KEPT_REASON_TOO_YOUNG, files=4, size_bytes=40)], files_scanned=7, files_kept=4
    )
    ended = await coordinator.finished((await coordinator.start(cleaned_after())).job_id)
    assert (ended.state, ended.summary.files_transferred) == (COMPLETE, 3)
    cleanup = ended.summary.cleanup
    assert (cleanup.files_scanned, cleanup.files_deleted, cleanup.files_kept) == (7, 3, 4)
    [event] = peers.events.log.values()
    assert event.sync.summary.cleanup.files_deleted == 3
    # Without a policy, and with one that is for jobs of its own, nothing is deleted.
    only = sync_spec()
    only.cleanup.CopyFrom(types_pb2.CleanupPolicy())
    for spec in (sync_spec(), only):
        ended = await coordinator.finished((await coordinator.start(spec)).job_id)
        assert not ended.summary.HasField("cleanup")
    assert len(peers.cleanup.runs) == 1


async def test_a_clean_up_that_cannot_be_fails_its_job_and_leaves_a_sync_complete_with_errors(
    coordinator: CoordinatorClient, peers: Peers
) -> None:
    error = MediasyncError(Reason.CLEANUP_SOURCE_DIFFERENT, "of 20 files none is on record")
    peers.cleanup.failures = [error, error]
    ended = await coordinator.finished((await coordinator.clean()).job_id)
    assert (ended.state, ended.problem.reason) == (FAILED, "CLEANUP_SOURCE_DIFFERENT")
    synced = await coordinator.finished((await coordinator.start(cleaned_after())).job_id)
    assert (synced.state, synced.summary.files_transferred, synced.HasField("problem")) == (WITH_ERRORS, 3, False)
    [problem] = synced.summary.problems
    assert problem.reason == "CLEANUP_SOURCE_DIFFERENT"
    assert "the files are in the library" in problem.message
    # Of that sync only the clean-up is left.
    again = await change(coordinator, "RetryJob", synced.job_id)
    ended = await coordinator.finished(again.job_id)
    assert (ended.state, ended.summary.files_transferred, ended.summary.cleanup.files_deleted) == (COMPLETE, 0, 3)


async def test_files_that_could_not_be_deleted_are_errors_of_the_job(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.cleanup.summary = types_pb2.CleanupSummary(errors=2)
    for job in (await coordinator.clean(), await coordinator.start(cleaned_after())):
        assert (await coordinator.finished(job.job_id)).state == WITH_ERRORS
        await until(lambda: peers.progress.reports[-1].job.status == types_pb2.PROGRESS_STATUS_COMPLETE)
        assert peers.progress.reports[-1].job.errors == 2


async def test_no_sync_cleans_up_after_a_folder_that_failed(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.failures[b"txt2img-images"] = [MediasyncError(Reason.LIBRARY_MARKER_MISSING, "not mounted")]
    assert (await coordinator.finished((await coordinator.start(cleaned_after())).job_id)).state == FAILED
    assert peers.cleanup.runs == []


async def test_a_clean_up_can_be_paused_and_goes_on_as_the_same_run(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.cleanup.gate = asyncio.Event()
    job = await coordinator.clean()
    await peers.cleanup.under_way.wait()
    assert (await change(coordinator, "PauseJob", job.job_id)).state == types_pb2.JOB_STATE_PAUSED
    await until(lambda: peers.cleanup.left == 1)
    peers.cleanup.gate.set()
    # What was at the source when it was left may not have ended yet.
    peers.cleanup.failures = [MediasyncError(Reason.CLEANUP_BUSY, "another clean-up of the source runs")]
    await change(coordinator, "ResumeJob", job.job_id)
    ended = await coordinator.finished(job.job_id)
    assert (ended.state, ended.summary.cleanup.files_deleted) == (COMPLETE, 3)
    assert {run.sync_id for run in peers.cleanup.runs} == {job.sync_id}
    assert len(peers.cleanup.runs) == 3


async def test_a_clean_up_that_is_cancelled_says_what_it_deleted_and_can_be_started_again(
    coordinator: CoordinatorClient, peers: Peers
) -> None:
    peers.cleanup.gate = asyncio.Event()
    job = await coordinator.clean()
    await peers.cleanup.under_way.wait()
    await coordinator.cancel(job.job_id)
    ended = await coordinator.finished(job.job_id)
    assert (ended.state, ended.summary.cleanup.files_deleted, peers.cleanup.left) == (CANCELLED, 1, 1)
    peers.cleanup.gate.set()
    again = await change(coordinator, "RetryJob", job.job_id)
    assert (again.kind, again.retry_of) == (types_pb2.JOB_KIND_CLEANUP, job.job_id)
    ended = await coordinator.finished(again.job_id)
    assert (ended.state, ended.summary.cleanup.files_deleted) == (COMPLETE, 3)
    # Also one that did all: there may be more to delete by now.
    assert (await coordinator.finished((await change(coordinator, "RetryJob", again.job_id)).job_id)).state == COMPLETE


async def test_a_sync_that_is_cancelled_while_it_cleans_up_says_what_it_deleted(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.cleanup.gate = asyncio.Event()
    job = await coordinator.start(cleaned_after())
    await peers.cleanup.under_way.wait()
    await coordinator.cancel(job.job_id)
    ended = await coordinator.finished(job.job_id)
    assert (ended.state, ended.summary.files_transferred, ended.summary.cleanup.files_deleted) == (CANCELLED, 3, 1)


async def test_a_clean_up_waits_for_a_service_that_is_restarted(coordinator: CoordinatorClient, peers: Peers) -> None:
    await peers.stop("cleanup")
    job = await coordinator.clean()
    await until(lambda: bool(peers.progress.reports))
    await peers.start("cleanup")
    assert (await coordinator.finished(job.job_id)).state == COMPLETE


@pytest.mark.parametrize("after_sync", [True, False])
@pytest.mark.parametrize("point", ["coordinator.before_cleanup", "coordinator.after_cleanup", "coordinator.before_terminal"])
async def test_i5_a_coordinator_killed_around_a_clean_up_finishes_the_job_once_it_is_back(
    point: str, after_sync: bool, peers: Peers, start_process: StartProcess, tmp_path: Path
) -> None:
    environment = {**environment_of(peers), "MEDIASYNC_CRASH_AT": point}
    doomed = await start_process("services.coordinator", tmp_path / "home", environment)
    client = CoordinatorClient(doomed.addresses[0])
    request_id = new_request_id()
    start = (lambda: client.start(cleaned_after(), request_id)) if after_sync else (lambda: client.clean(request_id=request_id))
    job = await start()
    assert await doomed.ended() == -9
    await start_process("services.coordinator", tmp_path / "home", environment)
    assert (await start()).job_id == job.job_id
    ended = await client.finished(job.job_id)
    assert (ended.state, ended.summary.cleanup.files_deleted) == (COMPLETE, 3)
    # What was recorded is not done again.
    assert len(peers.cleanup.runs) == 1
    await client.close()


async def test_i5_a_clean_up_under_way_when_the_coordinator_is_killed_goes_on_as_the_same_run(
    peers: Peers, start_process: StartProcess, tmp_path: Path
) -> None:
    peers.cleanup.gate = asyncio.Event()
    doomed = await start_process("services.coordinator", tmp_path / "home", environment_of(peers))
    client = CoordinatorClient(doomed.addresses[0])
    job = await client.clean()
    await peers.cleanup.under_way.wait()
    await doomed.kill()
    peers.cleanup.gate.set()
    await start_process("services.coordinator", tmp_path / "home", environment_of(peers))
    ended = await client.finished(job.job_id)
    assert (ended.state, ended.summary.cleanup.files_deleted) == (COMPLETE, 3)
    assert {run.sync_id for run in peers.cleanup.runs} == {job.sync_id}
    assert len(peers.cleanup.runs) == 2
    await client.close()


async def test_a_named_sources_own_policy_counts_unless_another_is_asked_for(coordinator: CoordinatorClient, peers: Peers) -> None:
    spec = sync_spec()
    spec.cleanup.CopyFrom(types_pb2.CleanupPolicy(after_sync=True, age_hours=6))
    request = pb.CreateSourceRequest(request_id=new_request_id(), source=pb.Source(name="forge", spec=spec))
    await coordinator.stub.CreateSource(request, timeout=BOUND_SECONDS)
    named = types_pb2.SyncSpec(source=types_pb2.SourceSpec(name="forge"))
    await coordinator.finished((await coordinator.clean(named)).job_id)
    await coordinator.finished((await coordinator.start(named)).job_id)
    named.cleanup.CopyFrom(types_pb2.CleanupPolicy(age_hours=2))
    await coordinator.finished((await coordinator.clean(named)).job_id)
    # A sync that says that it does not want one.
    await coordinator.finished((await coordinator.start(named)).job_id)
    assert [run.spec.cleanup.age_hours for run in peers.cleanup.runs] == [6, 6, 2]
    assert {run.spec.dest_path for run in peers.cleanup.runs} == {"/media/library"}


async def test_previews_explanations_and_the_journal_come_from_the_cleanup_service(coordinator: CoordinatorClient, peers: Peers) -> None:
    preview = await coordinator.stub.PreviewCleanup(pb.PreviewCleanupRequest(spec=sync_spec(), page_size=5), timeout=BOUND_SECONDS)
    assert (preview.plan_id, preview.plan.summary.files_deleted, preview.next_page_token) == ("plan_1", 2, "more")
    rest = await coordinator.stub.PreviewCleanup(pb.PreviewCleanupRequest(page_token="more"), timeout=BOUND_SECONDS)
    assert ([file.path.raw for file in rest.files], rest.HasField("plan")) == ([b"a.png"], False)
    assert [(plan.page_size, plan.page_token, plan.spec.cleanup.age_hours) for plan in peers.cleanup.plans] == [(5, "", 24), (0, "more", 0)]
    request = pb.ExplainFileRequest(spec=sync_spec(), path=convert.file_path(b"a.png"))
    assert (await coordinator.stub.ExplainFile(request, timeout=BOUND_SECONDS)).explanation.present
    assert [asked.path.raw for asked in peers.cleanup.explained] == [b"a.png"]
    journal = await coordinator.cleanups.ListDeletions(cleanup_pb2.ListDeletionsRequest(source="forge"), timeout=BOUND_SECONDS)
    assert [(entry.number, entry.source) for entry in journal.deletions] == [(7, "forge")]
    ended = await coordinator.finished((await coordinator.clean()).job_id)
    run = (await coordinator.cleanups.GetCleanup(cleanup_pb2.GetCleanupRequest(sync_id=ended.sync_id), timeout=BOUND_SECONDS)).run
    assert run.summary.files_deleted == 3
    # Whoever wants to delete asks the coordinator.
    error = await refused(coordinator.cleanups.RunCleanup(cleanup_pb2.RunCleanupRequest(), timeout=BOUND_SECONDS).read())
    assert error.message
    assert len(peers.cleanup.runs) == 1


async def test_every_mistake_of_a_policy_is_named_at_once(coordinator: CoordinatorClient, peers: Peers) -> None:
    spec = sync_spec()
    policy = {"age_hours": -1, "max_delete_share": 1.5, "preserve_patterns": ["[a"], "min_free_space_gb": 5, "target_free_space_gb": 2}
    spec.cleanup.CopyFrom(types_pb2.CleanupPolicy(after_sync=True, allowed_extensions=["a/b"], **policy))
    for call in (coordinator.clean(spec), coordinator.start(spec)):
        error = await refused(call)
        assert error.reason is Reason.INVALID_ARGUMENT
        assert {field.field.removeprefix("spec.cleanup.") for field in error.fields} == {
            "age_hours",
            "max_delete_share",
            "preserve_patterns[0]",
            "target_free_space_gb",
            "allowed_extensions[0]",
        }
    bad = pb.ExplainFileRequest(spec=sync_spec(), path=convert.file_path(b"../a.png"))
    assert (await refused(coordinator.stub.ExplainFile(bad, timeout=BOUND_SECONDS))).reason is Reason.INVALID_ARGUMENT
    unverified = cleaned_after(verify_synced=False)
    asked = pb.PreviewCleanupRequest(spec=unverified)
    for call in (coordinator.clean(unverified), coordinator.start(unverified), coordinator.stub.PreviewCleanup(asked)):
        error = await refused(call)
        assert error.reason is Reason.CLEANUP_UNVERIFIED
        assert "i_mean_it" in error.remedy
    assert peers.cleanup.runs == []
    meant = await coordinator.finished((await coordinator.clean(cleaned_after(verify_synced=False, i_mean_it=True))).job_id)
    assert meant.state == COMPLETE


async def test_a_clean_up_asked_for_twice_with_one_request_id_is_one_job(start_coordinator: StartCoordinator, peers: Peers) -> None:
    client = (await start_coordinator()).client
    request_id = new_request_id()
    first, second = await client.clean(request_id=request_id), await client.clean(request_id=request_id)
    assert first.job_id == second.job_id
    await client.finished(first.job_id)
    assert len(peers.cleanup.runs) == 1
