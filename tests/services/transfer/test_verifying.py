"""A library held against its index: what is missing, changed, corrupt, unknown or moved, and how a verify goes on where it was."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.library import FindingKind, VerifyOptions, VerifySummary
from services.transfer import verifying
from tests.fixtures.library_keeping import Keeping, flip

MISSING, CULLED, CHANGED, CORRUPT = FindingKind.MISSING, FindingKind.CULLED, FindingKind.CHANGED, FindingKind.CORRUPT
UNKNOWN, MOVED, UNREADABLE = FindingKind.UNKNOWN, FindingKind.MOVED, FindingKind.UNREADABLE
DEEP = VerifyOptions(deep=True)


async def test_a_library_as_it_was_brought_is_intact(keeping: Keeping) -> None:
    for name in (b"a/one.txt", b"a/two.txt", b"caf\xe9/\xff.txt", b"a.txt", b"a-b/x.txt", b"top.txt"):
        keeping.bench.write(name, b"content of " + name)
    await keeping.bench.sync()
    assert await keeping.verify() == VerifySummary(files_intact=6)
    deep = await keeping.verify(DEEP)
    assert (deep.files_intact, deep.files_read, dict(deep.findings)) == (6, 6, {})
    assert deep.bytes_read == sum(len(content) for content in keeping.bench.visible().values())


async def test_every_kind_of_finding_is_told_apart(keeping: Keeping) -> None:
    for name in ("missing", "edited", "rewritten", "rotten", "renamed", "moved", "touched", "fine", "linked"):
        keeping.bench.write(f"{name}.txt", b"content of " + name.encode())
    await keeping.bench.sync()
    keeping.path("missing.txt").unlink()
    keeping.path("edited.txt").write_bytes(b"longer than it was before")
    keeping.path("rewritten.txt").write_bytes(b"CONTENT of rewritten")
    flip(keeping.path("rotten.txt"))
    keeping.path("renamed.txt").rename(keeping.path(b"new n\xe4me.txt"))
    keeping.path("best of").mkdir()
    keeping.path("moved.txt").rename(keeping.path("best of/moved.txt"))
    os.utime(keeping.path("touched.txt"))
    keeping.path("linked.txt").unlink()
    keeping.path("linked.txt").symlink_to("fine.txt")
    keeping.path("mine.txt").write_bytes(b"put there by hand")
    keeping.path("pipe").symlink_to("fine.txt")

    shallow = {
        b"missing.txt": MISSING,
        b"edited.txt": CHANGED,
        b"rewritten.txt": CHANGED,
        b"linked.txt": CHANGED,
        b"new n\xe4me.txt": MOVED,
        b"best of/moved.txt": MOVED,
        b"mine.txt": UNKNOWN,
    }
    assert await keeping.found() == shallow
    moves = {finding.path: finding.moved_from for finding in await keeping.findings() if finding.kind is MOVED}
    assert moves == {b"new n\xe4me.txt": b"renamed.txt", b"best of/moved.txt": b"moved.txt"}

    # Moves are followed once and for all; what was lost between the bytes shows to who reads them.
    wrong = {path: kind for path, kind in shallow.items() if kind is not MOVED}
    summary = await keeping.verify()
    assert (summary.wrong, summary.others, summary.files_intact) == (4, 1, 5)
    assert await keeping.found(DEEP) == wrong | {b"rotten.txt": CORRUPT}


async def test_a_source_goes_on_knowing_what_was_moved_in_the_library(keeping: Keeping) -> None:
    keeping.bench.write("out/a.txt", b"picture a")
    await keeping.bench.sync()
    keeping.path("best").mkdir()
    keeping.path("out/a.txt").rename(keeping.path("best/a.txt"))
    assert await keeping.found() == {b"best/a.txt": MOVED}
    # Listed in full, with another time at the source: it is found under its new path, and not brought a second time.
    os.utime(keeping.bench.source_root / "out" / "a.txt")
    summary = await keeping.bench.sync("sync_2", options=replace(keeping.bench.options, full_scan=True, restore=True))
    assert summary.files_transferred == 0
    assert keeping.bench.visible() == {b"best/a.txt": b"picture a"}
    keeping.path("best/a.txt").rename(keeping.path("out/a.txt"))
    assert await keeping.found() == {b"out/a.txt": MOVED}
    assert await keeping.verify() == VerifySummary(files_intact=1)


async def test_of_two_copies_that_moved_each_follows_its_own_name(keeping: Keeping) -> None:
    for name in ("1/a.txt", "1/b.txt"):
        keeping.bench.write(name, b"the same bytes")
    await keeping.bench.sync()
    keeping.path("1").rename(keeping.path("2"))
    await keeping.found()
    assert {finding.path: finding.moved_from for finding in await keeping.findings()} == {b"2/a.txt": b"1/a.txt", b"2/b.txt": b"1/b.txt"}


async def test_what_its_owner_wants_so_is_not_told_again_once_it_was_accepted(keeping: Keeping) -> None:
    for name in ("gone.txt", "edited.txt"):
        keeping.bench.write(name, b"content of " + name.encode())
    await keeping.bench.sync()
    keeping.path("gone.txt").unlink()
    keeping.path("edited.txt").write_bytes(b"mine now")
    for _ in range(2):
        assert await keeping.found() == {b"gone.txt": MISSING, b"edited.txt": CHANGED}
    assert (await keeping.verify(VerifyOptions(accept=True))).wrong == 0
    assert await keeping.found(DEEP) == {b"gone.txt": CULLED}
    # It is watched over as it is now, and one that was put back is there again.
    flip(keeping.path("edited.txt"))
    keeping.bench.write("gone.txt", b"content of gone.txt")
    os.link(keeping.bench.source_root / "gone.txt", keeping.path("gone.txt"))
    assert await keeping.found(DEEP) == {b"edited.txt": CORRUPT}


async def test_a_culled_file_that_turns_up_elsewhere_was_moved(keeping: Keeping) -> None:
    keeping.bench.write("a.txt", b"picture a")
    await keeping.bench.sync()
    keeping.path("a.txt").rename(keeping.bench.library_root.parent / "away.txt")
    await keeping.verify(VerifyOptions(accept=True))
    (keeping.bench.library_root.parent / "away.txt").rename(keeping.path("back.txt"))
    assert await keeping.found() == {b"back.txt": MOVED}
    assert (await keeping.verify()).files_intact == 1


async def test_only_a_part_is_looked_at_when_that_is_asked_for(keeping: Keeping) -> None:
    for name in ("a/1.txt", "a/b/2.txt", "ab/3.txt", "c.txt"):
        keeping.bench.write(name, name.encode())
    await keeping.bench.sync()
    for name in ("a/b/2.txt", "ab/3.txt", "c.txt"):
        keeping.path(name).unlink()
    assert await keeping.found(VerifyOptions(below=b"a")) == {b"a/b/2.txt": MISSING}
    assert await keeping.found(VerifyOptions(below=b"c.txt")) == {b"c.txt": MISSING}
    assert await keeping.found(VerifyOptions(below=b"a/1.txt")) == {}
    # What was found elsewhere stays on record.
    assert {finding.path for finding in await keeping.findings()} == {b"a/b/2.txt", b"c.txt"}
    for wrong in (b"../x", b"/etc", b".mediasync/torn"):
        with pytest.raises(MediasyncError) as caught:
            await keeping.verify(VerifyOptions(below=wrong))
        assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_what_has_not_moved_since_is_left_out(keeping: Keeping) -> None:
    keeping.bench.write("a.txt", b"content a")
    keeping.bench.write("b.txt", b"content b")
    await keeping.bench.sync()
    flip(keeping.path("b.txt"))
    since = max(keeping.path(name).stat().st_ctime_ns for name in ("a.txt", "b.txt")) + 1
    left_out = await keeping.verify(VerifyOptions(deep=True, since_ns=since))
    assert (left_out.files_left_out, left_out.bytes_read, left_out.wrong) == (2, 0, 0)
    assert (await keeping.verify(VerifyOptions(deep=True, since_ns=1))).wrong == 1


async def test_a_folder_that_cannot_be_listed_hides_nothing_and_loses_nothing(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.txt", "b/2.txt", "b/c/3.txt"):
        keeping.bench.write(name)
    await keeping.bench.sync()
    listing = os.scandir

    def refused(path: bytes) -> object:
        if path.endswith(b"/b"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr("services.transfer.library_walk.os.scandir", refused)
    assert await keeping.found() == {b"b": UNREADABLE}
    (finding,) = await keeping.findings()
    assert finding.message == "Permission denied"
    monkeypatch.undo()
    assert await keeping.verify() == VerifySummary(files_intact=3)


async def test_a_verify_that_was_cut_off_goes_on_where_it_was(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "STEP_FILES", 10)
    for number in range(50):
        keeping.bench.write(f"{number // 10}/{number:02}.txt", b"%d" % number)
    await keeping.bench.sync()
    flip(keeping.path("0/05.txt"))
    flip(keeping.path("4/45.txt"))

    def cut_off(name: str) -> None:
        nonlocal steps
        steps += name == "transfer.verify_step"
        if steps == 2:
            raise asyncio.CancelledError

    steps = 0
    with monkeypatch.context() as patched:
        patched.setattr("services.transfer.verifying.crash.point", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await keeping.verify(DEEP)
    # The first twenty are dealt with: they are not read again, and what was found there is told.
    read: list[bytes] = []
    reader = verifying.LibraryReader._read
    monkeypatch.setattr(verifying.LibraryReader, "_read", lambda self, path, *more: read.append(path) or reader(self, path, *more))
    summary = await keeping.verify(DEEP)
    assert sorted(read) == [b"%d/%02d.txt" % (number // 10, number) for number in range(20, 50)]
    assert (summary.files_read, summary.findings) == (48, {CORRUPT: 2})
    assert any(progress.resumed for progress in keeping.progress)

    # One that came to its end is not gone on with, nor is one of another kind, nor one that is to begin anew.
    read.clear()
    await keeping.verify(DEEP)
    assert len(read) == 50
    steps = 0
    with monkeypatch.context() as patched:
        patched.setattr("services.transfer.verifying.crash.point", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await keeping.verify(DEEP)
    read.clear()
    await keeping.verify(VerifyOptions(deep=True, restart=True))
    assert len(read) == 50


async def test_the_index_is_asked_in_large_pieces(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10_000):
        folder = keeping.path(f"{number // 1000}")
        if number % 1000 == 0:
            folder.mkdir()
        (folder / f"{number}.txt").touch()
    await keeping.adopt()
    asked: list[str] = []
    database = type(keeping.bench.database)
    for kind in ("read", "write"):
        original = getattr(database, kind)

        def counted(self: object, work: object, original: object = original, kind: str = kind) -> object:
            asked.append(kind)
            return original(self, work)

        monkeypatch.setattr(database, kind, counted)
    assert (await keeping.verify()).files_intact == 10_000
    assert len(asked) < 50


async def test_i4_nothing_is_said_of_a_folder_without_a_marker(keeping: Keeping) -> None:
    for work in (keeping.verify(), keeping.keeper.stats(keeping.root)):
        with pytest.raises(MediasyncError) as caught:
            await work
        assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING and "library adopt" in caught.value.remedy
    assert not keeping.path(".mediasync").exists()
    keeping.bench.write("a.txt")
    await keeping.bench.sync()
    (keeping.path(".mediasync") / "library.json").unlink()
    for work in (keeping.verify(), keeping.keeper.stats(keeping.root), keeping.adopt()):
        with pytest.raises(MediasyncError) as caught:
            await work
        assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING


async def test_i4_a_library_that_goes_away_meanwhile_has_lost_nothing(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.bench.write("a.txt")
    await keeping.bench.sync()
    keep = keeping.bench.library_root.with_name("unmounted")
    monkeypatch.setattr(verifying.LibraryWalk, "next", lambda self, count: keeping.bench.library_root.rename(keep) and [])
    with pytest.raises(MediasyncError) as caught:
        await keeping.verify()
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    monkeypatch.undo()
    keep.rename(keeping.bench.library_root)
    assert await keeping.verify() == VerifySummary(files_intact=1)


async def test_a_library_is_verified_once_at_a_time(keeping: Keeping) -> None:
    keeping.bench.write("a.txt")
    await keeping.bench.sync()
    first = asyncio.ensure_future(keeping.verify())
    second = asyncio.ensure_future(keeping.verify())
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, MediasyncError)]
    assert reasons == [Reason.LIBRARY_BUSY]
