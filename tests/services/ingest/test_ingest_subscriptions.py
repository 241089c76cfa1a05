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
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, RecordingSubscriber, StartIngest, StartSubscriber, file_event, file_events


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


async def test_a_subscription_that_cannot_work_is_refused(ingest: Ingest) -> None:
    wrong: list[tuple[dict[str, Any], Reason]] = [
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
        ({"address": "gallery.lan:50051", "token_file": "/etc/token"}, Reason.ADDRESS_NOT_LOOPBACK),
        ({"tls_cert_file": "/c.pem", "tls_key_file": "/k.pem"}, Reason.INVALID_ARGUMENT),
        ({"tls_ca_file": "/ca.pem", "tls_key_file": "/k.pem"}, Reason.INVALID_ARGUMENT),
        ({"tls_ca_file": "ca.pem"}, Reason.INVALID_ARGUMENT),
        ({"pull": True}, Reason.INVALID_ARGUMENT),
        ({"pull": True, "address": "", "token_file": "/etc/token"}, Reason.INVALID_ARGUMENT),
        ({"types": [1], "filter": {"types": [2]}}, Reason.INVALID_ARGUMENT),
        ({"filter": {"paths": ["[z-a]"]}}, Reason.INVALID_ARGUMENT),
    ]
    for fields, reason in wrong:
        subscription = events_pb2.Subscription(**({"name": "gallery", "address": "127.0.0.1:1"} | fields))
        error = await refused(ingest.events.AddSubscription(events_pb2.AddSubscriptionRequest(request_id="r", subscription=subscription)))
        assert error.reason is reason, fields


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


async def held(ingest: Ingest, name: str, *, request_id: str = "hold") -> events_pb2.Subscription:
    request = events_pb2.PauseSubscriptionRequest(request_id=request_id, name=name)
    return (await ingest.events.PauseSubscription(request, timeout=BOUND_SECONDS)).subscription


async def resumed(ingest: Ingest, name: str, *, request_id: str = "resume") -> events_pb2.Subscription:
    request = events_pb2.ResumeSubscriptionRequest(request_id=request_id, name=name)
    return (await ingest.events.ResumeSubscription(request, timeout=BOUND_SECONDS)).subscription


async def test_i10_a_held_subscription_is_told_nothing_over_a_restart_until_it_is_resumed(
    start_ingest: StartIngest, start_subscriber: StartSubscriber
) -> None:
    ingest, service = await start_ingest()
    subscriber = RecordingSubscriber()
    await ingest.subscribe("gallery", (await start_subscriber(subscriber)).address)
    await ingest.subscribe("notebook", "", pull=True)
    for name in ("gallery", "notebook"):
        assert (await held(ingest, name, request_id=name)).state == events_pb2.SUBSCRIPTION_STATE_PAUSED
    assert (await refused(held(ingest, "catalog", request_id="gallery"))).reason is Reason.REQUEST_ID_REUSED
    await service.stop(0)

    ingest, _ = await start_ingest()
    await ingest.publish(file_events(3))
    await ingest.delivered(3)
    found = await ingest.subscription("gallery")
    assert (found.state, found.cursor, found.lag, subscriber.events) == (events_pb2.SUBSCRIPTION_STATE_PAUSED, 0, 3, [])
    assert (await refused(ingest.delivered(3, "gallery"))).reason is Reason.SUBSCRIPTION_BUSY
    assert (await refused(ingest.read("notebook"))).reason is Reason.SUBSCRIPTION_BUSY
    await resumed(ingest, "gallery")
    await ingest.delivered(3, "gallery")
    # A request that is repeated has no second effect: it went on, and is not held again.
    await held(ingest, "gallery", request_id="gallery")
    await ingest.publish(file_events(1, start=3))
    await ingest.delivered(4, "gallery")
    await resumed(ingest, "notebook", request_id="resume-notebook")
    assert len((await ingest.read("notebook"))[0].events) == 4


