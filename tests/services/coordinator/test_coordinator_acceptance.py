"""With `ingest.async_mode: false` a job is complete when subscribers have accepted its files, and fails honestly when they do not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.model import Problem
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import coordinator_pb2, events_pb2, types_pb2
from services.coordinator.accepting import Acceptors, accepted
from services.coordinator.patience import Patience
from services.coordinator.terms import Acceptance
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, StartCoordinator, until

CONFIGURATION = """
ingest:
  async_mode: false
  subscribers:
    - {name: gallery, address: '127.0.0.1:9000'}
"""


@pytest.fixture
async def waiting(start_coordinator: StartCoordinator, tmp_path: Path) -> StartCoordinator:
    """Starts a coordinator that waits for the catalog and the gallery."""
    folder = tmp_path / "config" / "mediasync"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIGURATION)
    return start_coordinator


def acceptance(**fields: Any) -> dict[str, events_pb2.Acceptance]:
    """What became of the gallery's events."""
    return {"gallery": events_pb2.Acceptance(**{"subscription": "gallery", "state": events_pb2.SUBSCRIPTION_STATE_ACTIVE, **fields})}


async def asked(peers: Peers, times: int = 1) -> None:
    """Until the subscriptions were asked for."""
    async with asyncio.timeout(BOUND_SECONDS):
        while len(peers.events.awaited) < times:
            peers.events.asked.clear()
            await peers.events.asked.wait()


def stage(peers: Peers) -> str:
    """What the job is at, in words."""
    return str(peers.progress.reports[-1].job.current_stage) if peers.progress.reports else ""


async def begun(client: CoordinatorClient, peers: Peers) -> types_pb2.Job:
    """A job that waits for its subscribers."""
    job = await client.start()
    await asked(peers)
    return await client.get(job.job_id)


async def test_a_job_is_complete_when_the_subscribers_have_accepted_its_files(waiting: StartCoordinator, peers: Peers) -> None:
    client = (await waiting()).client
    job = await begun(client, peers)
    assert job.state == types_pb2.JOB_STATE_RUNNING
    assert peers.events.awaited == [(("catalog", "gallery"), job.sync_id)]
    assert not peers.events.log
    await until(lambda: stage(peers) == "waiting for catalog, gallery")
    await peers.events.acceptances.put(acceptance(left=2))
    await asked(peers, 2)
    await until(lambda: stage(peers) == "waiting for gallery")
    await peers.events.acceptances.put({})

    ended = await client.finished(job.job_id)
    assert (ended.state, ended.summary.files_transferred) == (types_pb2.JOB_STATE_COMPLETE, 3)
    [event] = peers.events.log.values()
    assert event.sync.state == types_pb2.JOB_STATE_COMPLETE
    await until(lambda: peers.progress.statuses[-1] == types_pb2.PROGRESS_STATUS_COMPLETE)
    assert stage(peers) == ""


async def test_a_job_whose_files_were_rejected_fails_and_keeps_them(waiting: StartCoordinator, peers: Peers) -> None:
    client = (await waiting()).client
    peers.transfer.landed = (3, 30)
    job = await begun(client, peers)
    await peers.events.acceptances.put(acceptance(rejected=3))

    ended = await client.finished(job.job_id)
    assert (ended.state, ended.summary.files_transferred) == (types_pb2.JOB_STATE_FAILED, 3)
    assert (ended.problem.reason, ended.problem.message) == (
        "SUBSCRIBER_REJECTED",
        "gallery rejected 3 events of this sync; the files are in the library",
    )
    assert "--subscriber gallery" in ended.problem.remedy
    [event] = peers.events.log.values()
    assert event.sync.state == types_pb2.JOB_STATE_FAILED
    # Its files are there: a retry would have nothing to do.
    with pytest.raises(MediasyncError) as caught, rpc_errors("the coordinator"):
        request = coordinator_pb2.RetryJobRequest(request_id=new_request_id(), job_id=job.job_id)
        await client.stub.RetryJob(request, timeout=BOUND_SECONDS)
    assert caught.value.reason is Reason.NOTHING_FAILED


