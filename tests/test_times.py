"""When something is due that is done again and again."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mediasync.times import parse_times

BERLIN = ZoneInfo("Europe/Berlin")


def due(text: str, after: datetime, count: int = 1) -> list[str]:
    """The next times, on the clock of Berlin."""
    times, moment, found = parse_times(text), after.timestamp(), []
    for _ in range(count):
        following = times.next_after(moment, BERLIN)
        assert following is not None
        assert following > moment
        moment = following
        found.append(datetime.fromtimestamp(moment, BERLIN).strftime("%a %Y-%m-%d %H:%M"))
    return found


def berlin(*parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=BERLIN, fold=fold)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 3 * * *", ["Sun 2026-11-22 03:30", "Mon 2026-11-23 03:30"]),
        ("@daily", ["Sun 2026-11-22 00:00", "Mon 2026-11-23 00:00"]),
        ("@Hourly", ["Sat 2026-11-21 20:00", "Sat 2026-11-21 21:00"]),
        ("@weekly", ["Sun 2026-11-22 00:00", "Sun 2026-11-29 00:00"]),
        ("*/20 * * * *", ["Sat 2026-11-21 19:40", "Sat 2026-11-21 20:00"]),
        ("5 8-10/2 * * mon-fri", ["Mon 2026-11-23 08:05", "Mon 2026-11-23 10:05"]),
        ("0 0 29 2 *", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("0 12 1,15 * 5", ["Fri 2026-11-27 12:00", "Tue 2026-12-01 12:00"]),
        ("0 12 31 * 7", ["Sun 2026-11-22 12:00", "Sun 2026-11-29 12:00"]),
        ("every 15m", ["Sat 2026-11-21 19:45", "Sat 2026-11-21 20:00"]),
        ("every 2 h", ["Sat 2026-11-21 21:00", "Sat 2026-11-21 23:00"]),
    ],
)
def test_times_of_an_ordinary_day(text: str, expected: list[str]) -> None:
    assert due(text, berlin(2026, 11, 21, 19, 30, 1), 2) == expected


def test_what_is_due_now_is_not_due_after_now() -> None:
    assert due("30 3 * * *", berlin(2026, 11, 21, 3, 30)) == ["Sun 2026-11-22 03:30"]


def test_an_hour_that_comes_twice_is_no_reason_to_do_it_twice() -> None:
    # At 3:00 on that day clocks went back to 2:00.
    assert due("30 2 * * *", berlin(2026, 10, 24, 12), 2) == ["Sun 2026-10-25 02:30", "Mon 2026-10-26 02:30"]
    assert due("30 2 * * *", berlin(2026, 10, 25, 2, 40, fold=1)) == ["Mon 2026-10-26 02:30"]
    # What goes by minutes alone goes on: 2:45, and once more 2:15.
    after = berlin(2026, 10, 25, 2, 45)
    following = parse_times("15,45 * * * *").next_after(after.timestamp(), BERLIN)
    assert following == after.timestamp() + 1800
    assert [datetime.fromtimestamp(following, UTC).strftime("%H:%M")] == ["01:15"]
    assert due("15,45 * * * *", berlin(2026, 10, 25, 2, 45, fold=1)) == ["Sun 2026-10-25 03:15"]


def test_what_falls_into_the_hour_that_is_missing_is_due_right_after_it() -> None:
    # At 2:00 on that day clocks went forward to 3:00.
    assert due("30 2 * * *", berlin(2026, 3, 28, 12), 2) == ["Sun 2026-03-29 03:30", "Mon 2026-03-30 02:30"]
    assert due("30 * * * *", berlin(2026, 3, 29, 1, 30), 2) == ["Sun 2026-03-29 03:30", "Sun 2026-03-29 04:30"]


def test_the_zone_is_the_systems_unless_another_is_given() -> None:
    now = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC).timestamp()
    assert parse_times("* * * * *").next_after(now) == now + 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected five fields"),
        ("@yearly", "expected five fields"),
        ("* * * *", "expected five fields"),
        ("60 * * * *", "`60` is no minute of cron, which goes from 0 to 59"),
        ("* * * foo *", "`foo` is no month of cron"),
        ("* 5-3 * * *", "`5-3` is no hour of cron: it holds none"),
        ("*/0 * * * *", "it holds none"),
        ("1..2 * * * *", "`1..2` is no minute of cron"),
        ("0 0 31 2,4 *", "no month of these has such a day"),
        ("every 0m", "expected five fields"),
        ("every 30s", "one minute to a year"),
        ("every 400d", "one minute to a year"),
    ],
)
def test_what_is_no_time_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("*", r"\*")):
        parse_times(text)
