from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Problem, SyncOptions
from mediasync.v1 import media_ingest_pb2
from services.transfer import landing
from services.transfer.entities import LandedFile, LandingKind
from services.transfer.recovery import recover
from tests.fixtures.transfer import LandingBench


async def land(bench: LandingBench, *files: tuple[bytes, bytes], **options: Any) -> list[LandedFile | Problem]:
    lander = bench.lander(SyncOptions(**options))
    return await lander.land(lander.begin([bench.stage(path, content) for path, content in files]))


async def test_i1_a_landed_file_is_whole_and_its_hash_is_on_record(landing_bench: LandingBench) -> None:
    (outcome,) = await land(landing_bench, (b"txt2img-images/2026-11-21/00001-7.png", b"picture"))
    assert isinstance(outcome, LandedFile)
    path = landing_bench.root / "txt2img-images/2026-11-21/00001-7.png"
    assert path.read_bytes() == b"picture"
    assert path.stat().st_mtime_ns == outcome.entry.mtime_ns
    row = (await landing_bench.manifest.rows(landing_bench.unit.origin, [outcome.entry.path]))[outcome.entry.path]
    assert row.sha256 == hashlib.sha256(b"picture").digest()
    assert await landing_bench.landings.indexed_sha256(landing_bench.unit.origin.library, outcome.library_path) == row.sha256
    assert await landing_bench.landings.pending_landings(landing_bench.unit.origin.library) == []


async def test_i1_a_file_s_intent_is_on_record_before_it_is_visible(landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[bytes], bool]] = []
    rename = landing.rename_without_replacing
    store = landing_bench.landings

    def look(source: bytes, target: bytes) -> None:
        seen.append((intents_seen_from_outside(landing_bench), os.path.exists(target)))
        rename(source, target)

    monkeypatch.setattr(landing, "rename_without_replacing", look)
    await land(landing_bench, (b"a.png", b"1"))
    assert seen == [([b"a.png"], False)]
    assert await store.pending_landings(landing_bench.unit.origin.library) == []


def intents_seen_from_outside(bench: LandingBench) -> list[bytes]:
    """The intents as another process would read them at this moment."""
    with contextlib.closing(sqlite3.connect(bench.root.parent / "transfer.db")) as connection:
        return [path for (path,) in connection.execute("SELECT path FROM landings")]


async def test_a_landed_file_s_event_waits_in_the_outbox_with_a_derived_id(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a\xff.png", b"1"))
    (unsent,) = await landing_bench.queues.unsent_events(10)
    event = media_ingest_pb2.Event.FromString(unsent.event)
    assert event.type == media_ingest_pb2.EVENT_TYPE_FILE_SYNCED
    assert event.file.library_path.raw == b"a\xff.png"
    assert event.file.library_path.display == "a\\xff.png"
    assert event.file.digest.value == hashlib.sha256(b"1").digest()
    (task,) = await landing_bench.queues.processing_tasks(10, 0)
    assert task.landed.library_path == b"a\xff.png"


async def test_i2_a_name_that_comes_back_with_other_content_is_kept_beside_the_old_one(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"ComfyUI_00001_.png", b"first"))
    await land(landing_bench, (b"ComfyUI_00001_.png", b"second"))
    await land(landing_bench, (b"ComfyUI_00001_.png", b"third"))
    assert landing_bench.visible() == {
        "ComfyUI_00001_.png": b"first",
        "ComfyUI_00001_~20261121T101112.png": b"second",
        "ComfyUI_00001_~20261121T101112-2.png": b"third",
    }


