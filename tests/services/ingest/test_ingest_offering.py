"""What a delivery offers when, with a log and a subscriber that are played: pauses, probes, side feeds, restarts, ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from services.ingest import settling
from services.ingest.delivery import Delivery
from services.ingest.events import (
    DeadLetter,
    EventKind,
    Filter,
    LoggedEvent,
    Subscription,
    SubscriptionPosition,
    SubscriptionState,
    Waiting,
)
from services.ingest.subscriber import Answer, Answers, AskedFile, CallFailed, Failure, Verdict
from services.ingest.watermark import Watermark
from tests.services.ingest.test_ingest_window import logged

BOUND_SECONDS = 30.0
pytestmark = pytest.mark.usefixtures("quick_retries")


class PlayedLog:
    """Events in memory; all are wanted."""

    def __init__(self, *events: LoggedEvent) -> None:
        self.events = list(events)
        self.tail = Watermark(len(events))
        self.first = 1
        self.reads = 0

    def grow(self, *events: LoggedEvent) -> None:
        self.events += events
        self.tail.advance(len(self.events))

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        self.reads += 1
        found = [event for event in self.events if event.sequence > after][:limit]
        return found, found[-1].sequence if found else after

    async def by_sequences(self, sequences: Sequence[int]) -> list[LoggedEvent]:
        return [event for event in self.events if event.sequence in sequences and event.sequence >= self.first]


class PlayedSide(PlayedLog):
    """A side feed that ends with its last event."""

    def __init__(self, *events: LoggedEvent) -> None:
        super().__init__(*events)
        self.position = 0
        self.accepted: list[int] = []
        self.letters: list[DeadLetter] = []
        self.is_finished = False
        self.fault: Exception | None = None

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        if fault := self.fault:
            self.fault = None
            raise fault
        return await super().read(after, wanted, limit, max_bytes)

    def ended(self, read_to: int) -> bool:
        return read_to >= len(self.events)

    async def moved(self, position: int, accepted: Sequence[LoggedEvent]) -> None:
        self.position = position
        self.accepted += [event.sequence for event in accepted]

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters

    async def finished(self) -> None:
        self.is_finished = True


Say = Callable[[Sequence[LoggedEvent]], Awaitable[Answers]]
ALL = Answers({}, all_accepted=True)


class PlayedSubscriber:
    """Answers by `say`, and remembers what came in which call."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.heard = asyncio.Condition()
        self.back = False

    async def say(self, events: Sequence[LoggedEvent]) -> Answers:
        return ALL

    async def send_batch(self, events: Sequence[LoggedEvent]) -> Answers:
        async with self.heard:
            self.calls.append([event.sequence for event in events])
            self.heard.notify_all()
        return await self.say(events)

    async def send(self, event: LoggedEvent) -> Answers:
        return await self.send_batch([event])

    async def hold(self, files: Sequence[AskedFile]) -> Sequence[bool]:
        return []

    async def holds(self, file: AskedFile) -> bool:
        return False

    def returned(self) -> bool:
        return self.back

    async def close(self) -> None:
        pass

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_SECONDS), self.heard:
            await self.heard.wait_for(condition)


class Played:
    """A delivery under way, and what it said."""

    def __init__(self, log: PlayedLog, subscriber: PlayedSubscriber, position: SubscriptionPosition, **options: Any) -> None:
        self.letters: list[DeadLetter] = []
        self.positions: list[SubscriptionPosition] = []
        self.lost: list[int] = []
        subscription = Subscription(
            "gallery", "unix:/nobody", batch_size=options.pop("batch_size", 10), paused=options.pop("paused", False)
        )
        self.delivery = Delivery(
            subscription,
            position,
            log,
            subscriber,
            moved=lambda _name, position: self.positions.append(position),
            bury=self.bury,
            fell_behind=self.fell_behind,
            **options,
        )
        self.task: asyncio.Task[None] | None = None

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters

    async def fell_behind(self, _name: str, lost: int) -> None:
        self.lost.append(lost)

    async def reach(self, sequence: int) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            await self.delivery.cursor.reach(sequence)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition():
                await asyncio.sleep(0)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])


Play = Callable[..., Played]


@pytest.fixture
async def play() -> AsyncIterator[Play]:
    """Starts a delivery, which ends with the test."""
    started: list[Played] = []

    def start(log: PlayedLog, subscriber: PlayedSubscriber, position: SubscriptionPosition | None = None, **options: Any) -> Played:
        played = Played(log, subscriber, position or SubscriptionPosition.at(0), **options)
        played.task = asyncio.create_task(played.delivery.run())
        started.append(played)
        return played

    yield start
    for played in started:
        played.delivery.abandon()
        await played.stop()


def events(count: int, **fields: Any) -> list[LoggedEvent]:
    return [logged(number, **fields) for number in range(1, count + 1)]


