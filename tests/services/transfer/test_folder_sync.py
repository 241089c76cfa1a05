from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import shutil
import struct
import subprocess
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from mediasync.errors import CATALOG, MediasyncError, Reason
from mediasync.model import SyncSpec
from services.transfer.folder_sync import FolderSync
from services.transfer.space import SpaceGuard
from services.transfer.staging import RESUMABLE_BYTES
from services.transfer.tally import UnitTally
from tests.fixtures.disks import FailingDisk
from tests.fixtures.transfer_worker import WorkerBench


def png(content: bytes, *, complete: bool = True) -> bytes:
    """A PNG as far as its chunks go."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    end = chunk(b"IEND", b"") if complete else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0" * 13) + chunk(b"IDAT", content) + end


async def test_everything_comes_once_and_then_nothing(worker_bench: WorkerBench) -> None:
    for number in range(300):
        worker_bench.write(f"txt2img-images/2026-11-{number % 7 + 10}/{number:05}.txt", b"%d" % number)
    worker_bench.write("root.txt", b"root")
    first = await worker_bench.sync("sync_1")
    assert (first.files_transferred, first.files_unchanged, first.files_failed) == (301, 0, 0)
    assert first.bytes_transferred == sum(len(content) for content in worker_bench.visible().values())
    assert worker_bench.visible()[b"txt2img-images/2026-11-10/00000.txt"] == b"0"
    second = await worker_bench.sync("sync_2")
    assert (second.files_transferred, second.files_unchanged) == (0, 301)


async def test_a_new_file_and_one_changed_in_place_are_found_by_an_exact_scan(worker_bench: WorkerBench) -> None:
    changed = worker_bench.write("a/changed.txt", b"old")
    worker_bench.write("a/same.txt", b"same")
    await worker_bench.sync("sync_1")
    before = changed.stat()
    changed.write_bytes(b"new")  # same size
    os.utime(changed, ns=(before.st_mtime_ns, before.st_mtime_ns))  # and the time put back
    worker_bench.write("a/added.txt", b"added")
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_transferred, summary.files_unchanged) == (2, 1)
    contents = worker_bench.visible()
    assert contents[b"a/changed.txt"] == b"old"
    assert contents[b"a/added.txt"] == b"added"
    (second_name,) = [path for path in contents if path.startswith(b"a/changed~")]
    assert contents[second_name] == b"new"


async def test_a_file_that_was_only_touched_is_compared_and_counted_as_unchanged(worker_bench: WorkerBench) -> None:
    file = worker_bench.write("a.txt", b"same")
    await worker_bench.sync("sync_1")
    file.chmod(0o600)
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_transferred, summary.files_unchanged) == (0, 1)
    assert worker_bench.visible() == {b"a.txt": b"same"}


async def test_what_vanished_stays_in_the_library_and_its_name_may_come_back_as_another_picture(worker_bench: WorkerBench) -> None:
    file = worker_bench.write("output/ComfyUI_00001_.txt", b"first")
    worker_bench.write("gone/too.txt", b"x")
    await worker_bench.sync("sync_1")
    file.unlink()
    (worker_bench.source_root / "gone" / "too.txt").unlink()
    (worker_bench.source_root / "gone").rmdir()
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_vanished, summary.files_transferred) == (2, 0)
    worker_bench.write("output/ComfyUI_00001_.txt", b"second")
    assert (await worker_bench.sync("sync_3")).files_transferred == 1
    contents = worker_bench.visible()
    assert contents[b"output/ComfyUI_00001_.txt"] == b"first"
    assert b"second" in contents.values()
    assert b"gone/too.txt" in contents


async def test_a_half_written_picture_is_left_until_it_is_complete(worker_bench: WorkerBench) -> None:
    file = worker_bench.write("a.png", png(b"half", complete=False))
    summary = await worker_bench.sync("sync_1")
    assert (summary.files_transferred, summary.files_unsettled, summary.files_failed) == (0, 1, 0)
    assert worker_bench.visible() == {}
    file.write_bytes(png(b"half and half"))
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_transferred, summary.files_unsettled) == (1, 0)


async def test_a_picture_that_is_finished_while_the_sync_runs_is_taken_by_it(worker_bench: WorkerBench) -> None:
    file = worker_bench.write("a.png", png(b"half", complete=False))

    def finish(tally: UnitTally) -> None:
        if tally.progress().current_stage.startswith("waiting") and file.stat().st_size < len(png(b"half and half")):
            file.write_bytes(png(b"half and half"))

    worker_bench.on_progress = finish
    summary = await worker_bench.sync()
    assert (summary.files_transferred, summary.files_unsettled) == (1, 0)
    assert worker_bench.visible() == {b"a.png": png(b"half and half")}
    (row,) = worker_bench.tally().progress().folders
    assert (row.bytes_done, row.bytes_total) == (len(png(b"half and half")),) * 2


async def test_a_file_that_never_completes_is_taken_in_the_end_and_marked(worker_bench: WorkerBench) -> None:
    file = worker_bench.write("a.png", png(b"half", complete=False))
    os.utime(file, (time.time() - 7200, time.time() - 7200))
    assert (await worker_bench.sync("sync_1")).files_transferred == 1
    (task,) = await worker_bench.queues.processing_tasks(10, 0)
    assert task.landed.incomplete


async def test_an_unreadable_file_fails_alone_and_is_tried_again_next_time(worker_bench: WorkerBench) -> None:
    bad = worker_bench.write("bad.txt")
    bad.chmod(0)
    worker_bench.write("good.txt")
    summary = await worker_bench.sync("sync_1")
    assert (summary.files_transferred, summary.files_failed, summary.problems_total) == (1, 1, 1)
    assert summary.problems[0].reason is Reason.FILE_UNREADABLE
    bad.chmod(0o644)
    assert (await worker_bench.sync("sync_2")).files_transferred == 1


async def test_a_repeated_attempt_counts_what_an_earlier_one_committed(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/1.txt")
    await worker_bench.sync("sync_1")
    worker_bench.write("a/2.txt")
    again = await worker_bench.sync("sync_1")
    assert (again.files_transferred, again.files_unchanged) == (2, 0)
    (row,) = worker_bench.tally().progress().folders
    assert (row.folder, row.files_total, row.files_done) == (b"a", 2, 2)


async def test_progress_ends_with_everything_done(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/1.txt", b"123")
    worker_bench.write("b/2.txt", b"4567")
    await worker_bench.sync()
    progress = worker_bench.tally().progress()
    assert progress.done
    assert {(row.folder, row.files_done, row.bytes_done, row.bytes_total) for row in progress.folders} == {(b"a", 1, 3, 3), (b"b", 1, 4, 4)}


async def test_a_connection_that_breaks_comes_back_for_what_is_left(worker_bench: WorkerBench) -> None:
    for number in range(2000):
        worker_bench.write(f"a/{number}.txt", b"x" * 2000)
    broken = False

    def break_once(tally: UnitTally) -> None:
        nonlocal broken
        if not broken and sum(row.files_done for row in tally.progress().folders) > 100:
            broken = True
            next(iter(worker_bench.sources.values())).kill()

    worker_bench.on_progress = break_once
    summary = await worker_bench.sync()
    assert broken
    assert (summary.files_transferred, summary.files_failed) == (2000, 0)
    assert len(worker_bench.visible()) == 2000


async def test_a_source_that_stays_away_fails_the_sync_and_what_landed_stays(worker_bench: WorkerBench) -> None:
    for number in range(2000):
        worker_bench.write(f"a/{number}.txt", b"x" * 2000)

    def break_for_good(tally: UnitTally) -> None:
        source = next(iter(worker_bench.sources.values()))
        if sum(row.files_done for row in tally.progress().folders) > 100:
            source.gone = True
            source.kill()

    worker_bench.on_progress = break_for_good
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync("sync_1")
    assert caught.value.reason in (Reason.CONNECTION_LOST, Reason.HOST_UNREACHABLE)
    landed = len(worker_bench.visible())
    assert 100 < landed < 2000
    assert worker_bench.staged() == [], "what did not land takes room in the library"
    next(iter(worker_bench.sources.values())).gone = False
    worker_bench.on_progress = lambda tally: None
    summary = await worker_bench.sync("sync_2")
    assert summary.files_transferred == 2000 - landed
    assert len(worker_bench.visible()) == 2000


async def test_a_connection_that_ended_while_nobody_looked_is_not_used_again(worker_bench: WorkerBench) -> None:
    worker_bench.write("a.txt")
    await worker_bench.sync("sync_1")
    source = next(iter(worker_bench.sources.values()))
    (idle,) = source.connections
    source.kill()
    async with asyncio.timeout(10):
        while not idle.broken:
            await asyncio.sleep(0.01)
    assert (await worker_bench.worker.probe(SyncSpec(worker_bench.spec, ""), count_files=True))[0].files == 1
    assert (await worker_bench.sync("sync_2")).files_unchanged == 1


async def test_a_library_that_nobody_uses_is_let_go_of_so_that_its_disk_can_be_unmounted(worker_bench: WorkerBench) -> None:
    worker_bench.write("a.txt")
    await worker_bench.sync("sync_1")
    open_files = [
        os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")
    ]
    assert not [path for path in open_files if path.startswith(str(worker_bench.library_root))]


async def test_a_staging_folder_that_somebody_removed_is_made_again(worker_bench: WorkerBench) -> None:
    worker_bench.write("a.txt")
    await worker_bench.sync("sync_1")
    shutil.rmtree(worker_bench.library_root / ".mediasync" / "staging")
    worker_bench.write("b.txt")
    assert (await worker_bench.sync("sync_2")).files_transferred == 1


async def test_a_cancelled_sync_leaves_nothing_but_finished_files(worker_bench: WorkerBench) -> None:
    for number in range(2000):
        worker_bench.write(f"a/{number}.txt", b"x" * 2000)
    some = asyncio.Event()

    def watch(tally: UnitTally) -> None:
        if sum(row.files_done for row in tally.progress().folders) > 100:
            some.set()

    worker_bench.on_progress = watch
    sync = asyncio.create_task(worker_bench.sync("sync_1"))
    await some.wait()
    sync.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sync
    landed = worker_bench.visible()
    assert set(landed.values()) == {b"x" * 2000}
    assert worker_bench.staged() == []
    assert await worker_bench.queues.landed("sync_1") == (len(landed), 2000 * len(landed))
    assert await worker_bench.queues.landed("sync_unknown") == (0, 0)
    unit_counts = await worker_bench.sync("sync_1")
    assert unit_counts.files_transferred == 2000
    assert len(worker_bench.visible()) == 2000


async def test_i4_a_library_without_its_marker_is_refused_and_not_written_to(worker_bench: WorkerBench) -> None:
    worker_bench.write("a.txt")
    await worker_bench.sync("sync_1")
    worker_bench.write("b.txt")
    (worker_bench.library_root / ".mediasync" / "library.json").unlink()
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync("sync_2")
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    assert "library.json" in caught.value.remedy
    assert worker_bench.visible() == {b"a.txt": b"content"}


async def test_i4_another_library_at_the_same_place_is_refused(worker_bench: WorkerBench) -> None:
    await worker_bench.sync("sync_1")
    marker = worker_bench.library_root / ".mediasync" / "library.json"
    marker.write_text('{"library": "6e0b6a3c-3a2f-4b59-9a4e-0d5a2a7a1b11"}')
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync("sync_2")
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISMATCH


async def test_a_library_that_moved_is_still_the_same_library(worker_bench: WorkerBench) -> None:
    worker_bench.write("a.txt")
    await worker_bench.sync("sync_1")
    moved = worker_bench.library_root.with_name("moved")
    worker_bench.library_root.rename(moved)
    worker_bench.library_root = moved
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_transferred, summary.files_unchanged) == (0, 1)


async def test_i4_a_copy_of_a_library_is_not_taken_for_the_library(worker_bench: WorkerBench) -> None:
    await worker_bench.sync("sync_1")
    copy = worker_bench.library_root.with_name("copy")
    shutil.copytree(worker_bench.library_root, copy)
    worker_bench.library_root = copy
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync("sync_2")
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISMATCH
    assert "is a copy of" in caught.value.message


async def test_more_than_fits_is_refused_before_the_first_byte(worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_bench.write("a.txt", b"x" * 1000)
    monkeypatch.setattr(os, "statvfs", lambda root: SimpleNamespace(f_bavail=999, f_frsize=1))
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync()
    assert caught.value.reason is Reason.LIBRARY_NO_SPACE
    assert worker_bench.visible() == {}


async def test_units_are_what_was_asked_for_and_a_missing_folder_names_what_is_there(worker_bench: WorkerBench) -> None:
    worker_bench.write("one/a.txt")
    worker_bench.write("two/b/c.txt")
    report, units = await worker_bench.worker.probe(SyncSpec(worker_bench.spec, ""), count_files=True)
    assert units == [b""]
    assert (report.files, report.folders) == (2, (b"one", b"two"))
    _, units = await worker_bench.worker.probe(SyncSpec(worker_bench.spec, "", (b"two", b"two/b")), count_files=False)
    assert units == [b"two"]
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.worker.probe(SyncSpec(worker_bench.spec, "", (b"three",)), count_files=False)
    assert caught.value.reason is Reason.SOURCE_FOLDER_MISSING
    assert "there is: one, two" in caught.value.message


async def test_a_scan_alone_takes_nothing_and_remembers_nothing(worker_bench: WorkerBench) -> None:
    worker_bench.write("a.txt")
    spec = SyncSpec(worker_bench.spec, str(worker_bench.library_root), options=worker_bench.options)
    result, unchanged = await worker_bench.worker.scan_folder(spec, b"")
    assert (result.wanted.files, unchanged) == (1, 0)
    assert worker_bench.visible() == {}
    assert (await worker_bench.sync()).files_transferred == 1


async def test_i1_a_library_that_fills_up_under_way_gets_nothing_half_written_and_a_retry_goes_on(
    worker_bench: WorkerBench, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_bench.library_root = tiny_disk
    for number in range(12):
        worker_bench.write(f"{number:02}.bin", bytes([number]) * (2 << 20))
    options = dataclasses.replace(worker_bench.options, min_free_space_gb=0.0, parallel_transfers=1)
    # What has to come is found to fit: somebody else fills the disk meanwhile.
    monkeypatch.setattr(SpaceGuard, "check", lambda guard, incoming_bytes=0: None)
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync("sync_1", options=options)
    assert caught.value.reason is Reason.LIBRARY_NO_SPACE
    assert all(content == (worker_bench.source_root / os.fsdecode(path)).read_bytes() for path, content in worker_bench.visible().items())
    assert worker_bench.staged() == []
    subprocess.run(["mount", "-o", "remount,size=64M", str(tiny_disk)], check=True)
    summary = await worker_bench.sync("sync_2", options=options)
    assert (len(worker_bench.visible()), summary.files_failed) == (12, 0)


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC], ids=errno.errorcode.get)
async def test_i1_a_quota_that_is_used_up_under_way_counts_as_a_full_disk(
    worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    large = RESUMABLE_BYTES + 1
    for number in range(5):
        worker_bench.write(f"{number}.bin", bytes([number]) * (1 << 20))
    worker_bench.write("large.bin", bytes(large))
    options = dataclasses.replace(worker_bench.options, parallel_transfers=1)
    with monkeypatch.context() as quota:
        quota.setattr(os, "write", FailingDisk(os.fsencode(worker_bench.library_root), 7 << 20, code).write)
        with pytest.raises(MediasyncError) as caught:
            await worker_bench.sync("sync_1", options=options)
    assert caught.value.reason is Reason.LIBRARY_NO_SPACE
    assert CATALOG[caught.value.reason].exit_code == 4
    before = worker_bench.visible()
    assert len(before) < 6
    assert all(content == (worker_bench.source_root / os.fsdecode(path)).read_bytes() for path, content in before.items())
    assert worker_bench.staged() == []
    # Room was made; what had landed is not brought again.
    summary = await worker_bench.sync("sync_2", options=options)
    assert (summary.files_transferred, summary.files_unchanged, summary.files_failed) == (6 - len(before), len(before), 0)
    assert len(worker_bench.visible()) == 6


async def test_what_came_of_a_large_file_is_kept_by_a_failure_and_removed_for_a_sync_that_was_cancelled(
    worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_bench.write("out/large.bin", bytes(2 * RESUMABLE_BYTES))
    library, beginnings = worker_bench.library_root, worker_bench.library_root / ".mediasync" / "partial"

    def begun() -> list[Path]:
        return [path for path in beginnings.rglob("*") if path.is_file()]

    with monkeypatch.context() as failing:
        failing.setattr(os, "write", FailingDisk(os.fsencode(library), RESUMABLE_BYTES, errno.EIO).write)
        with pytest.raises(MediasyncError):
            await worker_bench.sync("sync_1", b"out")
    assert len(begun()) == 1
    await worker_bench.worker.discard_beginnings(SyncSpec(worker_bench.spec, str(library), (b"", b"other")))
    assert len(begun()) == 1, "it belongs to another folder"
    spec = SyncSpec(worker_bench.spec, str(library), (b"out",))
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(*args: object) -> None:
        held.set()
        await go_on.wait()

    with monkeypatch.context() as slow:
        slow.setattr(FolderSync, "run", hold)
        slow.setattr("services.transfer.worker._DISCARD_SECONDS", 0.01)
        another = asyncio.create_task(worker_bench.sync("sync_2", b"out"))
        await held.wait()
        await worker_bench.worker.discard_beginnings(spec)
        assert len(begun()) == 1, "another sync goes on with it"
        go_on.set()
        await another
    await worker_bench.worker.discard_beginnings(spec)
    assert begun() == []
    assert (await worker_bench.sync("sync_3", b"out")).files_transferred == 1


async def test_a_reserve_is_left_free(worker_bench: WorkerBench, tiny_disk: Path) -> None:
    worker_bench.library_root = tiny_disk
    worker_bench.write("a.bin", bytes(4 << 20))
    with pytest.raises(MediasyncError) as caught:
        await worker_bench.sync("sync_1", options=dataclasses.replace(worker_bench.options, min_free_space_gb=0.018))
    assert caught.value.reason is Reason.LIBRARY_RESERVE
    await worker_bench.sync("sync_2", options=dataclasses.replace(worker_bench.options, min_free_space_gb=0.01))
    assert sorted(worker_bench.visible()) == [b"a.bin"]
