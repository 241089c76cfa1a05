"""When something is due that is done again and again: five fields of cron, `@hourly`, `@daily`, `@weekly`, or `every 15m`.

Cron means local time. Where clocks go forward, what falls into the hour that is missing is due right after it; where they go back, what has
an hour in its fields is due once, and what goes by minutes alone goes on by them. Both a day of the month and a weekday: either will do,
as cron has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

EXPECTED = "five fields of cron such as `30 3 * * *`, @hourly, @daily, @weekly, or `every 15m`"
OFF = "off"
"""What is written where nothing is to be begun by itself, though a place further out says when."""
MIN_PERIOD_SECONDS = 60
_WORDS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
_EVERY = re.compile(r"every\s+(?P<count>[1-9][0-9]{0,5})\s*(?P<unit>s|m|min|h|d)", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>[0-9]{1,4}))?")
# A 29th of February on a given weekday comes within forty years.
_HORIZON_DAYS = 366 * 40
_CHANGE_MINUTES = 181


@dataclass(frozen=True)
class Times:
    """When it is due: each `period_seconds`, or where that is 0 at the local times that the fields let through."""

    text: str
    period_seconds: int = 0
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_hour: bool = False
    either_day: bool = False

    def next_after(self, moment: float, zone: tzinfo | None = None) -> float | None:
        """The first moment after `moment` (Unix seconds) at which it is due; None where that never is. `zone` is the local one unless it is
        given."""
        if self.period_seconds:
            return float((int(moment) // self.period_seconds + 1) * self.period_seconds)
        found = self._by_the_clock(moment, zone)
        if self.any_hour:
            # An hour that comes twice is gone through twice.
            first = int(moment) // 60 + 1
            for minute in range(first, first + _CHANGE_MINUTES):
                if found is not None and minute * 60 >= found:
                    break
                if self._fits(datetime.fromtimestamp(minute * 60, UTC).astimezone(zone).replace(tzinfo=None)):
                    return float(minute * 60)
        return found

    def _by_the_clock(self, moment: float, zone: tzinfo | None) -> float | None:
        """The first time on the clock that lies after `moment`, one that comes twice at its first."""
        now = datetime.fromtimestamp(moment, UTC).astimezone(zone).replace(tzinfo=None)
        # From an hour earlier on, which is there again where clocks go back.
        day = (now - timedelta(hours=3)).date()
        for _ in range(_HORIZON_DAYS):
            if self._has_day(day.month, day.day, day.isoweekday() % 7):
                for hour in self.hours:
                    for minute in self.minutes:
                        wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - local time on purpose
                        found = (wall.replace(tzinfo=zone) if zone else wall).timestamp()
                        if found > moment:
                            return found
            day += timedelta(days=1)
        return None

    def _fits(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self._has_day(wall.month, wall.day, wall.isoweekday() % 7)

    def _has_day(self, month: int, day: int, weekday: int) -> bool:
        if month not in self.months:
            return False
        if self.either_day:
            return day in self.days or weekday in self.weekdays
        return day in self.days and weekday in self.weekdays


def parse_times(text: str) -> Times:
    """The times that a text means. Raises ValueError that says what is wrong."""
    words = text.split()
    lowered = " ".join(words).lower()
    if match := _EVERY.fullmatch(lowered):
        period = int(match["count"]) * _UNITS[match["unit"]]
        if not MIN_PERIOD_SECONDS <= period <= 366 * 86_400:
            raise ValueError("`every` takes one minute to a year")
        return Times(text, period)
    fields = _WORDS.get(lowered, lowered).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected {EXPECTED}")
    minutes, hours, days, months, weekdays = (_values(item, *limits) for item, limits in zip(fields, _FIELDS, strict=True))
    times = Times(
        text,
        0,
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset(weekday % 7 for weekday in weekdays),
        any_hour=len(hours) == 24,
        # As cron has it: a field that begins with a star restricts nothing by itself.
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )
    if not any(day <= _longest(month) for month in months for day in days) and not times.either_day:
        raise ValueError("no month of these has such a day")
    return times


def _values(text: str, name: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise ValueError(f"`{item}` is no {name} of cron; expected {EXPECTED}")
        first = low if match["all"] else _number(match["low"], name, low, high)
        step = int(match["step"] or 1)
        open_ended = match["all"] or (match["step"] and not match["high"])
        last = high if open_ended else _number(match["high"] or match["low"], name, low, high)
        if step < 1 or last < first:
            raise ValueError(f"`{item}` is no {name} of cron: it holds none")
        found.update(range(first, last + 1, step))
    return found


def _number(text: str, name: str, low: int, high: int) -> int:
    names = _NAMES.get(name, ())
    value = names.index(text) + (name == "month") if text in names else int(text) if text.isdecimal() else -1
    if not low <= value <= high:
        raise ValueError(f"`{text}` is no {name} of cron, which goes from {low} to {high}")
    return value


def _longest(month: int) -> int:
    return 29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31
