"""The Transfer service on the wire: parse, call, convert."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from mediasync import convert
from mediasync.convert import previews
from mediasync.errors import MediasyncError, Reason
from mediasync.model import PreviewedFile, SyncSpec, SyncSummary
from mediasync.reporting import ProgressReporter
from mediasync.runtime.notices import Notice
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import types_pb2
from services.transfer.cleaning import CleanupRecord
from services.transfer.cleaning_servicer import CleaningServicer
from services.transfer.keeping import LibraryKeeper
from services.transfer.library_servicer import LibraryServicer
from services.transfer.queue_store import QueueStore
from services.transfer.tally import UnitTally
from services.transfer.watching import Activity
from services.transfer.worker import TransferWorker

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

_HEARTBEAT_SECONDS = 5.0
_REPORT_SECONDS = 0.05
_MAX_SYNCS = 64
_PREVIEWS_AHEAD = 8

E = TypeVar("E")


class TransferServicer(LibraryServicer, CleaningServicer):
    """Serves a TransferWorker, a LibraryKeeper and a CleanupRecord."""

    def __init__(
        self,
        worker: TransferWorker,
        queues: QueueStore,
        progress: grpc.aio.Channel,
        settled: Notice,
        keeper: LibraryKeeper,
        record: CleanupRecord,
    ) -> None:
        LibraryServicer.__init__(self, keeper)
        CleaningServicer.__init__(self, record)
        self._worker = worker
        self._queues = queues
        self._progress = progress
        self._settled = settled
        self._running = 0

    async def ProbeSource(self, request: pb.ProbeSourceRequest, context: Context) -> pb.ProbeSourceResponse:
        source = convert.source_from_pb(request.source)
        if request.dest_path and not request.survey:
            await self._worker.check_library(request.dest_path)
        folders = tuple(folder.raw for folder in request.folders)
        options = convert.options_from_pb(request.options)
        spec = SyncSpec(source, request.dest_path, folders, options)
        if request.dest_path and not request.survey:
            await self._worker.expect_sync(spec)
        report, units = await self._worker.probe(spec, count_files=request.count_files, survey=request.survey)
        return pb.ProbeSourceResponse(report=convert.report_to_pb(report), units=[convert.file_path(unit) for unit in units])

    async def ScanFolder(self, request: pb.ScanFolderRequest, context: Context) -> pb.ScanFolderResponse:
        result, unchanged = await self._worker.scan_folder(_spec(request), request.folder.raw)
        return pb.ScanFolderResponse(
            files_to_take=result.wanted.files,
            bytes_to_take=result.wanted.size_bytes,
            files_unchanged=unchanged,
            files_filtered=result.finished.files_filtered,
            files_vanished=sum(len(names) for names in result.vanished.values() if names is not None),
        )

    async def PreviewFolder(self, request: pb.PreviewFolderRequest, context: Context) -> AsyncIterator[pb.PreviewFolderResponse]:
        # Bounded: whoever reads slowly is waited for, and so is the source.
        events: asyncio.Queue[pb.PreviewFolderResponse] = asyncio.Queue(_PREVIEWS_AHEAD)

        async def found(files: Sequence[PreviewedFile]) -> None:
            listed = types_pb2.PreviewedFiles(files=[previews.previewed_to_pb(file) for file in files])
            await events.put(pb.PreviewFolderResponse(files=listed))

        work = asyncio.create_task(self._worker.preview_folder(_spec(request), request.folder.raw, found), name="preview")
        async for event in _events(events, work, lambda: pb.PreviewFolderResponse(heartbeat=types_pb2.Heartbeat())):
            yield event
        yield pb.PreviewFolderResponse(summary=previews.preview_summary_to_pb(work.result()))

    async def SyncFolder(self, request: pb.SyncFolderRequest, context: Context) -> AsyncIterator[pb.SyncFolderResponse]:
        if self._running >= _MAX_SYNCS:
            raise MediasyncError(Reason.WORKER_FULL, f"the transfer worker runs {self._running} syncs, as many as it takes")
        self._running += 1
        events: asyncio.Queue[pb.SyncFolderResponse] = asyncio.Queue()
        work = asyncio.create_task(self._sync(request, events), name=f"sync {request.folder.display}")
        try:
            async for event in _events(events, work, lambda: pb.SyncFolderResponse(heartbeat=types_pb2.Heartbeat())):
                yield event
            yield pb.SyncFolderResponse(done=pb.FolderDone(summary=convert.summary_to_pb(work.result())))
        finally:
            self._running -= 1

    async def _sync(self, request: pb.SyncFolderRequest, events: asyncio.Queue[pb.SyncFolderResponse]) -> SyncSummary:
        def scanned(files: int, size_bytes: int) -> None:
            events.put_nowait(pb.SyncFolderResponse(scanned=pb.FolderScanned(files_to_take=files, bytes_to_take=size_bytes)))

        def active(activity: Activity) -> None:
            told = pb.FolderActivity(text=activity.text)
            for name in ("gone_since", "next_try"):
                if seconds := getattr(activity, name):
                    getattr(told, name).FromNanoseconds(int(seconds * 1e9))
            events.put_nowait(pb.SyncFolderResponse(activity=told))

        reporter = ProgressReporter(self._progress, request.sync_id, f"unit:{request.folder.raw.hex()}")
        throttle = _Throttle(reporter)
        async with reporter:
            return await self._worker.sync_folder(
                request.sync_id, _spec(request), request.folder.raw, throttle.changed, scanned, active, request.only_failed_of
            )

    async def WatchProcessing(self, request: pb.WatchProcessingRequest, context: Context) -> AsyncIterator[pb.WatchProcessingResponse]:
        # Files are looked into meanwhile, which takes longer than a disk needs.
        flushing = asyncio.create_task(self._worker.flush(request.sync_id), name="flush a run")
        try:
            async with contextlib.aclosing(self._processing(request.sync_id, flushing)) as responses:
                async for response in responses:
                    yield response
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)

    async def _processing(self, sync_id: str, flushing: asyncio.Task[None]) -> AsyncGenerator[pb.WatchProcessingResponse]:
        last: tuple[int, int, int, int] | None = None
        while True:
            seen = self._settled.count
            state = await self._queues.processing_state(sync_id)
            done, left, invalid, unsent = state
            response = pb.WatchProcessingResponse(files_done=done, files_left=left, files_invalid=invalid)
            if left == 0 and unsent == 0:
                await flushing
                problems = await self._queues.file_problems(sync_id)
                response.problems.extend(convert.problem_to_pb(problem) for problem in problems)
                yield response
                return
            if state != last:
                yield response
            last = state
            await self._settled.wait_past(seen, _HEARTBEAT_SECONDS)

    async def SetBandwidthLimit(self, request: pb.SetBandwidthLimitRequest, context: Context) -> pb.SetBandwidthLimitResponse:
        self._worker.limits.set(request.sync_id, request.megabits if request.HasField("megabits") else None)
        return pb.SetBandwidthLimitResponse()

    async def CountLanded(self, request: pb.CountLandedRequest, context: Context) -> pb.CountLandedResponse:
        files, size = await self._queues.landed(request.sync_id)
        return pb.CountLandedResponse(files=files, bytes=size)

    async def DiscardBeginnings(self, request: pb.DiscardBeginningsRequest, context: Context) -> pb.DiscardBeginningsResponse:
        folders = tuple(folder.raw for folder in request.folders)
        await self._worker.discard_beginnings(SyncSpec(convert.source_from_pb(request.source), request.dest_path, folders))
        return pb.DiscardBeginningsResponse()

    async def ReadHostKey(self, request: pb.ReadHostKeyRequest, context: Context) -> pb.ReadHostKeyResponse:
        key = await self._worker.source(convert.source_from_pb(request.source)).host_key()
        return pb.ReadHostKeyResponse(host_key=convert.host_key_to_pb(key))

    async def AcceptHostKey(self, request: pb.AcceptHostKeyRequest, context: Context) -> pb.AcceptHostKeyResponse:
        source = self._worker.source(convert.source_from_pb(request.source))
        return pb.AcceptHostKeyResponse(known_hosts_file=await source.trust_host_key(request.fingerprint))


class _Throttle:
    """Turns changes, of which there are thousands a second, into a few reports; the last one is never left out."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter = reporter
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, tally: UnitTally) -> None:
        if tally.done:
            if self._timer is not None:
                self._timer.cancel()
            self._reporter.update(tally.progress())
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_REPORT_SECONDS, self._report, tally)

    def _report(self, tally: UnitTally) -> None:
        self._timer = None
        self._reporter.update(tally.progress())


async def _events(events: asyncio.Queue[E], work: asyncio.Task[Any], heartbeat: Callable[[], E]) -> AsyncIterator[E]:
    """What `work` puts into `events`, with heartbeats while that is nothing, until it is done. `work` ends with this, in any case."""
    try:
        while True:
            getter = asyncio.ensure_future(events.get())
            await asyncio.wait({getter, work}, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                yield getter.result()
                continue
            getter.cancel()
            if work.done():
                return
            yield heartbeat()
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, MediasyncError):
            await work


def _spec(request: pb.SyncFolderRequest | pb.ScanFolderRequest | pb.PreviewFolderRequest) -> SyncSpec:
    return SyncSpec(
        source=convert.source_from_pb(request.source), dest_path=request.dest_path, options=convert.options_from_pb(request.options)
    )
