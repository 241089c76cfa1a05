from __future__ import annotations

import datetime

import pytest

from services.cleanup.dated import end_of, removable

NOON = int(datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (b"txt2img-images/2026-11-21", datetime.date(2026, 11, 22)),
        (b"2026_12_31", datetime.date(2027, 1, 1)),
        (b"20260228", datetime.date(2026, 3, 1)),
        (b"a/2026/11/21", datetime.date(2026, 11, 22)),
        (b"a/2026/12", datetime.date(2027, 1, 1)),
        (b"2026", datetime.date(2027, 1, 1)),
        (b"2026-02-30", None),
        (b"2026-1121", None),
        (b"2026-11-21_cats", None),
        (b"cats-2026-11-21", None),
        (b"2026/13", None),
        (b"1024", None),
        (b"", None),
    ],
)
def test_a_folder_is_for_the_days_that_it_is_called_like(folder: bytes, expected: datetime.date | None) -> None:
    assert end_of(folder) == expected


def test_folders_are_removed_once_their_day_is_over_for_a_day_wherever_the_source_is() -> None:
    assert removable([b"2026-11-19", b"2026-11-20", b"2026-11-21", b"2027-01-01"], (), NOON) == [b"2026-11-19"]
    assert removable([b"2026-11-19"], (), NOON - 10**9) == []


def test_what_is_inside_goes_first_and_what_is_above_only_if_it_is_dated_too() -> None:
    folders = [b"a/2025/12/31", b"b/2025-01-01"]
    assert removable(folders, (), NOON) == [b"a/2025/12/31", b"a/2025/12", b"a/2025", b"b/2025-01-01"]


def test_the_root_and_what_was_named_and_what_leads_there_stay() -> None:
    assert removable([b"", b"2025-01-01", b"2025/01/02"], (b"2025-01-01", b"2025/01"), NOON) == [b"2025/01/02"]
    assert removable([b"2025/01/02"], (b"2025/01/02/cats",), NOON) == []
