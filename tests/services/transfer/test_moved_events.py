"""What subscribers are told of files that their owner moved, and of folders that have landed."""

from __future__ import annotations

import asyncio

import pytest

from mediasync.library import FindingKind, VerifyOptions
from mediasync.v1 import media_ingest_pb2 as pb
from services.transfer import messages
from services.transfer.pipeline.stage import MediaFacts
from tests.fixtures.library_keeping import Keeping
from tests.fixtures.transfer_worker import WorkerBench


async def told(bench: WorkerBench) -> list[pb.Event]:
    """What is in the outbox, which is emptied."""
    events = await bench.queues.unsent_events(1000)
    if events:
        await bench.queues.events_sent(events[-1].sequence)
    return [pb.Event.FromString(event.event) for event in events]


async def moved(keeping: Keeping) -> list[pb.Event]:
    """What a verify tells."""
    await keeping.verify(VerifyOptions(restart=True))
    return await told(keeping.bench)


async def test_a_file_that_was_moved_is_told_with_where_it_was(keeping: Keeping) -> None:
    keeping.bench.write("out/a\N{SNOWMAN}.txt", b"picture")
    await keeping.bench.sync()
    (synced,) = [event for event in await told(keeping.bench) if event.HasField("file")]
    keeping.path("best").mkdir()
    keeping.path("out/a\N{SNOWMAN}.txt").rename(keeping.path("best/b.txt"))
    (event,) = await moved(keeping)
    expected = pb.FileRecord()
    expected.CopyFrom(synced.file)
    expected.library_path.raw, expected.library_path.display = b"best/b.txt", "best/b.txt"
    expected.moved_from.CopyFrom(synced.file.library_path)
    assert event.file == expected
    assert (event.type, event.source) == (pb.EVENT_TYPE_FILE_SYNCED, "forge")
    assert event.sync_id.startswith("verify_")
    assert await moved(keeping) == []


async def test_i5_a_move_that_a_verify_which_was_cut_off_had_followed_is_told_once(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.bench.write("a.txt", b"picture")
    await keeping.bench.sync()
    await told(keeping.bench)
    keeping.path("a.txt").rename(keeping.path("b.txt"))

    def cut_off(name: str) -> None:
        if name == "transfer.after_follow":
            raise asyncio.CancelledError

    with monkeypatch.context() as patched, pytest.raises(asyncio.CancelledError):
        patched.setattr("services.transfer.settling.crash.point", cut_off)
        await keeping.verify()
    await keeping.verify()
    assert [event.file.moved_from.raw for event in await told(keeping.bench)] == [b"a.txt"]


async def test_a_file_that_goes_back_and_forth_is_told_each_time(keeping: Keeping) -> None:
    keeping.bench.write("a.txt", b"picture")
    await keeping.bench.sync()
    ids = {event.event_id for event in await told(keeping.bench)}
    for number, (old, new) in enumerate((("a.txt", "b.txt"), ("b.txt", "a.txt"), ("a.txt", "b.txt")), len(ids) + 1):
        keeping.path(old).rename(keeping.path(new))
        (event,) = await moved(keeping)
        ids.add(event.event_id)
        assert len(ids) == number


async def test_the_same_bytes_that_come_where_a_file_was_moved_away_are_told_under_ids_of_their_own(keeping: Keeping) -> None:
    bench = keeping.bench
    keeping.path("a.txt").write_bytes(b"picture")
    ids = set()
    for number in range(1, 4):
        await keeping.adopt()
        (synced,) = await told(bench)
        (task,) = await bench.queues.processing_tasks(10, 0)
        processed = messages.file_processed(task.sync_id, task.library, task.source_label, task.landed, MediaFacts())
        await bench.queues.finish_processing([(task, processed, None)])
        (found,) = await told(bench)
        assert synced.file.library_path.raw == found.file.library_path.raw == b"a.txt"
        ids |= {synced.event_id, found.event_id}
        assert len(ids) == 2 * number
        keeping.path("a.txt").rename(keeping.path(f"{number}.txt"))
        assert len(await moved(keeping)) == 1
        keeping.path("a.txt").write_bytes(b"picture")


async def test_what_is_still_to_be_looked_into_is_looked_into_where_it_is_now(keeping: Keeping) -> None:
    bench = keeping.bench
    bench.write("a.txt", b"picture")
    await bench.sync()
    await told(bench)
    tasks = await bench.queues.processing_tasks(10, 0)
    keeping.path("a.txt").rename(keeping.path("b.txt"))
    await moved(keeping)
    # What was found at the old place is not told any more.
    await bench.queues.finish_processing([(tasks[0], b"of the old place", None)])
    (task,) = await bench.queues.processing_tasks(10, 0)
    assert (task.key, task.landed.library_path, task.landed.entry.path) == (tasks[0].key, b"b.txt", b"a.txt")
    assert await told(bench) == []


async def test_a_file_that_no_source_has_on_record_is_told_too(keeping: Keeping) -> None:
    keeping.path("a.txt").write_bytes(b"mine")
    await keeping.adopt()
    await told(keeping.bench)
    keeping.path("a.txt").rename(keeping.path("b.txt"))
    (event,) = await moved(keeping)
    assert (event.source, event.file.source_path.raw, event.file.moved_from.raw) == ("moved", b"b.txt", b"a.txt")
    assert (await keeping.findings())[0].kind is FindingKind.MOVED


async def test_a_folder_that_has_landed_is_told_once_and_only_if_it_brought_anything(worker_bench: WorkerBench) -> None:
    bench = worker_bench
    for name in ("out/a.txt", "out/b.txt"):
        bench.write(name, b"picture")
    await bench.sync(folder=b"out")
    *files, batch = await told(bench)
    assert [event.type for event in files] == [pb.EVENT_TYPE_FILE_SYNCED] * 2
    assert (batch.type, batch.sync_id, batch.source) == (pb.EVENT_TYPE_BATCH_SYNCED, "sync_1", "forge")
    assert batch.batch == pb.BatchRecord(folder=batch.batch.folder, files=2, size_bytes=14, library_root=str(bench.library_root))
    assert batch.batch.folder.raw == b"out"
    await bench.sync(folder=b"out")
    (repeated,) = await told(bench)
    assert (repeated.event_id, repeated.batch) == (batch.event_id, batch.batch)
    await bench.sync("sync_2", folder=b"out")
    assert await told(bench) == []
