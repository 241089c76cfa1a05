"""Which events go next, and which wait."""

from __future__ import annotations

from services.ingest.events import EventKind, LoggedEvent
from services.ingest.window import MAX_BYTES, MAX_CALL_BYTES, MAX_EVENTS, Pending, Window, in_file_order


def logged(
    sequence: int, key: bytes = b"", kind: EventKind = EventKind.FILE_SYNCED, sync_id: str = "sync_a", payload: bytes = b"."
) -> LoggedEvent:
    return LoggedEvent(sequence, f"event-{sequence}", kind, key or str(sequence).encode(), sync_id, "", 0, payload)


def window_of(*events: LoggedEvent) -> Window:
    window = Window(0)
    window.add(events, events[-1].sequence)
    return window


def sequences(items: list[Pending] | tuple[Pending, ...]) -> list[int]:
    return [item.event.sequence for item in items]


def test_events_go_in_log_order_up_to_the_limit() -> None:
    window = window_of(*(logged(number) for number in range(1, 6)))
    assert sequences(list(window.pick(3, 0))) == [1, 2, 3]


def test_later_events_of_a_waiting_file_wait_and_others_pass() -> None:
    window = window_of(logged(1, b"a"), logged(2, b"b"), logged(3, b"a"), logged(4, b"c"))
    window.pick(1, 0)[0].ready_at = 10
    assert sequences(list(window.pick(9, 5))) == [2, 4]
    assert sequences(list(window.pick(9, 10))) == [1, 2, 3, 4]


def test_the_end_of_a_sync_goes_alone_and_after_everything_of_its_sync() -> None:
    window = window_of(logged(1), logged(2, kind=EventKind.SYNC_COMPLETE), logged(3, sync_id="sync_b"))
    assert sequences(list(window.pick(9, 0))) == [1]
    first = window.pick(9, 0)[0]
    first.ready_at = 10
    assert sequences(list(window.pick(9, 0))) == [3]
    window.remove(first.event)
    assert sequences(list(window.pick(9, 0))) == [2]


def test_a_waiting_end_of_a_sync_holds_up_nobody() -> None:
    window = window_of(logged(1, kind=EventKind.SYNC_COMPLETE), logged(2, sync_id="sync_b"))
    window.pick(9, 0)[0].ready_at = 10
    assert sequences(list(window.pick(9, 0))) == [2]


def test_a_call_belongs_to_one_sync() -> None:
    window = window_of(logged(1), logged(2), logged(3, sync_id="sync_b"))
    assert sequences(list(window.pick(9, 0))) == [1, 2]


def test_a_call_stays_under_the_size_that_any_server_takes_unless_one_event_is_larger() -> None:
    half = b"x" * (MAX_CALL_BYTES // 2)
    window = window_of(logged(1, payload=half), logged(2, payload=half), logged(3, payload=half))
    assert sequences(list(window.pick(9, 0))) == [1, 2]
    large = window_of(logged(1, payload=half * 5), logged(2))
    assert sequences(list(large.pick(9, 0))) == [1]


def test_an_event_that_made_a_call_fail_goes_by_itself() -> None:
    window = window_of(logged(1, b"a"), logged(2, b"b"), logged(3, b"b"), logged(4, b"c"))
    window.pick(9, 0)[1].alone = True
    assert sequences(list(window.pick(9, 0))) == [1, 4]
    for item in window.pick(9, 0):
        window.remove(item.event)
    assert sequences(list(window.pick(9, 0))) == [2]


def test_the_cursor_stops_before_the_oldest_event_that_is_not_dealt_with() -> None:
    window = window_of(logged(1), logged(2), logged(3))
    items = list(window.pick(9, 0))
    window.remove(items[1].event)
    assert window.cursor == 0
    window.remove(items[0].event)
    assert window.cursor == 2
    window.remove(items[2].event)
    assert window.cursor == 3


def test_the_cursor_passes_what_is_not_wanted() -> None:
    window = Window(4)
    window.add([], 9)
    assert window.cursor == 9


def test_it_says_when_the_first_waiting_event_may_go_and_not_those_that_wait_behind_it() -> None:
    window = window_of(logged(1, b"a"), logged(2, b"a"), logged(3, b"b"))
    items = list(window.pick(9, 0))
    assert window.next_ready_at(0) is None
    items[0].ready_at, items[2].ready_at = 7, 9
    assert window.next_ready_at(1) == 7


def test_it_takes_a_bounded_number_of_events_and_bytes() -> None:
    full = window_of(*(logged(number) for number in range(1, MAX_EVENTS + 1)))
    assert full.room == 0
    heavy = window_of(logged(1, payload=b"x" * MAX_BYTES))
    assert (heavy.room, heavy.room_bytes) == (0, 0)
    heavy.remove(heavy.pick(1, 0)[0].event)
    assert (heavy.room, heavy.room_bytes) == (MAX_EVENTS, MAX_BYTES)


def test_an_answer_for_a_later_event_of_a_file_does_not_count_before_the_earlier_one_is_settled() -> None:
    items = [Pending(logged(1, b"a")), Pending(logged(2, b"b")), Pending(logged(3, b"a"))]
    assert sequences(in_file_order(items, {2, 3})) == [2]
    assert sequences(in_file_order(items, {1, 2, 3})) == [1, 2, 3]
