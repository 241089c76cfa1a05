"""SIGKILL at the points that only some landings pass: a duplicate, a rewritten file, a sidecar, fast landing, a torn file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from tests.fixtures.installation import Installation

LANDING_POINTS = (
    "transfer.after_aside",
    "transfer.after_copy",
    "transfer.after_link",
    "transfer.after_torn",
    "transfer.before_flush",
)
_FIRST, _SECOND = 1_790_000_000, 1_790_003_600
_MARK = "~20260921T151320"


def write(installation: Installation, path: str, content: bytes, time: int) -> None:
    os.utime(installation.write(path, content), (time, time))


def crash_the_machine(installation: Installation) -> None:
    """As if the machine had crashed before the first sync was flushed: one file's bytes are gone."""
    torn = installation.library / "d/torn.bin"
    torn.write_bytes(b"")
    os.utime(torn, (_FIRST, _FIRST))
    with closing(sqlite3.connect(installation.home / "transfer.db")) as database, database:
        database.execute(
            "INSERT INTO unflushed (library, origin, folder, sync_id, boot_id)"
            " SELECT o.library, o.key, x'', (SELECT sync_id FROM manifest LIMIT 1), 'another boot' FROM origins o"
        )


@pytest.mark.needs_sshd
@pytest.mark.parametrize("point", LANDING_POINTS)
def test_i5_a_landing_killed_at_a_named_point_loses_doubles_and_replaces_nothing(installation: Installation, point: str) -> None:
    write(installation, "d/a.wav", b"first", _FIRST)
    write(installation, "d/a.txt", b"second's prompt", _SECOND + 1)
    write(installation, "d/log.csv", b"one", _FIRST)
    write(installation, "d/torn.bin", b"content", _FIRST)
    write(installation, "d/x.bin", b"same", _FIRST)
    assert installation.sync().code == 0
    crash_the_machine(installation)
    write(installation, "d/a.wav", b"second", _SECOND)
    write(installation, "d/log.csv", b"one two", _SECOND)
    write(installation, "d/y.bin", b"same", _SECOND)
    result = installation.sync("--durability", "fast", "--duplicates", "hardlink", MEDIASYNC_CRASH_AT=point)
    assert (installation.home / "run" / f"crashed.{point}").exists(), "the point was never passed"
    assert result.code == 0, result.err
    found = {path.relative_to(installation.library / "d").as_posix(): path.read_bytes() for path in (installation.library / "d").iterdir()}
    assert found == {
        "a.wav": b"first",
        "a.txt": b"second's prompt",
        f"a{_MARK}.wav": b"second",
        f"a{_MARK}.txt": b"second's prompt",
        "log.csv": b"one two",
        "torn.bin": b"content",
        "x.bin": b"same",
        "y.bin": b"same",
    }
    assert (installation.library / "d/x.bin").samefile(installation.library / "d/y.bin")
    own = installation.library / ".mediasync"
    assert {path.read_bytes() for path in (own / "replaced").rglob("*.csv")} == {b"one"}
    assert [path.name for path in (own / "torn").rglob("*") if path.is_file()] == ["torn.bin"]
    assert list((own / "staging").iterdir()) == []
    with closing(sqlite3.connect(installation.home / "transfer.db")) as database:
        for table in ("landings", "unflushed", "processing", "outbox"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
        assert database.execute("SELECT count(*) FROM manifest").fetchone() == (6,)
        assert database.execute("SELECT count(*) FROM library_files").fetchone() == (8,)
