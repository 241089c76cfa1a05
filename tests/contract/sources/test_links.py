"""Links and special files: never followed out of the root, never opened."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mediasync.model import FilterReason, FollowSymlinks
from mediasync.sources.base import Connection, DeleteStatus, DoomedFile, ReadStatus
from mediasync.sources.selection import Selection
from tests.fixtures.backends import Backend, Can, needs
from tests.fixtures.sources import Collector, FarSide, Scanned, clock_tick, read, scan, want


async def test_links_and_special_files_are_counted_and_never_opened(
    backend: Backend, far: FarSide, connection: Connection, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    far.put("real.txt")
    (far.root / "link.txt").symlink_to(outside / "secret.txt")
    (far.root / "linked").symlink_to(outside)
    (far.root / "loop").symlink_to(".")
    os.mkfifo(far.root / "fifo.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(far.root, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/socket.txt")
        os.close(directory)
        found = await scan(connection)
    assert set(found.files) == {b"real.txt"}
    assert found.finished.files_filtered == (5 if Can.SOCKETS in backend.capabilities else 4)


async def test_a_folder_that_the_user_named_may_be_a_link(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    (outside / "2026").mkdir(parents=True)
    (outside / "2026" / "x.txt").write_text("linked")
    os.utime(outside / "2026" / "x.txt", (1e9, 1e9))
    (far.root / "named").symlink_to(outside)
    assert (await scan(connection)).files == {}
    found = await scan(connection, b"named")
    assert set(found.files) == {b"named/2026/x.txt"}
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[b"named/2026/x.txt"])], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files == {b"named/2026/x.txt": b"linked"}


async def test_i7_a_folder_swapped_for_a_link_leads_nowhere(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/b/x.txt", b"inside")
    found = await scan(connection)
    outside = tmp_path / "outside"
    (far.root / "a").rename(outside)
    (far.root / "a").symlink_to(outside)
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[b"a/b/x.txt"])], sinks)
    assert outcome.status in (ReadStatus.VANISHED, ReadStatus.CHANGED)
    assert sinks.files == {}


def _names(found: Scanned) -> set[str]:
    return {path.decode() for path in found.files}


FILES, ALL = Selection(FollowSymlinks.FILES), Selection(FollowSymlinks.ALL)


@pytest.fixture
def linked(far: FarSide, tmp_path: Path) -> FarSide:
    """A root with links of every kind."""
    (tmp_path / "outside" / "folder").mkdir(parents=True)
    (tmp_path / "outside" / "folder" / "secret.txt").write_text("secret")
    far.put("real/x.txt", b"inside")
    far.put("real/deep/y.txt", b"deep")
    links = {
        "to-file.txt": "real/x.txt",
        "to-link.txt": "to-file.txt",
        "absolute.txt": str(far.root / "real" / "x.txt"),
        "a/up.txt": "../real/x.txt",
        "through.txt": "to-folder/y.txt",
        "to-folder": "real/deep",
        "out.txt": str(tmp_path / "outside" / "folder" / "secret.txt"),
        "out-by-dots.txt": "../outside/folder/secret.txt",
        "out-folder": str(tmp_path / "outside"),
        "dangling.txt": "nowhere",
        "itself.txt": "itself.txt",
        "real/loop": "..",
        "root": ".",
        ".hidden-link.txt": "real/x.txt",
        "device.txt": "/dev/null",
    }
    (far.root / "a").mkdir()
    for name, target in links.items():
        (far.root / name).symlink_to(target)
    return far


@needs(Can.FOLLOW)
async def test_links_to_files_in_the_root_are_files_when_they_are_followed(linked: FarSide, connection: Connection) -> None:
    found = await scan(connection, selection=FILES, explain=True)
    files = {"real/x.txt", "real/deep/y.txt", "to-file.txt", "to-link.txt", "absolute.txt", "a/up.txt", "through.txt"}
    assert _names(found) == files
    entry, target = found.files[b"a/up.txt"], (linked.root / "real" / "x.txt").stat()
    assert (entry.size_bytes, entry.mtime_ns // 10**9, entry.inode) == (6, target.st_mtime_ns // 10**9, found.files[b"real/x.txt"].inode)
    assert found.filtered == {
        b"to-folder": FilterReason.LINK,
        b"out.txt": FilterReason.OUTSIDE,
        b"out-by-dots.txt": FilterReason.OUTSIDE,
        b"out-folder": FilterReason.LINK,
        b"dangling.txt": FilterReason.LINK,
        b"itself.txt": FilterReason.LINK,
        b"real/loop": FilterReason.LINK,
        b"root": FilterReason.LINK,
        b".hidden-link.txt": FilterReason.HIDDEN,
        b"device.txt": FilterReason.OUTSIDE,
    }
    sinks = Collector()
    outcomes = await read(connection, map(want, found.files.values()), sinks, FILES)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert sinks.files[b"through.txt"] == b"deep"
    assert sinks.files[b"to-link.txt"] == b"inside"


@needs(Can.FOLLOW)
async def test_links_to_folders_in_the_root_are_looked_into_and_loops_are_not(
    backend: Backend, linked: FarSide, connection: Connection, tmp_path: Path
) -> None:
    found = await scan(connection, selection=ALL, explain=True)
    assert b"to-folder/y.txt" in found.files
    assert _names(found) >= {"real/x.txt", "real/deep/y.txt", "to-file.txt", "through.txt", "to-folder/y.txt"}
    assert not any("secret" in name for name in _names(found))
    assert {path: found.filtered.get(path) for path in (b"out-folder", b"real/loop", b"root")} == dict.fromkeys(
        (b"out-folder", b"real/loop", b"root"), FilterReason.OUTSIDE
    )
    sinks = Collector()
    outcomes = await read(connection, map(want, found.files.values()), sinks, ALL)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert sinks.files[b"to-folder/y.txt"] == b"deep"
    newest = max(entry.ctime_ns for entry in found.files.values())
    again = await scan(connection, b"", clock_tick(tmp_path, newest), found.known, selection=ALL)
    assert again.files == ({} if Can.CTIME in backend.capabilities else found.files)


@needs(Can.FOLLOW)
async def test_a_link_is_not_read_where_links_are_not_followed(linked: FarSide, connection: Connection) -> None:
    found = await scan(connection, selection=ALL)
    wanted = [want(found.files[path]) for path in (b"to-file.txt", b"to-folder/y.txt", b"real/x.txt")]
    sinks = Collector()
    outcomes = await read(connection, wanted, sinks)
    assert outcomes[0].status is ReadStatus.CHANGED
    assert outcomes[1].status in (ReadStatus.VANISHED, ReadStatus.CHANGED)
    assert outcomes[2].status is ReadStatus.OK
    assert set(sinks.files) == {b"real/x.txt"}


@needs(Can.FOLLOW)
async def test_i7_a_followed_link_that_is_turned_out_of_the_root_leads_nowhere(
    linked: FarSide, connection: Connection, tmp_path: Path
) -> None:
    found = await scan(connection, selection=ALL)
    wanted = [want(found.files[path]) for path in (b"to-file.txt", b"to-folder/y.txt")]
    (tmp_path / "outside" / "y.txt").write_bytes(b"deep")
    for name, target in (("to-file.txt", linked.root / "real" / "x.txt"), ("to-folder", tmp_path / "outside")):
        (linked.root / name).unlink()
        (linked.root / name).symlink_to(target)
    (linked.root / "real" / "x.txt").rename(tmp_path / "x.txt")
    (linked.root / "real" / "x.txt").symlink_to(tmp_path / "x.txt")
    sinks = Collector()
    outcomes = await read(connection, wanted, sinks, ALL)
    assert {outcome.status for outcome in outcomes} <= {ReadStatus.VANISHED, ReadStatus.CHANGED}
    assert sinks.files == {}


@needs(Can.FOLLOW, Can.DELETE)
async def test_i3_a_followed_link_is_never_deleted_nor_what_it_leads_to(linked: FarSide, connection: Connection) -> None:
    entry = (await scan(connection, selection=ALL)).files[b"to-file.txt"]
    doomed = DoomedFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode, hashlib.sha256(b"inside").digest())

    async def feed() -> AsyncIterator[Sequence[DoomedFile]]:
        yield [doomed]

    (outcome,) = [outcome async for outcome in connection.delete_unchanged(feed())]
    assert outcome.status is DeleteStatus.CHANGED
    assert (linked.root / "to-file.txt").read_bytes() == b"inside"
