"""docs/failure-modes.md names every reason that the code can end with, under the exit code that it ends with."""

from __future__ import annotations

import re
from pathlib import Path

import mediasync
import services
from mediasync.errors import CATALOG, Reason

DOCUMENT = Path(__file__).parents[2] / "docs" / "failure-modes.md"


def sections() -> dict[str, set[str]]:
    """Reasons by heading."""
    parts = re.split(r"^## (.+)$", DOCUMENT.read_text(), flags=re.MULTILINE)
    named = re.compile(r"`((?!MEDIASYNC_)[A-Z]+(?:_[A-Z]+)+|CANCELLED|INTERNAL)`")
    return {heading: set(named.findall(text)) for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_reason_in_the_code_is_explained_and_every_explained_one_exists() -> None:
    raised = set()
    for package in (mediasync, services):
        for path in Path(package.__path__[0]).rglob("*.py"):
            if path.name != "errors.py":
                raised |= set(re.findall(r"\bReason\.([A-Z_]+)", path.read_text()))
    explained = set().union(*sections().values())
    assert raised - explained == set()
    assert explained - {reason.value for reason in Reason} == set()


def test_each_reason_stands_under_the_exit_code_that_it_ends_with() -> None:
    coded = {int(found[1]): reasons for heading, reasons in sections().items() if (found := re.match(r"Exit code (\d+)", heading))}
    assert set(coded) == {1, 2, 3, 4, 5, 6, 70}
    for code, reasons in coded.items():
        assert {reason: int(CATALOG[Reason(reason)].exit_code) for reason in reasons} == dict.fromkeys(reasons, code)
