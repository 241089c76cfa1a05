"""When files were born and last read, in scans that ask for it; and whole directories by their columns."""

from __future__ import annotations

import os
import time

from mediasync.sources import packed
from mediasync.sources.base import Connection
from tests.fixtures.backends import Backend, Can, lacks, needs
from tests.fixtures.sources import FarSide, clock_tick, scan

DAY_NS = 86_400 * 10**9


async def test_ages_are_told_only_where_they_are_asked_for(backend: Backend, far: FarSide, connection: Connection) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        file = far.put(name)
        os.utime(file, ns=(1_700_000_000 * 10**9, file.stat().st_mtime_ns))
    (plain, aged) = (await scan(connection), await scan(connection, ages=True))
    assert list(aged.files) == list(plain.files)
    for path, entry in aged.files.items():
        before = plain.files[path]
        assert (before.birth_ns, before.accessed_ns) == (None, None)
        # Other ways to look may know finer times.
        assert (entry.size_bytes, entry.mtime_ns // 10**9) == (before.size_bytes, before.mtime_ns // 10**9)
        assert (entry.accessed_ns == 1_700_000_000 * 10**9) is (Can.ACCESS in backend.capabilities)


@needs(Can.BIRTH)
async def test_a_birth_is_the_files_own_whatever_its_other_times(far: FarSide, connection: Connection) -> None:
    began_ns = time.time_ns()
    far.put("old.png", age_seconds=1e6)
    (entry,) = (await scan(connection, ages=True)).files.values()
    assert entry.birth_ns is not None
    assert abs(entry.birth_ns - began_ns) < DAY_NS < began_ns - entry.mtime_ns


@lacks(Can.BIRTH)
async def test_a_birth_that_is_not_known_is_none(far: FarSide, connection: Connection) -> None:
    far.put("x.png")
    assert [entry.birth_ns for entry in (await scan(connection, ages=True)).files.values()] == [None]


async def test_a_directory_tells_its_columns_as_its_files_do(far: FarSide, connection: Connection) -> None:
    for number in range(20):
        far.put(f"a/{number:03}.png", bytes(number), age_seconds=1000.0 * number)
    for ages in (False, True):
        files = (await scan(connection, ages=ages)).directories[b"a"].files
        columns = [*zip(packed.names(files), packed.sizes(files), packed.modified(files), packed.changed(files), strict=True)]
        times = [*zip(packed.born(files), packed.accessed(files), strict=True)]
        picked = packed.picked(files, [3, 7])
        entries = list(files)
        assert picked == [entries[3], entries[7]]
        assert columns == [(e.path[2:], e.size_bytes, e.mtime_ns, e.ctime_ns) for e in entries]
        assert times == [(e.birth_ns, e.accessed_ns) for e in entries]


@needs(Can.CTIME)
async def test_an_exact_scan_tells_ages_of_what_moved(far: FarSide, connection: Connection) -> None:
    far.put("a/1.png")
    first = await scan(connection, ages=True)
    clock_tick(far.root, first.finished.started_ns)
    far.put("a/2.png")
    second = await scan(connection, since=first.finished.started_ns, known=first.known, ages=True)
    assert second.files[b"a/2.png"].accessed_ns is not None
    assert second.directories[b"a"].names == (b"1.png", b"2.png")
