"""The part of the client that is about libraries as a whole; see `mediasync.client`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from mediasync.convert.library import (
    adopt_summary_from_pb,
    finding_from_pb,
    library_progress_from_pb,
    stats_from_pb,
    verify_request_to_pb,
    verify_summary_from_pb,
)
from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.library import AdoptSummary, Finding, LibraryProgress, LibraryStats, VerifyOptions, VerifySummary
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import coordinator_pb2, transfer_pb2, transfer_pb2_grpc

_STATS_SECONDS = 120.0  # it reads the whole index
_AWAY_SECONDS = 60.0
_PAUSE_SECONDS = 0.5


class LibraryCalls:
    """What a client can ask of libraries. Paths are of the machine that the services run on."""

    _channel: Any
    _coordinator: Any
    _call: Any

    async def verify_library(
        self, path: str, options: VerifyOptions | None = None
    ) -> AsyncGenerator[LibraryProgress | Finding | VerifySummary, None]:
        """Compares a library with its index: progress, then findings by path, then one summary. Leaving it stops the verify, and the next
        one goes on there. Raises LIBRARY_*."""
        stub = transfer_pb2_grpc.TransferStub(self._channel)
        request = verify_request_to_pb(path, options or VerifyOptions())

        def call() -> Any:
            return stub.VerifyLibrary(request)

        async for event in self._library_events(call):
            # One that is asked for again goes on; it must not begin anew.
            request.restart = False
            kind = event.WhichOneof("event")
            if kind == "progress":
                yield library_progress_from_pb(event.progress)
            elif kind == "finding":
                yield finding_from_pb(event.finding)
            elif kind == "done":
                yield verify_summary_from_pb(event.done)

    async def adopt_library(self, path: str) -> AsyncGenerator[LibraryProgress | Finding | AdoptSummary, None]:
        """Takes the files of a folder into its index, and makes it a library if it is none: progress, then findings, then one summary.
        Raises LIBRARY_*."""
        stub = transfer_pb2_grpc.TransferStub(self._channel)
        async for event in self._library_events(lambda: stub.AdoptLibrary(transfer_pb2.AdoptLibraryRequest(library_path=path))):
            kind = event.WhichOneof("event")
            if kind == "progress":
                yield library_progress_from_pb(event.progress)
            elif kind == "finding":
                yield finding_from_pb(event.finding)
            elif kind == "done":
                yield adopt_summary_from_pb(event.done)

    async def library_stats(self, path: str) -> LibraryStats:
        """What is on record of a library. Raises LIBRARY_*."""
        stub = transfer_pb2_grpc.TransferStub(self._channel)
        request = transfer_pb2.LibraryStatsRequest(library_path=path)
        return stats_from_pb(await self._call(stub.LibraryStats, request, _STATS_SECONDS))

    async def repair_library(self, path: str) -> tuple[list[str], int]:
        """Starts jobs that bring again what the last verify found missing or corrupt. Returns their ids, and how many files no source has.
        Raises LIBRARY_*."""
        request = coordinator_pb2.RepairLibraryRequest(request_id=new_request_id(), library_path=path)
        response = await self._call(self._coordinator.RepairLibrary, request, _STATS_SECONDS)
        return [job.job_id for job in response.jobs], response.files_without_source

    async def _library_events(self, call: Callable[[], Any]) -> AsyncGenerator[Any, None]:
        """Events of a stream, which is asked for again when the services were restarted: it goes on where it was."""
        away_since: float | None = None
        while True:
            stream, told = call(), False
            try:
                with rpc_errors("the services"):
                    async for event in stream:
                        away_since = None
                        told = told or event.WhichOneof("event") == "finding"
                        yield event
                        if event.HasField("done"):
                            return
                raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the services ended the verify")
            except MediasyncError as error:
                now = time.monotonic()
                away_since = away_since or now
                # Findings that were told already would be told twice.
                if error.reason is not Reason.SERVICES_UNREACHABLE or told or now - away_since > _AWAY_SECONDS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                stream.cancel()
