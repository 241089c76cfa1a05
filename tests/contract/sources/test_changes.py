"""Exact scans: what moved since the last look, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mediasync.sources.base import Connection, DirectoryScanned
from tests.fixtures.backends import Can, lacks, needs
from tests.fixtures.sources import FarSide, clock_tick, scan


async def _base(far: FarSide, connection: Connection, tmp_path: Path) -> tuple[int, dict[bytes, int]]:
    """A full scan, and a moment after it from which changes are asked for."""
    found = await scan(connection)
    newest = max([entry.ctime_ns for entry in found.files.values()] + [os.stat(far.root).st_ctime_ns])
    return clock_tick(tmp_path, newest), found.known


@needs(Can.CTIME)
async def test_an_exact_scan_reports_nothing_where_nothing_moved(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    for number in range(5):
        far.put(f"a/{number}.txt", b"12345")
    since, known = await _base(far, connection, tmp_path)
    found = await scan(connection, b"", since, known)
    assert found.files == {}
    assert set(found.directories) == set(known)
    assert all(record.names is None and not record.complete for record in found.directories.values())
    assert (found.finished.files_seen, found.finished.bytes_seen) == (5, 25)


@needs(Can.CTIME)
async def test_an_exact_scan_finds_an_added_file_and_the_names_beside_it(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/old.txt")
    far.put("b/old.txt")
    since, known = await _base(far, connection, tmp_path)
    far.put("a/new.txt")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/new.txt"}
    assert found.directories[b"a"].names == (b"new.txt", b"old.txt")
    assert not found.directories[b"a"].complete
    assert found.directories[b"b"].names is None


@needs(Can.CTIME)
async def test_an_exact_scan_finds_a_file_changed_in_place_with_its_old_mtime(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    file = far.put("a/x.txt", b"before")
    far.put("a/y.txt")
    since, known = await _base(far, connection, tmp_path)
    before = file.stat()
    with file.open("r+b") as target:
        target.write(b"after!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/x.txt"}
    assert found.files[b"a/x.txt"].mtime_ns == before.st_mtime_ns
    assert found.directories[b"a"].names is None


@needs(Can.CTIME)
async def test_an_exact_scan_finds_a_copy_that_kept_its_mtime(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    original = far.put("a/x.txt", age_seconds=1e8)
    since, known = await _base(far, connection, tmp_path)
    shutil.copy2(original, far.root / "a" / "copy.txt")
    assert set((await scan(connection, b"", since, known)).files) == {b"a/copy.txt"}


@needs(Can.CTIME)
async def test_an_exact_scan_finds_a_file_renamed_into_a_folder(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    outside = tmp_path / "outside.txt"
    outside.write_text("old")
    os.utime(outside, (1e9, 1e9))
    since, known = await _base(far, connection, tmp_path)
    outside.rename(far.root / "a" / "moved.txt")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/moved.txt"}
    assert found.directories[b"a"].names == (b"moved.txt", b"x.txt")


@needs(Can.CTIME)
async def test_an_exact_scan_reports_a_moved_in_directory_in_full(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "below" / "y.txt").write_text("old")
    (outside / "z.txt").write_text("old")
    since, known = await _base(far, connection, tmp_path)
    outside.rename(far.root / "b")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"b/z.txt", b"b/below/y.txt"}
    assert found.directories[b"b"].complete
    assert found.directories[b"b/below"].complete
    assert not found.directories[b"a"].complete


@needs(Can.CTIME, Can.INODE)
async def test_an_exact_scan_reports_swapped_directories_in_full(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt", b"from a")
    far.put("b/x.txt", b"from b!")
    since, known = await _base(far, connection, tmp_path)
    (far.root / "a").rename(tmp_path / "swap")
    (far.root / "b").rename(far.root / "a")
    (tmp_path / "swap").rename(far.root / "b")
    found = await scan(connection, b"", since, known)
    assert {path: entry.size_bytes for path, entry in found.files.items()} == {b"a/x.txt": 7, b"b/x.txt": 6}
    assert found.directories[b"a"].complete
    assert found.directories[b"b"].complete


@needs(Can.CTIME)
async def test_an_exact_scan_shows_what_vanished_by_the_names_left(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/gone.txt")
    far.put("a/stays.txt")
    far.put("b/x.txt")
    far.put("c/x.txt")
    since, known = await _base(far, connection, tmp_path)
    (far.root / "a" / "gone.txt").unlink()
    (far.root / "b" / "x.txt").unlink()
    shutil.rmtree(far.root / "c")
    found = await scan(connection, b"", since, known)
    assert found.directories[b"a"].names == (b"stays.txt",)
    assert found.directories[b"b"].names == ()
    assert b"c" not in found.directories
    assert found.files == {}


async def test_an_exact_scan_of_a_moved_directory_too_large_for_one_record_is_complete(
    far: FarSide, connection: Connection, tmp_path: Path
) -> None:
    for number in range(1500):
        far.put(f"a/{number}.txt", b"")
    since, known = await _base(far, connection, tmp_path)
    far.put("a/new.txt")
    found = await scan(connection, b"", since, known)
    pieces = [record for record in found.records if isinstance(record, DirectoryScanned) and record.path == b"a"]
    assert all(piece.complete and piece.names is None for piece in pieces)
    assert len({entry.path for piece in pieces for entry in piece.files}) == 1501


@needs(Can.CTIME)
async def test_many_known_directories_can_be_told(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    since, known = await _base(far, connection, tmp_path)
    others = {b"nowhere/%06d" % number: number for number in range(30_000)}
    found = await scan(connection, b"", since, others | known)
    assert found.files == {}


@lacks(Can.CTIME)
async def test_an_exact_scan_without_ctimes_reports_everything(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    file = far.put("b/y.txt", b"before")
    since, known = await _base(far, connection, tmp_path)
    file.write_bytes(b"after!")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/x.txt", b"b/y.txt"}
    assert all(record.complete for record in found.directories.values())
