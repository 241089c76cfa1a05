"""One thing that is wrong, from the source to the library: by the real agent and the real record, with the checker that knows nothing of
them at the end. Why each file stays is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from mediasync.errors import MediasyncError, Reason
from mediasync.library import FindingKind
from mediasync.model import CleanupSummary, DeletionOutcome, KeptReason
from mediasync.sources.base import DeleteStatus, DoomedFile, FileDeleted
from services.cleanup.verification import READERS
from tests.faults.cleanup import world as world_module
from tests.faults.cleanup.world import World
from tests.fixtures.library_keeping import flip

_LONG_AGO = 1_790_000_000


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A source, a library and a clean-up, and nobody else about. Whatever a test does, nothing may be lost."""
    with ThreadPoolExecutor(READERS) as executor:
        result = World(tmp_path / "w", 0, executor)
        try:
            await result.start()
            yield result
            result.ledger.close()
        finally:
            await result.close()


def put(world: World, *paths: str | bytes) -> None:
    """Files at the source, complete for long, each with its name in it."""
    for path in map(os.fsencode, paths):
        file = os.path.join(os.fsencode(world.source), path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as target:
            target.write(path)
        os.utime(file, (_LONG_AGO, _LONG_AGO))
        world.ledger.wrote(file)


def left(world: World) -> set[str]:
    """What is still at the source."""
    return {str(path.relative_to(world.source)) for path in world.source.rglob("*") if path.is_file() or path.is_symlink()}


def kept(summary: CleanupSummary) -> dict[KeptReason, int]:
    """How many files stayed for each reason; every file that was listed is counted once."""
    assert summary.files_scanned == summary.files_deleted + summary.files_vanished + summary.files_kept
    return {reason: files.files for reason, files in summary.kept.items()}


def _link(copy: Path) -> None:
    elsewhere = copy.with_name(f".elsewhere-{copy.name}")
    copy.rename(elsewhere)
    copy.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("damage", "reason", "found"),
    [
        (flip, KeptReason.COPY_CORRUPT, FindingKind.CORRUPT),
        (lambda copy: os.truncate(copy, 3), KeptReason.COPY_CORRUPT, FindingKind.CHANGED),
        (Path.unlink, KeptReason.COPY_MISSING, FindingKind.MISSING),
        (_link, KeptReason.COPY_UNREADABLE, FindingKind.CHANGED),
    ],
    ids=["one bit", "cut short", "gone", "a link to the same bytes"],
)
async def test_i3_a_bad_copy_keeps_its_file_and_is_on_record_for_a_repair(
    world: World, damage: Callable[[Path], object], reason: KeptReason, found: FindingKind
) -> None:
    put(world, "a.txt", "b.txt")
    await world.sync()
    damage(world.library / "a.txt")
    summary = await world.clean()
    assert kept(summary) == {reason: 1}
    assert summary.errors == 1
    assert left(world) == {"a.txt"}
    assert await world.findings() == {b"a.txt": found}


async def test_i3_a_record_that_takes_one_file_for_another_deletes_neither(world: World) -> None:
    put(world, "a.txt", "b.txt", "c.txt")
    await world.sync()
    # The copy that it names is there, and just as the record says; only the file at the source is another.
    await world.record(
        "UPDATE manifest SET (sha256, library_path) = (SELECT sha256, path FROM library_files WHERE path = CAST('b.txt' AS BLOB))"
    )
    (world.library / "a.txt").unlink()
    assert kept(await world.clean()) == {KeptReason.CHANGED_MEANWHILE: 2}
    assert left(world) == {"a.txt", "c.txt"}


async def test_i3_a_record_whose_hash_no_file_has_deletes_nothing(world: World) -> None:
    put(world, "a.txt")
    await world.sync()
    for table in ("manifest", "library_files"):
        await world.record(f"UPDATE {table} SET sha256 = zeroblob(32)")
    assert kept(await world.clean()) == {KeptReason.COPY_CORRUPT: 1}
    assert left(world) == {"a.txt"}


