"""What the library has already is hashed at the source, and not pulled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec
from mediasync.sources.agent.connection import AgentConnection
from mediasync.sources.base import FileHashed, WantedFile
from services.transfer import taking
from tests.fixtures.transfer_worker import WorkerBench


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each pull was asked for."""
    asked: list[int] = []

    class CountingPull(taking.Pull):
        async def run(self, wanted: taking.WantedFlow) -> None:
            asked.append(wanted.files)
            await super().run(wanted)

    monkeypatch.setattr(taking, "Pull", CountingPull)
    return asked


def _fill(bench: WorkerBench, files: int) -> None:
    """The source, and a library that rsync filled from it."""
    for number in range(files):
        path = bench.write(f"a/{number % 3}/{number}.txt", b"content %d" % number)
        copy = bench.library_root / path.relative_to(bench.source_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


async def test_a_library_that_rsync_filled_is_adopted_and_told_of(worker_bench: WorkerBench, pulled: list[int]) -> None:
    _fill(worker_bench, 40)
    worker_bench.write("a/new.txt", b"new")
    summary = await worker_bench.sync("sync_1")
    assert (summary.files_transferred, summary.files_unchanged, pulled) == (1, 40, [1])
    assert len(await worker_bench.queues.processing_tasks(100, 0)) == 41
    assert len(await worker_bench.queues.unsent_events(100)) == 42, "one of the folder beside those of the files"
    assert len(worker_bench.visible()) == 41
    assert (await worker_bench.sync("sync_2")).files_unchanged == 41
    assert pulled == [1], "what was adopted is on record"


async def test_a_namesake_with_other_content_is_pulled_and_kept_beside_it(worker_bench: WorkerBench, pulled: list[int]) -> None:
    worker_bench.write("a.txt", b"theirs")
    (worker_bench.library_root / "a.txt").write_bytes(b"mine!!")
    summary = await worker_bench.sync("sync_1")
    assert (summary.files_transferred, pulled) == (1, [1])
    assert worker_bench.visible()[b"a.txt"] == b"mine!!"
    assert sorted(worker_bench.visible().values()) == [b"mine!!", b"theirs"]


async def test_a_source_under_a_new_name_brings_nothing_again(
    worker_bench: WorkerBench, pulled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        worker_bench.write(f"a/{number}.txt", b"%d" % number)
    await worker_bench.sync("sync_1")
    unnamed = SourceSpec(worker_bench.spec.connection, worker_bench.spec.root)
    monkeypatch.setattr(WorkerBench, "spec", unnamed)
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_transferred, summary.files_unchanged, pulled) == (0, 10, [10])
    assert len(await worker_bench.queues.unsent_events(100)) == 11, "nobody is told twice: of each file, and of the folder"


async def test_a_file_whose_ctime_moved_alone_is_not_pulled(worker_bench: WorkerBench, pulled: list[int]) -> None:
    file = worker_bench.write("a.txt", b"same")
    await worker_bench.sync("sync_1")
    file.chmod(0o600)
    summary = await worker_bench.sync("sync_2")
    assert (summary.files_unchanged, pulled) == (1, [1])
    file.touch()
    assert (await worker_bench.sync("sync_3")).files_unchanged == 1
    assert pulled == [1]


async def test_where_the_engine_cannot_hash_everything_is_pulled(
    worker_bench: WorkerBench, pulled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(worker_bench, 5)

    async def cannot(self: AgentConnection, batches: AsyncIterator[Sequence[WantedFile]], **options: object) -> AsyncIterator[FileHashed]:
        raise MediasyncError(Reason.ENGINE_CANNOT, "no hashes here")
        yield

    monkeypatch.setattr(AgentConnection, "hash_files", cannot)
    summary = await worker_bench.sync("sync_1")
    assert (summary.files_transferred, summary.files_unchanged, pulled) == (0, 5, [5])


async def test_a_line_that_breaks_while_comparing_comes_back_for_what_is_left(worker_bench: WorkerBench, pulled: list[int]) -> None:
    _fill(worker_bench, 600)
    broken: list[Path] = []

    def break_once(tally: object) -> None:
        if not broken and "comparing" in worker_bench.tally().progress().current_stage:
            broken.append(worker_bench.source_root)
            next(iter(worker_bench.sources.values())).kill()

    worker_bench.on_progress = break_once
    summary = await worker_bench.sync("sync_1")
    assert broken
    assert (summary.files_transferred, summary.files_unchanged, pulled) == (0, 600, [])
