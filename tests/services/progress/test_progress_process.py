"""The real process."""

from __future__ import annotations

import asyncio
import signal

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediasync.model import ProgressStatus
from mediasync.reporting import ProgressReporter
from mediasync.runtime.channels import open_channel
from mediasync.v1 import progress_pb2 as pb
from mediasync.v1 import progress_pb2_grpc
from tests.fixtures.progress import ProgressProcess, job, unit


async def test_the_process_serves_is_healthy_and_keeps_what_was_reported_over_a_drain(progress_process: ProgressProcess) -> None:
    await progress_process.start()
    async with open_channel(progress_process.address) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="mediasync.v1.Progress"))
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        async with ProgressReporter(channel, "sync_1", "a") as reporter:
            reporter.update(unit(7))
    progress_process.signal(signal.SIGTERM)
    assert await progress_process.wait() == 0
    await progress_process.start()
    async with open_channel(progress_process.address) as channel:
        stub = progress_pb2_grpc.ProgressStub(channel)
        assert (await stub.GetProgress(pb.GetProgressRequest(sync_id="sync_1"))).progress.files_done == 7


async def test_open_reports_and_watches_do_not_hold_up_a_drain(progress_process: ProgressProcess) -> None:
    await progress_process.start()
    async with open_channel(progress_process.address) as channel:
        stub = progress_pb2_grpc.ProgressStub(channel)
        async with ProgressReporter(channel, "sync_1", "coordinator") as reporter:
            reporter.update(job(ProgressStatus.SCANNING))
        open_report = stub.Report(timeout=60)
        await open_report.write(pb.ProgressReportRequest(sync_id="sync_1", reporter="a", unit=pb.UnitReport(done=True)))
        watching = stub.Watch(pb.ProgressWatchRequest(sync_id="sync_1"), timeout=60)
        await anext(aiter(watching))
        began = asyncio.get_running_loop().time()
        progress_process.signal(signal.SIGTERM)
        assert await progress_process.wait() == 0
        # The grace of calls that do not end by themselves is 5 s.
        assert asyncio.get_running_loop().time() - began < 4
        for call in (open_report, watching):
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