@pytest.mark.parametrize("claim", [DeleteStatus.DELETED, DeleteStatus.VANISHED])
async def test_i3_a_far_side_that_says_it_deleted_what_it_kept_does_no_harm(
    world: World, claim: DeleteStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claiming(self: object, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[FileDeleted]:
        async for batch in files:
            for doomed in batch:
                yield FileDeleted(doomed, claim)

    put(world, "a.txt", "b.txt")
    await world.sync()
    with monkeypatch.context() as patched:
        patched.setattr(world_module._Watched, "delete_unchanged", claiming)
        summary = await world.clean()
    assert summary.files_deleted + summary.files_vanished == 2
    assert left(world) == {"a.txt", "b.txt"}
    put(world, "c.txt")
    await world.sync()
    assert (await world.clean()).files_deleted == 3
    assert left(world) == set()


async def test_i3_a_far_side_that_does_not_answer_for_every_file_leaves_it_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(self: object, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[FileDeleted]:
        async for batch in files:
            yield FileDeleted(batch[0], DeleteStatus.CHANGED)

    put(world, "a.txt", "b.txt")
    await world.sync()
    with monkeypatch.context() as patched, pytest.raises(MediasyncError) as caught:
        patched.setattr(world_module._Watched, "delete_unchanged", forgetful)
        await world.clean()
    assert caught.value.reason is Reason.SOURCE_PROTOCOL
    assert left(world) == {"a.txt", "b.txt"}
    assert (await world.clean()).files_deleted == 2


async def test_what_may_not_be_deleted_is_refused_and_why_is_said(world: World) -> None:
    put(world, "open/a.txt", "closed/b.txt", "closed/c.txt")
    await world.sync()
    (world.source / "closed").chmod(0o555)
    summary = await world.clean()
    assert kept(summary) == {KeptReason.REFUSED: 2}
    assert (summary.files_deleted, summary.errors) == (1, 2)
    assert {problem.reason for problem in summary.problems} == {Reason.FILE_NOT_DELETED}
    assert all("Permission denied" in problem.message for problem in summary.problems)
    assert left(world) == {"closed/b.txt", "closed/c.txt"}


async def test_a_file_that_cannot_be_read_any_more_stays(world: World) -> None:
    put(world, "a.txt", "b.txt")
    await world.sync()
    (world.source / "a.txt").chmod(0)
    summary = await world.clean()
    assert kept(summary) == {KeptReason.REFUSED: 1}
    assert "Permission denied" in summary.problems[0].message
    (world.source / "a.txt").chmod(0o644)


async def test_a_read_only_file_system_is_refused_by_the_file(world: World) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to mount a file system")
    put(world, "a.txt", "ro/b.txt")
    await world.sync()
    folder = world.source / "ro"
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        summary = await world.clean()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert kept(summary) == {KeptReason.REFUSED: 1}
    assert "Read-only file system" in summary.problems[0].message
    assert left(world) == {"ro/b.txt"}


async def test_an_immutable_file_is_refused_and_those_that_go_with_it_stay(world: World) -> None:
    put(world, "a.txt", "a.json", "b.txt")
    await world.sync()
    file = world.source / "a.txt"
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", file], capture_output=True, check=False).returncode:
        pytest.skip("this file system knows no immutable files")
    try:
        summary = await world.clean()
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    assert kept(summary).get(KeptReason.REFUSED) == 1
    assert "immutable" in summary.problems[0].message
    assert left(world) >= {"a.txt"}
    assert summary.files_deleted == 3 - len(left(world))


async def test_odd_names_are_names_and_nothing_else(world: World) -> None:
    names = [b"n" * 251 + b".txt", b"not-utf8-\xff\xfe.txt", b"-rf.txt", b"a b\tc\nd.txt", b"$(touch x);'\".txt", "ünï/码.txt".encode()]
    put(world, *names)
    await world.sync()
    summary = await world.clean()
    assert (summary.files_deleted, kept(summary)) == (len(names), {})
    assert left(world) == set()
    assert {entry.path for entry in await world.journal(DeletionOutcome.DELETED)} == set(names)


async def test_i4_a_library_that_is_not_mounted_keeps_everything(world: World) -> None:
    put(world, "a.txt")
    await world.sync()
    away = world.library.with_name("away")
    world.library.rename(away)
    world.library.mkdir()
    with pytest.raises(MediasyncError) as caught:
        await world.clean()
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    world.library.rmdir()
    away.rename(world.library)
    assert left(world) == {"a.txt"}
    assert (await world.clean()).files_deleted == 1
