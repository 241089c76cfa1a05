"""Taking a tree that was there before into the index, and what a sync makes of it then."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from mediasync.library import AdoptSummary, FindingKind, VerifyOptions, VerifySummary
from mediasync.v1 import media_ingest_pb2
from services.transfer import adopting
from tests.fixtures.library_keeping import Keeping, flip

NAMES = (b"a/one.png", b"a/two.txt", b"caf\xe9/\xff.txt", b"top.txt")


def fill(keeping: Keeping, *names: bytes) -> None:
    for name in names or NAMES:
        keeping.path(name).parent.mkdir(parents=True, exist_ok=True)
        keeping.path(name).write_bytes(b"content of " + name)


async def events(keeping: Keeping) -> list[media_ingest_pb2.Event]:
    return [media_ingest_pb2.Event.FromString(item.event) for item in await keeping.bench.queues.unsent_events(1000)]


async def test_what_is_there_is_put_on_record_and_told(keeping: Keeping) -> None:
    fill(keeping)
    keeping.path("link.txt").symlink_to("top.txt")
    summary = await keeping.keeper.adopt(keeping.root, keeping.progress.append)
    assert summary == AdoptSummary(files_adopted=4, bytes_adopted=sum(len(b"content of " + name) for name in NAMES), others=1)
    assert keeping.path(".mediasync/library.json").exists()
    assert keeping.progress[-1].files_done == keeping.progress[-1].files_total == 4
    assert await keeping.verify() == VerifySummary(files_intact=4, others=1)
    told = await events(keeping)
    assert {event.file.library_path.raw for event in told} == set(NAMES) and {event.source for event in told} == {"adopted"}
    # A second time there is nothing to do, and nothing is told twice.
    again = await keeping.keeper.adopt(keeping.root, keeping.progress.append)
    assert (again.files_adopted, again.files_known) == (0, 4)
    assert len(await events(keeping)) == 4


async def test_a_sync_brings_only_what_differs(keeping: Keeping) -> None:
    fill(keeping)
    for name in NAMES:
        keeping.bench.write(name, b"content of " + name)
    keeping.bench.write("top.txt", b"CONTENT of top.txt")
    await keeping.adopt()
    summary = await keeping.bench.sync()
    assert summary.files_transferred == 1 and summary.bytes_transferred == len(b"CONTENT of top.txt")
    assert keeping.path("top.txt").read_bytes() == b"content of top.txt"


async def test_files_that_a_sync_brought_are_processed_before_adopted_ones(keeping: Keeping) -> None:
    fill(keeping)
    await keeping.adopt()
    keeping.bench.write("new.txt")
    await keeping.bench.sync()
    tasks = await keeping.bench.queues.processing_tasks(100, 0)
    assert tasks[0].landed.library_path == b"new.txt" and len(tasks) == 5


async def test_an_adoption_that_was_cut_off_does_what_is_left(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "_GROUP_FILES", 2)
    fill(keeping, *(b"%02d.txt" % number for number in range(10)))
    passes = 0

    def cut_off(name: str) -> None:
        nonlocal passes
        passes += name == "transfer.before_adopt"
        if passes == 3:
            raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr("services.transfer.adopting.crash.point", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await keeping.adopt()
    summary = await keeping.keeper.adopt(keeping.root, keeping.progress.append)
    assert (summary.files_known, summary.files_adopted) == (4, 6)
    assert len(await events(keeping)) == 10


async def test_an_adoption_follows_what_was_moved(keeping: Keeping) -> None:
    keeping.bench.write("a.txt", b"picture a")
    await keeping.bench.sync()
    keeping.path("a.txt").rename(keeping.path("b.txt"))
    fill(keeping, b"c.txt")
    summary = await keeping.keeper.adopt(keeping.root, keeping.progress.append)
    assert (summary.files_adopted, summary.findings) == (1, {FindingKind.MOVED: 1})


async def test_what_cannot_be_read_is_told_and_the_rest_adopted(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(keeping, b"a.txt", b"b.txt", b"c.txt")
    opening = os.open

    def refused(path: bytes | str, flags: int, *more: int, **named: int) -> int:
        if os.fsencode(path).endswith(b"b.txt"):
            raise PermissionError(13, "Permission denied")
        return opening(path, flags, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr("mediasync.storage.library_reading.os.open", refused)
        summary = await keeping.keeper.adopt(keeping.root, keeping.progress.append)
    assert (summary.files_adopted, summary.findings) == (2, {FindingKind.UNREADABLE: 1})
    assert await keeping.adopt() == 1


async def test_statistics_sum_up_what_is_on_record(keeping: Keeping) -> None:
    fill(keeping, b"old/a.png", b"old/b.jpg", b"old/c.jpeg")
    await keeping.adopt()
    for name, content in (("x.txt", b"the same"), ("y.txt", b"the same"), ("gone.txt", b"gone"), ("rotten.txt", b"rotten")):
        keeping.bench.write(name, content)
    await keeping.bench.sync()
    keeping.path("gone.txt").unlink()
    await keeping.verify(VerifyOptions(accept=True))
    flip(keeping.path("rotten.txt"))
    await keeping.verify(VerifyOptions(deep=True))
    stats = await keeping.keeper.stats(keeping.root)
    assert (stats.files, stats.culled_files, stats.duplicate_files, stats.duplicate_bytes) == (6, 1, 1, 8)
    assert {share.name: share.files for share in stats.sources} == {"forge": 3, "adopted": 3}
    assert {share.name: share.files for share in stats.types} == {"image/png": 1, "image/jpeg": 2, "text/plain": 3}
    assert stats.findings == {FindingKind.CULLED: 1, FindingKind.CORRUPT: 1}
    assert stats.last_sync_time and stats.last_verify_time and stats.free_bytes and stats.files_read == 5


async def test_a_corrupt_copy_is_replaced_once_the_good_bytes_are_there(keeping: Keeping) -> None:
    for name in ("rotten.txt", "gone.txt", "edited.txt", "fine.txt"):
        keeping.bench.write(name, b"content of " + name.encode())
    await keeping.bench.sync()
    flip(keeping.path("rotten.txt"))
    damaged = keeping.path("rotten.txt").read_bytes()
    keeping.path("gone.txt").unlink()
    keeping.path("edited.txt").write_bytes(b"mine")
    found = await keeping.found(VerifyOptions(deep=True))
    assert found == {b"rotten.txt": FindingKind.CORRUPT, b"gone.txt": FindingKind.MISSING, b"edited.txt": FindingKind.CHANGED}
    sources, without = await keeping.keeper.prepare_repair(keeping.root, "repair_1")
    assert sources == [("name:forge", "forge", 2)] and without == 0

    summary = await keeping.bench.sync("sync_2", options=replace(keeping.bench.options, restore=True), only_failed_of="repair_1")
    assert summary.files_transferred == 2
    assert keeping.bench.visible() == {
        b"rotten.txt": b"content of rotten.txt",
        b"gone.txt": b"content of gone.txt",
        b"edited.txt": b"mine",
        b"fine.txt": b"content of fine.txt",
    }
    assert keeping.path(".mediasync/torn/rotten.txt").read_bytes() == damaged
    assert await keeping.found(VerifyOptions(findings_only=True)) == {b"edited.txt": FindingKind.CHANGED}


async def test_a_corrupt_copy_that_its_owner_edits_after_all_is_theirs(keeping: Keeping) -> None:
    keeping.bench.write("a.txt", b"content of a")
    await keeping.bench.sync()
    flip(keeping.path("a.txt"))
    await keeping.verify(VerifyOptions(deep=True))
    keeping.path("a.txt").write_bytes(b"mine")
    await keeping.keeper.prepare_repair(keeping.root, "repair_1")
    await keeping.bench.sync("sync_2", options=replace(keeping.bench.options, restore=True), only_failed_of="repair_1")
    assert keeping.bench.visible() == {b"a.txt": b"mine"}
