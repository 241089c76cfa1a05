"""Reading copies in the library before anything is deleted at a source: only a good one, now and on the disk, counts."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import KeptReason
from mediasync.model.synced import CopyReport
from mediasync.storage.library_reading import LibraryReader
from services.cleanup import verification
from services.cleanup.entities import CheckedFile, PlanRow
from services.cleanup.verification import READERS, CopyCheck

UUID = "5f2c9a8e-0d3b-4f5e-9c53-0a8c7f0a7b11"
LARGE = 700_000


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return made(tmp_path / "library")


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(READERS) as threads:
        yield threads


@pytest.fixture
def check(library: Path, executor: ThreadPoolExecutor) -> CopyCheck:
    return CopyCheck(str(library), UUID, executor)


def made(root: Path, uuid: str = UUID) -> Path:
    (root / ".mediasync").mkdir(parents=True)
    (root / ".mediasync/library.json").write_text(f'{{"library": "{uuid}"}}')
    return root


def put(library: Path, *names: str, size: int = 1000) -> list[PlanRow]:
    rows = []
    for number, name in enumerate(names, 1):
        content = name.encode() * (size // len(name))
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(content)
        rows.append(
            PlanRow(number, b"out/" + os.fsencode(name), len(content), 1, number, 1, hashlib.sha256(content).digest(), (name.encode(),))
        )
    return rows


def also(row: PlanRow, **changes: Any) -> PlanRow:
    return PlanRow(**{name: changes.get(name, getattr(row, name)) for name in row.__slots__})


def kept(checked: list[CheckedFile]) -> list[KeptReason | None]:
    return [file.kept for file in checked]


async def test_i3_a_copy_that_is_what_it_should_be_lets_its_file_go(library: Path, check: CopyCheck) -> None:
    rows = put(library, "a.png", "day/b.png", "day/c.png", "day/deep/empty.txt") + put(library, "large.mp4", size=LARGE)
    checked = await check.check(rows)
    assert kept(checked) == [None] * 5
    assert [file.library_path for file in checked] == [row.copies[0] for row in rows]
    assert checked[1].reports == (CopyReport(b"day/b.png", b"out/day/b.png", intact=True),)
    assert check.bytes_read == sum(row.size_bytes for row in rows)
    assert await check.check([]) == []


async def test_i3_a_file_without_its_copy_is_kept_as_copy_missing(library: Path, check: CopyCheck) -> None:
    """KeptReason.COPY_MISSING"""
    rows = put(library, "a.png", "b.png", "folder/c.png", "there/d.png")
    (library / "b.png").unlink()
    (library / "folder/c.png").unlink()
    (library / "folder").rmdir()
    (library / "folder").write_bytes(b"a file where a folder was")
    checked = await check.check([*rows, also(rows[0], copies=())])
    assert kept(checked) == [None, KeptReason.COPY_MISSING, KeptReason.COPY_MISSING, None, KeptReason.COPY_MISSING]
    assert checked[1].message == "b.png is not there"
    assert checked[1].reports == (CopyReport(b"b.png", b"out/b.png", missing=True),)
    assert (checked[4].message, checked[4].reports) == ("no copy is on record", ())


async def test_i3_a_source_that_is_the_library_has_no_copies(library: Path, check: CopyCheck) -> None:
    """KeptReason.COPY_MISSING"""
    rows = put(library, "a.png", "b.png", "c.png")
    found = [os.stat(library / name) for name in ("a.png", "b.png", "c.png")]
    here = [
        also(row, inode=status.st_ino, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)
        for row, status in zip(rows, found, strict=True)
    ]
    elsewhere = also(here[1], mtime_ns=1)
    not_known = also(here[2], inode=0)
    coarse = also(here[0], mtime_ns=here[0].mtime_ns // 10**9 * 10**9, ctime_ns=here[0].ctime_ns // 10**9 * 10**9)
    touched_since = also(here[0], ctime_ns=1)
    without_ctime = also(here[0], ctime_ns=0)
    checked = await check.check([here[0], elsewhere, not_known, coarse, touched_since, without_ctime])
    missing = KeptReason.COPY_MISSING
    assert kept(checked) == [missing, None, None, missing, missing, missing]
    assert (checked[0].message, checked[0].reports) == ("a.png in the library is this very file", ())


async def test_a_copy_that_happens_to_have_the_inode_of_its_file_is_a_copy(
    library: Path, check: CopyCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = put(library, "a.png")
    status = os.stat(library / "a.png")
    # Both were there long ago, and are not of the same moment.
    monkeypatch.setattr(verification.time, "time_ns", lambda: status.st_ctime_ns + 86_400 * 10**9)
    alike = also(row, inode=status.st_ino, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns - 3600 * 10**9)
    assert kept(await check.check([alike])) == [None]
    assert kept(await check.check([also(alike, ctime_ns=status.st_ctime_ns)])) == [KeptReason.COPY_MISSING]


@pytest.mark.parametrize("at", [0, LARGE // 2, LARGE - 10])
async def test_i3_a_copy_with_one_flipped_bit_is_copy_corrupt(library: Path, check: CopyCheck, at: int) -> None:
    """KeptReason.COPY_CORRUPT"""
    rows = put(library, "a.mp4", "b.mp4", size=LARGE)
    before = os.stat(library / "b.mp4")
    with open(library / "b.mp4", "r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))
    os.utime(library / "b.mp4", ns=(before.st_atime_ns, before.st_mtime_ns))
    checked = await check.check(rows)
    assert kept(checked) == [None, KeptReason.COPY_CORRUPT]
    assert checked[1].message == "b.mp4 has other bytes than on record"
    assert checked[1].reports == (CopyReport(b"b.mp4", b"out/b.mp4"),)


@pytest.mark.parametrize("size", [0, LARGE - 100, LARGE + 100])
async def test_i3_a_copy_that_is_shorter_or_longer_is_copy_corrupt(library: Path, check: CopyCheck, size: int) -> None:
    """KeptReason.COPY_CORRUPT"""
    [row] = put(library, "a.mp4", size=LARGE)
    os.truncate(library / "a.mp4", size)
    [checked] = await check.check([row])
    assert checked.kept is KeptReason.COPY_CORRUPT
    assert checked.message == f"a.mp4 has {size} bytes, {row.size_bytes} are on record"


async def test_i3_a_manifest_that_lies_is_copy_corrupt(library: Path, check: CopyCheck) -> None:
    """KeptReason.COPY_CORRUPT"""
    [row] = put(library, "a.png")
    assert kept(await check.check([also(row, sha256=bytes(32)), also(row, sha256=b"")])) == [KeptReason.COPY_CORRUPT] * 2


async def test_i3_a_copy_that_changes_while_it_is_read_is_copy_corrupt(
    library: Path, check: CopyCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeptReason.COPY_CORRUPT"""
    [row] = put(library, "a.png")
    read = os.readv

    def touching(descriptor: int, buffers: list[memoryview]) -> int:
        os.utime(library / "a.png", (5, 5))
        return read(descriptor, buffers)

    with monkeypatch.context() as patched:
        patched.setattr("mediasync.storage.library_reading.os.readv", touching)
        [checked] = await check.check([row])
    assert (checked.kept, checked.message) == (KeptReason.COPY_CORRUPT, "a.png changed while it was read")
    assert checked.reports == (), "another look will tell what became of it"


