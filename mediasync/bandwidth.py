"""How fast a sync may be, as people write it: `20mbit`, `2.5MB`, `off`, and a timetable of such.

Bits and bytes are told apart as on a line: `mbit` is 10^6 bits a second, `MB` 10^6 bytes a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time

_UNITS = {"": 1e6, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "kb": 8e3, "mb": 8e6, "gb": 8e9}
_RATE = re.compile(r"(?P<number>[0-9]{1,12}(\.[0-9]{1,6})?)\s*(?P<unit>[a-z]*)(/s|ps)?", re.IGNORECASE)
_LINE = re.compile(r"\s*(?P<start>[0-9]{1,2}:[0-9]{2})\s*-\s*(?P<end>[0-9]{1,2}:[0-9]{2})\s+(?P<rate>\S+)\s*")
_FORM = "a rate such as 20mbit, 2.5MB or off"
_LINE_FORM = "a line such as `08:00-18:00 20mbit`"


def parse_rate(text: str) -> float:
    """Megabits a second; 0 for no limit. A bare number is megabits a second. Raises ValueError that says what was expected."""
    if text.strip().lower() in ("off", "none", "unlimited"):
        return 0.0
    match = _RATE.fullmatch(text.strip())
    unit = match["unit"].lower() if match else "?"
    if match is None or unit not in _UNITS:
        raise ValueError(_FORM)
    return float(match["number"]) * _UNITS[unit] / 1e6


@dataclass(frozen=True)
class Span:
    """A time of day, and the limit while it lasts; one that ends before it starts goes past midnight."""

    start: time
    end: time
    megabits: float

    def holds(self, moment: time) -> bool:
        """Whether `moment` is in it: from its start up to, not including, its end."""
        if self.start <= self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


def parse_timetable_line(line: str) -> Span:
    """One line of a timetable. Raises ValueError that says what was expected."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(_LINE_FORM)
    try:
        return Span(_time(match["start"]), _time(match["end"]), parse_rate(match["rate"]))
    except ValueError as error:
        raise ValueError(f"{_LINE_FORM} ({error})") from None


def _time(text: str) -> time:
    hours, _, minutes = text.partition(":")
    if text == "24:00":
        return time.max
    return time(int(hours), int(minutes))


def limit_at(moment: time, megabits: float, timetable: Sequence[str]) -> float:
    """The limit in force at a local time of day, megabits a second, 0 for none: the first line that holds it, else `megabits`."""
    for line in timetable:
        span = parse_timetable_line(line)
        if span.holds(moment):
            return span.megabits
    return megabits
