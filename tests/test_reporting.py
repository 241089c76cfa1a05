"""The reporter's side, against a real server that notes what arrives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

import mediasync.reporting
from mediasync import convert
from mediasync.model import JobProgressReport, ProgressReport, ProgressStatus, UnitProgress
from mediasync.reporting import ProgressReporter
from mediasync.runtime.channels import open_channel
from mediasync.v1 import progress_pb2 as pb
from mediasync.v1 import progress_pb2_grpc


class NotingServer(progress_pb2_grpc.ProgressServicer):
    """Notes each report; can refuse, and can be stopped and started on the same socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.received: list[ProgressReport] = []
        self.answered = 0
        self.refuse_with: grpc.StatusCode | None = None
        self.leave_after = -1
        self._changed = asyncio.Event()

    async def start(self) -> None:
        self.server = grpc.aio.server()
        progress_pb2_grpc.add_ProgressServicer_to_server(self, self.server)
        self.server.add_insecure_port(self.address)
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(0)

    async def Report(
        self, requests: AsyncIterator[pb.ProgressReportRequest], context: grpc.aio.ServicerContext[object, object]
    ) -> pb.ProgressReportResponse:
        if self.refuse_with is not None:
            await context.abort(self.refuse_with, "not wanted")
        async for request in requests:
            report = convert.progress_report_from_pb(request)
            assert report is not None
            self.received.append(report)
            self._changed.set()
            if len(self.received) == self.leave_after:
                break
        self.answered += 1
        return pb.ProgressReportResponse()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NotingServer]:
    noting = NotingServer(f"unix:{tmp_path}/noting.sock")
    await noting.start()
    yield noting
    await noting.stop()


@pytest.fixture
async def channel(server: NotingServer) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(server.address) as opened:
        yield opened


def at(number: int, *, done: bool = False) -> UnitProgress:
    return UnitProgress(ProgressStatus.TRANSFERRING, warnings=number, done=done)


def numbers(server: NotingServer) -> list[int]:
    return [report.warnings for report in server.received]


async def test_the_newest_report_replaces_those_that_were_not_sent_yet(server: NotingServer, channel: grpc.aio.Channel) -> None:
    async with ProgressReporter(channel, "sync_1", "a", interval_seconds=60) as reporter:
        reporter.update(at(0))
        await server.until(lambda: numbers(server) == [0])
        for number in range(1, 1000):
            reporter.update(at(number))
    assert numbers(server) == [0, 999]
    assert server.answered == 1


async def test_a_final_report_is_sent_at_once_and_nothing_replaces_it(server: NotingServer, channel: grpc.aio.Channel) -> None:
    async with ProgressReporter(channel, "sync_1", "a", interval_seconds=60) as reporter:
        reporter.update(at(1))
        await server.until(lambda: numbers(server) == [1])
        reporter.update(at(2, done=True))
        reporter.update(at(3))
        await server.until(lambda: numbers(server) == [1, 2])
    reporter.update(at(4))
    assert numbers(server) == [1, 2]
    assert server.received[-1] == at(2, done=True)


async def test_reports_arrive_as_they_were_made(server: NotingServer, channel: grpc.aio.Channel) -> None:
    report = JobProgressReport("job_1", ProgressStatus.CANCELLED, "stopping", 1.5, 2.5, 3, 4, 5, 6)
    async with ProgressReporter(channel, "sync_1", "coordinator") as reporter:
        reporter.update(report)
    assert server.received == [report]


async def test_a_broken_stream_is_opened_again_with_the_last_report_repeated(
    server: NotingServer, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mediasync.reporting"):
        async with ProgressReporter(channel, "sync_1", "a") as reporter:
            reporter.update(at(1))
            await server.until(lambda: numbers(server) == [1])
            await server.stop()
            server.received.clear()
            await server.start()
            await server.until(lambda: numbers(server) == [1])
    assert ["interrupted" in record.message for record in caplog.records] == [True]


async def test_a_stream_that_the_service_ends_early_is_opened_again(server: NotingServer, channel: grpc.aio.Channel) -> None:
    server.leave_after = 1
    async with ProgressReporter(channel, "sync_1", "a") as reporter:
        reporter.update(at(1))
        await server.until(lambda: numbers(server) == [1, 1])
        reporter.update(at(2))
    assert numbers(server) == [1, 1, 2]


async def test_a_service_that_starts_later_gets_the_newest_report(tmp_path: Path) -> None:
    late = NotingServer(f"unix:{tmp_path}/noting.sock")
    async with open_channel(late.address) as channel, ProgressReporter(channel, "sync_1", "a") as reporter:
        reporter.update(at(1))
        reporter.update(at(2))
        await late.start()
        await late.until(lambda: numbers(late) == [2])
    await late.stop()


async def test_a_refusal_is_logged_once_and_ends_the_reports(
    server: NotingServer, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse_with = grpc.StatusCode.INVALID_ARGUMENT
    with caplog.at_level(logging.WARNING, "mediasync.reporting"):
        async with ProgressReporter(channel, "sync_1", "a") as reporter:
            reporter.update(at(1))
            reporter.update(at(2))
    assert [record.message for record in caplog.records] == ["the progress service refuses reports: not wanted"]


async def test_closing_gives_up_after_a_while_when_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mediasync.reporting, "CLOSE_SECONDS", 0.2)
    async with open_channel(f"unix:{tmp_path}/nobody.sock") as channel:
        reporter = ProgressReporter(channel, "sync_1", "a")
        reporter.update(at(1, done=True))
        began = time.monotonic()
        await reporter.close()
        assert time.monotonic() - began < 5
    assert "could not be delivered" in caplog.text


async def test_closing_without_a_report_does_nothing(server: NotingServer, channel: grpc.aio.Channel) -> None:
    async with ProgressReporter(channel, "sync_1", "a"):
        pass
    assert server.answered == 0


async def test_a_channel_that_is_closed_under_it_fails_nobody(server: NotingServer) -> None:
    async with open_channel(server.address) as channel:
        reporter = ProgressReporter(channel, "sync_1", "a")
        reporter.update(at(1))
        await server.until(lambda: numbers(server) == [1])
    reporter.update(at(2))
    await reporter.close()
