"""What reaches a subscriber that is slow, broken, picky, old, dead, or lying; and that nobody else feels it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest import settling
from services.ingest.subscriber_client import GrpcSubscriber
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


async def dead_letters(ingest: Ingest, subscription: str = "") -> list[events_pb2.DeadLetter]:
    request = events_pb2.ListDeadLettersRequest(subscription=subscription)
    return list((await ingest.events.ListDeadLetters(request, timeout=BOUND_SECONDS)).dead_letters)


async def follow(ingest: Ingest, start: StartSubscriber, subscriber: RecordingSubscriber, name: str = "gallery", **fields: Any) -> None:
    await ingest.subscribe(name, (await start(subscriber)).address, **fields)


async def test_file_events_come_in_batches_of_the_subscriptions_size_and_in_order(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = RecordingSubscriber()
    events = file_events(25)
    await ingest.publish(events)
    await follow(ingest, start_subscriber, subscriber, batch_size=10, from_beginning=True)
    await ingest.delivered(25, "gallery")
    assert [(call, len(batch)) for call, batch in subscriber.calls] == [("OnBatchSynced", 10), ("OnBatchSynced", 10), ("OnBatchSynced", 5)]
    assert subscriber.ids == [event.event_id for event in events]
    assert [event.sequence for event in subscriber.events] == list(range(1, 26))


async def test_an_event_arrives_as_it_was_published(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await follow(ingest, start_subscriber, subscriber)
    metadata = pb.GenerationMetadata(
        prompt="a \0 cat", seed=2**64 - 1, workflow_json=b'{"is_changed": [NaN], "text": "\\u0000"}', cfg_scale=float("inf")
    )
    event = file_event(b"odd \n\xff/\xe2\x98\xba.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)
    await ingest.publish([event])
    await subscriber.until_has([event])
    event.sequence = 1
    assert subscriber.events == [event]


async def test_the_end_of_a_sync_comes_by_its_own_call_in_its_place(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await follow(ingest, start_subscriber, subscriber)
    await ingest.publish([*file_events(2), sync_event(), *file_events(1, start=2)])
    await ingest.delivered(4, "gallery")
    assert [(call, len(batch)) for call, batch in subscriber.calls] == [("OnBatchSynced", 2), ("OnSyncComplete", 1), ("OnBatchSynced", 1)]


async def test_a_subscription_added_later_starts_with_the_next_event(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await ingest.publish(file_events(3))
    await follow(ingest, start_subscriber, subscriber)
    await ingest.publish(file_events(1, start=3))
    await ingest.delivered(4, "gallery")
    assert [event.sequence for event in subscriber.events] == [4]


async def test_a_subscription_gets_the_types_it_wants_and_its_cursor_passes_the_others(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = RecordingSubscriber()
    await follow(ingest, start_subscriber, subscriber, types=[pb.EVENT_TYPE_FILE_PROCESSED])
    processed = file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED)
    await ingest.publish([file_event(b"a.png"), processed, sync_event()])
    await ingest.delivered(3, "gallery")
    assert subscriber.ids == [processed.event_id]


class WithoutBatches(RecordingSubscriber):
    """Does not implement OnBatchSynced."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_calls = 0

    async def OnBatchSynced(self, request: Any, context: Any) -> Any:
        self.batch_calls += 1
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")


