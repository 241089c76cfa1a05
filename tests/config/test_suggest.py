"""The nearest name."""

from __future__ import annotations

import pytest

from mediasync.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "found"),
    [("prot", "port"), ("PORT", "port"), ("hots", "host"), ("Forge-1", "forge"), ("zzz", None), ("", None), ("x" * 10**6, None)],
)
def test_the_nearest_name_is_found_whatever_its_case_and_nothing_when_none_is_near(name: str, found: str | None) -> None:
    assert nearest(name, ["host", "port", "forge"]) == found


def test_a_name_keeps_its_spelling() -> None:
    assert nearest("nas", iter(["NAS", "other"])) == "NAS"
    assert did_you_mean("nsa", ["NAS"]) == "; did you mean `NAS`?"
    assert did_you_mean("zzz", ["NAS"]) == ""
