"""Telling the Progress service how far something is, without ever getting in the way of the work itself.

Reports are cumulative, so only the newest matters: `ProgressReporter.update` keeps it and returns, a background task sends
it. A progress service that is slow, restarted or gone costs the caller nothing but the picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from types import TracebackType

import grpc

from mediasync import convert
from mediasync.model import JobProgressReport, ProgressReport, UnitProgress, is_final_report
from mediasync.v1 import progress_pb2 as pb
from mediasync.v1 import progress_pb2_grpc

__all__ = ["JobProgressReport", "ProgressReporter", "UnitProgress"]

logger = logging.getLogger(__name__)

SEND_INTERVAL_SECONDS = 0.1
CLOSE_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 2.0

# Answers that the same report would get again.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)


class ProgressReporter:
    """Sends one reporter's cumulative reports of one run to the Progress service.

    Use it on one event loop, as `async with ProgressReporter(channel, sync_id, reporter) as progress: progress.update(...)`.

    What can go wrong, and what happens then: the service is not up yet, the call waits for it; the stream breaks, another is
    opened and begins with the newest report; the service refuses the report, that is logged once and no more is sent; the
    service is gone at the end, `close` gives up after 5 seconds. None of it reaches the caller.
    """

    def __init__(self, channel: grpc.aio.Channel, sync_id: str, reporter: str, *, interval_seconds: float = SEND_INTERVAL_SECONDS) -> None:
        self._stub = progress_pb2_grpc.ProgressStub(channel)
        self._sync_id = sync_id
        self._reporter = reporter
        self._interval_seconds = interval_seconds
        self._latest: ProgressReport | None = None
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closed = False
        self._all_sent = False
        self._sender: asyncio.Task[None] | None = None

    def update(self, report: ProgressReport) -> None:
        """Makes `report` the newest. Returns at once and never raises for the service's sake; what it replaces before it was
        sent is never sent. After a final report (a terminal status, a unit that is done) or `close`, others are ignored."""
        if self._closed or (self._latest is not None and is_final_report(self._latest)):
            return
        self._latest = report
        if is_final_report(report):
            self._hurry.set()
        self._changed.set()
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send(), name=f"progress reports of {self._reporter}")

    async def close(self) -> None:
        """Delivers the newest report and returns once the service has stored it, or after 5 seconds."""
        self._closed = True
        self._hurry.set()
        self._changed.set()
        if self._sender is None:
            return
        try:
            await asyncio.wait({self._sender}, timeout=CLOSE_SECONDS)
            if not self._sender.done():
                logger.warning("the last progress report could not be delivered in %g s", CLOSE_SECONDS, extra={"reporter": self._reporter})
        finally:
            self._sender.cancel()
            await asyncio.wait({self._sender})

    async def __aenter__(self) -> ProgressReporter:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _send(self) -> None:
        """Keeps a stream open until everything was delivered after `close`."""
        retry_seconds = _FIRST_RETRY_SECONDS
        broken = False
        while True:
            self._all_sent = False
            opened = asyncio.get_running_loop().time()
            try:
                await self._stub.Report(self._requests(), wait_for_ready=True)
                if self._all_sent:
                    return
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code in _REFUSALS:
                    logger.error(
                        "the progress service refuses reports: %s", error.details(), extra={"reporter": self._reporter, "code": code.name}
                    )
                    return
                if not broken:
                    logger.warning(
                        "progress reports are interrupted: %s", error.details(), extra={"reporter": self._reporter, "code": code.name}
                    )
                broken = True
            except Exception:
                # The border: whatever is wrong in here must not fail the work that is reported.
                logger.exception("progress reports ended", extra={"reporter": self._reporter})
                return
            if asyncio.get_running_loop().time() - opened > _LAST_RETRY_SECONDS:
                retry_seconds, broken = _FIRST_RETRY_SECONDS, False
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)

    async def _requests(self) -> AsyncIterator[pb.ProgressReportRequest]:
        """The requests of one stream: the newest report first, then each newer one, no faster than the interval."""
        sent: ProgressReport | None = None
        while True:
            if self._latest is not None and self._latest is not sent:
                sent = self._latest
                yield convert.progress_report_to_pb(self._sync_id, self._reporter, sent)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval_seconds):
                        await self._hurry.wait()
            elif self._closed:
                self._all_sent = True
                return
            else:
                await self._changed.wait()
                self._changed.clear()
