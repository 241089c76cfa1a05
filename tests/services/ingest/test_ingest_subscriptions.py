"""Adding, removing, listing subscriptions, and what the configuration holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from mediasync.convert import duration
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, RecordingSubscriber, StartIngest, StartSubscriber, file_events


async def remove(ingest: Ingest, name: str, request_id: str = "remove-1") -> None:
    await ingest.events.RemoveSubscription(events_pb2.RemoveSubscriptionRequest(request_id=request_id, name=name), timeout=BOUND_SECONDS)


async def refused(awaitable: Any) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the event log"):
        await awaitable
    return caught.value


async def test_the_catalog_is_there_from_the_start_and_cannot_be_removed(ingest: Ingest) -> None:
    catalog = await ingest.subscription("catalog")
    assert (catalog.fixed, catalog.address, catalog.batch_size) == (True, ingest.home.socket_address("catalog"), 500)
    assert (await refused(remove(ingest, "catalog"))).reason is Reason.SUBSCRIPTION_FIXED


async def test_a_subscription_is_stored_as_it_was_asked_for(ingest: Ingest) -> None:
    await ingest.publish(file_events(3))
    added = await ingest.subscribe("gallery", "127.0.0.1:1", types=[pb.EVENT_TYPE_FILE_SYNCED], batch_size=7)
    expected = events_pb2.Subscription(
        name="gallery",
        address="127.0.0.1:1",
        types=[pb.EVENT_TYPE_FILE_SYNCED],
        batch_size=7,
        cursor=3,
        filter=events_pb2.EventFilter(types=[pb.EVENT_TYPE_FILE_SYNCED]),
        state=events_pb2.SUBSCRIPTION_STATE_ACTIVE,
        lag_time=duration(0),
    )
    assert added == expected


async def test_i10_a_repeated_request_adds_once_and_is_answered_as_the_first(ingest: Ingest) -> None:
    first = await ingest.subscribe("gallery", "127.0.0.1:1")
    await ingest.publish(file_events(2))
    assert (await ingest.subscribe("gallery", "127.0.0.1:1")).cursor == first.cursor
    assert (await refused(ingest.subscribe("gallery", "127.0.0.1:2"))).reason is Reason.REQUEST_ID_REUSED
    await remove(ingest, "gallery")
    await remove(ingest, "gallery")
    assert (await refused(remove(ingest, "catalog"))).reason is Reason.REQUEST_ID_REUSED
    await ingest.subscribe("gallery", "127.0.0.1:1")
    names = (await ingest.events.ListSubscriptions(events_pb2.ListSubscriptionsRequest(), timeout=BOUND_SECONDS)).subscriptions
    assert [found.name for found in names] == ["catalog"]


async def test_a_name_is_taken_once(ingest: Ingest) -> None:
    await ingest.subscribe("gallery", "127.0.0.1:1")
    request = events_pb2.AddSubscriptionRequest(
        request_id="another", subscription=events_pb2.Subscription(name="gallery", address="127.0.0.1:1")
    )
    assert (await refused(ingest.events.AddSubscription(request))).reason is Reason.SUBSCRIPTION_EXISTS


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, Reason.INVALID_ARGUMENT),
        ({"name": "with blank"}, Reason.INVALID_ARGUMENT),
        ({"name": "x" * 65}, Reason.INVALID_ARGUMENT),
        ({"address": ""}, Reason.INVALID_ARGUMENT),
        ({"address": "localhost"}, Reason.INVALID_ARGUMENT),
        ({"address": "localhost:0"}, Reason.INVALID_ARGUMENT),
        ({"address": "dns:///somewhere:1"}, Reason.INVALID_ARGUMENT),
        ({"address": "unix:relative"}, Reason.INVALID_ARGUMENT),
        ({"batch_size": -1}, Reason.INVALID_ARGUMENT),
        ({"batch_size": 1001}, Reason.INVALID_ARGUMENT),
        ({"types": [99]}, Reason.INVALID_ARGUMENT),
        ({"address": "192.0.2.1:50051"}, Reason.ADDRESS_NOT_LOOPBACK),
        ({"address": "gallery.lan:50051"}, Reason.ADDRESS_NOT_LOOPBACK),
        ({"address": "[2001:db8::1]:50051"}, Reason.ADDRESS_NOT_LOOPBACK),
    ],
)
async def test_a_subscription_that_cannot_work_is_refused(ingest: Ingest, fields: dict[str, Any], reason: Reason) -> None:
    subscription = events_pb2.Subscription(**({"name": "gallery", "address": "127.0.0.1:1"} | fields))
    error = await refused(ingest.events.AddSubscription(events_pb2.AddSubscriptionRequest(request_id="r", subscription=subscription)))
    assert error.reason is reason


@pytest.mark.parametrize("request_id", ["", "x" * 129])
async def test_a_request_id_is_needed(ingest: Ingest, request_id: str) -> None:
    subscription = events_pb2.Subscription(name="gallery", address="[::1]:1")
    call = ingest.events.AddSubscription(events_pb2.AddSubscriptionRequest(request_id=request_id, subscription=subscription))
    assert [violation.field for violation in (await refused(call)).fields] == ["request_id"]


async def test_subscriptions_come_in_pages_by_name(ingest: Ingest) -> None:
    for name in ("b", "a", "d"):
        await ingest.subscribe(name, "127.0.0.1:1")
    names: list[str] = []
    request = events_pb2.ListSubscriptionsRequest(page_size=2)
    for _ in range(2):
        response = await ingest.events.ListSubscriptions(request, timeout=BOUND_SECONDS)
        names += [found.name for found in response.subscriptions]
        request.page_token = response.next_page_token
    assert (names, request.page_token) == (["a", "b", "catalog", "d"], "")


@pytest.mark.parametrize(
    "fields", [{"page_size": -1}, {"page_token": "!"}, {"page_token": "W10="}, {"page_token": "WzFd"}, {"page_token": "WyIiLCAxXQ=="}]
)
async def test_a_page_that_cannot_be_is_refused(ingest: Ingest, fields: dict[str, Any]) -> None:
    error = await refused(ingest.events.ListSubscriptions(events_pb2.ListSubscriptionsRequest(**fields)))
    assert error.reason is Reason.INVALID_ARGUMENT


async def test_removing_ends_the_delivery_and_whoever_waits_for_it(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await ingest.subscribe("gallery", (await start_subscriber(subscriber)).address)
    waiting = asyncio.create_task(ingest.delivered(2, "gallery"))
    await ingest.publish(file_events(1))
    await subscriber.until(lambda: bool(subscriber.calls))
    await remove(ingest, "gallery")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await ingest.publish(file_events(1, start=1))
    await ingest.delivered(2, "catalog")
    assert len(subscriber.calls) == 1
    assert (await refused(remove(ingest, "gallery", "remove-2"))).reason is Reason.SUBSCRIPTION_NOT_FOUND


def configure(path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path.write_text(text)
    monkeypatch.setenv("MEDIASYNC_CONFIG", str(path))


async def test_a_configured_subscriber_gets_everything_and_keeps_its_place_while_it_is_out_of_the_configuration(
    start_ingest: StartIngest, start_subscriber: StartSubscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest, service = await start_ingest()
    await ingest.publish(file_events(2))
    await service.stop(0)

    subscriber = RecordingSubscriber()
    address = (await start_subscriber(subscriber)).address
    listed = f"ingest: {{subscribers: [{{name: gallery, address: '{address}', events: [file_synced], batch_size: 9}}]}}"
    configure(tmp_path / "config.yaml", monkeypatch, listed)
    ingest, service = await start_ingest()
    await ingest.delivered(2, "gallery")
    found = await ingest.subscription("gallery")
    assert (found.fixed, found.batch_size, list(found.types)) == (True, 9, [pb.EVENT_TYPE_FILE_SYNCED])
    assert (await refused(remove(ingest, "gallery"))).reason is Reason.SUBSCRIPTION_FIXED
    await service.stop(0)

    configure(tmp_path / "config.yaml", monkeypatch, "ingest: {subscribers: []}")
    ingest, service = await start_ingest()
    assert (await refused(ingest.delivered(1, "gallery"))).reason is Reason.SUBSCRIPTION_NOT_FOUND
    await ingest.publish(file_events(2, start=2))
    await ingest.delivered(4)
    await service.stop(0)

    configure(tmp_path / "config.yaml", monkeypatch, listed)
    ingest, service = await start_ingest()
    await ingest.delivered(4, "gallery")
    assert [event.sequence for event in subscriber.events] == [1, 2, 3, 4]


async def test_a_name_that_the_configuration_no_longer_holds_may_be_used_anew(
    start_ingest: StartIngest, start_subscriber: StartSubscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path / "config.yaml", monkeypatch, "ingest: {subscribers: [{name: gallery, address: '127.0.0.1:1'}]}")
    _, service = await start_ingest()
    await service.stop(0)
    configure(tmp_path / "config.yaml", monkeypatch, "ingest: {}")
    ingest, _ = await start_ingest()
    subscriber = RecordingSubscriber()
    added = await ingest.subscribe("gallery", (await start_subscriber(subscriber)).address)
    assert not added.fixed
    await ingest.publish(file_events(1))
    await ingest.delivered(1, "gallery")
