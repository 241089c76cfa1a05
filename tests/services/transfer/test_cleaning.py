"""What a clean-up is told of a source's files, and what becomes of what it tells."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
import sqlalchemy as sa

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.library import FindingKind, VerifyOptions
from mediasync.model import Problem, SyncOptions
from mediasync.model.synced import CopyReport, SourceFile, SyncedFile, SyncedState
from mediasync.runtime.notices import Notice
from mediasync.sources.base import FileEntry
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import transfer_pb2_grpc
from services.transfer import schema
from services.transfer.cleaned_store import CleanedStore
from services.transfer.cleaning import CleanupRecord
from services.transfer.cleaning_servicer import CleaningServicer
from services.transfer.entities import LandedFile, LandingKind
from services.transfer.pipeline.worker import PipelineWorker
from services.transfer.processing import Processor
from tests.fixtures.library_keeping import Keeping, flip
from tests.fixtures.transfer import MTIME_NS, LandingBench


class Cleaning:
    """A clean-up's view of the bench's library."""

    def __init__(self, keeping: Keeping) -> None:
        self.keeping = keeping
        self.bench = keeping.bench
        self.record = CleanupRecord(self.bench.database, keeping.keeper.library)

    def file(self, path: str | bytes) -> SourceFile:
        """A file of the source as it is."""
        status = os.lstat(self.bench.source_root / os.fsdecode(path))
        return SourceFile(os.fsencode(path), status.st_size, status.st_mtime_ns, status.st_ino)

    async def synced(self, *paths: str | bytes) -> list[SyncedFile]:
        return await self.record.synced(self.bench.spec, self.keeping.root, [self.file(path) for path in paths])

    async def state(self, path: str | bytes) -> SyncedState:
        (found,) = await self.synced(path)
        return found.state

    async def report(self, path: str, **seen: Any) -> None:
        await self.record.report_copies(self.bench.spec, self.keeping.root, [CopyReport(path.encode(), path.encode(), **seen)])

    async def process(self) -> None:
        """Looks into what has landed."""
        committed, progressed = Notice(), Notice()
        pipeline = PipelineWorker()
        running = asyncio.create_task(Processor(self.bench.queues, pipeline, committed, progressed, parallel=1).run())
        try:
            while await self.bench.queues.processing_tasks(1, 0):
                await progressed.wait_past(progressed.count, 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await pipeline.close()

    async def change(self, statement: str) -> None:
        await self.bench.database.write(lambda connection: connection.exec_driver_sql(statement))

    async def looked_into(self) -> None:
        """As if every file had been processed, and were valid."""
        await self.change("DELETE FROM processing")


@pytest.fixture
def cleaning(keeping: Keeping) -> Cleaning:
    return Cleaning(keeping)


async def test_a_synced_file_is_told_with_its_hash_and_where_it_landed_first(cleaning: Cleaning) -> None:
    for name in ("a.txt", "d/same.txt"):
        cleaning.bench.write(name, b"bytes")
    cleaning.bench.write(b"not-utf8-\xff.txt", b"other")
    await cleaning.bench.sync("sync_7")
    await cleaning.looked_into()
    first, second, odd = await cleaning.synced("a.txt", "d/same.txt", b"not-utf8-\xff.txt")
    sha256 = hashlib.sha256(b"bytes").digest()
    assert first == SyncedFile(SyncedState.SYNCED, sha256, (b"a.txt", b"d/same.txt"), "sync_7")
    assert second == SyncedFile(SyncedState.SYNCED, sha256, (b"d/same.txt", b"a.txt"), "sync_7")
    assert odd.copies == (b"not-utf8-\xff.txt",)


async def test_what_was_never_synced_is_unknown_and_what_was_rewritten_since_is_changed(cleaning: Cleaning) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        cleaning.bench.write(name)
    await cleaning.bench.sync()
    await cleaning.looked_into()
    cleaning.bench.write("new.txt")
    cleaning.bench.write("a.txt", b"longer than before")
    os.utime(cleaning.bench.source_root / "b.txt", (1, 1))
    found = await cleaning.synced("new.txt", "a.txt", "b.txt", "c.txt")
    assert [item.state for item in found] == [SyncedState.UNKNOWN, SyncedState.CHANGED, SyncedState.CHANGED, SyncedState.SYNCED]
    assert found[0].sha256 == found[1].sha256 == b""


async def test_a_source_that_was_never_synced_there_has_nothing_on_record(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync()
    other = replace(cleaning.bench.spec, name="other")
    assert await cleaning.record.synced(other, cleaning.keeping.root, [cleaning.file("a.txt")]) == [SyncedFile(SyncedState.UNKNOWN)]
    assert await cleaning.record.libraries(other) == []


async def test_an_engine_without_inodes_that_sees_whole_seconds_speaks_of_the_same_file(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync()
    await cleaning.looked_into()
    exact = cleaning.file("a.txt")
    coarse = replace(exact, mtime_ns=exact.mtime_ns // 10**9 * 10**9, inode=0)
    later = replace(coarse, mtime_ns=coarse.mtime_ns + 10**9)
    found = await cleaning.record.synced(cleaning.bench.spec, cleaning.keeping.root, [exact, coarse, later])
    assert [item.state for item in found] == [SyncedState.SYNCED, SyncedState.SYNCED, SyncedState.CHANGED]
    await cleaning.change(f"UPDATE manifest SET mtime_ns = {coarse.mtime_ns}, inode = 0")
    assert await cleaning.state("a.txt") is SyncedState.SYNCED


async def test_content_that_was_not_looked_into_yet_is_not_relied_on_and_what_is_invalid_stays_so(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.png", b"no picture at all")
    cleaning.bench.write("good.txt")
    await cleaning.bench.sync(options=SyncOptions(settle_seconds=0, incomplete_after_seconds=0))
    assert await cleaning.state("good.txt") is SyncedState.NOT_FLUSHED
    await cleaning.change("UPDATE manifest SET incomplete = 0")
    await cleaning.process()
    bad, good = await cleaning.synced("a.png", "good.txt")
    assert (bad.state, good.state) == (SyncedState.INVALID, SyncedState.SYNCED)
    assert bad.sha256 == hashlib.sha256(b"no picture at all").digest()
    assert bad.copies == ()


async def test_a_file_that_validates_after_all_is_not_invalid_any_more(landing_bench: LandingBench) -> None:
    lander, queues = landing_bench.lander(), landing_bench.queues
    await lander.land(lander.begin([landing_bench.stage(b"a.txt", b"1")]))
    (task,) = await queues.processing_tasks(1, 0)

    async def invalid() -> list[int]:
        return await landing_bench.database.read(lambda connection: list(connection.scalars(sa.select(schema.library_files.c.invalid))))

    await queues.finish_processing([(task, b"", Problem(Reason.FILE_INVALID, "broken"))])
    assert await invalid() == [True]
    other = replace(task, landed=LandedFile(FileEntry(b"a.txt", 1, MTIME_NS, 0, 0), b"a.txt", b"other content", LandingKind.NEW))
    await queues.finish_processing([(other, b"", None)])
    assert await invalid() == [True]
    await queues.finish_processing([(task, None, None)])
    assert await invalid() == [True]
    await queues.finish_processing([(task, b"", None)])
    assert await invalid() == [False]


async def test_a_file_that_was_incomplete_when_it_was_taken_is_told_as_such(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.png", b"\x89PNG\r\n\x1a\n cut short")
    os.utime(cleaning.bench.source_root / "a.png", (1, 1))
    await cleaning.bench.sync()
    await cleaning.looked_into()
    (found,) = await cleaning.synced("a.png")
    assert (found.state, found.copies) == (SyncedState.INCOMPLETE, ())


async def test_what_the_owner_deleted_is_culled_and_what_they_edited_is_edited(cleaning: Cleaning) -> None:
    for name in ("culled.txt", "edited.txt", "moved.txt"):
        cleaning.bench.write(name, name.encode())
    await cleaning.bench.sync()
    await cleaning.looked_into()
    cleaning.keeping.path("culled.txt").unlink()
    cleaning.keeping.path("edited.txt").write_bytes(b"by its owner")
    cleaning.keeping.path("moved.txt").rename(cleaning.keeping.path("elsewhere.txt"))
    await cleaning.keeping.verify(VerifyOptions(accept=True))
    culled, edited, moved = await cleaning.synced("culled.txt", "edited.txt", "moved.txt")
    assert (culled.state, culled.sha256) == (SyncedState.CULLED, hashlib.sha256(b"culled.txt").digest())
    assert edited.state is SyncedState.EDITED
    assert (moved.state, moved.copies) == (SyncedState.SYNCED, (b"elsewhere.txt",))


async def test_another_copy_counts_where_the_first_one_was_deleted(cleaning: Cleaning) -> None:
    for name in ("a.txt", "b.txt"):
        cleaning.bench.write(name, b"same")
    await cleaning.bench.sync()
    await cleaning.looked_into()
    cleaning.keeping.path("a.txt").unlink()
    await cleaning.keeping.verify(VerifyOptions(accept=True))
    (found,) = await cleaning.synced("a.txt")
    assert (found.state, found.copies) == (SyncedState.SYNCED, (b"b.txt",))


async def test_at_most_four_copies_are_told(cleaning: Cleaning) -> None:
    for number in range(50):
        cleaning.bench.write(f"{number:02}.txt", b"same")
    await cleaning.bench.sync()
    await cleaning.looked_into()
    (found,) = await cleaning.synced("49.txt")
    assert found.copies[0] == b"49.txt"
    assert len(found.copies) == 4


async def test_a_place_that_other_content_came_to_has_no_copy(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync()
    await cleaning.looked_into()
    await cleaning.change("UPDATE library_files SET sha256 = x'01'")
    assert await cleaning.state("a.txt") is SyncedState.EDITED


async def test_a_copy_that_may_not_be_on_the_disk_yet_is_not_relied_on(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync("sync_1")
    await cleaning.looked_into()
    async with cleaning.keeping.keeper.library(cleaning.keeping.root) as library:
        # Held open, as by a sync that is under way: else opening it would put everything on the disk.
        await cleaning.change(f"INSERT INTO unflushed VALUES ({library.key}, 1, x'', 'sync_1', 'boot')")
        assert await cleaning.state("a.txt") is SyncedState.NOT_FLUSHED
    assert await cleaning.state("a.txt") is SyncedState.SYNCED


async def test_i4_without_its_marker_a_library_is_not_believed(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync()
    cleaning.keeping.path(".mediasync/library.json").unlink()
    with pytest.raises(MediasyncError) as caught:
        await cleaning.synced("a.txt")
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    assert not cleaning.keeping.path(".mediasync/library.json").exists()


async def test_more_files_than_a_call_takes_are_refused(cleaning: Cleaning) -> None:
    file = SourceFile(b"a", 1, 1, 1)
    with pytest.raises(MediasyncError) as caught:
        await cleaning.record.synced(cleaning.bench.spec, cleaning.keeping.root, [file] * 1001)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_libraries_are_told_with_how_much_of_the_source_they_have(cleaning: Cleaning) -> None:
    for name in ("a.txt", "b.txt"):
        cleaning.bench.write(name)
    await cleaning.bench.sync()
    (share,) = await cleaning.record.libraries(cleaning.bench.spec)
    assert (os.fsdecode(share.library.root), share.files) == (cleaning.keeping.root, 2)
    (share,) = await cleaning.record.libraries(None)
    assert share.files == 0
    await cleaning.change("UPDATE libraries SET root = CAST('gone:12:/library' AS BLOB)")
    assert await cleaning.record.libraries(None) == await cleaning.record.libraries(cleaning.bench.spec) == []


async def test_what_a_clean_up_deleted_is_not_counted_as_vanished_by_the_next_sync(cleaning: Cleaning) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        cleaning.bench.write(name)
    await cleaning.bench.sync("sync_1")
    await cleaning.looked_into()
    deleted = [cleaning.file("a.txt"), replace(cleaning.file("b.txt"), size_bytes=1)]
    for _ in range(2):
        await cleaning.record.note_cleaned(cleaning.bench.spec, cleaning.keeping.root, deleted)
    (share,) = await cleaning.record.libraries(cleaning.bench.spec)
    assert share.files == 2
    for name in ("a.txt", "c.txt"):
        (cleaning.bench.source_root / name).unlink()
    assert (await cleaning.bench.sync("sync_2")).files_vanished == 1
    assert sorted(cleaning.bench.visible()) == [b"a.txt", b"b.txt", b"c.txt"]


async def test_copies_that_were_read_are_noted_as_read(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync()
    before = time.time()
    cleaning.keeping.path("a.txt").rename(cleaning.keeping.path("aside"))
    await cleaning.report("a.txt", missing=True)
    cleaning.keeping.path("aside").rename(cleaning.keeping.path("a.txt"))
    await cleaning.report("a.txt", intact=True)
    await cleaning.report("nowhere.txt", intact=True)
    column = sa.select(schema.library_files.c.verified_time)
    assert await cleaning.bench.database.read(lambda connection: connection.scalar(column)) >= before
    assert await cleaning.keeping.findings() == []


async def test_a_copy_that_lost_bytes_is_repaired_from_the_source_that_has_it(cleaning: Cleaning) -> None:
    cleaning.bench.write("d/a.txt", b"good bytes")
    await cleaning.bench.sync()
    flip(cleaning.keeping.path("d/a.txt"))
    await cleaning.report("d/a.txt")
    (found,) = await cleaning.keeping.findings()
    assert (found.kind, found.path, found.source) == (FindingKind.CORRUPT, b"d/a.txt", "forge")
    sources, without = await cleaning.keeping.keeper.prepare_repair(cleaning.keeping.root, "repair_1")
    assert ([files for _, _, files in sources], without) == ([1], 0)
    options = replace(cleaning.bench.options, restore=True)
    await cleaning.bench.sync("sync_2", options=options, only_failed_of="repair_1")
    assert cleaning.bench.visible()[b"d/a.txt"] == b"good bytes"


async def test_what_the_source_deleted_since_cannot_be_repaired_from_it(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt", b"good bytes")
    await cleaning.bench.sync()
    flip(cleaning.keeping.path("a.txt"))
    await cleaning.report("a.txt")
    await cleaning.record.note_cleaned(cleaning.bench.spec, cleaning.keeping.root, [cleaning.file("a.txt")])
    assert await cleaning.keeping.keeper.prepare_repair(cleaning.keeping.root, "repair_1") == ([], 1)


async def test_copies_are_told_apart_by_what_is_wrong_with_them(cleaning: Cleaning) -> None:
    for name in ("gone.txt", "back.txt", "edited.txt", "unreadable.txt", "link.txt"):
        cleaning.bench.write(name, name.encode())
    await cleaning.bench.sync()
    cleaning.keeping.path("gone.txt").unlink()
    cleaning.keeping.path("edited.txt").write_bytes(b"by its owner")
    cleaning.keeping.path("link.txt").unlink()
    cleaning.keeping.path("link.txt").symlink_to("gone.txt")
    for name, seen in {
        "gone.txt": {"missing": True},
        "back.txt": {"missing": True},
        "edited.txt": {},
        "unreadable.txt": {"message": "Input/output error"},
        "link.txt": {"message": "it is no regular file any more"},
    }.items():
        await cleaning.report(name, **seen)
    kinds = {finding.path: (finding.kind, finding.message) for finding in await cleaning.keeping.findings()}
    assert kinds == {
        b"gone.txt": (FindingKind.MISSING, ""),
        b"edited.txt": (FindingKind.CHANGED, ""),
        b"unreadable.txt": (FindingKind.UNREADABLE, "Input/output error"),
        b"link.txt": (FindingKind.CHANGED, "it is no regular file any more"),
    }


async def test_the_calls_carry_all_of_it(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt", b"bytes")
    await cleaning.bench.sync("sync_7")
    await cleaning.looked_into()
    server = grpc.aio.server()
    transfer_pb2_grpc.add_TransferServicer_to_server(CleaningServicer(cleaning.record), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = transfer_pb2_grpc.TransferStub(channel)
            file = cleaning.file("a.txt")
            message = pb.SourceFile(path=convert.file_path(file.path), size_bytes=file.size_bytes, mtime_ns=file.mtime_ns, inode=file.inode)
            where = {"source": convert.source_to_pb(cleaning.bench.spec), "dest_path": cleaning.keeping.root}
            (synced,) = (await stub.VerifySynced(pb.VerifySyncedRequest(files=[message], **where))).files
            assert (synced.state, synced.sync_id) == (pb.SYNCED_STATE_SYNCED, "sync_7")
            assert synced.digest.value == hashlib.sha256(b"bytes").digest()
            assert [copy.raw for copy in synced.copies] == [b"a.txt"]
            cleaning.keeping.path("a.txt").unlink()
            report = pb.CopyReport(library_path=synced.copies[0], source_path=message.path, missing=True)
            await stub.ReportCopies(pb.ReportCopiesRequest(copies=[report], **where))
            assert [finding.kind for finding in await cleaning.keeping.findings()] == [FindingKind.MISSING]
            await stub.NoteCleaned(pb.NoteCleanedRequest(files=[message], **where))
            (library,) = (await stub.DescribeOrigin(pb.DescribeOriginRequest(source=where["source"]))).libraries
            assert (library.library_root, library.files) == (cleaning.keeping.root, 0)
            (library,) = (await stub.DescribeOrigin(pb.DescribeOriginRequest())).libraries
            assert library.library_uuid
    finally:
        await server.stop(None)


async def test_ten_thousand_files_are_looked_up_without_reading_the_library(cleaning: Cleaning) -> None:
    cleaning.bench.write("a.txt")
    await cleaning.bench.sync()
    await cleaning.looked_into()
    async with cleaning.keeping.keeper.library(cleaning.keeping.root) as library:
        fill = """WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) """
        await cleaning.change(
            fill + "INSERT INTO manifest SELECT 1, x'64', CAST(printf('%05d', i) AS BLOB), 1, 1, 1, 1, CAST(printf('%032d', i) AS BLOB),"
            " CAST(printf('d/%05d', i) AS BLOB), 0, 0, 's' FROM n"
        )
        await cleaning.change(
            fill + "INSERT INTO library_files (library, path, size_bytes, sha256, mtime_ns, sync_id) SELECT"
            f" {library.key}, CAST(printf('d/%05d', i) AS BLOB), 1, CAST(printf('%032d', i) AS BLOB), 1, 's' FROM n"
        )
        files = [SourceFile(b"d/%05d" % number, 1, 1, 1) for number in range(10_000)]
        store = CleanedStore(cleaning.bench.database)
        began = time.process_time()
        found = await store.synced(cleaning.bench.spec.key, library, files)
        spent = time.process_time() - began
    assert {item.state for item in found} == {SyncedState.SYNCED}
    assert found[4711].copies == (b"d/04711",)
    # Ten times what it takes: a statement that reads a table for each file takes a thousand times.
    assert spent < 3
