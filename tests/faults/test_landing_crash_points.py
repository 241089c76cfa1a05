"""SIGKILL at the points that only some landings pass: a duplicate, a rewritten file, a sidecar, fast landing, a torn file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.installation import Result
from tests.fixtures.mortal import Mortal, until

LANDING_POINTS = (
    "transfer.after_aside",
    "transfer.after_copy",
    "transfer.after_link",
    "transfer.after_torn",
    "transfer.before_flush",
)
_FIRST, _SECOND = 1_790_000_000, 1_790_003_600
_MARK = "~20260921T151320"


def crash_the_machine(mortal: Mortal, library: Path, sync_id: str) -> None:
    """As if the machine had crashed before the first sync was flushed: one file's bytes are gone."""
    torn = library / "d/torn.bin"
    torn.write_bytes(b"")
    os.utime(torn, (_FIRST, _FIRST))
    with closing(sqlite3.connect(mortal.installation.home / "transfer.db")) as database, database:
        database.execute(
            "INSERT INTO unflushed (library, origin, folder, sync_id, boot_id)"
            " SELECT DISTINCT o.library, o.key, x'', m.sync_id, 'another boot'"
            " FROM origins o JOIN manifest m ON m.origin = o.key WHERE m.sync_id = ?",
            [sync_id],
        )


@pytest.mark.needs_sshd
@pytest.mark.parametrize("point", LANDING_POINTS)
def test_i5_a_landing_killed_at_a_named_point_loses_doubles_and_replaces_nothing(mortal: Mortal, point: str) -> None:
    installation = mortal.installation
    (library := installation.folder / point).mkdir()

    def write(path: str, content: bytes, time: int) -> None:
        os.utime(installation.write(f"{point}/{path}", content), (time, time))

    def sync(*options: str) -> Result:
        result = installation.run("sync", f"{installation.url}/{point}", library, *installation.login, "--json", *options)
        assert result.code == 0, result.err
        return result

    write("d/a.wav", b"first", _FIRST)
    write("d/a.txt", b"second's prompt", _SECOND + 1)
    write("d/log.csv", b"one", _FIRST)
    write("d/torn.bin", b"content", _FIRST)
    write("d/x.bin", b"same", _FIRST)
    crash_the_machine(mortal, library, sync().json["sync_id"])
    write("d/a.wav", b"second", _SECOND)
    write("d/log.csv", b"one two", _SECOND)
    write("d/y.bin", b"same", _SECOND)
    mortal.arm(point)
    sync_id = sync("--durability", "fast", "--duplicates", "hardlink").json["sync_id"]
    assert mortal.died, "the point was never passed"
    found = {path.relative_to(library / "d").as_posix(): path.read_bytes() for path in (library / "d").iterdir()}
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
    assert (library / "d/x.bin").samefile(library / "d/y.bin")
    own = library / ".mediasync"
    assert {path.read_bytes() for path in (own / "replaced").rglob("*.csv")} == {b"one"}
    assert [path.name for path in (own / "torn").rglob("*") if path.is_file()] == ["torn.bin"]
    until(lambda: os.listdir(own / "staging") == [], lambda: f"left in staging: {os.listdir(own / 'staging')}")
    for table in ("landings", "unflushed", "processing", "outbox"):
        mortal.comes_to("transfer", f"SELECT count(*) FROM {table}", (0,))
    origin = f"SELECT origin FROM manifest WHERE sync_id = '{sync_id}'"
    mortal.comes_to("transfer", f"SELECT count(*) FROM manifest WHERE origin IN ({origin})", (6,))
    here = f"SELECT library FROM origins WHERE key IN ({origin})"
    mortal.comes_to("transfer", f"SELECT count(*) FROM library_files WHERE library IN ({here})", (8,))