async def test_events_of_syncs_that_interleave_go_together(play: Play) -> None:
    subscriber = PlayedSubscriber()
    log = PlayedLog(*(logged(number, sync_id=f"sync_{number % 3}") for number in range(1, 21)))
    played = play(log, subscriber)
    await played.reach(20)
    assert [len(call) for call in subscriber.calls] == [10, 10]
    assert played.delivery.state is SubscriptionState.ACTIVE
    assert played.delivery.events_per_second == 20


async def test_an_idle_subscriber_gets_its_event_at_once_and_a_busy_one_gets_them_together(play: Play) -> None:
    subscriber, log = PlayedSubscriber(), PlayedLog()
    first = logged(1)
    played = play(log, subscriber, linger_seconds=3600.0)
    # The first call follows none. The next has to wait, until the end of a sync leaves nothing to wait for.
    log.grow(first)
    await played.reach(1)
    log.grow(logged(2), logged(3))
    await played.until(lambda: log.reads == 2)
    log.grow(logged(4, kind=EventKind.SYNC_COMPLETE))
    await played.reach(4)
    assert subscriber.calls == [[1], [2, 3], [4]]


class Gone(PlayedSubscriber):
    """Cannot be reached."""

    there = False

    async def say(self, events: Sequence[LoggedEvent]) -> Answers:
        if not self.there:
            raise CallFailed(Failure.UNREACHABLE, "connection refused", status="UNAVAILABLE")
        return ALL


async def test_one_that_is_gone_is_probed_with_one_event_and_nothing_is_held_against_any(play: Play) -> None:
    subscriber = Gone()
    played = play(PlayedLog(*events(12)), subscriber)
    await subscriber.until(lambda: len(subscriber.calls) >= 6)
    assert [len(call) for call in subscriber.calls[:3]] == [10, 10, 10]
    assert {tuple(call) for call in subscriber.calls[3:]} == {(1,)}
    delivery = played.delivery
    assert (delivery.state, delivery.waiting, delivery.position.waiting) == (SubscriptionState.UNREACHABLE, 0, ())
    assert delivery.position.last_error == "connection refused"
    subscriber.there, before = True, len(subscriber.calls)
    await played.reach(12)
    assert [len(call) for call in subscriber.calls[before:]] in ([1, 10, 1], [1, 1, 10])
    assert delivery.state is SubscriptionState.ACTIVE
    assert played.letters == []


