"""Where a subscription starts, and what it is sent again: from a place, of a sync, from the library as it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mediasync.convert import timestamp_ns
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest import log_rows, retention, sqlite_log_store
from tests.fixtures.ingest import (
    BOUND_SECONDS,
    Ingest,
    RecordingSubscriber,
    StartIngest,
    StartSubscriber,
    file_event,
    file_events,
    sync_event,
)

OTHER_SYNC = "sync_20260922_120000_00000002"


async def refused(awaitable: Any) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the event log"):
        await awaitable
    return caught.value


async def add(ingest: Ingest, name: str, address: str = "127.0.0.1:1", **fields: Any) -> events_pb2.Subscription:
    request = events_pb2.AddSubscriptionRequest(
        request_id=f"add-{name}", subscription={"name": name, "address": address, "pull": not address}, **fields
    )
    return (await ingest.events.AddSubscription(request, timeout=BOUND_SECONDS)).subscription


def sequences(subscriber: RecordingSubscriber) -> list[int]:
    return [event.sequence for event in subscriber.events]


async def test_a_subscription_starts_where_it_is_asked_to(ingest: Ingest) -> None:
    await ingest.publish(file_events(5))
    starts: list[tuple[dict[str, Any], int]] = [
        ({}, 5),
        ({"beginning": {}}, 0),
        ({"sequence": 4}, 3),
        ({"sequence": 6}, 5),
        ({"last": 2}, 3),
        ({"since": timestamp_ns(0)}, 0),
        ({"since": timestamp_ns(1 << 62)}, 5),
    ]
    for number, (start, cursor) in enumerate(starts):
        assert (await add(ingest, f"s{number}", "", start=start)).cursor == cursor, start
    assert (await refused(add(ingest, "beyond", start={"sequence": 7}))).reason is Reason.INVALID_ARGUMENT


async def test_i10_a_replay_from_a_place_sends_everything_from_there_again_once(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await add(ingest, "gallery", (await start_subscriber(subscriber)).address, start={"beginning": {}})
    events = file_events(4)
    await ingest.publish(events)
    await ingest.delivered(4, "gallery")
    request = events_pb2.ReplayRequest(request_id="again", name="gallery", start={"sequence": 3})
    for _ in range(2):
        await ingest.events.Replay(request, timeout=BOUND_SECONDS)
        await subscriber.until(lambda: len(subscriber.events) == 6)
        await ingest.delivered(4, "gallery")
    assert sequences(subscriber) == [1, 2, 3, 4, 3, 4]
    assert subscriber.ids[4:] == [event.event_id for event in events[2:]]
    request.start.sequence = 1
    assert (await refused(ingest.events.Replay(request, timeout=BOUND_SECONDS))).reason is Reason.REQUEST_ID_REUSED


async def test_a_replay_of_a_sync_ends_with_the_last_word_on_each_of_its_files(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await add(ingest, "gallery", (await start_subscriber(subscriber)).address)
    await ingest.publish(
        [
            file_event(b"a.png"),
            file_event(b"b.png", sync_id=OTHER_SYNC),
            sync_event(),
            file_event(b"a.png", pb.EVENT_TYPE_FILE_DELETED, sync_id=OTHER_SYNC),
            file_event(b"c.png", sync_id=OTHER_SYNC),
        ]
    )
    await ingest.delivered(5, "gallery")
    answer = await ingest.replay("gallery", sync_id="sync_20260921_120000_00000001")
    assert answer.events == -1
    await subscriber.until(lambda: len(subscriber.events) == 8)
    assert sorted(sequences(subscriber)[5:]) == [1, 3, 4]
    assert [event.sequence for event in subscriber.events[5:] if event.file.library_path.raw == b"a.png"] == [1, 4]
    await ingest.publish([file_event(b"d.png")])
    await ingest.delivered(6, "gallery")
    assert sequences(subscriber)[8:] == [6]
    assert (await ingest.subscription("gallery")).state == events_pb2.SUBSCRIPTION_STATE_ACTIVE


async def test_a_snapshot_comes_before_what_the_log_goes_on_with(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    await ingest.publish([file_event(b"a.png"), file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED), file_event(b"b.png"), sync_event()])
    await ingest.delivered(4)
    subscriber = RecordingSubscriber()
    await add(ingest, "gallery", (await start_subscriber(subscriber)).address, start={"snapshot": {}})
    await ingest.publish([file_event(b"c.png")])
    await ingest.delivered(5, "gallery")
    told = [(event.synthetic, event.sequence, event.type, event.file.library_path.raw) for event in subscriber.events]
    assert sorted(told[:-1]) == [
        (True, 0, pb.EVENT_TYPE_FILE_SYNCED, b"a.png"),
        (True, 0, pb.EVENT_TYPE_FILE_SYNCED, b"b.png"),
        (True, 0, pb.EVENT_TYPE_FILE_PROCESSED, b"a.png"),
    ]
    assert told[-1] == (False, 5, pb.EVENT_TYPE_FILE_SYNCED, b"c.png")
    # A stream without a name may begin with one, too.
    pages = await ingest.read(start={"snapshot": {}})
    assert [event.synthetic for page in pages for event in page.events] == [True] * 4


async def test_a_reader_is_sent_a_snapshot_and_goes_on_where_it_acknowledged(start_ingest: StartIngest) -> None:
    ingest, service = await start_ingest()
    await ingest.publish(file_events(3))
    await ingest.delivered(3)
    pages = await ingest.read("notebook", start={"snapshot": {}}, batch_size=2)
    assert [len(page.events) for page in pages] == [2, 1]
    assert [page.sequence for page in pages] == [0, 0]
    assert (await ingest.subscription("notebook")).state == events_pb2.SUBSCRIPTION_STATE_REBUILDING
    rejected = pages[0].events[1].event_id
    await ingest.ack("notebook", pages[0].token, {rejected: "not mine"})
    await ingest.ack("notebook", pages[0].token)
    assert [letter.event.event_id for letter in await ingest.dead_letters("notebook")] == [rejected]
    await service.stop(0)

    ingest, _ = await start_ingest()
    await ingest.publish(file_events(1, start=3))
    pages = await ingest.read("notebook", batch_size=2)
    # What came meanwhile may be in the snapshot as well.
    told = [(event.sequence, event.file.library_path.raw[-6:]) for page in pages for event in page.events]
    assert (told[0], told[-1], told[1:-1] in ([], [(0, b"03.png")])) == ((0, b"02.png"), (4, b"03.png"), True)
    # The last acknowledgement says that all before it is done as well.
    assert (await ingest.ack("notebook", pages[-1].token)).cursor == 4
    assert (await ingest.subscription("notebook")).state == events_pb2.SUBSCRIPTION_STATE_IDLE
    assert await ingest.read("notebook") == []


async def test_a_cursor_that_is_sent_back_is_not_moved_by_a_reader_of_before(ingest: Ingest) -> None:
    await ingest.publish(file_events(3))
    stream = ingest.stream("notebook", start={"beginning": {}}, follow=True)
    page = await stream.read()
    await ingest.ack("notebook", page.token)
    assert (await ingest.replay("notebook", start={"beginning": {}})).events == 3
    assert (await refused(stream.read())).reason is Reason.SUBSCRIPTION_BUSY
    assert (await ingest.ack("notebook", page.token)).cursor == 0
    (again,) = await ingest.read("notebook")
    assert [event.sequence for event in again.events] == [1, 2, 3]
    assert (await ingest.ack("notebook", again.token)).cursor == 3


async def test_what_cannot_be_replayed_is_refused(ingest: Ingest) -> None:
    await ingest.publish(file_events(2))
    await ingest.subscribe("gallery", "127.0.0.1:1")
    wrong: list[tuple[str, dict[str, Any], Reason]] = [
        ("gallery", {}, Reason.INVALID_ARGUMENT),
        ("gallery", {"start": {}}, Reason.INVALID_ARGUMENT),
        ("gallery", {"start": {"sequence": 9}}, Reason.INVALID_ARGUMENT),
        ("gallery", {"sync_id": "sync_20260101_000000_00000000"}, Reason.INVALID_ARGUMENT),
        ("catalog", {"start": {"snapshot": {}}}, Reason.SUBSCRIPTION_WRONG_KIND),
        ("nobody", {"start": {"beginning": {}}}, Reason.SUBSCRIPTION_NOT_FOUND),
    ]
    for name, fields, reason in wrong:
        assert (await refused(ingest.replay(name, **fields))).reason is reason, fields
    await ingest.replay("gallery", start={"snapshot": {}})
    assert (await refused(ingest.replay("gallery", start={"beginning": {}}))).reason is Reason.SUBSCRIPTION_BUSY


async def test_who_is_too_far_behind_says_so_until_it_is_filled_again(
    start_ingest: StartIngest, start_subscriber: StartSubscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (log_rows, retention, sqlite_log_store):
        monkeypatch.setattr(module, "SEGMENT_EVENTS", 2)
    subscriber = RecordingSubscriber()
    server = await start_subscriber(subscriber)
    await server.stop()
    ingest, service = await start_ingest()
    await add(ingest, "gallery", server.address, start={"beginning": {}})
    await add(ingest, "notebook", "", start={"beginning": {}})
    await ingest.publish(file_events(4))
    await ingest.delivered(4)
    await service.stop(0)

    (tmp_path / "config.yaml").write_text("ingest: {retention_gb: 0.000000001}")
    monkeypatch.setenv("MEDIASYNC_CONFIG", str(tmp_path / "config.yaml"))
    ingest, _ = await start_ingest()
    for name in ("gallery", "notebook"):
        while (found := await ingest.subscription(name)).state != events_pb2.SUBSCRIPTION_STATE_TOO_FAR_BEHIND:
            await asyncio.sleep(0)
        assert (found.events_lost, "no longer kept" in found.last_error) == (2, True)
    while (await ingest.events.GetLog(events_pb2.GetLogRequest(), timeout=BOUND_SECONDS)).first != 3:
        await asyncio.sleep(0)
    error = await refused(ingest.read("notebook"))
    assert (error.reason, error.metadata["first"]) == (Reason.SUBSCRIBER_TOO_FAR_BEHIND, "3")
    assert (await refused(ingest.read(start={"sequence": 2}))).reason is Reason.SUBSCRIBER_TOO_FAR_BEHIND
    await server.start()
    await ingest.replay("gallery", start={"snapshot": {}})
    await subscriber.until(lambda: len(subscriber.events) == 4)
    assert all(event.synthetic for event in subscriber.events)
    await ingest.delivered(4, "gallery")
    assert (await ingest.subscription("gallery")).events_lost == 2
