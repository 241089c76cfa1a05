"""What is told of a source before the first sync, against a real far side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceType, SyncOptions, SyncSpec
from mediasync.profiles import PROFILES
from mediasync.sources.factory import open_source
from mediasync.sources.selection import Selection, selection_for
from services.transfer import surveying
from services.transfer.pool import ConnectionPools
from tests.fixtures.sources import OLD_SECONDS, FarSide
from tests.fixtures.ssh import SshServer
from tests.fixtures.transfer_worker import WorkerBench

pytestmark = pytest.mark.needs_sshd


def put(server: SshServer, name: str, size: int) -> None:
    FarSide(server.root, lambda: asyncio.sleep(0), lambda connection: None).put(name, bytes(size), OLD_SECONDS)  # type: ignore[arg-type]


async def test_a_survey_counts_what_the_filters_leave_and_measures_without_keeping_anything(
    worker_bench: WorkerBench, tmp_path: Path
) -> None:
    for number in range(3):
        worker_bench.write(f"a/{number}.txt")
    worker_bench.write("b.log")
    library = tmp_path / "library-to-be" / "deep"
    spec = SyncSpec(worker_bench.spec, str(library), options=SyncOptions(excluded_patterns=("*.log",)))
    report, units = await worker_bench.worker.probe(spec, count_files=True, survey=True)
    assert (report.files, units) == (3, [b""])
    assert all(name.endswith(b".txt") for name in report.sample)
    assert report.bytes_per_second > 0
    assert report.source_free_bytes is not None
    assert report.library_free_bytes is not None
    assert any("ython" in tool for tool in report.tools)
    assert not library.parent.exists()
    # What was cut short does not stand in the way of what comes next.
    assert (await worker_bench.worker.probe(spec, count_files=True, survey=True))[0].files == 3


async def test_reading_for_the_rate_ends_early(sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "RATE_BYTES", 1 << 20)
    put(sshd, "large.bin", 64 << 20)
    connection = await open_source(sshd.spec(), home=tmp_path / "home").connect()
    found = await surveying.count(connection, [b""], Selection())
    assert await surveying.bytes_per_second(connection, found.readable, Selection()) > 0
    assert connection.broken
    await connection.close()


def test_free_space_is_told_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = surveying.free_bytes(str(tmp_path / "a" / "b"))
    assert free is not None
    assert free > 0


@pytest.mark.parametrize("kind", [SourceType.COMFYUI, SourceType.VASTAI])
def test_what_lies_beside_the_results_is_none_where_the_programs_own_folder_is_the_root(sshd: SshServer, kind: SourceType) -> None:
    source = replace(sshd.spec(b"/workspace/ComfyUI"), type=kind)
    selection = selection_for(source, SyncOptions())
    for name in (b"temp/x.png", b"input/a/x.png", b"models/x.png", b"custom_nodes/n/logo.png"):
        assert selection.folder_reason(name.split(b"/")[0]) is not None
        assert selection.file_reason(name, 1, OLD_SECONDS) is not None
    assert selection.file_reason(b"output/temp/x.png", 1, OLD_SECONDS) is None
    below = selection_for(replace(source, root=b"/workspace"), SyncOptions())
    assert below.file_reason(b"ComfyUI/temp/x.png", 1, OLD_SECONDS) is not None
    taken_back = selection_for(source, SyncOptions(excluded_patterns=("!/input/",)))
    assert taken_back.file_reason(b"input/x.png", 1, OLD_SECONDS) is None


def test_a_prefix_of_a_file_name_may_make_a_folder_of_any_name_among_the_results(sshd: SshServer) -> None:
    for root in (b"/workspace/ComfyUI/output", b"/workspace/ComfyUI/output/", *PROFILES[SourceType.COMFYUI].roots):
        selection = selection_for(replace(sshd.spec(root), type=SourceType.COMFYUI), SyncOptions())
        assert selection.file_reason(b"temp/x.png", 1, OLD_SECONDS) is None


async def test_connections_are_used_again_by_the_next_job_and_replaced_when_they_ended(sshd: SshServer, tmp_path: Path) -> None:
    put(sshd, "x.txt", 5)
    pools = ConnectionPools(lambda spec: open_source(spec, home=tmp_path / "home"))
    used = []
    for _ in range(2):
        # Each job asks for the pool anew.
        async with pools.pool(sshd.spec(), 2).connection() as connection:
            used.append(connection)
            assert await connection.list_folders() == []
    assert used[0] is used[1]
    await used[0].close()
    async with pools.pool(sshd.spec(), 2).connection() as connection:
        assert connection is not used[0]
        assert await connection.list_folders() == []
    with pytest.raises(MediasyncError) as raised:
        async with pools.pool(sshd.spec(), 2).connection() as connection:
            raise MediasyncError(Reason.INTERNAL, "its stream may be in any state")
    assert raised.value.reason is Reason.INTERNAL
    assert connection.broken
    await pools.close()
