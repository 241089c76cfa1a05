"""Folders that are called like a day, which a generator made for that day and will not come back to.

`2026-11-21`, `2026_11_21`, `2026.11.21` and `20261121` are such names, and `2026/11/21` below each other. Whether one is empty is for the
source to say, in the command that removes it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable

_DAY = re.compile(rb"(?:.*/)?((?:19|20)[0-9]{2})([-_.]?)([0-9]{2})\2([0-9]{2})", re.DOTALL)
_NESTED = re.compile(rb"(?:.*/)?((?:19|20)[0-9]{2})(?:/([0-9]{2})(?:/([0-9]{2}))?)?", re.DOTALL)
# A day may end so much later at the source than it does by UTC, and has to be over for a day.
_OVER = datetime.timedelta(hours=12) + datetime.timedelta(days=1)


def end_of(folder: bytes) -> datetime.date | None:
    """The first day that is no longer one of those that the folder is for; None for one that is not called like a time."""
    found = _DAY.fullmatch(folder)
    if found is not None:
        return _day_after(found[1], found[3], found[4])
    found = _NESTED.fullmatch(folder)
    if found is None:
        return None
    year, month, day = found.groups()
    if day is not None:
        return _day_after(year, month, day)
    if int(year) == datetime.MAXYEAR or (month is not None and not 1 <= int(month) <= 12):
        return None
    if month is None or month == b"12":
        return datetime.date(int(year) + 1, 1, 1)
    return datetime.date(int(year), int(month) + 1, 1)


def removable(folders: Iterable[bytes], named: Collection[bytes], now_ns: int) -> list[bytes]:
    """Those of `folders`, and of the dated folders above them, whose days are over for a day by the source's clock, in the order in which
    to remove them: what is inside comes first. Never the root, never one that somebody named or that such a one lies in."""
    now = datetime.datetime.fromtimestamp(now_ns / 1e9, datetime.UTC)
    fixed = {b""}
    for folder in named:
        fixed.update(_with_parents(folder))
    found: set[bytes] = set()
    for folder in folders:
        for part in _with_parents(folder):
            end = end_of(part)
            if part in fixed or end is None:
                break
            if datetime.datetime.combine(end, datetime.time(), datetime.UTC) + _OVER > now:
                break
            found.add(part)
    return sorted(found, key=lambda folder: (-folder.count(b"/"), folder))


def _with_parents(folder: bytes) -> Iterable[bytes]:
    while folder:
        yield folder
        folder = folder.rpartition(b"/")[0]


def _day_after(year: bytes, month: bytes, day: bytes) -> datetime.date | None:
    try:
        return datetime.date(int(year), int(month), int(day)) + datetime.timedelta(days=1)
    except (ValueError, OverflowError):
        return None
