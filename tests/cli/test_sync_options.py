"""Options of `mediasync sync` as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from mediasync.cli.sync_options import age_seconds, given, size_bytes
from mediasync.errors import MediasyncError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bandwidth_limit": "fast"}, "--bandwidth-limit 'fast': expected a rate such as 20mbit, 2.5MB or off"),
        ({"min_size": "ten"}, "--min-size 'ten': expected a size such as 500kB, 1.5MB or 2GB"),
        ({"max_age": "7"}, "--max-age '7': expected a length of time such as 90s, 10m, 2h or 7d"),
        ({"duplicates": "hardlinks"}, "--duplicates 'hardlinks': expected one of keep, skip, hardlink; did you mean `hardlink`?"),
        ({"extensions": ["a/b"]}, "--ext 'a/b': expected an extension such as png"),
        ({"include": [""]}, "--include '' cannot be used"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(options: dict[str, Any], said: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        given(**options)
    assert said in caught.value.message
    assert caught.value.exit_code == 2


def test_only_what_was_given_is_set() -> None:
    assert given() == {}
    assert given(bandwidth_limit="off") == {"bandwidth_limit_mbps": 0.0, "bandwidth_timetable": ()}


def test_sizes_and_ages_have_units() -> None:
    assert [size_bytes(text) for text in ("7", "10kB", "1.5 MB", "2GiB")] == [7, 10_000, 1_500_000, 2 * 2**30]
    assert [age_seconds(text) for text in ("90s", "10m", "1.5h", "7d", "2w")] == [90, 600, 5400, 604_800, 1_209_600]
