"""From what a person types behind `mediasync clean` to a policy."""

from __future__ import annotations

from typing import Any

import pytest

from mediasync.cli import clean_display, clean_options
from mediasync.errors import MediasyncError, Reason
from mediasync.model import WHATEVER_AGE_HOURS, AgeBasis, CleanupPolicy, KeptReason


def test_what_is_not_given_stays_as_the_source_has_it() -> None:
    own = CleanupPolicy(age_hours=72, keep_last=5, clean_culled=True)
    assert clean_options.overlay(own, clean_options.given()) == own
    assert clean_options.overlay(None, clean_options.given()) == CleanupPolicy()
    assert clean_options.overlay(own, clean_options.given(keep_last=0)).keep_last == 0


def test_each_option_sets_its_field() -> None:
    fields = clean_options.given(
        older_than="36h", basis="created", keep_last=3, extensions=["png,webp"], min_size="10kB", culled=True, force_cap=True, dry_run=True
    )
    assert fields == {
        "age_hours": 36.0,
        "age_basis": AgeBasis.CREATED,
        "keep_last": 3,
        "allowed_extensions": ("png", "webp"),
        "min_size_bytes": 10_000,
        "clean_culled": True,
        "force_cap": True,
        "dry_run": True,
    }


def test_patterns_preserve_more_than_the_source_does_never_less() -> None:
    policy = clean_options.overlay(CleanupPolicy(preserve_patterns=("keep/",)), clean_options.given(preserve=["*.mp4"]))
    assert policy.preserve_patterns == ("keep/", "*.mp4")


@pytest.mark.parametrize(("older_than", "recent_minutes"), [("1m", 1.0), ("0s", 0.0), ("1h", 5.0)])
def test_an_age_below_what_counts_as_recent_lowers_that_too(older_than: str, recent_minutes: float) -> None:
    assert clean_options.overlay(CleanupPolicy(), clean_options.given(older_than=older_than)).preserve_recent_minutes == recent_minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50GB", (50.0, 50.0, 0.0, 0.0)),
        ("1.5TB", (1500.0, 1500.0, 0.0, 0.0)),
        ("20%", (0.0, 0.0, 20.0, 20.0)),
        ("7.5 %", (0.0, 0.0, 7.5, 7.5)),
    ],
)
def test_free_space_is_both_limit_and_target_whatever_the_source_says(text: str, expected: tuple[float, ...]) -> None:
    own = CleanupPolicy(min_free_space_gb=1, target_free_space_gb=2, min_free_space_percent=3, target_free_space_percent=4)
    policy = clean_options.overlay(own, clean_options.given(free_to=text))
    found = (policy.min_free_space_gb, policy.target_free_space_gb, policy.min_free_space_percent, policy.target_free_space_percent)
    assert found == expected


def test_who_asks_for_space_alone_has_nothing_deleted_for_its_age() -> None:
    own = CleanupPolicy(age_hours=12)
    alone, both = (clean_options.overlay(own, clean_options.given(free_to="50GB", older_than=age)) for age in ("", "7d"))
    assert (alone.age_hours, both.age_hours, alone.preserve_recent_minutes) == (WHATEVER_AGE_HOURS, 168, own.preserve_recent_minutes)
    assert clean_display.why(KeptReason.TOO_YOUNG, alone).endswith(", younger than 1 h, or kept by another rule")


@pytest.mark.parametrize(
    ("given", "option", "said"),
    [
        ({"older_than": "soon"}, "--older-than", "--older-than 'soon': expected a length of time such as 90s"),
        ({"older_than": "-1h"}, "--older-than", "expected a length of time"),
        ({"basis": "creatd"}, "--basis", "did you mean `created`?"),
        ({"free_to": "lots"}, "--free-to", "expected an amount such as 50GB, or a share of the disk such as 20%"),
        ({"free_to": "0GB"}, "--free-to", "expected an amount"),
        ({"free_to": "100%"}, "--free-to", "expected an amount"),
        ({"free_to": "nan%"}, "--free-to", "expected an amount"),
        ({"keep_last": -1}, "--keep-last", "--keep-last is -1; expected 0 or more"),
        ({"preserve": ["!"]}, "--preserve", "--preserve '!' cannot be used"),
        ({"extensions": ["a/b"]}, "--ext", "expected an extension such as png"),
        ({"min_size": "big"}, "--min-size", "expected a size such as 500kB"),
    ],
)
def test_a_wrong_value_names_the_option_and_what_was_expected(given: dict[str, Any], option: str, said: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        clean_options.given(**given)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert said in caught.value.message
    assert [item.field for item in caught.value.fields] == [option]


@pytest.mark.parametrize(
    ("text", "path"), [("a/b.png", b"a/b.png"), ("./a//b.png", b"a/b.png"), ("/far/out/a.png", b"a.png"), ("a\udcff.png", b"a\xff.png")]
)
def test_a_file_is_named_relative_to_the_source_or_in_full(text: str, path: bytes) -> None:
    assert clean_options.source_path(text, b"/far/out/") == path


@pytest.mark.parametrize("text", ["", ".", "/", "/far", "/far/outside.png", "../a.png", "a/../../b"])
def test_what_is_no_file_of_the_source_is_refused(text: str) -> None:
    with pytest.raises(MediasyncError, match="source"):
        clean_options.source_path(text, b"/far/out")
