"""The cleanup service over gRPC. The only caller of its stub."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import grpc.aio

from mediasync import convert
from mediasync.convert.cleaning import cleanup_summary_from_pb
from mediasync.convert.deletions import run_from_pb
from mediasync.model import CleanupRun, CleanupSummary, SyncSpec
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import cleanup_pb2, cleanup_pb2_grpc
from services.coordinator.peers import messages
from services.coordinator.terms import Alive, CleaningState

_CLEANUP = "the cleanup service"
# RunCleanup sends a heartbeat every few seconds: a stream that is silent for so long is dead.
_SILENCE_SECONDS = 60.0
_QUICK_SECONDS = 10.0


class GrpcCleanupPeer:
    """See `cleaning.CleanupPeer`, and what the servicer asks. `needed` returns once the service runs, where it is started on
    demand."""

    def __init__(self, channel: grpc.aio.Channel, needed: Callable[[], Awaitable[None]]) -> None:
        self._stub = cleanup_pb2_grpc.CleanupStub(channel)
        self._needed = needed

    async def run(self, sync_id: str, job_id: str, spec: SyncSpec) -> AsyncGenerator[CleaningState | Alive | CleanupSummary]:
        """Cleans up; ends after the summary."""
        await self._needed()
        request = cleanup_pb2.RunCleanupRequest(sync_id=sync_id, job_id=job_id, spec=convert.spec_to_pb(spec))
        async for event in messages(self._stub.RunCleanup(request), _CLEANUP, _SILENCE_SECONDS):
            kind = event.WhichOneof("event")
            if kind == "progress":
                state = event.progress
                yield CleaningState(state.stage, state.files_total, state.files_done, state.bytes_total, state.bytes_done)
            elif kind == "done":
                yield cleanup_summary_from_pb(event.done)
            else:
                yield Alive()

    async def get(self, sync_id: str) -> CleanupRun:
        """A run as it is now."""
        with rpc_errors(_CLEANUP):
            response = await self._stub.GetCleanup(cleanup_pb2.GetCleanupRequest(sync_id=sync_id), timeout=_QUICK_SECONDS)
        return run_from_pb(response.run)

    async def plan(self, request: cleanup_pb2.PlanCleanupRequest, seconds: float | None) -> cleanup_pb2.PlanCleanupResponse:
        """A page of a plan, as it comes; `seconds` is how long the one who asks is willing to wait."""
        await self._needed()
        with rpc_errors(_CLEANUP):
            return await self._stub.PlanCleanup(request, timeout=seconds)

    async def explain(self, spec: SyncSpec, path: bytes, seconds: float | None) -> cleanup_pb2.FileExplanation:
        """What is known of one file, as it comes."""
        await self._needed()
        request = cleanup_pb2.CleanupExplainFileRequest(spec=convert.spec_to_pb(spec), path=convert.file_path(path))
        with rpc_errors(_CLEANUP):
            return (await self._stub.ExplainFile(request, timeout=seconds)).explanation
