"""Which events go next, and which wait."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from services.ingest.events import FILE_KEY_BYTES, EventKind, LoggedEvent, Waiting
from services.ingest.window import MAX_BYTES, MAX_CALL_BYTES, MAX_EVENTS, Window, in_file_order, keys


def key_of(*names: str) -> bytes:
    return b"".join(name.encode().ljust(FILE_KEY_BYTES, b".") for name in names)


def logged(
    sequence: int, *names: str, kind: EventKind = EventKind.FILE_SYNCED, sync_id: str = "sync_a", payload: bytes = b"."
) -> LoggedEvent:
    about_file = kind not in (EventKind.SYNC_COMPLETE, EventKind.BATCH_SYNCED)
    key = key_of(*(names or (str(sequence),))) if about_file else b""
    return LoggedEvent(sequence, f"event-{sequence}", int(kind), key, sync_id, "", 0, payload)


def window_of(*events: LoggedEvent) -> Window:
    window = Window(0)
    window.add(events, events[-1].sequence)
    return window


def picked(window: Window, limit: int = 9, now: float = 0.0, max_bytes: int = MAX_CALL_BYTES) -> list[int]:
    return [event.sequence for event in window.pick(limit, max_bytes, now)]


def put_off(window: Window, sequence: int, until: float = 10.0, *, alone: bool = False) -> None:
    """The call has ended: everything in it was dealt with but for one event, which waits."""
    item = window.trouble(next(event for event in window.calling if event.sequence == sequence))
    item.ready_at, item.alone = until, alone
    window.settle({event.sequence for event in window.calling} - {sequence})


def test_events_go_in_log_order_up_to_the_limit_and_the_next_call_goes_on() -> None:
    window = window_of(*(logged(number) for number in range(1, 6)))
    assert picked(window, 3) == [1, 2, 3]
    window.settle()
    assert (window.cursor, window.waiting()) == (3, ())
    assert picked(window, 3) == [4, 5]
    window.settle()
    assert (window.cursor, window.empty) == (5, True)


def test_later_events_of_a_waiting_file_wait_and_others_pass() -> None:
    window = window_of(logged(1, "a"), logged(2, "b"), logged(3, "a"), logged(4, "c"))
    assert picked(window, 1) == [1]
    put_off(window, 1)
    assert picked(window, now=5) == [2, 4]
    window.settle()
    assert window.waiting() == (Waiting(1), Waiting(3))
    assert picked(window, now=10) == [1, 3]


def test_a_move_waits_for_both_of_its_names_and_both_wait_for_it() -> None:
    window = window_of(logged(1, "old"), logged(2, "new", "old"), logged(3, "new"), logged(4, "old"), logged(5, "other"))
    assert picked(window, 1) == [1]
    put_off(window, 1)
    assert picked(window, now=5) == [5]
    window.settle()
    assert picked(window, now=10) == [1, 2, 3, 4]


def test_the_end_of_a_sync_goes_alone_and_after_everything_earlier_of_its_sync() -> None:
    window = window_of(logged(1), logged(2, kind=EventKind.SYNC_COMPLETE), logged(3, sync_id="sync_b"), logged(4))
    assert picked(window) == [1]
    put_off(window, 1)
    assert picked(window) == [3, 4]
    # What comes after it does not count, or a sync would never be said to have ended while its files are still looked into.
    put_off(window, 4, 20)
    assert picked(window, now=10) == [1]
    window.settle()
    assert picked(window, now=10) == [2]


def test_a_waiting_end_of_a_sync_holds_up_nobody() -> None:
    window = window_of(logged(1, kind=EventKind.SYNC_COMPLETE), logged(2, sync_id="sync_b"))
    assert picked(window) == [1]
    put_off(window, 1)
    assert picked(window) == [2]


def test_a_call_holds_what_there_is_of_several_syncs() -> None:
    window = window_of(*(logged(number, sync_id=f"sync_{number % 2}") for number in range(1, 5)))
    assert picked(window) == [1, 2, 3, 4]


def test_a_folder_that_landed_waits_for_no_file() -> None:
    window = window_of(logged(1), logged(2, kind=EventKind.BATCH_SYNCED))
    assert picked(window, 1) == [1]
    put_off(window, 1)
    assert picked(window) == [2]


def test_a_call_stays_under_the_size_that_any_server_takes_unless_one_event_is_larger() -> None:
    half = b"x" * (MAX_CALL_BYTES // 2)
    window = window_of(logged(1, payload=half), logged(2, payload=half), logged(3, payload=half))
    assert picked(window) == [1, 2]
    assert picked(window_of(logged(1, payload=half * 5), logged(2))) == [1]


def test_an_event_that_made_a_call_fail_goes_by_itself() -> None:
    window = window_of(logged(1, "a"), logged(2, "b"), logged(3, "b"), logged(4, "c"))
    assert picked(window) == [1, 2, 3, 4]
    window.trouble(window.calling[1]).alone = True
    window.settle(frozenset())
    assert picked(window) == [1, 4]
    window.settle()
    assert picked(window) == [2]
    window.settle()
    assert picked(window) == [3]


def test_what_was_in_a_call_that_found_nobody_comes_again_as_it_was() -> None:
    window = window_of(*(logged(number) for number in range(1, 5)))
    assert picked(window, 2) == [1, 2]
    window.put_back()
    assert (window.cursor, window.waiting()) == (0, ())
    assert picked(window) == [1, 2, 3, 4]


def test_what_is_put_back_is_not_overtaken_by_what_was_found_to_wait_in_the_same_call() -> None:
    window = window_of(logged(1, "a"), logged(2, "b"), logged(3, "b", "a"), logged(4, "c"))
    assert picked(window, 1) == [1]
    put_off(window, 1)
    # The move waits for `a`, and stands behind the event of `b` that is in the call.
    assert picked(window) == [2, 4]
    window.put_back()
    assert picked(window, now=10) == [1, 2, 3, 4]


def test_the_position_says_what_is_dealt_with_beyond_the_oldest_that_is_not() -> None:
    window = window_of(logged(1), logged(2), logged(3), logged(4))
    assert picked(window, 3) == [1, 2, 3]
    assert (window.cursor, window.settled_to, len(window.waiting())) == (0, 3, 3)
    put_off(window, 2)
    assert (window.cursor, window.settled_to, window.waiting()) == (1, 3, (Waiting(2),))
    again = Window(window.settled_to)
    again.restore([logged(2)], [Waiting(2, attempts=5, refusals=4)])
    again.add([logged(4)], 4)
    assert picked(again) == [2, 4]
    assert again.trouble(logged(2)).attempts == 5


def test_the_cursor_passes_what_is_not_wanted() -> None:
    window = Window(4)
    window.add([], 9)
    assert (window.cursor, window.settled_to) == (9, 9)


def test_it_says_when_the_first_waiting_event_may_go_and_not_those_that_wait_behind_it() -> None:
    window = window_of(logged(1, "a"), logged(2, "a"), logged(3, "b"))
    assert picked(window) == [1, 2, 3]
    assert window.next_ready_at(0) is None
    for event, at in zip(window.calling, (7, 0, 9), strict=True):
        window.trouble(event).ready_at = at
    window.settle(frozenset())
    assert window.next_ready_at(1) == 7


def test_it_takes_a_bounded_number_of_events_and_bytes() -> None:
    full = window_of(*(logged(number) for number in range(1, MAX_EVENTS + 1)))
    assert full.room == 0
    heavy = window_of(logged(1, payload=b"x" * MAX_BYTES))
    assert (heavy.room, heavy.room_bytes) == (0, 0)
    assert picked(heavy) == [1]
    heavy.settle()
    assert (heavy.room, heavy.room_bytes) == (MAX_EVENTS, MAX_BYTES)


@pytest.mark.parametrize(
    ("events", "limit", "fills"),
    [
        ([logged(1)], 2, False),
        ([logged(1), logged(2)], 2, True),
        ([logged(1), logged(2, kind=EventKind.SYNC_COMPLETE)], 9, True),
        ([logged(1, payload=b"x" * MAX_CALL_BYTES)], 9, True),
    ],
)
def test_more_events_are_waited_for_only_where_they_could_go_with_the_call(events: Sequence[LoggedEvent], limit: int, fills: bool) -> None:
    assert window_of(*events).fills(limit, MAX_CALL_BYTES) is fills


def test_an_answer_for_a_later_event_of_a_file_does_not_count_before_the_earlier_one_is_settled() -> None:
    events = [logged(1, "a"), logged(2, "b"), logged(3, "a"), logged(4, "c", "a"), logged(5, "c")]
    assert in_file_order(events, {2, 3, 4, 5}) == {2}
    assert in_file_order(events, {1, 2, 3, 4, 5}) == {1, 2, 3, 4, 5}


class Played:
    """A subscriber's life drawn by lot: some answers, some failures, some restarts. Keeps what was accepted, in order."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.log = [self.event(sequence) for sequence in range(1, self.draw.randint(20, 120))]
        self.window = Window(0)
        self.now = 0.0
        self.settled: list[int] = []

    def event(self, sequence: int) -> LoggedEvent:
        kind = self.draw.choices(list(EventKind), (6, 3, 1, 1, 1))[0]
        names = self.draw.sample("abcdef", 2 if self.draw.random() < 0.2 else 1)
        return logged(sequence, *names, kind=kind, sync_id=f"sync_{self.draw.randint(1, 3)}")

    def play(self) -> None:
        while not (self.window.empty and self.window.read_to == len(self.log)):
            self.now += self.draw.random()
            if self.draw.random() < 0.5:
                self.read()
            events = self.window.pick(self.draw.randint(1, 8), MAX_CALL_BYTES, self.now)
            if not events:
                self.read()
                self.now = max(self.now, self.window.next_ready_at(self.now) or 0.0)
            elif (lot := self.draw.random()) < 0.15:
                self.window.put_back()
            elif lot < 0.3:
                for event in events:
                    item = self.window.trouble(event)
                    item.alone, item.ready_at = len(events) == 1, self.now + self.draw.random() * 3
                self.window.settle(frozenset())
            else:
                self.answer(events)
            self.check()
            if self.draw.random() < 0.05:
                self.restart()

    def read(self) -> None:
        upto = min(len(self.log), self.window.read_to + self.draw.randint(0, 10))
        self.window.add(self.log[self.window.read_to : upto], upto)

    def answer(self, events: Sequence[LoggedEvent]) -> None:
        done = {event.sequence for event in events if self.draw.random() < 0.7}
        for event in events:
            if event.sequence not in done:
                self.window.trouble(event).ready_at = self.now + self.draw.random() * 3
        settled = in_file_order(events, done)
        self.settled += [event.sequence for event in events if event.sequence in settled]
        self.window.settle(settled)

    def check(self) -> None:
        """What the position says is what happened."""
        waiting = [item.sequence for item in self.window.waiting()]
        dealt_with = set(range(1, self.window.settled_to + 1)) - set(waiting)
        assert waiting == sorted(waiting)
        assert dealt_with == set(self.settled)
        assert self.window.cursor == (waiting[0] - 1 if waiting else self.window.settled_to)

    def restart(self) -> None:
        waiting = self.window.waiting()
        self.window, old = Window(self.window.settled_to), self.window
        assert old.settled_to == self.window.read_to
        self.window.restore([self.log[item.sequence - 1] for item in waiting], waiting)


def in_order(sequences: Iterable[int]) -> bool:
    sequences = list(sequences)
    return sequences == sorted(sequences)


@pytest.mark.parametrize("seed", range(150))
def test_i6_whatever_happens_every_event_is_settled_once_and_those_of_a_file_in_order(seed: int) -> None:
    played = Played(seed)
    played.play()
    assert sorted(played.settled) == list(range(1, len(played.log) + 1))
    events = {event.sequence: event for event in played.log}
    for name in "abcdef":
        about = {sequence for sequence, event in events.items() if key_of(name) in keys(event)}
        assert in_order(sequence for sequence in played.settled if sequence in about)
    for place, sequence in enumerate(played.settled):
        end = events[sequence]
        if end.kind == EventKind.SYNC_COMPLETE:
            earlier = {number for number in range(1, sequence) if events[number].sync_id == end.sync_id and events[number].kind != end.kind}
            assert earlier <= set(played.settled[:place])
