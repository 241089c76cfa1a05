"""The service over a real server on a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.model import JobProgress, ProgressReport, ProgressStatus
from mediasync.reporting import ProgressReporter
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.v1 import progress_pb2 as pb
from mediasync.v1 import progress_pb2_grpc
from tests.fixtures.progress import ProgressServer, assert_never_back, job, serve_progress, unit

Stub = progress_pb2_grpc.ProgressStub


async def tell(stub: Stub, *reports: tuple[str, ProgressReport], sync_id: str = "sync_1") -> pb.ProgressReportResponse:
    async def requests() -> AsyncIterator[pb.ProgressReportRequest]:
        for reporter, report in reports:
            yield convert.progress_report_to_pb(sync_id, reporter, report)

    return await stub.Report(requests(), timeout=10)


async def pictures_of(stub: Stub, token: str = "", sync_id: str = "sync_1") -> list[JobProgress]:
    call = stub.Watch(pb.ProgressWatchRequest(sync_id=sync_id, resume_token=token), timeout=20)
    return [convert.progress_from_pb(event.progress) async for event in call if event.HasField("progress")]


async def test_reports_are_stored_once_the_stream_is_answered(progress_stub: Stub) -> None:
    answer = await tell(progress_stub, ("coordinator", job(ProgressStatus.SCANNING, units_total=1)), ("a", unit(3)), ("a", unit(4)))
    assert answer.reports == 3
    newest = await progress_stub.GetProgress(pb.GetProgressRequest(sync_id="sync_1"))
    progress = convert.progress_from_pb(newest.progress)
    assert (progress.job_id, progress.status, progress.files_done) == ("job_1", ProgressStatus.TRANSFERRING, 4)
    assert progress.current_file == b"WAN/00004.png"


async def test_i9_watchers_follow_to_the_terminal_picture_and_the_stream_ends(
    progress_stub: Stub, progress_channel: grpc.aio.Channel
) -> None:
    await tell(progress_stub, ("a", unit(0)))
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(pictures_of(progress_stub)) for _ in range(20)]
        async with ProgressReporter(progress_channel, "sync_1", "a") as reporter:
            for files in range(1, 11):
                reporter.update(unit(files, done=files == 10))
                await progress_stub.GetProgress(pb.GetProgressRequest(sync_id="sync_1"))
        await tell(progress_stub, ("coordinator", job(ProgressStatus.COMPLETE)))
    for watch in watches:
        pictures = watch.result()
        assert_never_back(pictures)
        assert (pictures[-1].status, pictures[-1].files_done) == (ProgressStatus.COMPLETE, 10)


async def test_i9_a_token_of_the_terminal_event_gives_an_empty_stream(progress_stub: Stub) -> None:
    await tell(progress_stub, ("coordinator", job(ProgressStatus.FAILED)))
    events = [event async for event in progress_stub.Watch(pb.ProgressWatchRequest(sync_id="sync_1"), timeout=10)]
    assert [event.progress.status for event in events] == [convert.status_to_pb(ProgressStatus.FAILED)]
    assert await pictures_of(progress_stub, events[0].resume_token) == []


async def test_what_is_unknown_or_wrong_is_refused_with_its_reason(progress_stub: Stub) -> None:
    await tell(progress_stub, ("a", unit(1)))
    token = (await anext(aiter(progress_stub.Watch(pb.ProgressWatchRequest(sync_id="sync_1"), timeout=10)))).resume_token

    async def refused(call: object) -> MediasyncError:
        with pytest.raises(MediasyncError) as error, rpc_errors("progress"):
            await call  # type: ignore[misc]
        return error.value

    assert (await refused(pictures_of(progress_stub, sync_id="sync_2"))).reason is Reason.SYNC_NOT_FOUND
    assert (await refused(progress_stub.GetProgress(pb.GetProgressRequest(sync_id="sync_2")))).reason is Reason.SYNC_NOT_FOUND
    malformed = await refused(pictures_of(progress_stub, "nonsense"))
    assert (malformed.reason, malformed.fields[0].field) == (Reason.INVALID_ARGUMENT, "resume_token")
    await tell(progress_stub, ("a", unit(1)), sync_id="sync_2")
    assert (await refused(pictures_of(progress_stub, token, sync_id="sync_2"))).reason is Reason.INVALID_ARGUMENT
    nameless = await refused(tell(progress_stub, ("", unit(1)), sync_id=""))
    assert [field.field for field in nameless.fields] == ["sync_id", "reporter"]


async def test_a_kind_of_report_from_a_later_version_is_passed_over(progress_stub: Stub) -> None:
    async def requests() -> AsyncIterator[pb.ProgressReportRequest]:
        yield pb.ProgressReportRequest(sync_id="sync_1", reporter="a")
        yield convert.progress_report_to_pb("sync_1", "a", unit(1))

    assert (await progress_stub.Report(requests(), timeout=10)).reports == 2
    assert (await progress_stub.GetProgress(pb.GetProgressRequest(sync_id="sync_1"))).progress.files_done == 1


async def test_a_report_without_a_status_says_nothing_of_it(progress_stub: Stub) -> None:
    async def requests() -> AsyncIterator[pb.ProgressReportRequest]:
        yield pb.ProgressReportRequest(sync_id="sync_1", reporter="coordinator", job=pb.JobReport(job_id="job_1"))

    await progress_stub.Report(requests(), timeout=10)
    newest = await progress_stub.GetProgress(pb.GetProgressRequest(sync_id="sync_1"))
    assert convert.progress_from_pb(newest.progress).status is ProgressStatus.INITIALIZING


async def test_a_drain_ends_reports_and_watches_at_once_and_keeps_what_was_reported(
    progress_server: ProgressServer, progress_stub: Stub
) -> None:
    reporting = progress_stub.Report(timeout=20)
    await reporting.write(convert.progress_report_to_pb("sync_1", "a", unit(7)))
    async with asyncio.timeout(10):
        while True:
            try:
                await progress_stub.GetProgress(pb.GetProgressRequest(sync_id="sync_1"))
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
    watching = progress_stub.Watch(pb.ProgressWatchRequest(sync_id="sync_1"), timeout=20)
    assert (await anext(aiter(watching))).progress.files_done == 7
    progress_server.servicer.drain()
    assert await reporting.code() is grpc.StatusCode.UNAVAILABLE
    assert await watching.code() is grpc.StatusCode.UNAVAILABLE


async def test_i9_a_reporter_and_a_watcher_outlive_a_restart_of_the_server(tmp_path: Path) -> None:
    pictures: list[JobProgress] = []
    seen = asyncio.Event()

    async def watch(stub: Stub) -> None:
        token = ""
        while not (pictures and pictures[-1].status.terminal):
            try:
                request = pb.ProgressWatchRequest(sync_id="sync_1", resume_token=token)
                async for event in stub.Watch(request, timeout=20, wait_for_ready=True):
                    token = event.resume_token
                    pictures.append(convert.progress_from_pb(event.progress))
                    seen.set()
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)

    async def until(files: int) -> None:
        async with asyncio.timeout(15):
            while not pictures or pictures[-1].files_done < files:
                seen.clear()
                await seen.wait()

    async with open_channel(f"unix:{tmp_path}/progress.sock") as channel, asyncio.TaskGroup() as group:
        reporter = ProgressReporter(channel, "sync_1", "a")
        async with serve_progress(tmp_path):
            reporter.update(unit(3))
            watching = group.create_task(watch(Stub(channel)))
            await until(3)
        reporter.update(unit(6))
        async with serve_progress(tmp_path):
            await until(6)
        async with serve_progress(tmp_path):
            reporter.update(unit(10, done=True))
            await until(10)
            await reporter.close()
            await tell(Stub(channel), ("coordinator", job(ProgressStatus.COMPLETE)))
            async with asyncio.timeout(15):
                await watching
    assert_never_back(pictures)
    assert [picture.status.terminal for picture in pictures].count(True) == 1