async def test_the_same_bytes_under_the_same_name_are_known_and_told_once(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"))
    (again,) = await land(landing_bench, (b"a.png", b"1"))
    assert isinstance(again, LandedFile)
    assert again.kind is LandingKind.REMEMBERED
    assert landing_bench.visible() == {"a.png": b"1"}
    assert len(await landing_bench.queues.unsent_events(10)) == 1
    assert (await landing_bench.landings.unit_counts(landing_bench.unit)).files == 1


async def test_a_file_that_somebody_else_put_there_is_taken_in_and_told(landing_bench: LandingBench) -> None:
    (landing_bench.root / "a.png").write_bytes(b"1")
    (outcome,) = await land(landing_bench, (b"a.png", b"1"))
    assert isinstance(outcome, LandedFile)
    assert outcome.kind is LandingKind.KNOWN
    assert len(await landing_bench.queues.unsent_events(10)) == 1


async def test_i2_a_name_taken_in_the_very_moment_is_chosen_anew(landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = landing.rename_without_replacing
    calls = 0

    def somebody_is_faster(source: bytes, target: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            Path(os.fsdecode(target)).write_bytes(b"theirs")
        rename(source, target)

    monkeypatch.setattr(landing, "rename_without_replacing", somebody_is_faster)
    await land(landing_bench, (b"a.png", b"ours"))
    assert landing_bench.visible() == {"a.png": b"theirs", "a~20261121T101112.png": b"ours"}


@pytest.mark.parametrize(
    "path", [b"../a", b"/etc/passwd", b"a/../b", b"a//b", b"a/./b", b".mediasync/library.json", b".mediasync", b"a\0b"]
)
async def test_i7_a_name_that_leads_out_of_the_library_is_one_file_s_problem(landing_bench: LandingBench, path: bytes) -> None:
    bad, good = await land(landing_bench, (path, b"x"), (b"good.png", b"y"))
    assert isinstance(bad, Problem)
    assert bad.reason is Reason.FILE_NAME_UNSAFE
    assert isinstance(good, LandedFile)
    assert landing_bench.visible() == {"good.png": b"y"}
    assert sorted(path.name for path in landing_bench.root.parent.iterdir() if not path.name.startswith("transfer.db")) == ["library"]


async def test_i7_odd_names_land_as_they_are(landing_bench: LandingBench) -> None:
    names = [b"with space", b"quote'\"", b"new\nline", b"-rf", b"\xff\xfe", b"$(reboot)", b"x" * 255]
    for outcome in await land(landing_bench, *((b"d/" + name, name) for name in names)):
        assert isinstance(outcome, LandedFile)
    assert sorted(os.listdir(os.fsencode(landing_bench.root / "d"))) == sorted(names)


async def test_a_file_where_a_folder_is_needed_fails_alone(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a", b"file"))
    bad, good = await land(landing_bench, (b"a/b.png", b"x"), (b"c.png", b"y"))
    assert isinstance(bad, Problem)
    assert bad.reason is Reason.FILE_NAME_NOT_POSSIBLE
    assert isinstance(good, LandedFile)


async def test_i4_a_library_that_loses_its_marker_under_way_gets_nothing_more(landing_bench: LandingBench) -> None:
    (landing_bench.root / ".mediasync" / "library.json").unlink()
    with pytest.raises(MediasyncError) as caught:
        await land(landing_bench, (b"a.png", b"1"))
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    assert landing_bench.visible() == {}


async def test_no_space_ends_the_sync_and_leaves_nothing_half_visible(landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: bytes, target: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(landing, "rename_without_replacing", full)
    with pytest.raises(MediasyncError) as caught:
        await land(landing_bench, (b"a.png", b"1"))
    assert caught.value.reason is Reason.LIBRARY_NO_SPACE
    assert landing_bench.visible() == {}


async def test_verification_throws_away_what_the_disk_gives_back_differently(landing_bench: LandingBench) -> None:
    staged = landing_bench.stage(b"a.png", b"right")
    Path(os.fsdecode(staged.staged_path)).write_bytes(b"wrong")
    lander = landing_bench.lander(SyncOptions(verify_transfers=True))
    (outcome,) = await lander.land(lander.begin([staged]))
    assert isinstance(outcome, Problem)
    assert outcome.reason is Reason.FILE_VERIFY_FAILED
    assert landing_bench.visible() == {}


async def test_i5_recovery_finishes_what_was_visible_and_forgets_what_was_not(landing_bench: LandingBench) -> None:
    bench = landing_bench
    names = (b"done.png", b"lost.png", b"other.png", b"placeholder.png")
    done, lost, other, placeholder = (bench.stage(path, b"content of " + path) for path in names)
    await bench.landings.add_landings(
        bench.unit, [(staged, staged.entry.path, LandingKind.NEW) for staged in (done, lost, other, placeholder)]
    )
    os.rename(done.staged_path, os.fsencode(bench.root / "done.png"))
    (bench.root / "other.png").write_bytes(b"somebody else's file")
    (bench.root / "placeholder.png").touch()
    assert await recover(bench.unit.origin.library, bench.landings, bench.executor) == 1
    assert sorted(bench.visible()) == ["done.png", "other.png"]
    assert (await bench.landings.unit_counts(bench.unit)).files == 1
    assert await bench.landings.pending_landings(bench.unit.origin.library) == []
    assert len(await bench.queues.unsent_events(10)) == 1
    assert await recover(bench.unit.origin.library, bench.landings, bench.executor) == 0
