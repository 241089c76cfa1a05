"""Dead letters: looked at, tried again with what came since, dropped."""

from __future__ import annotations

from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest import following
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, RecordingSubscriber, StartIngest, StartSubscriber, file_event, file_events


class Choosy(RecordingSubscriber):
    """Takes no file of `refused`, and says why."""

    def __init__(self, *refused: bytes) -> None:
        super().__init__()
        self.refused = set(refused)

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        if event.file.library_path.raw in self.refused and event.type == pb.EVENT_TYPE_FILE_SYNCED:
            return pb.EventResult(event_id=event.event_id, verdict=pb.EVENT_VERDICT_REJECTED, reason="not mine")
        return await super().answer(call, event)


async def refused(awaitable: Any) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the event log"):
        await awaitable
    return caught.value


async def retry(ingest: Ingest, name: str, numbers: list[int], request_id: str) -> int:
    request = events_pb2.RetryDeadLettersRequest(request_id=request_id, subscription=name, numbers=numbers)
    return (await ingest.events.RetryDeadLetters(request, timeout=BOUND_SECONDS)).dead_letters


async def drop(ingest: Ingest, name: str, numbers: list[int], request_id: str) -> int:
    request = events_pb2.DropDeadLettersRequest(request_id=request_id, subscription=name, numbers=numbers)
    return (await ingest.events.DropDeadLetters(request, timeout=BOUND_SECONDS)).dead_letters


async def get(ingest: Ingest, number: int) -> events_pb2.DeadLetter:
    return (await ingest.events.GetDeadLetter(events_pb2.GetDeadLetterRequest(number=number), timeout=BOUND_SECONDS)).dead_letter


