from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.model import Durability, SyncOptions
from services.transfer import durability, flushing, landing, recovery
from services.transfer.entities import LandedFile, LandingKind
from services.transfer.recovery import recover
from tests.fixtures.transfer import MTIME_NS, LandingBench
from tests.services.transfer.test_landing import land


@pytest.fixture
def crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the look of it, the machine has started anew since the files landed."""
    monkeypatch.setattr(recovery, "boot_id", lambda: "another boot")


def tear(path: Path, content: bytes) -> None:
    """What a crash leaves of a file whose bytes were not on the disk: the name and the time are, the bytes are not."""
    path.write_bytes(content)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))


async def recovered(bench: LandingBench) -> int:
    return await recover(bench.unit.origin.library, bench.landings, bench.executor)


async def test_fast_flushes_the_file_system_once_and_nothing_else(landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    fsyncs: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(flushing, "sync_file_system", synced.append)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsyncs.append(descriptor), fsync(descriptor))[1])
    library = landing_bench.unit.origin.library
    lander = landing_bench.lander(SyncOptions(durability=Durability.FAST))
    for number in range(3):
        await lander.land(lander.begin([landing_bench.stage(b"d/%d.png" % number, b"content")]))
    (unit,) = await landing_bench.landings.flushes.units(library)
    assert (unit.sync_id, unit.boot_id, synced) == (landing_bench.unit.sync_id, durability.boot_id(), [])
    await flushing.flush_run(unit.sync_id, landing_bench.landings.flushes, landing_bench.executor)
    assert (await landing_bench.landings.flushes.units(library), synced, fsyncs) == ([], [library.root], [])


async def test_what_is_unflushed_is_on_the_disk_as_a_record_before_a_file_is_visible(
    landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    rename, fdatasync = landing.rename_without_replacing, os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (order.append("record"), fdatasync(descriptor))[1])
    monkeypatch.setattr(landing, "rename_without_replacing", lambda *paths: (order.append("visible"), rename(*paths))[1])
    await land(landing_bench, (b"a.png", b"1"), durability=Durability.FAST)
    assert order == ["record", "visible"]


async def test_i5_a_process_that_dies_costs_nothing_because_the_system_still_has_the_bytes(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"), durability=Durability.FAST)
    tear(landing_bench.root / "a.png", b"")
    assert await recovered(landing_bench) == 0
    # Not looked at: in the same boot nothing can be torn, and what changed is its owner's.
    assert landing_bench.visible() == {"a.png": b""}
    assert await landing_bench.landings.flushes.units(landing_bench.unit.origin.library) == []


@pytest.mark.usefixtures("crashed")
async def test_i1_what_a_crash_of_the_machine_tore_is_moved_aside_and_pulled_again(landing_bench: LandingBench) -> None:
    bench = landing_bench
    await land(bench, (b"full.png", b"flushed"))
    await land(
        bench, *((b"d/%s.png" % name, b"content") for name in (b"whole", b"empty", b"cut", b"lost", b"edited")), durability=Durability.FAST
    )
    (bench.root / "d/lost.png").unlink()
    tear(bench.root / "d/empty.png", b"")
    tear(bench.root / "d/cut.png", b"cont")
    (bench.root / "d/edited.png").write_bytes(b"edited")
    await recovered(bench)
    assert bench.visible() == {"full.png": b"flushed", "d/whole.png": b"content", "d/edited.png": b"edited"}
    assert sorted(os.listdir(bench.root / ".mediasync/torn/d")) == ["cut.png", "empty.png"]
    names = (b"whole", b"empty", b"cut", b"lost", b"edited")
    rows = await bench.manifest.rows(bench.unit.origin, [b"d/%s.png" % name for name in names])
    assert sorted(rows) == [b"d/edited.png", b"d/whole.png"]
    outcomes = await land(bench, *((b"d/%s.png" % name, b"content") for name in (b"empty", b"cut", b"lost")))
    assert {outcome.kind for outcome in outcomes if isinstance(outcome, LandedFile)} == {LandingKind.NEW}
    assert await recovered(bench) == 0


@pytest.mark.usefixtures("crashed")
async def test_i1_an_intent_of_a_crashed_machine_leaves_no_torn_file(landing_bench: LandingBench) -> None:
    bench = landing_bench
    staged = bench.stage(b"a.png", b"content")
    await bench.landings.flushes.begin(bench.unit, "this boot")
    await bench.landings.add_landings(bench.unit, [(staged, b"a.png", LandingKind.NEW)])
    tear(bench.root / "a.png", b"")
    assert await recovered(bench) == 0
    assert bench.visible() == {}
    assert os.listdir(bench.root / ".mediasync/torn") == ["a.png"]


@pytest.mark.usefixtures("crashed")
async def test_a_picture_that_was_deleted_before_the_crash_stays_deleted(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"))
    (landing_bench.root / "a.png").unlink()
    landing_bench.unit = replace(landing_bench.unit, sync_id="sync_2")
    await land(landing_bench, (b"b.png", b"2"), durability=Durability.FAST)
    await recovered(landing_bench)
    (outcome,) = await land(landing_bench, (b"a.png", b"1"))
    assert isinstance(outcome, LandedFile)
    assert outcome.kind is LandingKind.CULLED