async def test_a_job_that_waits_is_taken_up_by_the_next_coordinator(waiting: StartCoordinator, peers: Peers) -> None:
    first = await waiting()
    job = await begun(first.client, peers)
    await first.service.stop(0)
    second = await waiting()
    await asked(peers, 2)
    await peers.events.acceptances.put({})
    assert (await second.client.finished(job.job_id)).state == types_pb2.JOB_STATE_COMPLETE
    assert peers.transfer.calls[b"txt2img-images"] == 1


async def test_a_job_that_waits_can_be_cancelled(waiting: StartCoordinator, peers: Peers) -> None:
    client = (await waiting()).client
    job = await begun(client, peers)
    await client.cancel(job.job_id)
    assert (await client.finished(job.job_id)).state == types_pb2.JOB_STATE_CANCELLED


async def test_without_the_setting_nobody_is_waited_for(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.start()
    assert (await coordinator.finished(job.job_id)).state == types_pb2.JOB_STATE_COMPLETE
    assert peers.events.awaited == []


class Answers:
    """Subscriptions that stand as they are told to; the last answer is given again."""

    def __init__(self, *answers: tuple[Acceptance, ...]) -> None:
        self._answers = list(answers)
        self.seconds: list[float] = []

    async def wait_accepted(self, subscriptions: Any, sync_id: str, seconds: float) -> tuple[Acceptance, ...]:
        self.seconds.append(seconds)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def outcome(*answers: tuple[Acceptance, ...], seconds: float = 0.0) -> Problem | None:
    """Why the answers make a job fail."""
    peers: Any = Answers(*answers)
    return await accepted(peers, Patience(), lambda text: None, "sync_1", Acceptors(("gallery", "script"), seconds))


async def test_who_is_not_ready_in_time_is_named_with_what_is_left() -> None:
    late = Acceptance("gallery", left=1_200, last_error="OnBatchSynced failed with UNAVAILABLE")
    problem = await outcome((late, Acceptance("script")))
    assert problem is not None
    assert problem.reason is Reason.SUBSCRIBER_NOT_IN_TIME
    assert problem.message == (
        "gallery has not accepted 1,200 events of this sync within 0 s; the files are in the library, and it is still told of them "
        "(gallery: OnBatchSynced failed with UNAVAILABLE)"
    )
    assert problem.remedy == "`mediasync subscribers show gallery` says what it is at."


async def test_a_rejection_is_told_once_everybody_has_dealt_with_everything() -> None:
    rejected, busy = Acceptance("gallery", rejected=1), Acceptance("script", left=1)
    assert await outcome((rejected, busy), (Acceptance("gallery"), Acceptance("script")), seconds=BOUND_SECONDS) is None
    problem = await outcome((rejected, busy), (rejected, Acceptance("script")), seconds=BOUND_SECONDS)
    assert problem is not None
    assert (problem.reason, problem.message) == (
        Reason.SUBSCRIBER_REJECTED,
        "gallery rejected 1 event of this sync; the files are in the library",
    )


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (Acceptance("gallery", missing=True), Reason.SUBSCRIPTION_NOT_FOUND),
        (Acceptance("gallery", left=2, too_far_behind=True), Reason.SUBSCRIBER_TOO_FAR_BEHIND),
    ],
)
async def test_nobody_waits_for_who_will_not_come(one: Acceptance, reason: Reason) -> None:
    problem = await outcome((one, Acceptance("script", left=1)), seconds=BOUND_SECONDS)
    assert problem is not None
    assert (problem.reason, "in the library" in problem.message) == (reason, True)


def test_a_failed_job_of_this_kind_has_an_exit_code_of_its_own() -> None:
    for reason, code in ((Reason.SUBSCRIBER_REJECTED, 1), (Reason.SUBSCRIBER_NOT_IN_TIME, 6)):
        assert Problem(reason, "").as_error().exit_code == code
