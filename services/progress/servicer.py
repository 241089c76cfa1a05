"""The Progress service on the wire. Watchers get bytes that were serialised once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from mediasync import convert
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import JobProgress
from mediasync.v1 import progress_pb2 as pb
from mediasync.v1 import types_pb2
from services.progress.hub import Hub, going_down
from services.progress.tokens import decode_token, encode_token

SERVICE_NAME = "mediasync.v1.Progress"

Context = grpc.aio.ServicerContext[Any, Any]


def encode_event(sync_id: str, version: int, progress: JobProgress | None) -> bytes:
    """One event of a watch, as it travels; a heartbeat without a picture."""
    event = pb.ProgressWatchResponse(resume_token=encode_token(sync_id, version))
    if progress is None:
        event.heartbeat.CopyFrom(types_pb2.Heartbeat())
    else:
        event.progress.CopyFrom(convert.progress_to_pb(progress))
    return event.SerializeToString()


class ProgressServicer:
    """Implements `mediasync.v1.Progress`. Added with `handler()`, because `Watch` yields bytes instead of messages."""

    def __init__(self, hub: Hub[bytes]) -> None:
        self._hub = hub
        self._reporting: set[asyncio.Timeout] = set()
        self._draining = False

    def handler(self) -> grpc.GenericRpcHandler:
        """The three methods, for a server."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Report": grpc.stream_unary_rpc_method_handler(
                    self.Report, pb.ProgressReportRequest.FromString, pb.ProgressReportResponse.SerializeToString
                ),
                "Watch": grpc.unary_stream_rpc_method_handler(self.Watch, pb.ProgressWatchRequest.FromString, bytes),
                "GetProgress": grpc.unary_unary_rpc_method_handler(
                    self.GetProgress, pb.GetProgressRequest.FromString, pb.GetProgressResponse.SerializeToString
                ),
            },
        )

    async def Report(self, requests: AsyncIterator[pb.ProgressReportRequest], context: Context) -> pb.ProgressReportResponse:
        """Takes a reporter's stream, and answers once all of it is stored."""
        taken = 0
        runs: set[str] = set()
        try:
            # Without a limit until `drain` sets one: a reporter may stay for days, and must not hold up the end of the process.
            async with asyncio.timeout(0 if self._draining else None) as limit:
                self._reporting.add(limit)
                async for request in requests:
                    report = convert.progress_report_from_pb(request)
                    _check(request)
                    if report is not None:
                        await self._hub.report(request.sync_id, request.reporter, report)
                        runs.add(request.sync_id)
                    taken += 1
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            self._reporting.discard(limit)
        for sync_id in sorted(runs):
            await self._hub.save(sync_id)
        if limit.expired():
            raise going_down()
        return pb.ProgressReportResponse(reports=taken)

    async def Watch(self, request: pb.ProgressWatchRequest, context: Context) -> AsyncIterator[bytes]:
        """Follows a run, from the token on."""
        after = decode_token(request.sync_id, request.resume_token)
        async for event in self._hub.watch(request.sync_id, after):
            yield event

    async def GetProgress(self, request: pb.GetProgressRequest, context: Context) -> pb.GetProgressResponse:
        """The newest snapshot."""
        return pb.GetProgressResponse(progress=convert.progress_to_pb(await self._hub.newest(request.sync_id)))

    def drain(self) -> None:
        """Ends every stream, so that its client comes back to the next process."""
        self._draining = True
        self._hub.drain()
        for limit in self._reporting:
            limit.reschedule(asyncio.get_running_loop().time())


def _check(request: pb.ProgressReportRequest) -> None:
    missing = [name for name in ("sync_id", "reporter") if not getattr(request, name)]
    if missing:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"a progress report has no {' and no '.join(missing)}",
            fields=[FieldViolation(name, "must not be empty") for name in missing],
        )
