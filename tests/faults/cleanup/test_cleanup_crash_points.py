"""SIGKILL at every named point of a clean-up, in an installation whose services stay up, and of the program at the source: journal, source
and library agree in the end, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults import event_checker
from tests.faults.cleanup.byte_checker import Ledger
from tests.fixtures.installation import COMMAND_SECONDS
from tests.fixtures.library_keeping import flip
from tests.fixtures.mortal import Mortal, until

pytestmark = pytest.mark.needs_sshd

CLEANUP_POINTS = (
    "cleanup.after_plan",
    "cleanup.after_intent",
    "cleanup.after_verify",
    "cleanup.during_delete",
    "cleanup.after_delete",
    "cleanup.after_outcome",
    "cleanup.after_publish",
    "cleanup.before_end",
    "coordinator.after_cleanup",
    "coordinator.before_cleanup",
)
FAR = "far"
FOLDERS = (*CLEANUP_POINTS, FAR)
# Two batches.
NAMES = tuple(f"{number % 3}/x{number:03}.txt" for number in range(110))
BAD, CHANGED = NAMES[:2]
FILE_DELETED = 3


class Emptied:
    """A source with a folder for each test, synced into one library. Of each one copy has lost a bit, and one file was changed since."""

    def __init__(self, mortal: Mortal) -> None:
        self.mortal = mortal
        self.installation = mortal.installation
        self.ledger = Ledger(os.fsencode(self.installation.source), os.fsencode(self.installation.library))
        for folder in FOLDERS:
            for name in NAMES:
                self.ledger.wrote(os.fsencode(self.installation.write(f"{folder}/{name}")))
        result = self.installation.sync()
        assert result.code == 0, result.err
        for folder in FOLDERS:
            copy, file = self.installation.library / folder / BAD, self.installation.source / folder / CHANGED
            self.ledger.damages(os.fsencode(copy))
            flip(copy)
            self.ledger.rewrites(os.fsencode(file))
            file.write_bytes(b"longer than it was before, and not synced")
            os.utime(file, (1_790_000_000, 1_790_000_000))
            self.ledger.changed(os.fsencode(file))

    def clean(self, folder: str) -> subprocess.Popen[str]:
        """Starts to clean a folder up."""
        where = ("--library", self.installation.library, "--folder", folder, *self.installation.login)
        return self.installation.start("clean", self.installation.url, *where, "--force-cap", "--yes", "--json")

    def check(self, folder: str, process: subprocess.Popen[str]) -> None:
        """All of it went that could, once, and everybody knows."""
        out, err = process.communicate(timeout=COMMAND_SECONDS)
        assert process.returncode == 1, (out, err)
        summary = json.loads(out)
        assert summary["kept_by_reason"] == {"changed": 1, "copy_corrupt": 1}
        gone = {os.fsencode(f"{folder}/{name}") for name in NAMES if name not in (BAD, CHANGED)}
        assert (summary["files_deleted"], summary["files_scanned"], summary["errors"]) == (len(gone), len(NAMES), 1)
        before = self.ledger.deleted
        self.ledger.close()
        assert self.ledger.deleted - before == len(gone)
        left = (path.relative_to(self.installation.source / folder) for path in (self.installation.source / folder).rglob("*.txt"))
        assert sorted(map(str, left)) == sorted((BAD, CHANGED))
        journal = [(path, outcome) for path, outcome in self.ask("cleanup.db", "SELECT path, outcome FROM deletions")]
        mine = [(path, outcome) for path, outcome in journal if path.startswith(os.fsencode(folder) + b"/")]
        assert sorted(path for path, outcome in mine if outcome == "deleted") == sorted(gone)
        assert "open" not in {outcome for _, outcome in mine}
        self.mortal.comes_to("cleanup", "SELECT count(*) FROM outbox", (0,))
        (total,) = self.ask("cleanup.db", "SELECT count(*) FROM deletions WHERE outcome = 'deleted'")
        self.mortal.comes_to("transfer", "SELECT count(*) FROM manifest WHERE vanished", total)
        # Each was told, and however often that was, as the same event.
        until(lambda: {offer.path for offer in self.told(folder)} == gone, lambda: f"told of {len(self.told(folder))}")
        event_checker.check_ids_are_stable(self.told(folder))
        assert len({offer.event_id for offer in self.told(folder)}) == len(gone)

    def told(self, folder: str) -> list[event_checker.Offer]:
        """What a subscriber heard of the folder's files being deleted."""
        rows = self.ask("notes.db", "SELECT event_id, sequence, kind, sync_id, path, moved_from, content FROM offers ORDER BY n")
        offers = (event_checker.Offer(*row) for row in rows)
        return [offer for offer in offers if offer.kind == FILE_DELETED and offer.path.startswith(os.fsencode(folder) + b"/")]

    def ask(self, database: str, question: str) -> list[Any]:
        path = self.mortal.notes if database == "notes.db" else self.installation.home / database
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(question).fetchall()


@pytest.fixture(scope="module")
def emptied(mortal: Mortal) -> Emptied:
    return Emptied(mortal)


@pytest.mark.parametrize("point", CLEANUP_POINTS)
def test_i3_i5_a_clean_up_killed_at_a_named_point_loses_nothing_and_comes_to_its_end(emptied: Emptied, point: str) -> None:
    emptied.mortal.arm(point)
    process = emptied.clean(point)
    emptied.check(point, process)
    assert emptied.mortal.died, "the point was never passed"


def test_i3_i5_a_program_at_the_source_that_is_killed_as_it_deletes_leaves_nothing_undone(emptied: Emptied) -> None:
    process = emptied.clean(FAR)
    files = [emptied.installation.source / FAR / name for name in NAMES]
    until(lambda: not all(file.exists() for file in files), lambda: f"nothing went; {process.poll()}")
    assert kill_agents(emptied.installation.server.port)
    emptied.check(FAR, process)


def kill_agents(port: int) -> int:
    """SIGKILL for every program of ours that runs behind the sshd; returns how many there were."""
    killed = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"zlib.decompress" in (entry / "cmdline").read_bytes():
                environ = (entry / "environ").read_bytes()
                if b"SSH_CONNECTION=" in environ and f" {port}\0".encode() in environ:
                    os.kill(int(entry.name), signal.SIGKILL)
                    killed += 1
    return killed