async def test_i10_a_retried_letter_brings_what_came_of_its_file_since(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    gallery = Choosy(b"a.png", b"b.png")
    await ingest.subscribe("gallery", (await start_subscriber(gallery)).address)
    await ingest.publish(
        [
            file_event(b"a.png"),
            file_event(b"b.png"),
            file_event(b"a.png", pb.EVENT_TYPE_FILE_DELETED),
            file_event(b"c.png"),
        ]
    )
    await ingest.delivered(4, "gallery")
    second, first = await ingest.dead_letters("gallery")
    assert [(one.event.sequence, one.reason, one.answer, one.attempts) for one in (first, second)] == [
        (1, "not mine", "REJECTED", 1),
        (2, "not mine", "REJECTED", 1),
    ]
    assert await get(ingest, first.number) == first
    gallery.refused.remove(b"a.png")
    gallery.calls.clear()
    for _ in range(2):
        assert await retry(ingest, "gallery", [first.number], "again") == 1
        await gallery.until(lambda: len(gallery.events) >= 2)
    # First what was refused, then what the log has of the same file since: the last word comes last.
    assert [(event.sequence, event.type) for event in gallery.events] == [(1, pb.EVENT_TYPE_FILE_SYNCED), (3, pb.EVENT_TYPE_FILE_DELETED)]
    assert await left(ingest, 1) == [second.number]

    # Still refused: the same letter, with one attempt more of its own.
    assert await retry(ingest, "gallery", [], "all") == 1
    await gallery.until(lambda: len(gallery.events) == 3)
    await ingest.publish([file_event(b"d.png")])
    await ingest.delivered(5, "gallery")
    assert [(one.number, one.event.sequence) for one in await ingest.dead_letters("gallery")] == [(second.number, 2)]


async def left(ingest: Ingest, count: int) -> list[int]:
    while len(found := await ingest.dead_letters("gallery")) != count:
        pass
    return [one.number for one in found]


async def test_i10_dropped_letters_are_forgotten(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    events = file_events(3)
    await ingest.subscribe("gallery", (await start_subscriber(Choosy(*(event.file.library_path.raw for event in events)))).address)
    await ingest.publish(events)
    await ingest.delivered(3, "gallery")
    third, second, first = await ingest.dead_letters()
    assert (await ingest.subscription("gallery")).dead_letters == 3
    for _ in range(2):
        assert await drop(ingest, "gallery", [second.number], "one") == 1
    assert [one.number for one in await ingest.dead_letters()] == [third.number, first.number]
    assert (await refused(get(ingest, second.number))).reason is Reason.DEAD_LETTER_NOT_FOUND
    assert await drop(ingest, "gallery", [], "rest") == 2
    assert await ingest.dead_letters() == []


async def test_what_is_asked_of_dead_letters_that_are_not_there_is_refused(ingest: Ingest) -> None:
    await ingest.subscribe("gallery", "127.0.0.1:1")
    for ask in (retry, drop):
        assert (await refused(ask(ingest, "gallery", [7], "r1"))).reason is Reason.DEAD_LETTER_NOT_FOUND
        assert (await refused(ask(ingest, "nobody", [7], "r2"))).reason is Reason.SUBSCRIPTION_NOT_FOUND
        assert (await refused(ask(ingest, "", [7], "r3"))).reason is Reason.INVALID_ARGUMENT
        assert (await refused(ask(ingest, "gallery", [-7], "r4"))).reason is Reason.INVALID_ARGUMENT
        assert (await refused(ask(ingest, "gallery", [], ""))).reason is Reason.INVALID_ARGUMENT
    assert (await refused(get(ingest, 7))).reason is Reason.DEAD_LETTER_NOT_FOUND


async def test_a_retry_waits_for_a_subscriber_that_is_gone_over_a_restart(
    start_ingest: StartIngest, start_subscriber: StartSubscriber
) -> None:
    ingest, service = await start_ingest()
    gallery = Choosy(b"a.png")
    server = await start_subscriber(gallery)
    await ingest.subscribe("gallery", server.address)
    await ingest.publish([file_event(b"a.png")])
    await ingest.delivered(1, "gallery")
    await server.stop()
    assert await retry(ingest, "gallery", [], "again") == 1
    await service.stop(0)
    gallery.refused.clear()
    await server.start()
    ingest, _ = await start_ingest()
    await gallery.until(lambda: len(gallery.events) == 2)
    assert await left(ingest, 0) == []


async def test_a_reader_gets_retried_letters_in_its_stream(ingest: Ingest) -> None:
    await ingest.publish(file_events(2))
    (page,) = await ingest.read("notebook", start={"beginning": {}})
    await ingest.ack("notebook", page.token, {event.event_id: "later" for event in page.events})
    stream = ingest.stream("notebook", follow=True)
    await ingest.publish(file_events(1, start=2))
    assert [event.sequence for event in (await stream.read()).events] == [3]
    assert await retry(ingest, "notebook", [], "again") == 2
    page = await stream.read()
    assert ([event.sequence for event in page.events], page.sequence) == ([1, 2], 0)
    await ingest.ack("notebook", page.token, {page.events[1].event_id: "still not"})
    stream.cancel()
    assert [(one.event.sequence, one.reason) for one in await ingest.dead_letters()] == [(2, "still not")]
    # What was acknowledged is out of the queue, and the log stands where it stood.
    (page,) = await ingest.read("notebook")
    assert [event.sequence for event in page.events] == [3]


async def test_a_subscription_with_too_many_dead_letters_is_held_and_loses_none(
    ingest: Ingest, start_subscriber: StartSubscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MAX_DEAD_LETTERS", 2)
    events = file_events(5)
    gallery = Choosy(*(event.file.library_path.raw for event in events))
    await ingest.subscribe("gallery", (await start_subscriber(gallery)).address, batch_size=2)
    await ingest.publish(events)
    while (found := await ingest.subscription("gallery")).state != events_pb2.SUBSCRIPTION_STATE_PAUSED:
        pass
    assert "2 dead letters" in found.last_error
    assert "resume gallery" in found.last_error
    assert await drop(ingest, "gallery", [], "looked at") == 2
    gallery.refused.clear()
    await ingest.events.ResumeSubscription(events_pb2.ResumeSubscriptionRequest(request_id="on", name="gallery"), timeout=BOUND_SECONDS)
    await ingest.delivered(5, "gallery")
    assert [event.sequence for event in gallery.events] == [1, 2, 3, 4, 5]
