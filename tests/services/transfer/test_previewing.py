"""A dry run: what a sync would do, file by file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from mediasync.model import PreviewDecision, PreviewedFile, PreviewSummary, SyncOptions
from services.transfer import schema
from tests.fixtures.transfer_worker import WorkerBench


async def preview(bench: WorkerBench, options: SyncOptions | None = None) -> tuple[dict[bytes, PreviewedFile], PreviewSummary]:
    found: dict[bytes, PreviewedFile] = {}

    async def on_files(files: Sequence[PreviewedFile]) -> None:
        found.update({file.path: file for file in files})

    summary = await bench.worker.preview_folder(bench.sync_spec(options), b"", on_files)
    return found, summary


async def test_a_preview_of_a_first_sync_lists_everything_and_leaves_nothing_behind(worker_bench: WorkerBench) -> None:
    worker_bench.write("a/1.txt", b"123")
    worker_bench.write("a/half.tmp", b"12345")
    worker_bench.write("a/large.txt", b"x" * 100)
    os.mkfifo(worker_bench.source_root / "fifo")
    worker_bench.library_root.rmdir()
    found, summary = await preview(worker_bench, replace(worker_bench.options, max_size_bytes=50))
    assert found[b"a/1.txt"] == PreviewedFile(b"a/1.txt", 3, PreviewDecision.TAKE, "new")
    assert found[b"a/half.tmp"].reason == "its name is that of an unfinished file"
    assert found[b"a/large.txt"] == PreviewedFile(b"a/large.txt", 100, PreviewDecision.FILTERED, "it is larger than max_size_bytes")
    assert found[b"fifo"].decision is PreviewDecision.FILTERED
    assert summary == PreviewSummary(files_to_take=1, bytes_to_take=3, files_filtered=3)
    assert not worker_bench.library_root.exists()
    for table in (schema.origins, schema.libraries, schema.scans):
        assert await worker_bench.database.read(lambda connection, table=table: connection.execute(sa.select(table)).all()) == []


async def test_a_preview_tells_new_changed_unchanged_deleted_and_vanished_apart(worker_bench: WorkerBench) -> None:
    for name in ("same", "changed", "touched", "culled", "gone", "dir/gone"):
        worker_bench.write(f"{name}.txt", name.encode())
    (worker_bench.source_root / "late").mkdir()
    await worker_bench.sync("sync_1")
    worker_bench.write("changed.txt", b"of another size")
    (worker_bench.source_root / "touched.txt").touch()
    (worker_bench.library_root / "culled.txt").unlink()
    (worker_bench.source_root / "gone.txt").unlink()
    (worker_bench.source_root / "dir" / "gone.txt").unlink()
    (worker_bench.source_root / "dir").rmdir()
    worker_bench.write("new.txt", b"new")
    worker_bench.write("namesake.txt", b"there")
    (worker_bench.library_root / "namesake.txt").write_bytes(b"there")
    found, summary = await preview(worker_bench)
    assert {path: (file.decision, file.reason) for path, file in found.items()} == {
        b"same.txt": (PreviewDecision.UNCHANGED, "taken earlier"),
        b"changed.txt": (PreviewDecision.TAKE, "changed"),
        b"touched.txt": (PreviewDecision.UNCHANGED, "its times moved; taken only if its content differs"),
        b"culled.txt": (PreviewDecision.CULLED, "deleted in the library"),
        b"new.txt": (PreviewDecision.TAKE, "new"),
        b"namesake.txt": (
            PreviewDecision.UNCHANGED,
            "the library has a file of this name and size; taken only if its content differs",
        ),
    }
    assert (summary.files_to_take, summary.files_unchanged, summary.files_culled, summary.files_vanished) == (2, 3, 1, 2)
    restored, _ = await preview(worker_bench, replace(worker_bench.options, restore=True))
    assert restored[b"culled.txt"].reason == "deleted in the library, and to be restored"
    assert (await worker_bench.sync("sync_2")).files_transferred == 2, "the preview did not remember what it saw"


async def test_a_preview_says_what_is_too_young_and_what_cannot_be_read(worker_bench: WorkerBench) -> None:
    worker_bench.write("young.txt")
    closed = worker_bench.write("closed/1.txt").parent
    closed.chmod(0)
    found, summary = await preview(worker_bench, replace(worker_bench.options, min_age_minutes=5))
    closed.chmod(0o755)
    assert found[b"young.txt"].decision is PreviewDecision.UNSETTLED
    assert found[b"closed"].decision is PreviewDecision.UNREADABLE
    assert (summary.files_unsettled, summary.files_unreadable) == (1, 1)
