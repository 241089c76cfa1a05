from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from mediasync.model import Duplicates
from services.transfer.entities import LandedFile, LandingKind
from tests.fixtures.transfer import LandingBench
from tests.services.transfer.test_landing import land


async def kinds(bench: LandingBench, *files: tuple[bytes, bytes], duplicates: Duplicates) -> list[LandingKind]:
    outcomes = await land(bench, *files, duplicates=duplicates)
    return [outcome.kind for outcome in outcomes if isinstance(outcome, LandedFile)]


async def manifest_points_to_the_content(bench: LandingBench, path: bytes, content: bytes) -> bool:
    """What clean-up will ask before it deletes at the source."""
    row = (await bench.manifest.rows(bench.unit.origin, [path]))[path]
    copy = (bench.root / os.fsdecode(row.library_path)).read_bytes()
    return row.sha256 == hashlib.sha256(content).digest() and copy == content


@pytest.mark.parametrize("choice", list(Duplicates))
async def test_each_choice_leaves_a_manifest_row_whose_library_copy_has_the_content(
    landing_bench: LandingBench, choice: Duplicates
) -> None:
    await land(landing_bench, (b"one/a.png", b"same"))
    (kind,) = await kinds(landing_bench, (b"two/b.png", b"same"), duplicates=choice)
    assert await manifest_points_to_the_content(landing_bench, b"two/b.png", b"same")
    counts = await landing_bench.landings.unit_counts(landing_bench.unit)
    expected = {Duplicates.KEEP: (LandingKind.NEW, 2, 0), Duplicates.SKIP: (LandingKind.DUPLICATE, 1, 1)}
    assert (kind, counts.files, counts.duplicates) == expected.get(choice, (LandingKind.LINKED, 1, 1))
    assert sorted(landing_bench.visible()) == (["one/a.png"] if choice is Duplicates.SKIP else ["one/a.png", "two/b.png"])
    linked = choice is Duplicates.HARDLINK
    assert (landing_bench.root / "one/a.png").stat().st_nlink == (2 if linked else 1)
    assert landing_bench.staged() == []


@pytest.mark.parametrize("choice", [Duplicates.SKIP, Duplicates.HARDLINK])
async def test_duplicates_within_one_group_are_found(landing_bench: LandingBench, choice: Duplicates) -> None:
    files = [(b"%d.png" % number, b"same") for number in range(3)]
    first, *others = await kinds(landing_bench, *files, duplicates=choice)
    assert first is LandingKind.NEW
    assert set(others) == {LandingKind.DUPLICATE if choice is Duplicates.SKIP else LandingKind.LINKED}
    for path, content in files:
        assert await manifest_points_to_the_content(landing_bench, path, content)


@pytest.mark.parametrize("choice", [Duplicates.SKIP, Duplicates.HARDLINK])
async def test_an_index_that_is_out_of_date_loses_no_picture(landing_bench: LandingBench, choice: Duplicates) -> None:
    await land(landing_bench, (b"a.png", b"same"), (b"b.png", b"gone"))
    copy = landing_bench.root / "a.png"
    before = copy.stat()
    copy.write_bytes(b"edit")  # the same size
    os.utime(copy, ns=(before.st_mtime_ns, before.st_mtime_ns))  # and the time put back
    (landing_bench.root / "b.png").unlink()
    outcome = await kinds(landing_bench, (b"c.png", b"same"), (b"d.png", b"gone"), duplicates=choice)
    assert outcome == [LandingKind.NEW, LandingKind.NEW]
    assert landing_bench.visible() == {"a.png": b"edit", "c.png": b"same", "d.png": b"gone"}


async def test_sidecars_and_empty_files_are_never_duplicates(landing_bench: LandingBench) -> None:
    files = [(b"1.txt", b"a cat"), (b"2.txt", b"a cat"), (b"3.bin", b""), (b"4.bin", b"")]
    assert set(await kinds(landing_bench, *files, duplicates=Duplicates.SKIP)) == {LandingKind.NEW}


async def test_a_duplicate_whose_one_copy_was_deleted_is_culled(landing_bench: LandingBench) -> None:
    await kinds(landing_bench, (b"a.png", b"same"), (b"b.png", b"same"), duplicates=Duplicates.SKIP)
    (landing_bench.root / "a.png").unlink()
    assert await kinds(landing_bench, (b"b.png", b"same"), duplicates=Duplicates.SKIP) == [LandingKind.CULLED]


async def test_a_file_system_without_links_keeps_files_and_says_so_once(
    landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    files = [(b"%d.png" % number, b"same") for number in range(3)]
    assert await kinds(landing_bench, *files, duplicates=Duplicates.HARDLINK) == [LandingKind.NEW] * 3
    assert len([record for record in caplog.records if "hard links" in record.message]) == 1
    assert {Path(path).name for path in landing_bench.visible()} == {"0.png", "1.png", "2.png"}