async def test_a_subscriber_that_is_gone_is_said_to_be_and_tried_at_once_when_it_is_resumed(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = RecordingSubscriber()
    server = await start_subscriber(subscriber)
    await server.stop()
    await ingest.subscribe("gallery", server.address)
    await ingest.publish(file_events(1))
    while (found := await ingest.subscription("gallery")).state != events_pb2.SUBSCRIPTION_STATE_UNREACHABLE:
        await asyncio.sleep(0)
    assert found.HasField("next_try_time")
    assert found.last_error
    await server.start()
    await resumed(ingest, "gallery")
    await ingest.delivered(1, "gallery")
    assert (await ingest.subscription("gallery")).state == events_pb2.SUBSCRIPTION_STATE_ACTIVE


async def accepted(ingest: Ingest, *names: str, sync_id: str, seconds: float = BOUND_SECONDS) -> list[events_pb2.Acceptance]:
    request = events_pb2.WaitAcceptedRequest(subscriptions=names, sync_id=sync_id)
    return list((await ingest.events.WaitAccepted(request, timeout=seconds)).subscriptions)


class Stubborn(RecordingSubscriber):
    """Never takes `later.png` now, and never takes `bad.png`."""

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        verdict = {b"later.png": pb.EVENT_VERDICT_RETRY, b"bad.png": pb.EVENT_VERDICT_REJECTED}.get(event.file.library_path.raw)
        return pb.EventResult(event_id=event.event_id, verdict=verdict or pb.EVENT_VERDICT_ACCEPTED)


async def test_whether_a_sync_is_accepted_depends_on_its_own_events_alone(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    stubborn = Stubborn()
    await ingest.subscribe("gallery", (await start_subscriber(stubborn)).address)
    await ingest.publish(
        [
            file_event(b"later.png", sync_id="sync_20260921_120000_00000001"),
            file_event(b"good.png", sync_id="sync_20260921_120000_00000002"),
            file_event(b"bad.png", sync_id="sync_20260921_120000_00000003"),
        ]
    )
    (good,) = await accepted(ingest, "gallery", sync_id="sync_20260921_120000_00000002")
    assert (good.left, good.rejected) == (0, 0)
    bad = await accepted(ingest, "catalog", "gallery", sync_id="sync_20260921_120000_00000003")
    assert [(one.subscription, one.left, one.rejected) for one in bad] == [("catalog", 0, 0), ("gallery", 0, 1)]
    # The answer comes while there is time for one.
    (later,) = await accepted(ingest, "gallery", sync_id="sync_20260921_120000_00000001", seconds=1.5)
    assert (later.left, later.rejected, later.state) == (1, 0, events_pb2.SUBSCRIPTION_STATE_RETRYING)
    assert later.last_error
    # Nothing is waited for where there is nobody to wait for.
    nobody, waiting = await accepted(ingest, "nobody", "gallery", sync_id="sync_20260921_120000_00000001")
    assert (nobody.state, waiting.left) == (events_pb2.SUBSCRIPTION_STATE_UNSPECIFIED, 1)
    assert [one.left for one in await accepted(ingest, "gallery", sync_id="sync_20260921_120000_00000009")] == [0]


async def test_the_configuration_says_where_a_new_subscriber_starts_and_what_it_wants(
    start_ingest: StartIngest, start_subscriber: StartSubscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest, service = await start_ingest()
    await ingest.publish([file_event(b"a.png"), file_event(b"b.png", source="comfy")])
    await ingest.delivered(2)
    await service.stop(0)
    subscriber = RecordingSubscriber()
    address = (await start_subscriber(subscriber)).address
    text = f"""ingest:
      subscribers:
      - {{name: fresh, address: "{address}", from: now}}
      - {{name: filled, address: "{address}", from: snapshot, source: forge}}
      - {{name: notebook, address: pull, from: 2, path: "*.png"}}
    """
    configure(tmp_path / "config.yaml", monkeypatch, text)
    for _ in range(2):
        ingest, service = await start_ingest()
        await ingest.delivered(2, "filled")
        await subscriber.until(lambda: len(subscriber.events) == 1)
        assert [(event.synthetic, event.file.library_path.raw) for event in subscriber.events] == [(True, b"a.png")]
        assert (await ingest.subscription("fresh")).cursor == 2
        notebook = await ingest.subscription("notebook")
        assert (notebook.pull, notebook.fixed, notebook.cursor, list(notebook.filter.paths)) == (True, True, 1, ["*.png"])
        await service.stop(0)