async def test_i3_a_link_in_place_of_a_copy_is_copy_unreadable_also_to_the_same_bytes(library: Path, check: CopyCheck) -> None:
    """KeptReason.COPY_UNREADABLE"""
    rows = put(library, "a.png", "day/b.png", "fifo.png", "folder.png", "fine.png")
    os.rename(library / "a.png", library / "elsewhere.png")
    (library / "a.png").symlink_to("elsewhere.png")
    os.rename(library / "day", library / "other")
    (library / "day").symlink_to("other")
    for name in ("fifo.png", "folder.png"):
        (library / name).unlink()
    os.mkfifo(library / "fifo.png")
    (library / "folder.png").mkdir()
    checked = await check.check(rows)
    assert kept(checked) == [KeptReason.COPY_UNREADABLE] * 4 + [None]
    assert checked[0].message == "a.png cannot be read: it is no regular file any more"
    assert checked[1].message == "day/b.png cannot be read: its folder is a link"
    assert checked[1].reports == (CopyReport(b"day/b.png", b"out/day/b.png", message="its folder is a link"),)


@pytest.mark.parametrize("limit", [0, 300_000])
async def test_i3_a_copy_whose_disk_fails_is_copy_unreadable(
    library: Path, check: CopyCheck, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """KeptReason.COPY_UNREADABLE"""
    rows = put(library, "a.mp4", "bad.mp4", "c.mp4", size=LARGE)
    read = os.readv

    def failing(descriptor: int, buffers: list[memoryview]) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/bad.mp4") and os.lseek(descriptor, 0, os.SEEK_CUR) >= limit:
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, buffers)

    with monkeypatch.context() as patched:
        patched.setattr("mediasync.storage.library_reading.os.readv", failing)
        checked = await check.check(rows)
    assert kept(checked) == [None, KeptReason.COPY_UNREADABLE, None]
    assert checked[1].message == "bad.mp4 cannot be read: Input/output error"
    assert checked[1].reports == (CopyReport(b"bad.mp4", b"out/bad.mp4", message="Input/output error"),)


async def test_an_error_of_the_kernel_itself_is_of_that_file_alone(executor: ThreadPoolExecutor) -> None:
    # A file of which the first byte cannot be read, on every Linux.
    failed, missing, read = await LibraryReader(b"/proc/self", executor, from_disk=True).read([(b"mem", 1), (b"none", 1), (b"comm", 1)])
    assert (failed.sha256, failed.error) == (None, "Input/output error")
    assert (missing.sha256, missing.error) == (None, "")
    assert read.sha256 is not None


