"""SIGKILL of the real progress process while a reporter reports and a watcher watches."""

from __future__ import annotations

import asyncio
import signal

import grpc.aio
import pytest

from mediasync import convert
from mediasync.model import JobProgress, ProgressStatus
from mediasync.reporting import ProgressReporter
from mediasync.runtime.channels import open_channel
from mediasync.v1 import progress_pb2 as pb
from mediasync.v1 import progress_pb2_grpc
from tests.fixtures.progress import ProgressProcess, assert_never_back, job, unit

FILES = 40


async def watch(channel: grpc.aio.Channel, pictures: list[JobProgress]) -> None:
    """Follows to the end as a client does: comes back with the last token whenever the stream breaks."""
    stub, token = progress_pb2_grpc.ProgressStub(channel), ""
    while not (pictures and pictures[-1].status.terminal):
        try:
            request = pb.ProgressWatchRequest(sync_id="sync_1", resume_token=token)
            async for event in stub.Watch(request, timeout=60, wait_for_ready=True):
                token = event.resume_token
                if event.HasField("progress"):
                    pictures.append(convert.progress_from_pb(event.progress))
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND), error


@pytest.mark.parametrize("point", ["progress.before_store", "progress.after_store"])
@pytest.mark.parametrize("passes", [1, 3, 6])
async def test_i9_killed_at_a_named_point_progress_goes_on_where_it_was(progress_process: ProgressProcess, point: str, passes: int) -> None:
    await progress_process.start(MEDIASYNC_CRASH_AT=f"{point}:{passes}")
    pictures: list[JobProgress] = []

    async def revive() -> None:
        assert await progress_process.wait() == -signal.SIGKILL
        await progress_process.start(MEDIASYNC_CRASH_AT=point)

    async with asyncio.timeout(60), open_channel(progress_process.address) as channel, asyncio.TaskGroup() as group:
        watching = group.create_task(watch(channel, pictures))
        reviving = group.create_task(revive())
        coordinator = ProgressReporter(channel, "sync_1", "coordinator")
        units = [ProgressReporter(channel, "sync_1", name) for name in ("a", "b")]
        coordinator.update(job(ProgressStatus.SCANNING, units_total=2))
        files = 0
        # Work goes on until it was killed and is back, and then a bit.
        while files < FILES or not reviving.done():
            files += 1
            for place, reporter in enumerate(units):
                reporter.update(unit(min(files, FILES), FILES, folder=b"ab"[place : place + 1]))
            await asyncio.wait({watching}, timeout=0.02)
        for place, reporter in enumerate(units):
            reporter.update(unit(FILES, FILES, folder=b"ab"[place : place + 1], done=True))
            await reporter.close()
        coordinator.update(job(ProgressStatus.COMPLETE, units_total=2))
        await coordinator.close()
        await watching
    assert_never_back(pictures)
    assert [picture.status.terminal for picture in pictures].count(True) == 1
    assert (pictures[-1].files_done, pictures[-1].percent) == (2 * FILES, 100.0)


async def test_i9_a_terminal_state_survives_a_kill_before_anybody_saw_it(progress_process: ProgressProcess) -> None:
    await progress_process.start(MEDIASYNC_CRASH_AT="progress.after_store:2")
    pictures: list[JobProgress] = []
    async with asyncio.timeout(60), open_channel(progress_process.address) as channel:
        async with ProgressReporter(channel, "sync_1", "a") as reporter:
            reporter.update(unit(4))
        coordinator = ProgressReporter(channel, "sync_1", "coordinator")
        coordinator.update(job(ProgressStatus.CANCELLED))
        assert await progress_process.wait() == -signal.SIGKILL
        await progress_process.start()
        await coordinator.close()
        await watch(channel, pictures)
    assert [(picture.status, picture.files_done) for picture in pictures] == [(ProgressStatus.CANCELLED, 4)]
