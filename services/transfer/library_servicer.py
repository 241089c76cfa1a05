"""The part of the Transfer service that is about libraries as a whole: parse, call, convert."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from mediasync.convert import file_path, timestamp_ns
from mediasync.convert.library import (
    adopt_summary_to_pb,
    finding_to_pb,
    library_progress_to_pb,
    stats_to_pb,
    verify_options_from_pb,
    verify_summary_to_pb,
)
from mediasync.errors import MediasyncError
from mediasync.library import LibraryProgress
from mediasync.paths import display
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import transfer_pb2_grpc, types_pb2
from services.transfer.keeping import LibraryKeeper, OnProgress
from services.transfer.library_store import IndexedFile

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

T = TypeVar("T")

_HEARTBEAT_SECONDS = 5.0
_REPORT_SECONDS = 0.2


class LibraryServicer(transfer_pb2_grpc.TransferServicer):
    """Serves a LibraryKeeper."""

    def __init__(self, keeper: LibraryKeeper) -> None:
        self._keeper = keeper

    async def VerifyLibrary(self, request: pb.VerifyLibraryRequest, context: Context) -> AsyncIterator[pb.VerifyLibraryResponse]:
        options = verify_options_from_pb(request)
        async with aclosing(_followed(lambda report: self._keeper.verify(request.library_path, options, report))) as events:
            async for event in events:
                if isinstance(event, LibraryProgress):
                    yield pb.VerifyLibraryResponse(progress=library_progress_to_pb(event))
                    continue
                async for finding in self._keeper.findings(request.library_path, options.below):
                    yield pb.VerifyLibraryResponse(finding=finding_to_pb(finding))
                yield pb.VerifyLibraryResponse(done=verify_summary_to_pb(event))

    async def AdoptLibrary(self, request: pb.AdoptLibraryRequest, context: Context) -> AsyncIterator[pb.AdoptLibraryResponse]:
        async with aclosing(_followed(lambda report: self._keeper.adopt(request.library_path, report))) as events:
            async for event in events:
                if isinstance(event, LibraryProgress):
                    yield pb.AdoptLibraryResponse(progress=library_progress_to_pb(event))
                    continue
                async for finding in self._keeper.findings(request.library_path):
                    yield pb.AdoptLibraryResponse(finding=finding_to_pb(finding))
                yield pb.AdoptLibraryResponse(done=adopt_summary_to_pb(event))

    async def ListIndex(self, request: pb.ListIndexRequest, context: Context) -> AsyncIterator[pb.ListIndexResponse]:
        async for library, files in self._keeper.indexed(request.library_path, request.after):
            yield pb.ListIndexResponse(files=[_indexed_to_pb(file) for file in files], library_root=display(library.root))

    async def LibraryStats(self, request: pb.LibraryStatsRequest, context: Context) -> pb.LibraryStatsResponse:
        return stats_to_pb(await self._keeper.stats(request.library_path))

    async def PrepareRepair(self, request: pb.PrepareRepairRequest, context: Context) -> pb.PrepareRepairResponse:
        sources, without = await self._keeper.prepare_repair(request.library_path, request.repair_id)
        return pb.PrepareRepairResponse(
            sources=[pb.RepairableSource(source_key=key, label=label, files=files) for key, label, files in sources],
            files_without_source=without,
        )


def _indexed_to_pb(file: IndexedFile) -> pb.IndexedFile:
    return pb.IndexedFile(
        library_path=file_path(file.path),
        size_bytes=file.size_bytes,
        digest=types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=file.sha256),
        modify_time=timestamp_ns(file.mtime_ns),
    )


async def _followed(work: Callable[[OnProgress], Awaitable[T]]) -> AsyncGenerator[LibraryProgress | T]:
    """The newest progress of some work a few times a second, and what it came to. Leaving it stops the work."""
    newest = LibraryProgress("beginning")
    moved = asyncio.Event()

    def report(progress: LibraryProgress) -> None:
        nonlocal newest
        newest = progress
        moved.set()

    task = asyncio.ensure_future(work(report))
    try:
        while not task.done():
            waiting = asyncio.ensure_future(moved.wait())
            await asyncio.wait({task, waiting}, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            moved.clear()
            yield newest
            await asyncio.wait({task}, timeout=_REPORT_SECONDS)
        yield task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, MediasyncError):
            await task
