"""SIGKILL at every named point of every service, in a real sync. The supervisor restarts what died, and the job ends as if nothing had
happened."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

import mediasync
import services
from tests.faults import event_checker
from tests.faults.note_taker import Habits, serve
from tests.faults.test_landing_crash_points import LANDING_POINTS
from tests.fixtures.installation import Installation

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

# Where a death comes between a file and those who are to hear of it.
FOLLOWED_POINTS = tuple(point for point in CRASH_POINTS if point.startswith(("ingest.", "transfer.")) or point.endswith("_publish"))

# Only a pull of so much starts receivers.
RECEIVER_POINTS = ("receiver.before_telling", "receiver.mid_file")
LARGE_PULL_FILES, LARGE_FILE_BYTES = 9, 4 << 20


def test_every_crash_point_in_the_code_is_driven_here() -> None:
    named = set()
    for package in (mediasync, services):
        for path in Path(package.__path__[0]).rglob("*.py"):
            named |= set(re.findall(r'crash\.point\("([^"]+)"\)', path.read_text()))
    assert named == {*CRASH_POINTS, *RECEIVER_POINTS, *LANDING_POINTS, *driven_elsewhere()}


def driven_elsewhere() -> set[str]:
    """Points of what an ordinary sync does not pass, named by the tests that do."""
    here = Path(__file__)
    others = (path.read_text() for path in here.parents[1].rglob("test_*.py") if path != here)
    return {point for text in others for point in ELSEWHERE if f'"{point}"' in text}


@contextmanager
def followed(installation: Installation) -> Iterator[Path]:
    """While inside, somebody else follows the library, and a job is complete only when that one has heard of it. The path of its notes."""
    config = installation.folder / "config" / "mediasync" / "config.yaml"
    config.parent.mkdir(parents=True)
    address = f"unix:{installation.folder}/notes.sock"
    subscriber = f"    - name: notes\n      address: {address}\n"
    config.write_text(f"ingest:\n  async_mode: false\n  wait_for: [notes]\n  subscribers:\n{subscriber}")
    notes = installation.folder / "notes.db"
    server = serve(address, notes, Habits())
    try:
        yield notes
    finally:
        server.stop(None).wait()


@pytest.mark.needs_sshd
@pytest.mark.parametrize("point", CRASH_POINTS + RECEIVER_POINTS)
def test_i5_i6_a_process_killed_at_a_named_point_loses_and_doubles_nothing(installation: Installation, point: str) -> None:
    large = LARGE_PULL_FILES if point in RECEIVER_POINTS else 0
    for number in range(150):
        path = installation.write(f"txt2img-images/2026-11-{number % 3 + 20}/{number:05}.txt")
        if number < large:
            path.write_bytes(b"%d" % number * LARGE_FILE_BYTES)
    with followed(installation) if point in FOLLOWED_POINTS else nullcontext() as notes:
        result = installation.sync(MEDIASYNC_CRASH_AT=point)
    assert (installation.home / "run" / f"crashed.{point}").exists(), "the point was never passed"
    assert result.code == 0, result.err
    assert result.json["state"] == "complete"
    assert (result.json["files_transferred"], result.json["files_failed"]) == (150, 0)
    assert installation.hashes(installation.library) == installation.hashes(installation.source)
    if notes is not None:
        event_checker.check(notes, installation.library, None)
    with closing(sqlite3.connect(installation.home / "catalog.db")) as catalog:
        assert catalog.execute("SELECT count(*), count(DISTINCT library_path) FROM files").fetchone() == (150, 150)
    with closing(sqlite3.connect(installation.home / "transfer.db")) as database:
        for table, rows in {"manifest": 150, "library_files": 150, "landings": 0, "processing": 0, "outbox": 0}.items():
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,), table
    assert sorted(path.name for path in (installation.library / ".mediasync").iterdir()) == ["library.json", "partial", "staging"]
    assert list((installation.library / ".mediasync" / "staging").iterdir()) == []
