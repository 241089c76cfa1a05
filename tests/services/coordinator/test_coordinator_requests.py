"""A request repeated with the same id has one effect (invariant I10), and what else a client asks of jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import coordinator_pb2, types_pb2
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, sync_spec


async def refused(call: Any) -> MediasyncError:
    """The error that a call ends in."""
    with pytest.raises(MediasyncError) as caught, rpc_errors("the coordinator"):
        await call
    return caught.value


async def test_i10_a_repeated_start_gets_the_first_answer_and_starts_nothing(coordinator: CoordinatorClient, peers: Peers) -> None:
    first = await coordinator.start(sync_spec(b"a"), "r1")
    await coordinator.finished(first.job_id)
    assert await coordinator.start(sync_spec(b"a"), "r1") == first
    assert peers.transfer.calls[b"probe"] == 1
    listed = await coordinator.stub.ListJobs(coordinator_pb2.ListJobsRequest(), timeout=BOUND_SECONDS)
    assert len(listed.jobs) == 1


async def test_i10_starts_that_come_at_the_same_time_are_one_job(coordinator: CoordinatorClient, peers: Peers) -> None:
    answers = await asyncio.gather(*(coordinator.start(sync_spec(b"a"), "r1") for _ in range(8)))
    assert len({answer.job_id for answer in answers}) == 1
    await coordinator.finished(answers[0].job_id)
    assert peers.transfer.calls[b"probe"] == 1


async def test_i10_a_request_id_is_not_used_for_another_request(coordinator: CoordinatorClient, peers: Peers) -> None:
    job = await coordinator.start(sync_spec(b"a"), "r1")
    error = await refused(coordinator.start(sync_spec(b"b"), "r1"))
    assert error.reason is Reason.REQUEST_ID_REUSED
    assert (await refused(coordinator.cancel(job.job_id, "r1"))).reason is Reason.REQUEST_ID_REUSED
    await coordinator.finished(job.job_id)


async def test_i10_a_repeated_cancel_gets_the_first_answer(coordinator: CoordinatorClient, peers: Peers) -> None:
    peers.transfer.hold(b"txt2img-images")
    job_id = (await coordinator.start()).job_id
    await peers.transfer.reach(b"txt2img-images")
    asked = await coordinator.cancel(job_id, "c1")
    await coordinator.finished(job_id)
    assert await coordinator.cancel(job_id, "c1") == asked


async def test_i10_a_start_by_name_is_repeated_though_the_source_is_gone(coordinator: CoordinatorClient, peers: Peers) -> None:
    source = coordinator_pb2.Source(name="forge", spec=sync_spec())
    await coordinator.stub.CreateSource(coordinator_pb2.CreateSourceRequest(request_id="s1", source=source), timeout=BOUND_SECONDS)
    named = types_pb2.SyncSpec(source=types_pb2.SourceSpec(name="forge"))
    first = await coordinator.start(named, "r1")
    assert first.spec.source.ssh.host == "forge.lan"
    await coordinator.stub.DeleteSource(coordinator_pb2.DeleteSourceRequest(request_id="s2", name="forge"), timeout=BOUND_SECONDS)
    assert await coordinator.start(named, "r1") == first
    await coordinator.finished(first.job_id)


async def test_a_start_that_is_wrong_in_many_ways_names_them_all(coordinator: CoordinatorClient) -> None:
    spec = sync_spec(b"../x", dest_path="here", host="", parallel_transfers=99)
    request = coordinator_pb2.StartSyncRequest(spec=spec)
    error = await refused(coordinator.stub.StartSync(request, timeout=BOUND_SECONDS))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in error.fields] == [
        "request_id",
        "spec.source.ssh.host",
        "spec.dest_path",
        "spec.folders[0]",
        "spec.options.parallel_transfers",
    ]


async def test_a_job_that_does_not_exist_is_not_found(coordinator: CoordinatorClient) -> None:
    for call in (coordinator.get("job_x"), coordinator.cancel("job_x"), coordinator.finished("job_x")):
        assert (await refused(call)).reason is Reason.JOB_NOT_FOUND


async def test_jobs_are_listed_newest_first_in_pages(coordinator: CoordinatorClient, peers: Peers) -> None:
    started = []
    for _ in range(5):
        started.append((await coordinator.start()).job_id)
        await coordinator.finished(started[-1])
    found: list[str] = []
    token = ""
    sizes = []
    while True:
        request = coordinator_pb2.ListJobsRequest(page_size=2, page_token=token)
        page = await coordinator.stub.ListJobs(request, timeout=BOUND_SECONDS)
        found += [job.job_id for job in page.jobs]
        sizes.append(len(page.jobs))
        token = page.next_page_token
        if not token:
            break
    assert found == sorted(started, reverse=True)
    assert sizes == [2, 2, 1]


async def test_jobs_are_listed_by_their_states(coordinator: CoordinatorClient, peers: Peers) -> None:
    ended = (await coordinator.start()).job_id
    await coordinator.finished(ended)
    gate = peers.transfer.hold(b"txt2img-images")
    running = (await coordinator.start()).job_id
    await peers.transfer.reach(b"txt2img-images")

    async def listed(*states: types_pb2.JobState.ValueType) -> list[str]:
        request = coordinator_pb2.ListJobsRequest(states=states)
        return [job.job_id for job in (await coordinator.stub.ListJobs(request, timeout=BOUND_SECONDS)).jobs]

    assert await listed(types_pb2.JOB_STATE_COMPLETE) == [ended]
    assert await listed(types_pb2.JOB_STATE_RUNNING, types_pb2.JOB_STATE_PENDING) == [running]
    gate.set()
    await coordinator.finished(running)
    page = coordinator_pb2.ListJobsRequest(page_token="nonsense")
    assert (await refused(coordinator.stub.ListJobs(page, timeout=BOUND_SECONDS))).fields[0].field == "page_token"


async def test_the_catalog_is_reached_through_the_coordinator(coordinator: CoordinatorClient, peers: Peers) -> None:
    from mediasync.v1 import catalog_pb2

    answer = await coordinator.catalog.List(catalog_pb2.CatalogListRequest(sync_id="sync_1"), timeout=BOUND_SECONDS)
    assert (answer.files[0].sync_id, answer.next_page_token) == ("sync_1", "more")
    error = await refused(coordinator.catalog.Get(catalog_pb2.CatalogGetRequest(library_path=b"a\xff"), timeout=BOUND_SECONDS))
    assert (error.reason, error.remedy) == (Reason.FILE_NOT_FOUND, "Look elsewhere.")


async def test_a_catalog_that_comes_back_is_waited_for(coordinator: CoordinatorClient, peers: Peers) -> None:
    from mediasync.v1 import catalog_pb2

    await peers.stop("catalog")
    asking = asyncio.ensure_future(coordinator.catalog.List(catalog_pb2.CatalogListRequest(), timeout=BOUND_SECONDS))
    await asyncio.sleep(0)
    await peers.start("catalog")
    assert (await asking).next_page_token == "more"


async def test_events_and_subscribers_are_reached_through_the_coordinator_and_publishing_is_not(
    coordinator: CoordinatorClient, peers: Peers
) -> None:
    from mediasync.v1 import events_pb2

    answer = await coordinator.events.ListSubscriptions(events_pb2.ListSubscriptionsRequest(), timeout=BOUND_SECONDS)
    assert answer.subscriptions[0].lag == 2
    await coordinator.events.RemoveSubscription(events_pb2.RemoveSubscriptionRequest(name="x"), timeout=BOUND_SECONDS)
    assert peers.events.removed == ["x"]
    stream = coordinator.events.Subscribe(events_pb2.EventsSubscribeRequest(), timeout=BOUND_SECONDS)
    assert [(await stream.read()).sequence for _ in range(2)] == [1, 2]
    assert (await refused(stream.read())).reason is Reason.SUBSCRIPTION_BUSY
    for call, request in (
        (coordinator.events.Publish, events_pb2.EventsPublishRequest()),
        (coordinator.events.WaitAccepted, events_pb2.WaitAcceptedRequest()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, timeout=BOUND_SECONDS)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
