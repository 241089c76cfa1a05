"""Links and special files: never followed out of the root, never opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mediasync.sources.base import Connection, ReadStatus
from tests.fixtures.sources import Collector, FarSide, read, scan, want


async def test_links_and_special_files_are_counted_and_never_opened(far: FarSide, connection: Connection, tmp_path: Path) -> None:
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
    assert found.finished.files_filtered == 5


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
