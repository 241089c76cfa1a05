"""Which number a generator gave a picture, and which series it belongs to.

Generators number on from the highest file that is left in a folder, so the highest of each series stays (`keep_counter`). The spellings:

- ComfyUI `{prefix}_00012_.png`, VideoHelperSuite `{prefix}_00012.mp4` and `{prefix}_00012-audio.mp4`: the last number counts;
- Forge and A1111 `00012-<seed>.png` and `grid-0001.png`: the first number that stands alone counts;
- anything else: the first run of four digits or more that stands alone, and is no year of a date.

A prefix that holds a moment (`2026-11-21_13-45-12_`) or a run of nine digits or more (a seed, a time stamp) is another one for each
picture: nothing counts on from it, and it is no series.
"""

from __future__ import annotations

import re

_AT_END = re.compile(rb"(?P<prefix>.*)_(?P<number>[0-9]{5,18})(?:_|-audio)?", re.DOTALL)
_ALONE = re.compile(rb"(?<![^_\-. ])[0-9]{4,18}(?![^_\-. ])")
_DATE = rb"(?:19|20)[0-9]{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
_A_DATE = re.compile(_DATE)
_UNIQUE = re.compile(_DATE + rb"[-_.T @]*[0-9]{2}[-_.:h]?[0-9]{2}|[0-9]{9}", re.DOTALL)


def numbered(name: bytes) -> tuple[bytes, int] | None:
    """The prefix and the number of a file's name; None for one that is in no series."""
    stem = name.rpartition(b".")[0] or name
    found = _AT_END.fullmatch(stem)
    if found is not None:
        return _in_series(found["prefix"] + b"_", found["number"])
    dates = [date.span() for date in _A_DATE.finditer(stem)]
    for run in _ALONE.finditer(stem):
        if not any(start <= run.start() < end for start, end in dates):
            return _in_series(stem[: run.start()], run[0])
    return None


def _in_series(prefix: bytes, number: bytes) -> tuple[bytes, int] | None:
    return None if _UNIQUE.search(prefix) else (prefix, int(number))
