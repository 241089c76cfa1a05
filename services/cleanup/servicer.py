"""The Cleanup service on the wire: parse, call, convert."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from mediasync import convert
from mediasync.convert import deletions
from mediasync.convert.cleaning import cleanup_summary_to_pb
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import SyncSpec
from mediasync.paths import check_relative
from mediasync.runtime import paging
from mediasync.v1 import cleanup_pb2 as pb
from mediasync.v1 import cleanup_pb2_grpc, types_pb2
from services.cleanup.counting import CleanupProgress
from services.cleanup.explaining import Explainer
from services.cleanup.history_store import History, Wanted
from services.cleanup.previews import Previews
from services.cleanup.runs import Runs
from services.cleanup.store import Journal

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

_HEARTBEAT_SECONDS = 5.0
_REPORT_SECONDS = 0.1
_PLAN_PAGE = 500
_MAX_PLAN_PAGE = 1000


class CleanupServicer(cleanup_pb2_grpc.CleanupServicer):
    """Serves plans, runs and the journal."""

    def __init__(self, runs: Runs, previews: Previews, explainer: Explainer, journal: Journal, history: History) -> None:
        self._runs = runs
        self._previews = previews
        self._explainer = explainer
        self._journal = journal
        self._history = history

    async def PlanCleanup(self, request: pb.PlanCleanupRequest, context: Context) -> pb.PlanCleanupResponse:
        size = _plan_page_size(request.page_size)
        position = paging.decode(request.page_token, str, int)
        if position is None:
            plan_id, after = await self._previews.plan(_spec(request.spec)), 0
        else:
            plan_id, after = str(position[0]), int(position[1])
        plan = await self._previews.get(plan_id)
        rows = await self._previews.page(plan_id, after, size + 1)
        response = pb.PlanCleanupResponse(plan_id=plan_id, files=[deletions.planned_file_to_pb(file) for _, file in rows[:size]])
        if position is None:
            response.plan.CopyFrom(deletions.plan_to_pb(plan))
        if len(rows) > size:
            response.next_page_token = paging.encode((plan_id, rows[size - 1][0]))
        return response

    async def RunCleanup(self, request: pb.RunCleanupRequest, context: Context) -> AsyncIterator[pb.RunCleanupResponse]:
        if not request.sync_id:
            raise _invalid("sync_id", "that of the run")
        latest = _Latest()
        work = asyncio.create_task(self._runs.run(request.sync_id, request.job_id, _spec(request.spec), latest.put), name="run")
        try:
            while not work.done():
                progress = await latest.next(work, _HEARTBEAT_SECONDS)
                if progress is not None:
                    yield pb.RunCleanupResponse(progress=_progress(progress))
                    # What comes meanwhile is told together.
                    await asyncio.wait({work}, timeout=_REPORT_SECONDS)
                elif not work.done():
                    yield pb.RunCleanupResponse(heartbeat=types_pb2.Heartbeat())
            summary = work.result()
            if (progress := latest.take()) is not None:
                yield pb.RunCleanupResponse(progress=_progress(progress))
            yield pb.RunCleanupResponse(done=cleanup_summary_to_pb(summary))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def GetCleanup(self, request: pb.GetCleanupRequest, context: Context) -> pb.GetCleanupResponse:
        # Before the journal: what ends in between is in it.
        active = self._runs.active
        run = await self._journal.run(request.sync_id)
        if run is None:
            raise MediasyncError(Reason.CLEANUP_NOT_FOUND, f"there is no clean-up {request.sync_id!r}")
        return pb.GetCleanupResponse(run=deletions.run_to_pb(dataclasses.replace(run, active=run.sync_id in active)))

    async def ListDeletions(self, request: pb.ListDeletionsRequest, context: Context) -> pb.ListDeletionsResponse:
        size = paging.page_size(request.page_size)
        position = paging.decode(request.page_token, int, int)
        wanted = Wanted(request.source, convert.to_unix(request.since), request.path, request.sync_id)
        before = None if position is None else (int(position[0]), int(position[1]))
        try:
            page = await self._history.page(wanted, before, size)
        except ValueError as error:
            raise _invalid("path", f"a pattern: {error}") from error
        return pb.ListDeletionsResponse(
            deletions=[deletions.deletion_to_pb(deletion) for deletion in page.deletions],
            next_page_token=paging.encode(page.next_position) if page.next_position else "",
        )

    async def ExplainFile(self, request: pb.CleanupExplainFileRequest, context: Context) -> pb.CleanupExplainFileResponse:
        try:
            check_relative(request.path.raw)
        except MediasyncError as error:
            raise _invalid("path", "that of a file below the source's root, relative to it") from error
        explanation = await self._explainer.explain(_spec(request.spec), request.path.raw)
        return pb.CleanupExplainFileResponse(explanation=deletions.explanation_to_pb(explanation))


class _Latest:
    """The latest of many reports: a slow reader is told where things are, not where they were."""

    def __init__(self) -> None:
        self._value: CleanupProgress | None = None
        self._come = asyncio.Event()

    def put(self, value: CleanupProgress) -> None:
        self._value = value
        self._come.set()

    def take(self) -> CleanupProgress | None:
        value, self._value = self._value, None
        self._come.clear()
        return value

    async def next(self, work: asyncio.Task[Any], seconds: float) -> CleanupProgress | None:
        """The next one; None when `work` ended before, or nothing came for so long."""
        waiting = asyncio.ensure_future(self._come.wait())
        try:
            await asyncio.wait({waiting, work}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return self.take()


def _spec(message: types_pb2.SyncSpec) -> SyncSpec:
    if not message.HasField("cleanup"):
        raise _invalid("spec.cleanup", "what may be deleted")
    return convert.spec_from_pb(message)


def _progress(progress: CleanupProgress) -> pb.CleanupProgress:
    return pb.CleanupProgress(
        stage=progress.stage,
        files_total=progress.files_total,
        files_done=progress.files_done,
        bytes_total=progress.bytes_total,
        bytes_done=progress.bytes_done,
    )


def _plan_page_size(asked: int) -> int:
    if asked < 0:
        raise _invalid("page_size", f"0 for {_PLAN_PAGE}, or 1 to {_MAX_PLAN_PAGE}; it is {asked}")
    return min(asked or _PLAN_PAGE, _MAX_PLAN_PAGE)


def _invalid(field: str, description: str) -> MediasyncError:
    return MediasyncError(
        Reason.INVALID_ARGUMENT, f"{field} is not usable: it must be {description}", fields=[FieldViolation(field, description)]
    )
