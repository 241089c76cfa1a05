"""Limits are kept over any 5 seconds, whoever shares them and however they are changed. The clock is a fake one."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.model import SyncOptions
from services.transfer.bandwidth import LanePace, Limits, Share

MEGABIT = 125_000
WINDOW_SECONDS = 5.0
TOLERANCE = 0.05


@dataclass
class Clock:
    """Says what it is told."""

    seconds: float = 1000.0
    local: time = time(12, 0)

    def monotonic(self) -> float:
        return self.seconds


def limits_at(clock: Clock, total: float = 0.0, timetable: Sequence[str] = ()) -> Limits:
    return Limits(total, timetable, monotonic=clock.monotonic, local_time=lambda: clock.local)


def limited(megabits: float, *timetable: str) -> SyncOptions:
    return SyncOptions(bandwidth_limit_mbps=megabits, bandwidth_timetable=timetable)


@dataclass(order=True)
class Reader:
    """One that reads pieces as fast as its line gives them and it is let."""

    due: float
    number: int
    took: Callable[[int], float] = field(compare=False)
    piece: Callable[[], int] = field(compare=False)
    line_bytes_per_second: float = field(compare=False, default=1e9)


Taken = list[tuple[float, int, int]]
"""(when, which reader, bytes)"""


def run(clock: Clock, readers: list[Reader], seconds: float, each: Callable[[float], None] = lambda now: None) -> Taken:
    """Lets them read for so long."""
    start = clock.seconds
    heapq.heapify(readers)
    taken: Taken = []
    while readers[0].due < start + seconds:
        reader = heapq.heappop(readers)
        clock.seconds = max(clock.seconds, reader.due)
        each(clock.seconds)
        count = reader.piece()
        taken.append((clock.seconds, reader.number, count))
        reader.due = clock.seconds + max(reader.took(count), count / reader.line_bytes_per_second)
        heapq.heappush(readers, reader)
    clock.seconds = start + seconds
    return taken


def rates(taken: Taken, start: float, end: float) -> list[float]:
    """The rate over every 5 seconds between, a quarter of a second apart."""
    found = []
    while start + WINDOW_SECONDS <= end:
        found.append(sum(count for when, _, count in taken if start <= when < start + WINDOW_SECONDS) / WINDOW_SECONDS)
        start += 0.25
    return found


def holds(taken: Taken, start: float, end: float, megabits: float) -> bool:
    return all(abs(rate / (megabits * MEGABIT) - 1) <= TOLERANCE for rate in rates(taken, start, end))


@given(
    megabits=st.floats(1, 2000),
    readers=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_connections_together_come_as_fast_as_the_limit_over_any_5_seconds(megabits: float, readers: int, seed: int) -> None:
    clock = Clock()
    limits = limits_at(clock)
    draw = random.Random(seed)
    # Together a hundredth of what may come in the time that is looked at.
    largest = max(int(megabits * MEGABIT * WINDOW_SECONDS * 0.01 / readers), 1)
    pace = limits.pace("sync_1", limited(megabits))
    taken = run(
        clock,
        [Reader(clock.seconds, number, pace.took, lambda: draw.randint(largest // 4, largest)) for number in range(readers)],
        12,
    )
    assert holds(taken, 1000.0, 1012.0, megabits)


def test_a_reader_that_was_away_may_catch_up_a_tenth_of_a_second_and_no_more() -> None:
    clock = Clock()
    pace = limits_at(clock).pace("sync_1", limited(8))
    assert pace.took(0) == 0
    clock.seconds += 3600
    assert pace.took(100_000) == 0
    assert pace.took(100_000) == pytest.approx(0.1)


def test_a_limit_for_all_holds_for_runs_together_and_each_keeps_its_own() -> None:
    clock = Clock()
    limits = limits_at(clock, total=80)
    slow, fast = limits.pace("sync_1", limited(8)), limits.pace("sync_2", limited(0))
    readers = [
        Reader(1000, 0, slow.took, lambda: 5_000),
        Reader(1000, 1, fast.took, lambda: 50_000),
        Reader(1000, 2, fast.took, lambda: 50_000),
    ]
    taken = run(clock, readers, 12)
    assert holds(taken, 1000, 1012, 80)
    assert holds([one for one in taken if one[1] == 0], 1001, 1012, 8)


def test_a_limit_is_changed_while_a_run_is_under_way() -> None:
    clock = Clock()
    limits = limits_at(clock)
    pace = limits.pace("sync_1", limited(8))
    readers = [Reader(1000, number, pace.took, lambda: 8_000) for number in range(3)]
    before = limits.changed
    assert holds(run(clock, readers, 6), 1000, 1006, 8)
    limits.set("sync_1", 20)
    assert before.is_set()
    assert not limits.changed.is_set()
    assert holds(run(clock, readers, 6), 1006.1, 1012, 20)
    limits.set("sync_1", None)
    assert holds(run(clock, readers, 6), 1012.1, 1018, 8)
    limits.set("sync_1", 0)
    assert pace.took(10**12) == 0


def test_a_limit_that_was_set_counts_for_what_of_the_run_begins_later() -> None:
    clock = Clock()
    limits = limits_at(clock)
    limits.set("sync_1", 8)
    assert limits.pace("sync_1", limited(0)).took(2_000_000) == pytest.approx(2)
    assert limits.pace("sync_2", limited(0)).took(2_000_000) == 0


def test_a_timetable_counts_by_the_time_of_day_and_is_looked_at_once_a_second() -> None:
    clock = Clock(local=time(7, 59, 59))
    pace = limits_at(clock).pace("sync_1", limited(80, "08:00-18:00 8mbit"))
    assert pace.took(1_000_000) == pytest.approx(0.1)
    clock.local, clock.seconds = time(8, 0), clock.seconds + 1.0
    assert pace.took(1_000_000) == pytest.approx(1 - 0.1, abs=0.01)
    clock.local = time(18, 0)
    assert pace.took(0) == pytest.approx(0.9, abs=0.01)
    clock.seconds += 10
    assert pace.took(2_000_000) == pytest.approx(0.1, abs=0.01)


def lanes(clock: Clock, share: Share, first: int, piece: int, lines: Sequence[float]) -> tuple[list[Reader], Callable[[float], None]]:
    """Receiver processes: each counts by itself, and ten times a second reports and asks how fast it may be."""
    paces = [LanePace(share.rate(lane), clock.monotonic) for lane in range(len(lines))]
    unreported = [0] * len(lines)
    asked = [clock.seconds]

    def took(lane: int) -> Callable[[int], float]:
        def counted(count: int) -> float:
            unreported[lane] += count
            return paces[lane].took(count)

        return counted

    def each(now: float) -> None:
        if now - asked[0] >= 0.1:
            asked[0] = now
            for lane, pace in enumerate(paces):
                share.took(lane, unreported[lane])
                unreported[lane] = 0
                pace.set_rate(share.rate(lane))

    return [Reader(clock.seconds, first + lane, took(lane), lambda: piece, line) for lane, line in enumerate(lines)], each


@given(megabits=st.sampled_from([8.0, 80.0, 800.0]), count=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_lanes_in_processes_of_their_own_keep_to_the_limit_together(megabits: float, count: int, seed: int) -> None:
    clock = Clock()
    limits = limits_at(clock)
    share = limits.share("sync_1", limited(megabits), count)
    draw = random.Random(seed)
    # One of them is not held back by its line; the others may be.
    lines = [1e12] + [draw.choice([1e12, megabits * MEGABIT / 20, megabits * MEGABIT / 3]) for _ in range(count - 1)]
    readers, each = lanes(clock, share, 0, int(megabits * MEGABIT / 100 / count), lines)
    taken = run(clock, readers, 12, each)
    assert max(rates(taken, 1000, 1012)) <= megabits * MEGABIT * (1 + TOLERANCE)
    assert holds(taken, 1003, 1012, megabits)


def test_a_run_that_uses_little_leaves_the_rest_of_the_limit_for_all_to_others() -> None:
    clock = Clock()
    limits = limits_at(clock, total=80)
    slow, fast = limits.share("sync_1", limited(0), 2), limits.share("sync_2", limited(0), 2)
    slow_readers, slow_each = lanes(clock, slow, 0, 10_000, [1e5, 1e5])
    fast_readers, fast_each = lanes(clock, fast, 2, 10_000, [1e12, 1e12])
    taken = run(clock, [*slow_readers, *fast_readers], 12, lambda now: (slow_each(now), fast_each(now), None)[-1])
    assert holds(taken, 1003, 1012, 80)
    assert sum(count for _, reader, count in taken if reader < 2) > 12 * 2e5 * 0.9


def test_what_a_run_had_goes_to_others_once_its_lanes_are_closed() -> None:
    clock = Clock()
    limits = limits_at(clock)
    one, other = limits.share("sync_1", limited(8), 1), limits.share("sync_1", limited(8), 1)
    assert one.rate(0) == other.rate(0) == pytest.approx(500_000)
    other.close()
    assert one.rate(0) == pytest.approx(1_000_000)
    assert limits.rate_for("sync_1", 4) == pytest.approx(250_000)
    limits.set("sync_1", 0)
    assert one.rate(0) is None
    assert limits.rate_for("sync_1", 4) is None


def test_a_run_is_forgotten_with_the_last_that_counts_for_it() -> None:
    clock = Clock()
    limits = limits_at(clock, total=8)
    one = limits.share("sync_1", limited(0), 1)
    other = limits.pace("sync_2", limited(0))
    assert one.rate(0) == pytest.approx(500_000)
    del other
    clock.seconds += 1
    assert one.rate(0) == pytest.approx(1_000_000)