async def test_events_come_one_by_one_to_a_subscriber_without_batches_which_is_asked_once(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = WithoutBatches()
    await follow(ingest, start_subscriber, subscriber)
    kinds = (pb.EVENT_TYPE_FILE_SYNCED, pb.EVENT_TYPE_FILE_PROCESSED, pb.EVENT_TYPE_FILE_DELETED)
    await ingest.publish([*(file_event(b"a.png", kind) for kind in kinds), sync_event()])
    await ingest.delivered(4, "gallery")
    await ingest.publish(file_events(1))
    await ingest.delivered(5, "gallery")
    assert [call for call, _ in subscriber.calls] == ["OnFileSynced", "OnFileProcessed", "OnFileDeleted", "OnSyncComplete", "OnFileSynced"]
    assert subscriber.batch_calls == 1


class OnlyNewFiles(WithoutBatches):
    """Implements OnFileSynced alone."""

    async def OnFileProcessed(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")

    OnSyncComplete = OnFileProcessed


async def test_calls_that_a_subscriber_does_not_implement_are_skipped(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = OnlyNewFiles()
    await follow(ingest, start_subscriber, subscriber)
    processed = file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED)
    await ingest.publish([file_event(b"a.png"), processed, sync_event(), file_event(b"b.png")])
    await ingest.delivered(4, "gallery")
    assert [call for call, _ in subscriber.calls] == ["OnFileSynced", "OnFileSynced"]
    assert await dead_letters(ingest) == []


class Picky(RecordingSubscriber):
    """Rejects names with `bad` in them."""

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        if b"bad" in event.file.library_path.raw:
            return pb.EventResult(event_id=event.event_id, verdict=pb.EVENT_VERDICT_REJECTED, reason="I do not take \x1b[31mbad ones")
        return await super().answer(call, event)


async def test_a_rejected_event_is_a_dead_letter_with_the_reason_and_holds_up_nothing(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    await follow(ingest, start_subscriber, Picky())
    bad = file_event(b"bad.png")
    await ingest.publish([file_event(b"a.png"), bad, file_event(b"b.png")])
    await ingest.delivered(3, "gallery")
    (letter,) = await dead_letters(ingest, "gallery")
    bad.sequence = 2
    assert (letter.subscription, letter.event, letter.attempts) == ("gallery", bad, 1)
    assert letter.reason == "I do not take \\x1b[31mbad ones"
    assert letter.time.seconds > 0


async def test_dead_letters_come_in_pages_newest_first(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    await follow(ingest, start_subscriber, Picky())
    await ingest.publish([file_event(f"bad{number}.png".encode()) for number in range(5)])
    await ingest.delivered(5, "gallery")
    seen: list[int] = []
    request = events_pb2.ListDeadLettersRequest(page_size=2)
    while True:
        response = await ingest.events.ListDeadLetters(request, timeout=BOUND_SECONDS)
        seen += [letter.event.sequence for letter in response.dead_letters]
        if not response.next_page_token:
            break
        assert len(response.dead_letters) == 2
        request.page_token = response.next_page_token
    assert seen == [5, 4, 3, 2, 1]


class NotNow(RecordingSubscriber):
    """Asks for one file's first event again a few times, while it takes everything else."""

    def __init__(self, path: bytes, times: int) -> None:
        super().__init__()
        self.path, self.times = path, times

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        if event.file.library_path.raw == self.path and event.type == pb.EVENT_TYPE_FILE_SYNCED and self.times:
            self.times -= 1
            return pb.EventResult(event_id=event.event_id, verdict=pb.EVENT_VERDICT_RETRY, reason="not now")
        return await super().answer(call, event)


async def test_an_event_to_try_again_comes_again_with_those_of_its_file_behind_it_and_the_others_once(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = NotNow(b"later.png", 2)
    await follow(ingest, start_subscriber, subscriber)
    events = [
        file_event(b"later.png"),
        file_event(b"a.png"),
        file_event(b"later.png", pb.EVENT_TYPE_FILE_PROCESSED),
        file_event(b"b.png"),
    ]
    await ingest.publish([*events, sync_event()])
    await ingest.delivered(5, "gallery")
    counts = Counter(event.sequence for event in subscriber.events)
    assert counts == {1: 3, 3: 3, 2: 1, 4: 1, 5: 1}
    assert [event.sequence for event in subscriber.events][-3:] == [1, 3, 5]
    assert await dead_letters(ingest) == []


async def test_an_event_that_is_put_off_for_ever_becomes_a_dead_letter(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None
) -> None:
    await follow(ingest, start_subscriber, NotNow(b"later.png", 10_000))
    await ingest.publish([file_event(b"later.png"), file_event(b"a.png")])
    await ingest.delivered(2, "gallery")
    (letter,) = await dead_letters(ingest)
    assert (letter.event.sequence, letter.attempts) == (1, settling.MAX_REFUSALS)
    assert letter.reason == f"given up after {settling.MAX_REFUSALS} attempts: not now"


class BreaksOver(RecordingSubscriber):
    """A bug: any call with a certain file in it fails."""

    def __init__(self, path: bytes, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__()
        self.path, self.code = path, code

    async def OnBatchSynced(self, request: Any, context: Any) -> Any:
        if any(event.file.library_path.raw == self.path for event in request.events):
            async with self.heard:
                self.calls.append(("failed", list(request.events)))
            await context.abort(self.code, "KeyError: 'seed'")
        return await super().OnBatchSynced(request, context)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_the_event_that_breaks_a_batch_is_found_goes_alone_and_is_given_up_while_the_others_pass(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None, code: grpc.StatusCode
) -> None:
    subscriber = BreaksOver(b"txt2img-images/00013.png", code)
    await follow(ingest, start_subscriber, subscriber)
    events = file_events(40)
    await ingest.publish(events)
    await subscriber.until_has(events)

    # What a subscriber that is too busy says is held against an event only while it takes others.
    async def keep_publishing() -> None:
        for number in range(40, 1000):
            await ingest.publish(file_events(1, start=number))
            await ingest.delivered(number + 1, "others")

    others = RecordingSubscriber()
    await follow(ingest, start_subscriber, others, "others")
    publishing = asyncio.create_task(keep_publishing())
    try:
        await ingest.delivered(40, "gallery")
    finally:
        publishing.cancel()
    (letter,) = await dead_letters(ingest, "gallery")
    assert letter.event.sequence == 14
    assert "KeyError: 'seed'" in letter.reason
    taken = Counter(event.sequence for call, batch in subscriber.calls if call != "failed" for event in batch)
    assert all(taken[number] == 1 for number in range(1, 41) if number != 14)
    failed = [len(batch) for call, batch in subscriber.calls if call == "failed"]
    # Halving finds it; from then on nobody else is in a call that fails.
    assert failed.index(1) <= 7
    assert set(failed[failed.index(1) :]) == {1}


class Broken(RecordingSubscriber):
    """Fails whatever it is given, until it is mended."""

    broken = True

    async def OnBatchSynced(self, request: Any, context: Any) -> Any:
        if self.broken:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
        return await super().OnBatchSynced(request, context)


async def test_a_subscriber_that_is_too_slow_for_everything_loses_nothing(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "MAX_REFUSALS", 2)
    subscriber = Broken()
    await follow(ingest, start_subscriber, subscriber)
    events = file_events(3)
    await ingest.publish(events)
    async with asyncio.timeout(BOUND_SECONDS):
        while "too slow" not in (await ingest.subscription("gallery")).last_error:
            await ingest.publish([])
    subscriber.broken = False
    await ingest.delivered(3, "gallery")
    assert sorted(event.sequence for event in subscriber.events) == [1, 2, 3]
    assert await dead_letters(ingest) == []


class Liar(RecordingSubscriber):
    """Answers with results nobody asked for, some twice, and leaves out one event's until it has come three times."""

    async def OnBatchSynced(self, request: Any, context: Any) -> pb.OnBatchSyncedResponse:
        results = await self.hear("OnBatchSynced", request.events)
        if Counter(self.ids)[request.events[0].event_id] < 3:
            results = results[1:]
        stranger = pb.EventResult(event_id="never heard of", verdict=pb.EVENT_VERDICT_REJECTED)
        late = [pb.EventResult(event_id=result.event_id, verdict=pb.EVENT_VERDICT_REJECTED) for result in results]
        return pb.OnBatchSyncedResponse(results=[stranger, *results, *late, stranger])


async def test_an_answer_is_believed_only_as_far_as_it_makes_sense(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None
) -> None:
    subscriber = Liar()
    await follow(ingest, start_subscriber, subscriber)
    await ingest.publish(file_events(3))
    await ingest.delivered(3, "gallery")
    counts = Counter(event.sequence for event in subscriber.events)
    assert counts == {1: 3, 2: 1, 3: 1}
    assert await dead_letters(ingest) == []
    assert "results for events it was not asked about" in (await ingest.subscription("gallery")).last_error


class Terse(WithoutBatches):
    """Answers without ids, which is clear enough where one event was asked about; and the first time without anything."""

    async def OnFileSynced(self, request: Any, context: Any) -> pb.OnFileSyncedResponse:
        await self.hear("OnFileSynced", [request.event])
        if len(self.calls) == 1:
            return pb.OnFileSyncedResponse()
        return pb.OnFileSyncedResponse(result=pb.EventResult(verdict=pb.EVENT_VERDICT_ACCEPTED))


async def test_an_empty_answer_means_again_and_an_id_may_be_left_out_for_a_single_event(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = Terse()
    await follow(ingest, start_subscriber, subscriber)
    await ingest.publish(file_events(1))
    await ingest.delivered(1, "gallery")
    assert [event.sequence for event in subscriber.events] == [1, 1]


class Stuck(RecordingSubscriber):
    """Never answers, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        await self.let_go.wait()
        return await super().answer(call, event)


async def test_i6_a_dead_and_a_stuck_subscriber_delay_nobody_else(ingest: Ingest, start_subscriber: StartSubscriber, tmp_path: Any) -> None:
    stuck, well = Stuck(), RecordingSubscriber()
    await ingest.subscribe("dead", f"unix:{tmp_path}/nobody.sock")
    await follow(ingest, start_subscriber, stuck, "stuck")
    await follow(ingest, start_subscriber, well, "well")
    events = [*file_events(500), sync_event()]
    await ingest.publish(events)
    await ingest.delivered(501, "well")
    await ingest.delivered(501, "catalog")
    assert well.ids == [event.event_id for event in events]
    assert (await ingest.subscription("stuck")).lag == 501
    dead = await ingest.subscription("dead")
    assert (dead.lag, dead.cursor) == (501, 0)
    assert "UNAVAILABLE" in dead.last_error
    stuck.let_go.set()
    await ingest.delivered(501, "stuck")
    assert stuck.ids == [event.event_id for event in events]


async def test_i6_a_subscriber_that_was_away_gets_everything_when_it_is_back(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None
) -> None:
    subscriber = RecordingSubscriber()
    server = await start_subscriber(subscriber)
    await ingest.subscribe("gallery", server.address)
    await ingest.publish(file_events(10))
    await ingest.delivered(10, "gallery")
    await server.stop()
    events = file_events(300, start=10)
    await ingest.publish(events)
    async with asyncio.timeout(BOUND_SECONDS):
        while not (await ingest.subscription("gallery")).last_error:
            await ingest.publish([])
    await server.start()
    await ingest.delivered(310, "gallery")
    await subscriber.until_has(events)
    assert (await ingest.subscription("gallery")).last_error == ""
    assert await dead_letters(ingest) == []


async def test_i6_a_cursor_survives_a_restart_and_nothing_comes_twice_after_a_clean_one(
    start_ingest: StartIngest, start_subscriber: StartSubscriber
) -> None:
    subscriber = RecordingSubscriber()
    server = await start_subscriber(subscriber)
    ingest, service = await start_ingest()
    await ingest.subscribe("gallery", server.address)
    await ingest.publish(file_events(10))
    await ingest.delivered(10, "gallery")
    await service.stop(0)
    ingest, _ = await start_ingest()
    await ingest.publish(file_events(20))
    await ingest.delivered(20, "gallery")
    assert [event.sequence for event in subscriber.events] == list(range(1, 21))


async def test_i6_a_subscriber_that_takes_nothing_costs_bounded_memory_and_still_misses_nothing(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None
) -> None:
    subscriber = NotNow(b"txt2img-images/00000.png", 3)
    await follow(ingest, start_subscriber, subscriber, batch_size=500)
    events = file_events(3000)
    for start in range(0, 3000, 1000):
        await ingest.publish(events[start : start + 1000])
    await ingest.delivered(3000, "gallery")
    assert set(subscriber.ids) == {event.event_id for event in events}


async def test_large_events_are_split_over_calls_that_any_grpc_server_takes(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    await follow(ingest, start_subscriber, subscriber)
    events = file_events(5)
    for event in events:
        event.type = pb.EVENT_TYPE_FILE_PROCESSED
        event.file.metadata.workflow_json = b"w" * (1 << 20)
    events[4].file.metadata.workflow_json = b"w" * (10 << 20)
    await ingest.publish(events)
    await ingest.delivered(5, "gallery")
    assert [len(batch) for _, batch in subscriber.calls] == [2, 2, 1]


async def test_a_fault_of_our_own_in_one_delivery_is_logged_and_gets_over_with(
    ingest: Ingest, start_subscriber: StartSubscriber, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = RecordingSubscriber()
    await follow(ingest, start_subscriber, subscriber)
    sound, faults = GrpcSubscriber.send_batch, iter([RuntimeError("a bug")])

    async def send_batch(self: GrpcSubscriber, events: Any) -> Any:
        if fault := next(faults, None):
            raise fault
        return await sound(self, events)

    monkeypatch.setattr(GrpcSubscriber, "send_batch", send_batch)
    events = file_events(5)
    await ingest.publish(events)
    await ingest.delivered(5, "gallery")
    await ingest.delivered(5, "catalog")
    assert subscriber.ids == [event.event_id for event in events]
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


class Full(RecordingSubscriber):
    """Asks for everything again, three calls long."""

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        if len(self.calls) <= 3:
            return pb.EventResult(event_id=event.event_id, verdict=pb.EVENT_VERDICT_RETRY, reason="full")
        return await super().answer(call, event)


async def test_a_subscriber_that_puts_off_all_it_can_be_offered_is_waited_for(
    ingest: Ingest, start_subscriber: StartSubscriber, quick_retries: None
) -> None:
    subscriber = Full()
    await follow(ingest, start_subscriber, subscriber, batch_size=1000)
    await ingest.publish(file_events(1000))
    await ingest.publish(file_events(200, start=1000))
    await ingest.delivered(1200, "gallery")
    assert {event.sequence for event in subscriber.events} == set(range(1, 1201))
    assert await dead_letters(ingest) == []


async def test_events_too_large_to_be_held_together_are_read_one_after_another(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    subscriber = RecordingSubscriber()
    events = file_events(3)
    for event in events:
        event.type = pb.EVENT_TYPE_FILE_PROCESSED
        event.file.metadata.workflow_json = b"w" * (10 << 20)
        await ingest.publish([event])
    await follow(ingest, start_subscriber, subscriber, from_beginning=True)
    await ingest.delivered(3, "gallery")
    assert [[event.sequence for event in batch] for _, batch in subscriber.calls] == [[1], [2], [3]]


async def test_large_dead_letters_come_in_short_pages(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    await follow(ingest, start_subscriber, Picky())
    for number in range(3):
        metadata = pb.GenerationMetadata(workflow_json=b"w" * (3 << 20))
        await ingest.publish([file_event(f"bad{number}.png".encode(), pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)])
    await ingest.delivered(3, "gallery")
    request = events_pb2.ListDeadLettersRequest()
    pages = []
    while True:
        response = await ingest.events.ListDeadLetters(request, timeout=BOUND_SECONDS)
        pages.append([letter.event.sequence for letter in response.dead_letters])
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert pages == [[3], [2], [1]]
