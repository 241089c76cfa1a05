"""docs/cleanup.md has a row for every reason for which a clean-up keeps a file, and says of options and outcomes what is so."""

from __future__ import annotations

import re
from pathlib import Path

from mediasync.cli.clean_options import given
from mediasync.model import CleanupPolicy, DeletionOutcome, KeptReason

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "cleanup.md").read_text()
REASONS = {reason for reason in KeptReason if reason is not KeptReason.UNKNOWN}


def test_every_reason_has_its_row_with_what_to_do_and_only_these() -> None:
    table = DOCUMENT.partition("## Why a file stays")[2]
    rows = re.findall(r"^\| (\*{0,2})`([a-z_]+)`\*{0,2} \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert {reason for _, reason, _, _ in rows} == {reason.value for reason in REASONS}
    assert len(rows) == len(REASONS)
    assert {reason for bold, reason, _, _ in rows if bold} == {reason.value for reason in REASONS if reason.wrong}


def test_every_reason_is_brought_about_by_a_test() -> None:
    tested = set()
    for folder in ("services/cleanup", "faults/cleanup", "contract", "integration"):
        for path in (ROOT / "tests" / folder).rglob("*.py"):
            tested |= set(re.findall(r"\bKeptReason\.([A-Z_]+)", path.read_text()))
    assert {reason.name for reason in REASONS} - tested == set()


def test_every_outcome_is_explained() -> None:
    table = DOCUMENT.partition("## Reading the journal")[2].partition("## ")[0]
    assert {outcome.value for outcome in DeletionOutcome} <= set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE))


def test_the_defaults_of_the_table_are_those_of_the_policy() -> None:
    table = DOCUMENT.partition("## What may go")[2].partition("\n\n")[2].partition("\n\n")[0]
    shown = {}
    for row in table.splitlines()[2:]:
        _, _, keys, default, *_ = [cell.strip() for cell in row.split("|")]
        names = re.findall(r"`([a-z_]+)`", keys)
        shown |= {name: default.strip("`") for name in names if hasattr(CleanupPolicy(), name)}
    for name, default in shown.items():
        value = getattr(CleanupPolicy(), name)
        expected = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, int | float) else str(value)
        assert default == ("all" if name == "allowed_extensions" else "" if value == () else expected), name
    assert {"age_hours", "keep_last", "keep_counter", "clean_culled"} <= set(shown)


def test_an_amount_to_free_is_written_as_the_page_shows_it() -> None:
    for text in re.findall(r"`--free-to ([^`]+)`", DOCUMENT):
        assert given(free_to=text)
