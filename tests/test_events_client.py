"""What a client asks of events and subscribers, and how it takes the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mediasync import Client, convert
from mediasync.errors import MediasyncError, Reason
from mediasync.model import JobState
from mediasync.model.events import (
    EventFilter,
    EventLogState,
    EventStart,
    EventType,
    StartKind,
    SubscriberProgress,
    SubscriberVerified,
    Subscription,
    SubscriptionState,
)
from mediasync.runtime.interceptors import server_interceptors
from mediasync.v1 import events_pb2 as pb
from mediasync.v1 import events_pb2_grpc, media_ingest_pb2, types_pb2


class Events(events_pb2_grpc.EventsServicer):
    """Keeps what it is asked, and answers what it was given for the call."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.pages: list[list[pb.EventsSubscribeResponse | MediasyncError]] = []

    async def AddSubscription(self, request: Any, context: Any) -> pb.AddSubscriptionResponse:
        self.requests.append(request)
        stored = pb.Subscription(lag=3, state=pb.SUBSCRIPTION_STATE_REBUILDING, dead_letters=1, lag_time=convert.duration(2.5))
        stored.MergeFrom(request.subscription)
        return pb.AddSubscriptionResponse(subscription=stored)

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[pb.EventsSubscribeResponse]:
        self.requests.append(request)
        for page in self.pages.pop(0):
            if isinstance(page, MediasyncError):
                raise page
            yield page

    async def Ack(self, request: Any, context: Any) -> pb.EventsAckResponse:
        self.requests.append(request)
        return pb.EventsAckResponse(cursor=7, lag=2)

    async def Replay(self, request: Any, context: Any) -> pb.ReplayResponse:
        self.requests.append(request)
        return pb.ReplayResponse(events=-1 if request.HasField("start") else 4)

    async def GetLog(self, request: Any, context: Any) -> pb.GetLogResponse:
        return pb.GetLogResponse(first=5, last=9, size_bytes=100, oldest_time=convert.timestamp(12))

    async def VerifySubscription(self, request: Any, context: Any) -> AsyncIterator[pb.VerifySubscriptionResponse]:
        yield pb.VerifySubscriptionResponse(progress=pb.VerifyProgress(files_asked=500, files_lacking=1))
        yield pb.VerifySubscriptionResponse(lacking=media_ingest_pb2.FileRecord(library_path=convert.file_path(b"a\xff.png")))
        yield pb.VerifySubscriptionResponse(done=pb.VerifyDone(files_asked=600, files_lacking=1, files_sent=1))

    async def GetDeadLetter(self, request: Any, context: Any) -> pb.GetDeadLetterResponse:
        if request.number > 9:
            raise MediasyncError(Reason.DEAD_LETTER_NOT_FOUND, f"there is no dead letter {request.number}")
        return pb.GetDeadLetterResponse(dead_letter=pb.DeadLetter(number=request.number, subscription=f"of-{request.number % 2}"))

    async def DropDeadLetters(self, request: Any, context: Any) -> pb.DropDeadLettersResponse:
        self.requests.append(request)
        return pb.DropDeadLettersResponse(dead_letters=len(request.numbers) or 20)


@pytest.fixture
async def events() -> Events:
    return Events()


@pytest.fixture
async def client(events: Events, tmp_path: Path) -> AsyncIterator[Client]:
    server = grpc.aio.server(interceptors=server_interceptors())
    events_pb2_grpc.add_EventsServicer_to_server(events, server)
    address = f"unix:{tmp_path}/e.sock"
    server.add_insecure_port(address)
    await server.start()
    async with Client(address) as connected:
        yield connected
    await server.stop(None)


def file_page(sequence: int) -> pb.EventsSubscribeResponse:
    """A page with one event."""
    record = media_ingest_pb2.FileRecord(
        library_path=convert.file_path(b"new\xff.png"), moved_from=convert.file_path(b"old.png"), size_bytes=3
    )
    event = media_ingest_pb2.Event(
        event_id=f"e{sequence}", sequence=sequence, type=media_ingest_pb2.EVENT_TYPE_FILE_SYNCED, time=convert.timestamp(5), source="forge"
    )
    event.file.CopyFrom(record)
    return pb.EventsSubscribeResponse(events=[event], token=f"m:{sequence}", sequence=sequence)


async def test_a_subscriber_is_added_with_all_that_it_wants(client: Client, events: Events) -> None:
    wanted = EventFilter((EventType.FILE_SYNCED, EventType.BATCH_SYNCED), ("forge",), ("a/**",))
    asked = Subscription("gallery", "nas.lan:9000", wanted, 20, "/ca.pem", "/us.pem", "/us.key", "/token")
    stored = await client.add_subscriber(asked, EventStart(StartKind.SNAPSHOT))

    assert (stored.filter, stored.token_file, stored.state) == (wanted, "/token", SubscriptionState.REBUILDING)
    assert (stored.lag_events, stored.lag_seconds, stored.dead_letters, stored.pull) == (3, 2.5, 1, False)
    [request] = events.requests
    assert request.request_id
    assert request.start.WhichOneof("start") == "snapshot"
    assert (await client.add_subscriber(Subscription("reader"))).pull
    assert events.requests[1].subscription.pull
    assert events.requests[1].start.WhichOneof("start") is None


