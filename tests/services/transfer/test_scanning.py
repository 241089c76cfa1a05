"""Scan and diff against the truth: what an exact scan finds of anything that may happen to a tree."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.transfer import scanning
from services.transfer.diff import RowState
from services.transfer.entities import Origin
from services.transfer.manifest_store import ManifestStore
from tests.fixtures.transfer_worker import WorkerBench


async def test_a_picture_that_is_moved_into_the_folder_is_found_whatever_its_times_say(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/there.txt")
    await worker_bench.sync("sync_1")
    old = worker_bench.source_root.with_name("elsewhere.txt")
    old.write_bytes(b"moved in")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    old.rename(worker_bench.source_root / "a" / "moved.txt")
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_transferred, summary.files_unchanged) == (1, 1)
    assert worker_bench.visible()[b"a/moved.txt"] == b"moved in"


async def test_a_copy_with_its_old_times_is_found(worker_bench: WorkerBench) -> None:
    original = worker_bench.write("a/original.txt", b"original")
    os.utime(original, (1_000_000_000, 1_000_000_000))
    await worker_bench.sync("sync_1")
    shutil.copy2(original, worker_bench.source_root / "a" / "copy.txt")
    assert (await worker_bench.sync("sync_2")).files_transferred == 1


async def test_a_rename_over_a_file_is_found_although_size_and_time_are_the_same(worker_bench: WorkerBench) -> None:
    first = worker_bench.write("a/1.txt", b"first")
    await worker_bench.sync("sync_1")
    second = worker_bench.source_root / "new"
    second.write_bytes(b"other")
    os.utime(second, ns=(first.stat().st_mtime_ns, first.stat().st_mtime_ns))
    second.rename(first)
    assert (await worker_bench.sync("sync_2")).files_transferred == 1
    assert sorted(worker_bench.visible().values()) == [b"first", b"other"]


async def test_a_far_clock_that_jumps_back_makes_the_scan_a_full_one(worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_bench.write("a/1.txt")
    # As a far side would have told it whose clock was an hour ahead then.
    monkeypatch.setattr(scanning, "_WATERMARK_MARGIN_NS", -3_600_000_000_000)
    await worker_bench.sync("sync_1")
    monkeypatch.undo()
    worker_bench.write("a/2.txt")
    assert (await worker_bench.sync("sync_2")).files_transferred == 1
    assert (await worker_bench.sync("sync_3")).files_unchanged == 2


async def test_a_folder_that_vanished_and_came_back_is_not_downloaded_again(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/b/1.txt", b"1")
    worker_bench.write("a/2.txt", b"2")
    await worker_bench.sync("sync_1")
    aside = worker_bench.source_root.with_name("aside")
    (worker_bench.source_root / "a").rename(aside)
    gone = await worker_bench.sync("sync_2")
    assert (gone.files_vanished, gone.files_failed) == (2, 0)
    assert len(worker_bench.visible()) == 2
    shutil.copytree(aside, worker_bench.source_root / "a")
    back = await worker_bench.sync("sync_3")
    assert (back.files_transferred, back.files_unchanged) == (0, 2)


async def test_a_filter_that_was_taken_away_brings_the_older_files(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/1.txt")
    worker_bench.write("a/2.log")
    narrow = replace(worker_bench.options, allowed_extensions=("txt",))
    first = await worker_bench.sync("sync_1", options=narrow)
    assert (first.files_transferred, first.files_filtered) == (1, 1)
    second = await worker_bench.sync("sync_2")
    assert (second.files_transferred, second.files_unchanged, second.files_filtered) == (1, 1, 0)


async def test_what_a_new_filter_hides_has_not_vanished(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/1.txt")
    worker_bench.write("b/2.log")
    await worker_bench.sync("sync_1")
    narrow = replace(worker_bench.options, excluded_patterns=("b/",), allowed_extensions=("txt",))
    assert (await worker_bench.sync("sync_2", options=narrow)).files_vanished == 0
    assert (await worker_bench.sync("sync_3")).files_transferred == 0


async def test_a_file_that_was_too_young_is_taken_once_it_is_old_enough(worker_bench: WorkerBench) -> None:
    file = worker_bench.write("a/1.txt")
    patient = replace(worker_bench.options, min_age_minutes=1)
    first = await worker_bench.sync("sync_1", options=patient)
    assert (first.files_transferred, first.files_filtered) == (0, 1)
    # An exact scan from now on knows nothing of this: a ctime cannot be set, so the mtime alone grows old.
    os.utime(file, (time.time() - 120, time.time() - 120))
    assert (await worker_bench.sync("sync_2", options=patient)).files_transferred == 1


async def test_what_was_deleted_in_the_library_comes_back_only_when_asked_for(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/1.txt", b"1")
    worker_bench.write("a/2.txt", b"2")
    await worker_bench.sync("sync_1")
    (worker_bench.library_root / "a" / "1.txt").unlink()
    (worker_bench.source_root / "a" / "1.txt").chmod(0o600)
    assert (await worker_bench.sync("sync_2")).files_transferred == 0
    assert worker_bench.visible() == {b"a/2.txt": b"2"}
    assert (await worker_bench.sync("sync_3", options=replace(worker_bench.options, restore=True))).files_transferred == 1
    assert worker_bench.visible() == {b"a/1.txt": b"1", b"a/2.txt": b"2"}


async def test_only_what_failed_is_taken_by_a_retry(worker_bench: WorkerBench) -> None:
    bad = worker_bench.write("a/bad.txt")
    bad.chmod(0)
    worker_bench.write("a/good.txt")
    await worker_bench.sync("sync_1")
    bad.chmod(0o644)
    worker_bench.write("b/new.txt")
    spec = worker_bench.sync_spec()
    retry = await worker_bench.worker.sync_folder(
        "sync_2", spec, b"", lambda tally: None, lambda files, size: None, only_failed_of="sync_1"
    )
    assert retry.files_transferred == 1
    assert set(worker_bench.visible()) == {b"a/bad.txt", b"a/good.txt"}
    assert (await worker_bench.sync("sync_3")).files_transferred == 1


_NAMES = ("1.txt", "2.txt", "sub/1.txt", "sub/deep/1.txt", "other/1.txt")
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("write", "delete", "touch", "swap", "rename", "back", "rmtree")), st.sampled_from(_NAMES), st.integers(0, 2)
    ),
    min_size=1,
    max_size=6,
)


def _mutate(root: Path, step: tuple[str, str, int]) -> None:
    """One thing that happens at a source."""
    kind, name, number = step
    file = root / name
    if kind == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content %d" % number)
    elif not file.exists():
        return
    elif kind == "delete":
        file.unlink()
    elif kind == "touch":
        file.touch()
    elif kind == "swap":
        # In place, of the same size, with its time put back.
        before = file.stat()
        file.write_bytes(b"swapped %d" % number)
        os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
    elif kind == "rename":
        target = root / _NAMES[number]
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    elif kind == "back":
        os.utime(file, (1_000_000_000 + number, 1_000_000_000 + number))
    elif file.parent != root:
        shutil.rmtree(file.parent)


def _truth(root: Path) -> Iterator[bytes]:
    for path in root.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEPS, min_size=1, max_size=3))
async def test_after_each_sync_every_content_of_the_source_is_in_the_library(
    worker_bench: WorkerBench, rounds: list[list[tuple[str, str, int]]]
) -> None:
    """Whatever happens to a tree between syncs, an exact scan misses none of it, and what was taken is then unchanged."""
    for number, steps in enumerate(rounds):
        for step in steps:
            _mutate(worker_bench.source_root, step)
        await worker_bench.sync(f"sync_{number}")
        there = set(_truth(worker_bench.source_root))
        assert there <= set(worker_bench.visible().values())
        files = sum(1 for _ in _truth(worker_bench.source_root))
        again = await worker_bench.sync(f"sync_{number}_again")
        assert (again.files_transferred, again.files_unchanged, again.files_failed) == (0, files, 0)


async def test_an_emptied_directory_of_many_files_is_read_in_pages(worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_PAGE_ROWS", 7)
    for number in range(100):
        worker_bench.write(f"a/{number:03}.txt", b"%d" % number)
    await worker_bench.sync("sync_1")
    for number in range(100):
        if number % 10:
            (worker_bench.source_root / "a" / f"{number:03}.txt").unlink()
    worker_bench.write("a/055x.txt")
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_vanished, summary.files_transferred, summary.files_unchanged) == (90, 1, 10)
    full = await worker_bench.sync("sync_3", options=replace(worker_bench.options, full_scan=True))
    assert (full.files_vanished, full.files_transferred, full.files_unchanged) == (0, 0, 11)


def test_a_selection_that_differs_has_another_digest() -> None:
    one = scanning.Selection()
    assert scanning.digest_of(one) == scanning.digest_of(scanning.Selection())
    assert scanning.digest_of(one) != scanning.digest_of(replace(one, min_size_bytes=1))


async def test_a_full_scan_of_a_large_folder_takes_only_that_piece_apart_in_which_something_moved(
    worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1100):
        worker_bench.write(f"a/{number:04}.txt", b"%d" % number)
    await worker_bench.sync("sync_1")
    asked: list[bytes | None] = []
    states = ManifestStore.states

    async def counting(self: ManifestStore, origin: Origin, directory: bytes, after: bytes | None, *rest: Any) -> list[RowState]:
        asked.append(after)
        return await states(self, origin, directory, after, *rest)

    monkeypatch.setattr(ManifestStore, "states", counting)
    full = replace(worker_bench.options, full_scan=True)
    assert (await worker_bench.sync("sync_2", options=full)).files_unchanged == 1100
    # The folder above it holds no file, and is read as rows.
    assert asked == [None]
    asked.clear()
    worker_bench.write("a/1050.txt", b"moved")
    (worker_bench.source_root / "a" / "1060.txt").unlink()
    summary = await worker_bench.sync("sync_3", options=full)
    assert (summary.files_transferred, summary.files_vanished, summary.files_unchanged) == (1, 1, 1098)
    assert asked == [None, b"0999.txt"]
