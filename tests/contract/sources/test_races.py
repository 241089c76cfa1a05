"""Files that move while they are read."""

from __future__ import annotations

import asyncio
import os
import shutil

from mediasync.sources.base import Connection, ReadStatus, WantedFile
from tests.fixtures.backends import LARGE, Backend, Can, lacks, needs
from tests.fixtures.sources import Collector, FarSide, read, scan, want


async def test_a_file_that_changes_under_the_read_is_not_taken(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", bytes(LARGE))
    far.put("y.txt", b"after it")
    found = await scan(connection)

    def change(wanted: WantedFile) -> None:
        if not changed:
            changed.append(True)
            with file.open("r+b") as target:
                target.seek(LARGE - 5)
                target.write(b"other")

    changed: list[bool] = []
    sinks = Collector(change)
    outcomes = await read(connection, [want(found.files[b"x.bin"]), want(found.files[b"y.txt"])], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.CHANGED, ReadStatus.OK]
    assert outcomes[0].entry is not None
    assert outcomes[0].entry.mtime_ns // 10**9 == file.stat().st_mtime_ns // 10**9
    assert sinks.files[b"y.txt"] == b"after it"


async def test_a_file_that_is_cut_under_the_read_is_told_and_disturbs_none_behind_it(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", b"x" * LARGE)
    far.put("y.txt", b"after it")
    found = await scan(connection)
    cut: list[bool] = []

    def truncate(wanted: WantedFile) -> None:
        if not cut:
            cut.append(True)
            os.truncate(file, LARGE // 2)

    sinks = Collector(truncate)
    outcomes = await read(connection, [want(found.files[b"x.bin"]), want(found.files[b"y.txt"])], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.CHANGED, ReadStatus.OK]
    assert len(sinks.files[b"x.bin"]) <= LARGE
    assert sinks.files[b"y.txt"] == b"after it"


@needs(Can.HOLD)
async def test_a_file_deleted_under_the_read_is_still_taken(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", b"x" * LARGE)
    found = await scan(connection)
    sinks = Collector(lambda wanted: file.unlink(missing_ok=True))
    (outcome,) = await read(connection, [want(found.files[b"x.bin"])], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files[b"x.bin"] == b"x" * LARGE


async def test_a_file_that_is_gone_is_vanished(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt")
    far.put("b/x.txt")
    found = await scan(connection)
    (far.root / "a" / "x.txt").unlink()
    shutil.rmtree(far.root / "b")
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [(outcome.status, outcome.entry) for outcome in outcomes] == [(ReadStatus.VANISHED, None)] * 2
    assert sinks.files == {}


async def test_a_file_that_is_not_what_the_scan_saw_is_not_sent(backend: Backend, far: FarSide, connection: Connection) -> None:
    replaced = ("replaced",) if Can.INODE in backend.capabilities else ()
    files = {name: far.put(f"{name}.txt", b"before") for name in ("grown", "touched", *replaced, "linked", "directory", "fifo")}
    found = await scan(connection)
    files["grown"].write_bytes(b"before and after")
    os.utime(files["touched"], (1e9, 1e9))
    for name in (*replaced, "linked", "directory", "fifo"):
        status = files[name].stat()
        files[name].rename(far.root / f"{name}.was")
        if name == "replaced":
            files[name].write_bytes(b"before")
            os.utime(files[name], ns=(status.st_atime_ns, status.st_mtime_ns))
        elif name == "linked":
            files[name].symlink_to(far.root / f"{name}.was")
        elif name == "directory":
            files[name].mkdir()
        else:
            os.mkfifo(files[name])
    sinks = Collector()
    async with asyncio.timeout(20):
        outcomes = {outcome.wanted.path: outcome for outcome in await read(connection, map(want, found.files.values()), sinks)}
    assert {outcome.status for outcome in outcomes.values()} == {ReadStatus.CHANGED}
    assert sinks.files == {}
    for name in ("grown", "touched", *replaced):
        entry = outcomes[f"{name}.txt".encode()].entry
        assert entry is not None
        assert (entry.size_bytes, entry.mtime_ns // 10**9) == (files[name].stat().st_size, files[name].stat().st_mtime_ns // 10**9)
    for name in ("linked", "directory", "fifo"):
        assert outcomes[f"{name}.txt".encode()].entry is None


@lacks(Can.HOLD)
async def test_a_file_deleted_under_the_read_is_not_taken_for_whole(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", b"x" * LARGE)
    found = await scan(connection)
    sinks = Collector(lambda wanted: file.unlink(missing_ok=True))
    (outcome,) = await read(connection, [want(found.files[b"x.bin"])], sinks)
    assert outcome.status in (ReadStatus.CHANGED, ReadStatus.VANISHED) or sinks.files[b"x.bin"] == b"x" * LARGE