async def test_pages_come_in_order_and_go_on_where_they_were_after_a_restart(client: Client, events: Events) -> None:
    away = MediasyncError(Reason.SERVICES_UNREACHABLE, "restarting")
    events.pages = [[file_page(3), away], [file_page(4), pb.EventsSubscribeResponse(heartbeat=types_pb2.Heartbeat())]]
    wanted = EventFilter(paths=("*.png",))
    pages = [page async for page in client.read_events(start=EventStart(StartKind.SINCE, since=10), wanted=wanted)]

    assert [[event.sequence for event in page.events] for page in pages] == [[3], [4], []]
    [event] = pages[0].events
    assert event.file is not None
    assert (event.type, event.file.library_path, event.file.source, event.moved_from) == (
        EventType.FILE_SYNCED,
        b"new\xff.png",
        "forge",
        b"old.png",
    )
    assert [request.start.WhichOneof("start") for request in events.requests] == ["since", "sequence"]
    assert events.requests[1].start.sequence == 4
    assert events.requests[1].filter.paths == ["*.png"]


async def test_a_snapshot_that_is_cut_off_is_not_told_twice(client: Client, events: Events) -> None:
    page = file_page(0)
    events.pages = [[page, MediasyncError(Reason.SERVICES_UNREACHABLE, "gone")]]
    with pytest.raises(MediasyncError) as caught:
        [page async for page in client.read_events(start=EventStart(StartKind.SNAPSHOT))]
    assert caught.value.reason is Reason.SERVICES_UNREACHABLE


async def test_a_reader_who_is_too_late_or_not_alone_is_told(client: Client, events: Events) -> None:
    for reason in (Reason.SUBSCRIBER_TOO_FAR_BEHIND, Reason.SUBSCRIPTION_BUSY):
        events.pages = [[MediasyncError(reason, "no")]]
        with pytest.raises(MediasyncError) as caught:
            [page async for page in client.read_events("mine", follow=True)]
        assert caught.value.reason is reason


async def test_what_was_dealt_with_is_acknowledged_by_page_or_number(client: Client, events: Events) -> None:
    events.pages = [[file_page(7)]]
    [page] = [page async for page in client.read_events("mine")]
    assert await client.ack_events("mine", page, {"e7": "no such folder"}) == 2
    assert await client.ack_events("mine", 7) == 2
    _, by_page, by_number = events.requests
    assert (by_page.token, by_page.rejected[0].event_id, by_page.rejected[0].reason) == ("m:7", "e7", "no such folder")
    assert by_page.rejected[0].verdict == media_ingest_pb2.EVENT_VERDICT_REJECTED
    assert by_number.sequence == 7


async def test_a_replay_says_how_many_events_come_where_that_is_known(client: Client, events: Events) -> None:
    assert await client.replay_events("gallery", EventStart(StartKind.BEGINNING)) is None
    assert await client.replay_events("gallery", sync_id="sync_1") == 4
    assert events.requests[1].sync_id == "sync_1"
    assert await client.event_log() == EventLogState(5, 9, 100, 12)


async def test_a_verify_tells_of_progress_of_what_is_lacking_and_of_the_end(client: Client) -> None:
    progress, lacking, done = [found async for found in client.verify_subscriber("gallery", repair=True)]
    assert (progress, done) == (SubscriberProgress(500, 1), SubscriberVerified(600, 1, 1))
    assert lacking.library_path == b"a\xff.png"  # type: ignore[union-attr]


async def test_dead_letters_are_named_by_number_and_none_is_touched_when_one_is_wrong(client: Client, events: Events) -> None:
    assert await client.drop_dead_letters([1, 2, 3]) == 3
    assert [(request.subscription, list(request.numbers)) for request in events.requests] == [("of-1", [1, 3]), ("of-0", [2])]
    assert await client.drop_dead_letters(subscriber="gallery") == 20
    for numbers, reason in (([1, 10], Reason.DEAD_LETTER_NOT_FOUND), ([], Reason.INVALID_ARGUMENT)):
        with pytest.raises(MediasyncError) as caught:
            await client.drop_dead_letters(numbers)
        assert caught.value.reason is reason
    assert len(events.requests) == 3


async def test_events_of_syncs_and_folders_and_of_later_versions_are_read(client: Client, events: Events) -> None:
    record = media_ingest_pb2.SyncRecord(job_id="job_1", state=types_pb2.JOB_STATE_COMPLETE, library_root="/media")
    batch = media_ingest_pb2.BatchRecord(folder=convert.file_path(b"txt2img"), files=4, size_bytes=5)
    events.pages = [
        [
            pb.EventsSubscribeResponse(
                events=[
                    media_ingest_pb2.Event(type=media_ingest_pb2.EVENT_TYPE_SYNC_COMPLETE, sync=record),
                    media_ingest_pb2.Event(type=media_ingest_pb2.EVENT_TYPE_BATCH_SYNCED, batch=batch, synthetic=True),
                    media_ingest_pb2.Event(type=media_ingest_pb2.EventType.ValueType(99)),
                ]
            )
        ]
    ]
    [page] = [page async for page in client.read_events()]
    ended, folder, later = page.events
    assert ended.sync is not None
    assert (ended.type, ended.sync.state, ended.sync.library_root) == (EventType.SYNC_COMPLETE, JobState.COMPLETE, "/media")
    assert folder.batch is not None
    assert (folder.batch.folder, folder.batch.files, folder.synthetic) == (b"txt2img", 4, True)
    assert (later.type, later.file, later.sync, later.batch) == (EventType.UNKNOWN, None, None, None)
