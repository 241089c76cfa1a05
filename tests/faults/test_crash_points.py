"""SIGKILL at every named point of every service, in a real sync. The supervisor restarts what died, and the job ends as if nothing had
happened. The services stay up from one point to the next, and somebody follows the library all the time."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import mediasync
import services
from tests.faults import event_checker
from tests.faults.cleanup.test_cleanup_crash_points import CLEANUP_POINTS
from tests.faults.test_landing_crash_points import LANDING_POINTS
from tests.fixtures.mortal import Mortal, until

CRASH_POINTS = (
    "catalog.after_upsert",
    "coordinator.after_accept",
    "coordinator.after_publish",
    "coordinator.after_terminal",
    "coordinator.after_unit",
    "coordinator.before_publish",
    "coordinator.before_step_sync",
    "coordinator.before_terminal",
    "ingest.after_append",
    "ingest.after_delivery",
    "ingest.before_delivery",
    "progress.after_store",
    "progress.before_store",
    "transfer.after_commit",
    "transfer.after_intent",
    "transfer.after_processed",
    "transfer.after_publish",
    "transfer.after_rename",
    "transfer.before_commit",
    "transfer.before_processed",
)

ELSEWHERE = (
    "coordinator.after_pause",
    "ingest.after_ack",
    "ingest.after_bury",
    "ingest.before_append",
    "ingest.before_position",
    "ingest.mid_prune",
    "ingest.snapshot_page",
    "transfer.after_follow",
    "transfer.before_adopt",
    "transfer.verify_step",
)

# Only a pull of so much starts receivers.
RECEIVER_POINTS = ("receiver.before_telling", "receiver.mid_file")
LARGE_PULL_FILES, LARGE_FILE_BYTES = 9, 4 << 20
FILES = 60


def test_every_crash_point_in_the_code_is_driven_here() -> None:
    named = set()
    for package in (mediasync, services):
        for path in Path(package.__path__[0]).rglob("*.py"):
            named |= set(re.findall(r'(?:crash\.point\(|OutboxPublisher\(.*, )"([^".]+\.[^"]+)"\)', path.read_text()))
    assert named == {*CRASH_POINTS, *RECEIVER_POINTS, *LANDING_POINTS, *CLEANUP_POINTS, *driven_elsewhere()}


def driven_elsewhere() -> set[str]:
    """Points of what an ordinary sync does not pass, named by the tests that do."""
    here = Path(__file__)
    others = (path.read_text() for path in here.parents[1].rglob("test_*.py") if path != here)
    return {point for text in others for point in ELSEWHERE if f'"{point}"' in text}


@pytest.mark.needs_sshd
@pytest.mark.parametrize("point", CRASH_POINTS + RECEIVER_POINTS)
def test_i5_i6_a_process_killed_at_a_named_point_loses_and_doubles_nothing(mortal: Mortal, point: str) -> None:
    installation = mortal.installation
    large = LARGE_PULL_FILES if point in RECEIVER_POINTS else 0
    for number in range(FILES):
        path = installation.write(f"{point}/{number % 3}/{number:05}.txt")
        if number < large:
            path.write_bytes(b"%d" % number * LARGE_FILE_BYTES)
    mortal.arm(point)
    result = installation.sync()
    assert result.code == 0, result.err
    assert mortal.died, "the point was never passed"
    assert result.json["state"] == "complete"
    assert (result.json["files_transferred"], result.json["files_failed"]) == (FILES, 0)
    # What earlier tests brought is looked at again: it has to be as it was.
    here = installation.hashes(installation.source)
    assert installation.hashes(installation.library) == here
    event_checker.check(mortal.notes, installation.library, None)
    mortal.comes_to("catalog", "SELECT count(*), count(DISTINCT library_path) FROM files", (len(here), len(here)))
    for table, rows in {"manifest": len(here), "library_files": len(here), "landings": 0, "processing": 0, "outbox": 0}.items():
        mortal.comes_to("transfer", f"SELECT count(*) FROM {table}", (rows,))
    own = installation.library / ".mediasync"
    until(lambda: os.listdir(own / "staging") == [], lambda: f"left in staging: {os.listdir(own / 'staging')}")
    assert sorted(path.name for path in own.iterdir()) == ["library.json", "partial", "staging"]
