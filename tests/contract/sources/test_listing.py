"""Full scans: every file, sorted, once."""

from __future__ import annotations

import os

import pytest

from mediasync.sources.base import Connection, DirectoryScanned, ReadStatus, ScanFinished
from tests.fixtures.backends import Backend, Can, needs
from tests.fixtures.sources import Collector, FarSide, read, scan, want


async def test_a_full_scan_reports_every_file_sorted_within_its_directory(backend: Backend, far: FarSide, connection: Connection) -> None:
    for name in ("b", "a", "a/2", "a/10", "Z", "a-b/x", "a/c/d/e"):
        if not name.endswith(("a", "/c/d")):
            far.put(name + ".txt", name.encode())
    found = await scan(connection)
    assert set(found.files) == {b"b.txt", b"Z.txt", b"a/2.txt", b"a/10.txt", b"a-b/x.txt", b"a/c/d/e.txt"}
    assert set(found.directories) == {b"", b"a", b"a-b", b"a/c", b"a/c/d"}
    for record in found.directories.values():
        paths = [entry.path for entry in record.files]
        assert paths == sorted(paths)
        assert record.complete
        assert not record.more
        assert record.names is None
    entry = found.files[b"a/10.txt"]
    status = os.stat(far.root / "a" / "10.txt")
    assert (entry.size_bytes, entry.mtime_ns // 10**9) == (4, status.st_mtime_ns // 10**9)
    if Can.CTIME in backend.capabilities:
        assert (entry.mtime_ns, entry.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
        assert found.directories[b"a"].inode == os.stat(far.root / "a").st_ino
    assert entry.inode == (status.st_ino if Can.INODE in backend.capabilities else 0)
    assert isinstance(found.records[-1], ScanFinished)
    assert (found.finished.files_seen, found.finished.bytes_seen) == (6, sum(e.size_bytes for e in found.files.values()))
    assert abs(found.finished.started_ns - status.st_ctime_ns) < 60e9


async def test_a_scan_of_one_folder_stays_in_it(far: FarSide, connection: Connection) -> None:
    far.put("in/x.txt")
    far.put("in/below/y.txt")
    far.put("inside/z.txt")
    far.put("w.txt")
    found = await scan(connection, b"in")
    assert set(found.files) == {b"in/x.txt", b"in/below/y.txt"}
    assert set(found.directories) == {b"in", b"in/below"}


@pytest.mark.parametrize("folder", [b"nowhere", b"nowhere/below", b"file.txt", b"dangling"])
async def test_a_scan_of_a_folder_that_does_not_exist_just_ends(far: FarSide, connection: Connection, folder: bytes) -> None:
    far.put("file.txt")
    (far.root / "dangling").symlink_to("nowhere")
    found = await scan(connection, folder)
    assert found.records == [found.finished]
    assert found.finished.files_seen == 0


async def test_an_empty_root_is_one_empty_directory(far: FarSide, connection: Connection) -> None:
    found = await scan(connection)
    assert list(found.directories) == [b""]
    assert found.directories[b""].files == ()


async def test_a_very_large_directory_comes_in_pieces_that_follow_each_other(far: FarSide, connection: Connection) -> None:
    for number in range(2500):
        (far.root / f"{number:05}.txt").touch()
    (far.root / "below").mkdir()
    found = await scan(connection)
    pieces = [record for record in found.records if isinstance(record, DirectoryScanned) and record.path == b""]
    assert len(pieces) > 1
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert all(piece.complete for piece in pieces)
    paths = [entry.path for piece in pieces for entry in piece.files]
    assert paths == sorted(paths)
    assert len(set(paths)) == 2500


async def test_hundreds_of_folders_are_scanned_and_read(far: FarSide, connection: Connection) -> None:
    contents = {f"{number % 20}/{number}/{file}.txt".encode(): f"{number}-{file}".encode() for number in range(400) for file in range(2)}
    for path, content in contents.items():
        far.put(path, content)
    found = await scan(connection)
    assert set(found.files) == set(contents)
    assert len(found.directories) == 400 + 20 + 1
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [outcome.wanted.path for outcome in outcomes] == list(found.files)
    assert all(outcome.status is ReadStatus.OK for outcome in outcomes)
    assert {path: bytes(data) for path, data in sinks.files.items()} == contents


async def test_deep_folders_are_found(far: FarSide, connection: Connection) -> None:
    path = "/".join(["d" * 50] * 20) + "/x.txt"
    far.put(path)
    assert set((await scan(connection)).files) == {path.encode()}


@needs(Can.DENIED)
async def test_a_folder_that_cannot_be_read_is_a_result_and_the_rest_goes_on(far: FarSide, connection: Connection) -> None:
    far.put("closed/x.txt")
    far.put("open/y.txt")
    (far.root / "closed").chmod(0)
    try:
        found = await scan(connection)
    finally:
        (far.root / "closed").chmod(0o755)
    assert set(found.files) == {b"open/y.txt"}
    assert list(found.unreadable) == [b"closed"]
    assert "denied" in found.unreadable[b"closed"]
    assert b"closed" not in found.directories
