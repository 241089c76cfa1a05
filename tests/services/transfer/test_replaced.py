from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mediasync.sources.base import FileEntry
from services.transfer.entities import LandedFile, LandingKind, StagedFile
from services.transfer.landing_store import LandingStore
from services.transfer.recovery import recover
from services.transfer.replaced import REPLACED, RewrittenNames, remove_old
from tests.fixtures.transfer import LandingBench
from tests.services.transfer.test_landing import land


def aside(root: Path) -> dict[str, bytes]:
    folder = root / os.fsdecode(REPLACED)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_rewritten_file_is_replaced_and_its_former_version_kept_aside(landing_bench: LandingBench) -> None:
    for content in (b"one", b"one two", b"one two three"):
        (outcome,) = await land(landing_bench, (b"d/log.csv", content))
    assert isinstance(outcome, LandedFile)
    assert outcome.kind is LandingKind.REPLACED
    assert landing_bench.visible() == {"d/log.csv": b"one two three"}
    assert sorted(aside(landing_bench.root).values()) == [b"one", b"one two"]
    assert all(path.endswith(".csv") and path.split("/")[1] == "d" for path in aside(landing_bench.root))
    assert (await landing_bench.landings.unit_counts(landing_bench.unit)).files == 3


async def test_i2_a_rewritten_file_that_its_owner_edited_is_never_touched(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"log.html", b"one"))
    (landing_bench.root / "log.html").write_bytes(b"theirs")
    await land(landing_bench, (b"log.html", b"two"))
    await land(landing_bench, (b"log.html", b"three"))
    assert landing_bench.visible() == {"log.html": b"theirs", "log~20261121T101112.html": b"three"}
    assert list(aside(landing_bench.root).values()) == [b"two"]


async def test_i2_two_sources_do_not_replace_each_other_s_files(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"log.csv", b"first source"))
    origin = await landing_bench.manifest.origin("other", "other", landing_bench.unit.origin.library)
    landing_bench.unit = replace(landing_bench.unit, origin=origin)
    await land(landing_bench, (b"log.csv", b"second source"))
    assert landing_bench.visible() == {"log.csv": b"first source", "log~20261121T101112.csv": b"second source"}


async def test_i2_only_names_of_the_patterns_are_replaced(landing_bench: LandingBench) -> None:
    for content in (b"1", b"2"):
        await land(landing_bench, (b"log.csv", content), (b"notes.md", content), rewritten_patterns=("*.md",))
    assert landing_bench.visible() == {"log.csv": b"1", "log~20261121T101112.csv": b"2", "notes.md": b"2"}


async def test_a_file_system_without_links_keeps_a_copy_aside(landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise OSError(1, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    await land(landing_bench, (b"log.csv", b"one"))
    await land(landing_bench, (b"log.csv", b"two"))
    assert (landing_bench.visible(), list(aside(landing_bench.root).values())) == ({"log.csv": b"two"}, [b"one"])


@pytest.mark.parametrize("renamed", [False, True])
async def test_i5_a_replacement_that_was_cut_short_is_finished_or_forgotten(landing_bench: LandingBench, renamed: bool) -> None:
    await land(landing_bench, (b"log.csv", b"one"))
    staged = landing_bench.stage(b"log.csv", b"one two")
    store: LandingStore = landing_bench.landings
    await store.add_landings(landing_bench.unit, [(staged, b"log.csv", LandingKind.REPLACED)])
    if renamed:
        os.rename(staged.staged_path, os.fsencode(landing_bench.root / "log.csv"))
    library = landing_bench.unit.origin.library
    assert await recover(library, store, landing_bench.executor) == int(renamed)
    content = b"one two" if renamed else b"one"
    assert landing_bench.visible() == {"log.csv": content}
    entry = FileEntry(b"log.csv", len(content), 1, 1, 1)
    (memory,) = await store.memories(landing_bench.unit, [entry.path])
    assert memory.row is not None
    assert memory.row.entry.size_bytes == entry.size_bytes
    assert isinstance(staged, StagedFile)


def test_what_was_set_aside_is_removed_after_thirty_days(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for name in ("20261001", "20261021", "20261022", "20261121", "mine"):
        (tmp_path / os.fsdecode(REPLACED) / name).mkdir(parents=True)
    assert remove_old(root, datetime(2026, 11, 21, tzinfo=UTC).timestamp()) == 2
    assert sorted(os.listdir(tmp_path / os.fsdecode(REPLACED))) == ["20261022", "20261121", "mine"]
    assert remove_old(os.fsencode(tmp_path / "no library"), 0.0) == 0


def test_patterns_of_rewritten_files_are_those_of_the_filters() -> None:
    names = RewrittenNames(("log.html", "logs/**"))
    assert b"a/b/log.html" in names
    assert b"logs/x/y.txt" in names
    assert b"a/b/log.htm" not in names
    assert b"anything" not in RewrittenNames(())
