from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transfer.receiving.windows import (
    ASSUMED_BYTES_PER_SECOND,
    MAX_WINDOW_BYTES,
    MIN_WINDOW_BYTES,
    Line,
    LineRate,
    plan,
    window_for_limit,
)


def test_a_short_way_takes_two_connections_with_the_smallest_windows() -> None:
    assert (plan(0.0002, 3).lanes, plan(0.0002, 3).window_bytes) == (2, MIN_WINDOW_BYTES)


def test_a_long_fast_line_takes_windows_that_add_up_to_twice_what_it_holds() -> None:
    line = plan(0.1, 3)
    assert line.lanes == 3
    assert 2.0 <= line.lanes * line.window_bytes / (125e6 * 0.1) <= 2.5


@given(st.floats(0, 5), st.integers(1, 16), st.floats(1e3, 1e10))
def test_a_plan_keeps_to_what_the_user_allows_and_to_what_a_server_bears(round_trip: float, most: int, rate: float) -> None:
    line = plan(round_trip, most, rate)
    assert 1 <= line.lanes <= most
    assert MIN_WINDOW_BYTES <= line.window_bytes <= MAX_WINDOW_BYTES


@given(st.floats(0, 5), st.floats(1, 1e10))
def test_the_window_of_a_held_connection_never_slows_it_further(round_trip: float, rate: float) -> None:
    window = window_for_limit(round_trip, rate)
    assert window >= min(rate * round_trip, MAX_WINDOW_BYTES) - 1


def test_a_line_that_was_seen_to_carry_more_gets_larger_windows_and_one_that_carries_less_smaller_ones() -> None:
    line = LineRate()
    line.pulled(10 << 20, 0.1)
    assert line.bytes_per_second == ASSUMED_BYTES_PER_SECOND, "too short to tell"
    line.pulled(1_000_000_000, 4.0)
    assert plan(0.05, 3, line.bytes_per_second).window_bytes > plan(0.05, 3).window_bytes
    for _ in range(8):
        line.pulled(100_000_000, 50.0)
    assert plan(0.2, 3, line.bytes_per_second).window_bytes < plan(0.2, 3).window_bytes
    assert 3_000_000 <= line.bytes_per_second < 6_000_000


def test_a_login_tells_about_how_long_a_round_trip_takes() -> None:
    line = Line(3, ASSUMED_BYTES_PER_SECOND)
    # OpenSSH lets in with one key after no fewer than six round trips; computing comes on top.
    assert line.window_after_login(0.6) == pytest.approx(plan(0.1, 3).window_bytes, abs=1)
    assert line.window_after_login(0.06) == plan(0.0, 3).window_bytes
