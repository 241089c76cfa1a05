"""A large pull begins while the scan still runs: whatever happens to either of them, no file comes twice, is counted twice or left out."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncOptions, SyncSummary
from mediasync.sources.agent.connection import AgentConnection
from mediasync.sources.base import DirectoryScanned, FileEntry, ScanRecord, ScanRequest
from services.transfer import flow as flows
from services.transfer.flow import WantedFlow
from services.transfer.space import GrowingNeed, SpaceGuard
from services.transfer.spool import WantedSpool
from services.transfer.tally import UnitTally
from tests.fixtures.transfer_worker import WorkerBench

_FOLDERS, _FILES = 6, 4


class SlowScan:
    """Scans that wait in the middle until so many files are in the library, and then do as they are told."""

    def __init__(self, bench: WorkerBench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.landed = asyncio.Event()
        self.landings_awaited = 1
        self.before: Callable[[DirectoryScanned], None] = lambda record: None
        self.middle: Callable[[], None] = lambda: None
        self.goes_on = True
        self.scans = 0
        self.totals: list[tuple[int, int]] = []
        scan = AgentConnection.scan

        async def slow(connection: AgentConnection, request: ScanRequest) -> AsyncIterator[ScanRecord]:
            self.scans += 1
            directories = 0
            async with contextlib.aclosing(scan(connection, request)) as records:  # type: ignore[type-var]
                async for record in records:
                    if isinstance(record, DirectoryScanned):
                        self.before(record)
                        directories += 1
                    yield record
                    if directories == _FOLDERS // 2 and isinstance(record, DirectoryScanned):
                        await self.landed.wait()
                        self.middle()
                        while not self.goes_on:
                            await asyncio.sleep(3600)

        def progressed(tally: UnitTally) -> None:
            rows = tally.progress().folders
            done = sum(row.files_done for row in rows)
            self.totals.append((done, sum(row.files_total for row in rows)))
            if done >= self.landings_awaited:
                self.landed.set()

        monkeypatch.setattr(AgentConnection, "scan", slow)
        bench.on_progress = progressed


@pytest.fixture
def slow(worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch) -> SlowScan:
    """Any pull is a large one."""
    monkeypatch.setattr(flows, "is_large", lambda files, size_bytes: files > 0)
    return SlowScan(worker_bench, monkeypatch)


def _fill(bench: WorkerBench) -> int:
    for folder in range(_FOLDERS):
        for file in range(_FILES):
            bench.write(f"{folder}/{file}.txt", b"%d of %d" % (file, folder))
    return _FOLDERS * _FILES


async def _everything_once(bench: WorkerBench, summary: SyncSummary, files: int) -> None:
    assert (summary.files_transferred, summary.files_failed, summary.files_unsettled) == (files, 0, 0)
    source = {
        os.fsencode(path.relative_to(bench.source_root)): path.read_bytes() for path in bench.source_root.rglob("*") if path.is_file()
    }
    assert bench.visible() == source
    rows = bench.tally().progress().folders
    assert (sum(row.files_done for row in rows), sum(row.files_total for row in rows)) == (files, files)
    assert sum(row.bytes_done for row in rows) == sum(row.bytes_total for row in rows) == sum(map(len, source.values()))
    assert len(await bench.queues.unsent_events(1000)) == files + 1, "of each file, and of the folder"
    assert bench.staged() == []


async def test_files_land_while_the_scan_still_runs(worker_bench: WorkerBench, slow: SlowScan) -> None:
    files = _fill(worker_bench)
    await _everything_once(worker_bench, await worker_bench.sync(), files)
    again = await worker_bench.sync("sync_2")
    assert (again.files_transferred, again.files_unchanged) == (0, files)


async def test_a_scan_that_breaks_after_files_were_pulled_brings_and_counts_none_twice(worker_bench: WorkerBench, slow: SlowScan) -> None:
    files = _fill(worker_bench)

    def break_once() -> None:
        if slow.scans == 1:
            raise MediasyncError(Reason.CONNECTION_LOST, "cut in the middle of a scan")

    slow.middle = break_once
    await _everything_once(worker_bench, await worker_bench.sync(), files)
    assert slow.scans == 2
    assert [done for done, _ in slow.totals] == sorted(done for done, _ in slow.totals), "what is done never goes back"
    assert all(done <= total for done, total in slow.totals)


async def test_what_did_not_come_before_a_scan_broke_is_counted_once(worker_bench: WorkerBench, slow: SlowScan) -> None:
    files = _fill(worker_bench)
    (worker_bench.source_root / "0" / "0.txt").chmod(0)
    worker_bench.write("0/half.png", b"\x89PNG\r\n\x1a\n")
    os.utime(worker_bench.source_root / "0" / "half.png", (os.stat(worker_bench.source_root).st_mtime - 60,) * 2)
    gone = worker_bench.source_root / "0" / "1.txt"
    slow.landings_awaited = _FILES - 2  # in folder 0 everything is settled then, as far as it can be

    def vanish(record: DirectoryScanned) -> None:
        if record.path == b"0":
            gone.unlink(missing_ok=True)

    def break_once() -> None:
        if slow.scans == 1:
            raise MediasyncError(Reason.CONNECTION_LOST, "cut in the middle of a scan")

    slow.before, slow.middle = vanish, break_once
    summary = await worker_bench.sync()
    assert (summary.files_transferred, summary.files_failed, summary.files_unsettled) == (files - 2, 1, 1)
    assert (summary.files_unchanged, summary.problems_total) == (0, 1)
    (row,) = [row for row in worker_bench.tally().progress().folders if row.folder == b"0"]
    assert (row.files_done, row.files_failed) == (_FILES - 2, 1)
    (worker_bench.source_root / "0" / "0.txt").chmod(0o644)
    assert (await worker_bench.sync("sync_2")).files_transferred == 1, "its folder is listed in full by the next scan"


async def test_a_file_that_changes_after_it_was_found_is_pulled_as_it_is_then(worker_bench: WorkerBench, slow: SlowScan) -> None:
    files = _fill(worker_bench)
    changed = worker_bench.source_root / "0" / "3.txt"
    content = changed.read_bytes() + b" and more"

    def change(record: DirectoryScanned) -> None:
        if record.path == b"0":
            changed.write_bytes(content)

    slow.before = change
    await _everything_once(worker_bench, await worker_bench.sync(), files)
    assert worker_bench.visible()[b"0/3.txt"] == content


async def test_a_sync_that_is_cancelled_while_both_run_goes_on_the_next_time(worker_bench: WorkerBench, slow: SlowScan) -> None:
    files = _fill(worker_bench)
    slow.goes_on = False
    syncing = asyncio.create_task(worker_bench.sync())
    await slow.landed.wait()
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    assert worker_bench.staged() == []
    landed = len(worker_bench.visible())
    assert 0 < landed < files
    slow.goes_on = True
    await _everything_once(worker_bench, await worker_bench.sync(), files)


async def test_a_source_that_is_lost_for_good_ends_a_pull_and_a_scan_that_waits(worker_bench: WorkerBench, slow: SlowScan) -> None:
    _fill(worker_bench)
    slow.goes_on = False

    def lose() -> None:
        for source in worker_bench.sources.values():
            source.gone = True
            source.kill()
        slow.goes_on = True

    slow.middle = lose
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync()
    assert caught.value.reason is Reason.CONNECTION_LOST
    assert worker_bench.staged() == []
    assert worker_bench.visible()


async def test_i1_a_reserve_that_is_reached_in_the_middle_of_a_scan_ends_the_sync_and_is_left_free(
    worker_bench: WorkerBench, slow: SlowScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _fill(worker_bench)
    check = SpaceGuard.check

    def full(guard: SpaceGuard, incoming_bytes: int = 0) -> None:
        if slow.landed.is_set():
            raise MediasyncError(Reason.LIBRARY_RESERVE, "somebody else filled the disk")
        check(guard, incoming_bytes)

    monkeypatch.setattr(SpaceGuard, "check", full)
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync()
    assert caught.value.reason is Reason.LIBRARY_RESERVE
    assert worker_bench.staged() == []
    assert 0 < len(worker_bench.visible()) < files
    monkeypatch.setattr(SpaceGuard, "check", check)
    await _everything_once(worker_bench, await worker_bench.sync(), files)


async def test_what_has_to_come_is_held_against_the_space_as_it_grows() -> None:
    asked: list[int] = []
    need = GrowingNeed(asked.append)
    for _ in range(8):
        need.needed(16 << 20)
    assert asked == [64 << 20, 128 << 20]
    need.taken(100 << 20)
    need.needed(64 << 20)
    assert asked[-1] == 92 << 20


# The flow itself.


def _entries(count: int) -> Iterator[FileEntry]:
    return (FileEntry(b"a/%d" % number, 1 << 20, number, number, number) for number in range(count))


async def test_a_flow_holds_no_more_than_a_moment_of_a_fast_line(tmp_path: Path) -> None:
    flow, rest = WantedFlow(SyncOptions()), WantedSpool(tmp_path)
    for entry in _entries(1000):
        if not flow.offer(entry):
            rest.add(entry)
    assert (flow.files, flow.begun) == (128, True)
    flow.complete(rest)
    assert (flow.files, flow.size_bytes, flow.rest_bytes) == (1000, 1000 << 20, 1000 << 20)
    seen = []
    while (batch := await flow.next()) is not None:
        assert sum(file.size_bytes for file in batch) <= flows.BATCH_BYTES
        seen += [file.path for file in batch]
    assert sorted(seen) == sorted(entry.path for entry in _entries(1000))
    rest.close()


async def test_a_flow_that_is_settled_hands_out_nothing_new_and_what_a_lane_gave_back() -> None:
    handed: list[FileEntry] = []
    flow = WantedFlow(SyncOptions(), handed.append)
    for entry in _entries(20):
        flow.offer(entry)
    first = await flow.next()
    assert first is not None
    assert [entry.path for entry in handed] == [file.path for file in first]
    settling = asyncio.create_task(flow.settle())
    await asyncio.sleep(0)
    assert await flow.next(60.0) is None, "a lane that could ask for more is let go at once"
    flow.give_back(first)
    assert await flow.next() == first
    assert not settling.done()
    flow.settled(len(first))
    await settling
    assert len(flow.take_back()) == 20 - len(first)
    assert flow.files == len(first)


async def test_a_small_pull_never_begins() -> None:
    flow = WantedFlow(SyncOptions())
    beginning = asyncio.create_task(flow.large())
    flow.offer(next(_entries(1)))
    await asyncio.sleep(0)
    assert not beginning.done()
    flow.close()
    assert not await beginning
