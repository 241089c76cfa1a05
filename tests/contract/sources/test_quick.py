"""Quick scans: only the known directories, and what is in those that moved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mediasync.sources.base import Connection
from tests.fixtures.backends import Can, lacks, needs
from tests.fixtures.sources import FarSide, clock_tick, scan


async def _base(far: FarSide, connection: Connection, tmp_path: Path) -> tuple[int, dict[bytes, int]]:
    found = await scan(connection)
    newest = max(os.stat(folder).st_mtime_ns for folder, _, _ in os.walk(far.root))
    return clock_tick(tmp_path, newest), found.known


@needs(Can.QUICK, Can.FINE_TIMES)
async def test_nothing_is_said_of_what_did_not_move(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    far.put("a/b/y.txt")
    since, known = await _base(far, connection, tmp_path)
    found = await scan(connection, b"", since, known, quick=True)
    assert found.records == [found.finished]
    assert found.finished.files_seen == 0


@needs(Can.QUICK, Can.FINE_TIMES)
async def test_a_directory_that_moved_is_reported_in_full_and_so_is_what_is_new_in_it(
    far: FarSide, connection: Connection, tmp_path: Path
) -> None:
    far.put("a/old.txt")
    far.put("a/known/old.txt")
    far.put("b/old.txt")
    since, known = await _base(far, connection, tmp_path)
    far.put("a/new.txt")
    far.put("a/unknown/deep/new.txt")
    found = await scan(connection, b"", since, known, quick=True)
    assert set(found.directories) == {b"a", b"a/unknown", b"a/unknown/deep"}
    assert all(record.complete for record in found.directories.values())
    assert set(found.files) == {b"a/old.txt", b"a/new.txt", b"a/unknown/deep/new.txt"}
    assert found.gone == []


async def test_a_directory_that_is_gone_is_said(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/b/x.txt")
    far.put("c/x.txt")
    far.put("d/x.txt")
    since, known = await _base(far, connection, tmp_path)
    shutil.rmtree(far.root / "a")
    shutil.rmtree(far.root / "d")
    (far.root / "d").write_text("a file now")
    found = await scan(connection, b"", since, known, quick=True)
    assert sorted(found.gone) == [b"a", b"a/b", b"d"]
    assert b"d" in found.files


@needs(Can.QUICK, Can.INODE)
async def test_a_directory_in_anothers_place_is_reported_in_full(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt", b"from a")
    far.put("b/x.txt", b"from b!")
    since, known = await _base(far, connection, tmp_path)
    (far.root / "a").rename(tmp_path / "swap")
    (far.root / "b").rename(far.root / "a")
    (tmp_path / "swap").rename(far.root / "b")
    found = await scan(connection, b"", since, known, quick=True)
    assert {path: entry.size_bytes for path, entry in found.files.items()} == {b"a/x.txt": 7, b"b/x.txt": 6}


@needs(Can.QUICK)
async def test_a_quick_scan_of_one_folder_looks_only_there(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("in/x.txt")
    far.put("inside/x.txt")
    since, known = await _base(far, connection, tmp_path)
    far.put("in/y.txt")
    far.put("inside/y.txt")
    found = await scan(connection, b"in", since, known, quick=True)
    assert set(found.directories) == {b"in"}


async def test_a_quick_scan_of_a_folder_that_is_gone_says_so_of_all_in_it(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("in/a/x.txt")
    far.put("out/x.txt")
    since, known = await _base(far, connection, tmp_path)
    shutil.rmtree(far.root / "in")
    found = await scan(connection, b"in", since, known, quick=True)
    assert sorted(found.gone) == [b"in", b"in/a"]
    assert found.directories == {}


@lacks(Can.QUICK)
async def test_an_engine_that_looks_at_everything_finds_what_is_new(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/old.txt")
    since, known = await _base(far, connection, tmp_path)
    far.put("a/new/new.txt")
    assert b"a/new/new.txt" in (await scan(connection, b"", since, known, quick=True)).files


@needs(Can.QUICK)
@lacks(Can.FINE_TIMES)
async def test_what_moved_in_the_second_before_is_reported_where_times_are_whole_seconds(
    far: FarSide, connection: Connection, tmp_path: Path
) -> None:
    far.put("a/x.txt")
    far.put("b/y.txt")
    os.utime(far.root / "a", (1e9, 1e9))
    since, known = await _base(far, connection, tmp_path)
    far.put("b/new.txt")
    found = await scan(connection, b"", since, known, quick=True)
    assert b"a" not in found.directories
    assert {b"b/y.txt", b"b/new.txt"} <= set(found.files)