async def test_one_that_is_back_is_tried_before_its_time(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.backoff.FIRST_SECONDS", 3600.0)
    monkeypatch.setattr("services.ingest.backoff.CAP_SECONDS", 3600.0)
    monkeypatch.setattr("services.ingest.circuit.EARLY_SECONDS", 0.0)
    subscriber = Gone()
    played = play(PlayedLog(*events(2)), subscriber)
    await subscriber.until(lambda: len(subscriber.calls) == 1)
    subscriber.there = subscriber.back = True
    await played.reach(2)
    assert subscriber.calls == [[1, 2], [1, 2]]


async def test_who_asks_for_it_makes_it_try_now(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.backoff.FIRST_SECONDS", 3600.0)
    monkeypatch.setattr("services.ingest.backoff.CAP_SECONDS", 3600.0)
    subscriber = Gone()
    played = play(PlayedLog(*events(2)), subscriber)
    await subscriber.until(lambda: len(subscriber.calls) == 1)
    await played.until(lambda: played.delivery.next_try_ns > 0)
    subscriber.there = True
    played.delivery.resume()
    await played.reach(2)


async def test_one_that_is_held_is_told_nothing_until_it_goes_on(play: Play) -> None:
    subscriber, log = PlayedSubscriber(), PlayedLog(*events(3))
    played = play(log, subscriber, paused=True)
    await played.until(lambda: log.reads > 0)
    assert (subscriber.calls, played.delivery.state) == ([], SubscriptionState.PAUSED)
    played.delivery.resume()
    await played.reach(3)
    played.delivery.pause()
    log.grow(logged(4))
    await played.until(lambda: log.reads > 1)
    assert subscriber.calls == [[1, 2, 3]]


class Choosy(PlayedSubscriber):
    """Has a word of its own on some events."""

    def __init__(self, **verdicts: Verdict) -> None:
        super().__init__()
        self.verdicts = {int(name.removeprefix("event_")): verdict for name, verdict in verdicts.items()}

    async def say(self, events: Sequence[LoggedEvent]) -> Answers:
        return Answers({event.event_id: Answer(self.verdicts.get(event.sequence, Verdict.ACCEPTED)) for event in events})


async def test_after_a_restart_only_what_was_not_dealt_with_comes_again_with_its_attempts(play: Play) -> None:
    subscriber, log = Choosy(event_3=Verdict.RETRY), PlayedLog(*events(40))
    first = play(log, subscriber)
    await subscriber.until(lambda: subscriber.calls.count([3]) >= 2)
    await first.until(lambda: first.delivery.position.read_to == 40)
    await first.stop()
    position = first.positions[-1]
    assert (position.cursor, position.read_to, [item.sequence for item in position.waiting]) == (2, 40, [3])
    assert position.waiting[0].refusals >= 3
    again = PlayedSubscriber()
    log.grow(logged(41))
    second = play(log, again, position)
    await second.reach(41)
    assert sorted(number for call in again.calls for number in call) == [3, 41]


async def test_a_call_that_is_under_way_at_the_end_still_counts(play: Play) -> None:
    class Slow(PlayedSubscriber):
        let_go = asyncio.Event()

        async def say(self, events: Sequence[LoggedEvent]) -> Answers:
            await self.let_go.wait()
            return ALL

    subscriber = Slow()
    played = play(PlayedLog(*events(5)), subscriber)
    await subscriber.until(lambda: bool(subscriber.calls))
    assert played.task is not None
    played.task.cancel()
    await asyncio.sleep(0)
    subscriber.let_go.set()
    with contextlib.suppress(asyncio.CancelledError):
        await played.task
    assert played.positions[-1].cursor == 5


async def test_a_side_feed_comes_before_the_rest_of_the_log_and_keeps_its_own_place(play: Play) -> None:
    subscriber = Choosy(event_2=Verdict.REJECTED)
    log, side = PlayedLog(), PlayedSide(*events(15))
    side.fault = MediasyncError(Reason.SERVICES_UNREACHABLE, "the catalog is not there")
    played = play(log, subscriber, paused=True)
    played.delivery.begin(side)
    assert played.delivery.state is SubscriptionState.PAUSED
    played.delivery.resume()
    assert played.delivery.state is SubscriptionState.REBUILDING
    await played.until(lambda: side.is_finished)
    assert "the catalog is not there" in [position.last_error.partition(": ")[2] or position.last_error for position in played.positions]
    assert side.accepted == [number for number in range(1, 16) if number != 2]
    assert ([letter.event.sequence for letter in side.letters], played.letters, side.position) == ([2], [], 15)
    assert played.delivery.cursor.value == 0
    log.grow(logged(1))
    await played.reach(1)
    assert played.delivery.state is SubscriptionState.ACTIVE


async def test_events_that_are_gone_are_said_to_be_lost_and_nothing_is_skipped_in_silence(play: Play) -> None:
    subscriber, log = PlayedSubscriber(), PlayedLog(*events(9))
    log.first = 5
    played = play(log, subscriber)
    await played.until(lambda: played.delivery.state is SubscriptionState.TOO_FAR_BEHIND)
    assert (played.lost, subscriber.calls, played.delivery.cursor.value) == ([4], [], 0)
    assert "events replay --subscriber gallery --from snapshot" in played.delivery.position.last_error
    waiting = play(log, subscriber, SubscriptionPosition(2, 9, (Waiting(3), Waiting(7))))
    await waiting.until(lambda: waiting.delivery.state is SubscriptionState.TOO_FAR_BEHIND)
    assert (waiting.lost, subscriber.calls) == ([1], [])


class Small(PlayedSubscriber):
    """Takes few bytes in a call, and says how many or not."""

    def __init__(self, limit: int, named: bool) -> None:
        super().__init__()
        self.limit, self.named = limit, named

    async def say(self, events: Sequence[LoggedEvent]) -> Answers:
        if sum(len(event.payload) + 8 for event in events) > self.limit:
            text = "larger than max"
            raise CallFailed(Failure.TOO_LARGE, text, status="RESOURCE_EXHAUSTED", limit_bytes=self.limit if self.named else 0)
        return ALL


@pytest.mark.parametrize("named", [True, False])
async def test_calls_are_made_as_small_as_the_receiver_takes_them(play: Play, named: bool) -> None:
    subscriber = Small(200_000, named)
    sizes = [60_000] * 8
    sizes[4] = 300_000
    log = PlayedLog(*(logged(number, payload=b"x" * size) for number, size in enumerate(sizes, 1)))
    played = play(log, subscriber)
    await played.reach(8)
    (letter,) = played.letters
    assert (letter.event.sequence, letter.answer) == (5, "RESOURCE_EXHAUSTED")
    if named:
        assert letter.attempts == 1
        assert "more than the 200000 that it takes" in letter.reason
    else:
        assert letter.attempts == settling.MAX_REFUSALS
    assert sorted({number for call in subscriber.calls for number in call}) == list(range(1, 9))


async def test_a_dead_letter_that_cannot_be_kept_leaves_the_event_where_it_is(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    subscriber = Choosy(event_2=Verdict.REJECTED)
    played = play(PlayedLog(*events(3)), subscriber)
    faults = iter([OSError("no space left on device")])

    async def bury(letters: Sequence[DeadLetter]) -> None:
        if fault := next(faults, None):
            raise fault
        played.letters.extend(letters)

    played.delivery._bury = bury
    await played.reach(3)
    assert [letter.event.sequence for letter in played.letters] == [2]
    assert [position.cursor for position in played.positions if position.last_error.startswith("internal error")] == [0]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