async def test_i3_another_copy_will_do_and_the_bad_one_is_told_of(library: Path, check: CopyCheck) -> None:
    row, other = put(library, "a.png", "b.png")
    (library / "b.png").write_bytes((library / "a.png").read_bytes())
    os.truncate(library / "a.png", 10)
    asked = also(row, copies=(b"gone.png", b"a.png", b"b.png", b"never.png"))
    [checked] = await check.check([asked])
    assert (checked.kept, checked.library_path) == (None, b"b.png")
    assert checked.reports == (
        CopyReport(b"gone.png", row.path, missing=True),
        CopyReport(b"a.png", row.path),
        CopyReport(b"b.png", row.path, intact=True),
    )
    [checked] = await check.check([also(row, copies=(b"gone.png", b"a.png"))])
    assert (checked.kept, checked.message) == (KeptReason.COPY_CORRUPT, f"a.png has 10 bytes, {row.size_bytes} are on record")
    assert other.copies == (b"b.png",)


async def test_i3_files_that_go_together_are_kept_together_as_companions(library: Path, check: CopyCheck) -> None:
    """KeptReason.COMPANION"""
    rows = put(library, "a.png", "a.txt", "b.png", "b.txt")
    (library / "a.txt").unlink()
    rows = [also(row, joined=bool(row.number % 2 == 0)) for row in rows]
    checked = await check.check(rows)
    assert kept(checked) == [KeptReason.COMPANION, KeptReason.COPY_MISSING, None, None]
    assert (checked[0].message, checked[0].library_path) == ("it goes together with out/a.txt only", b"")
    assert checked[0].reports == (CopyReport(b"a.png", b"out/a.png", intact=True),)


async def test_only_who_says_so_lets_files_go_that_have_no_copy(library: Path, executor: ThreadPoolExecutor) -> None:
    [row] = put(library, "a.png")
    culled = also(row, copies=())
    assert kept(await CopyCheck(str(library), UUID, executor).check([culled])) == [KeptReason.COPY_MISSING]
    allowing = CopyCheck(str(library), UUID, executor, without_copies=True)
    (library / "a.png").write_bytes(b"other")
    assert kept(await allowing.check([culled, row])) == [None, KeptReason.COPY_CORRUPT]


async def test_i4_nothing_is_believed_of_a_library_without_its_marker(library: Path, check: CopyCheck) -> None:
    rows = put(library, "a.png")
    (library / ".mediasync/library.json").unlink()
    with pytest.raises(MediasyncError) as caught:
        await check.check(rows)
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    os.rename(library, library.with_name("moved"))
    with pytest.raises(MediasyncError) as caught:
        await check.check(rows)
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    made(library, "9e107d9d-372b-4b68-8a3f-3d1f6e6c1a2b")
    with pytest.raises(MediasyncError) as caught:
        await check.check(rows)
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISMATCH


@pytest.mark.parametrize("then", ["the empty folder below the mount", "nothing", "a link to it", "no marker"])
async def test_i4_a_library_that_goes_away_while_it_is_read_counts_for_nothing(
    library: Path, check: CopyCheck, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    rows = put(library, "a.png")
    read = os.readv

    def unmounting(descriptor: int, buffers: list[memoryview]) -> int:
        if then == "no marker":
            (library / ".mediasync/library.json").unlink(missing_ok=True)
        elif not library.with_name("unmounted").exists():
            os.rename(library, library.with_name("unmounted"))
            if then == "the empty folder below the mount":
                library.mkdir()
            elif then == "a link to it":
                made(library.with_name("another"))
                library.symlink_to("another")
        return read(descriptor, buffers)

    with monkeypatch.context() as patched:
        patched.setattr("mediasync.storage.library_reading.os.readv", unmounting)
        with pytest.raises(MediasyncError) as caught:
            await check.check(rows)
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING


async def test_i4_a_share_that_is_unmounted_while_it_is_read_counts_for_nothing(
    tmp_path: Path, tiny_disk: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = put(made(tiny_disk / "share"), "a.png")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", tiny_disk / "share", mounted], check=True)
    check = CopyCheck(str(mounted), UUID, executor)
    read = os.readv

    def unmounting(descriptor: int, buffers: list[memoryview]) -> int:
        if os.path.ismount(mounted):
            subprocess.run(["umount", "-l", mounted], check=True)
        return read(descriptor, buffers)

    with monkeypatch.context() as patched:
        patched.setattr("mediasync.storage.library_reading.os.readv", unmounting)
        for _ in range(2):
            with pytest.raises(MediasyncError) as caught:
                await check.check(rows)
            assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING


async def test_copies_with_odd_names_are_read(library: Path, check: CopyCheck) -> None:
    names = [b"x" * 251 + b".png", b"\xff\xfe.png", b"-rf", b"line\nbreak", b"a b/\xc3\x28/c.png"]
    rows = []
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(library), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
        rows.append(PlanRow(number, name, len(name), 1, number, 1, hashlib.sha256(name).digest(), (name,)))
    assert kept(await check.check(rows)) == [None] * len(names)
