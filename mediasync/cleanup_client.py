"""The part of the client that is about clean-ups and schedules; see `mediasync.client`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from mediasync.convert import file_path, timestamp
from mediasync.convert.deletions import deletion_from_pb, explanation_from_pb, plan_from_pb, planned_file_from_pb, run_from_pb
from mediasync.convert.named import asked_to_pb
from mediasync.convert.schedules import schedule_from_pb
from mediasync.handle import JobHandle
from mediasync.ids import new_request_id
from mediasync.model import CleanupPlan, CleanupRun, Deletion, FileExplanation, PlannedFile, SyncSpec
from mediasync.model.schedules import Schedule
from mediasync.v1 import cleanup_pb2, cleanup_pb2_grpc, coordinator_pb2

if TYPE_CHECKING:
    from mediasync.client import Client
    from mediasync.config import SyncConfig

_PLAN_SECONDS = 600.0  # a million files behind a slow line
_EXPLAIN_SECONDS = 120.0
_PAGE_SIZE = 200


@dataclass
class CleanupPreview:
    """What a clean-up would do. `plan_id`, as `CleanupPolicy.plan_id`, has a clean-up do exactly that; it is kept for an hour."""

    plan_id: str
    plan: CleanupPlan
    _first: Sequence[PlannedFile] = field(repr=False)
    _next_page_token: str = field(repr=False)
    _client: Any = field(repr=False)

    async def files(self) -> AsyncGenerator[PlannedFile, None]:
        """Those that would go, oldest first, then those that are old enough and stay for another reason. Raises CLEANUP_PLAN_EXPIRED."""
        for file in self._first:
            yield file
        token = self._next_page_token
        while token:
            request = coordinator_pb2.PreviewCleanupRequest(page_token=token)
            response = await self._client._call(self._client._coordinator.PreviewCleanup, request)
            for message in response.files:
                yield planned_file_from_pb(message)
            token = response.next_page_token


class CleanupCalls:
    """What a client can ask of clean-ups. Where a spec has no `cleanup`, or only a name is given, the named source's own policy counts."""

    _channel: Any
    _coordinator: Any
    _call: Any
    _pages: Any

    async def start_cleanup(self, sync: SyncConfig | SyncSpec | str) -> JobHandle:
        """Starts a clean-up; its job's summary has `cleanup`. It goes on when the client leaves.

        Raises INVALID_ARGUMENT, SOURCE_NOT_FOUND, CLEANUP_UNVERIFIED and CLEANUP_IS_LIBRARY; what else refuses it is the job's problem.
        """
        request = coordinator_pb2.StartCleanupRequest(request_id=new_request_id(), spec=asked_to_pb(sync))
        job = (await self._call(self._coordinator.StartCleanup, request)).job
        return JobHandle(job.job_id, job.sync_id, cast("Client", self))

    async def preview_cleanup(self, sync: SyncConfig | SyncSpec | str) -> CleanupPreview:
        """What a clean-up would delete, and what it would leave for which reason. Deletes nothing. Raises what `start_cleanup` raises, the
        source's reasons, and CLEANUP_* where it would be refused as a whole."""
        request = coordinator_pb2.PreviewCleanupRequest(spec=asked_to_pb(sync))
        response = await self._call(self._coordinator.PreviewCleanup, request, _PLAN_SECONDS)
        files = [planned_file_from_pb(file) for file in response.files]
        return CleanupPreview(response.plan_id, plan_from_pb(response.plan), files, response.next_page_token, self)

    async def explain_file(self, sync: SyncConfig | SyncSpec | str, path: bytes) -> FileExplanation:
        """Why a file of a source is gone, or still there; `path` is relative to the source's root. Raises SOURCE_NOT_FOUND."""
        request = coordinator_pb2.ExplainFileRequest(spec=asked_to_pb(sync), path=file_path(path))
        return explanation_from_pb((await self._call(self._coordinator.ExplainFile, request, _EXPLAIN_SECONDS)).explanation)

    async def deletions(self, source: str = "", since: float = 0.0, path: str = "", sync_id: str = "") -> AsyncGenerator[Deletion, None]:
        """The journal of clean-ups, newest first; empty arguments let everything through. `path` is a pattern as in .gitignore."""
        stub = cleanup_pb2_grpc.CleanupStub(self._channel)

        def page(token: str) -> cleanup_pb2.ListDeletionsRequest:
            return cleanup_pb2.ListDeletionsRequest(
                page_size=_PAGE_SIZE,
                page_token=token,
                source=source,
                since=timestamp(since) if since else None,
                path=path,
                sync_id=sync_id,
            )

        async for response in self._pages(stub.ListDeletions, page):
            for deletion in response.deletions:
                yield deletion_from_pb(deletion)

    async def get_cleanup(self, sync_id: str) -> CleanupRun:
        """One clean-up as it is now, by its run or its job. Raises CLEANUP_NOT_FOUND."""
        stub = cleanup_pb2_grpc.CleanupStub(self._channel)
        return run_from_pb((await self._call(stub.GetCleanup, cleanup_pb2.GetCleanupRequest(sync_id=sync_id))).run)

    async def list_schedules(self) -> AsyncGenerator[Schedule, None]:
        """What `mediasync up` begins at its times, by name."""

        def page(token: str) -> coordinator_pb2.ListSchedulesRequest:
            return coordinator_pb2.ListSchedulesRequest(page_size=_PAGE_SIZE, page_token=token)

        async for response in self._pages(self._coordinator.ListSchedules, page):
            for schedule in response.schedules:
                yield schedule_from_pb(schedule)

    async def pause_schedule(self, name: str, paused: bool = True) -> Schedule:
        """Holds a schedule, across restarts, or lets it go on; returns it with that. Raises SCHEDULE_NOT_FOUND."""
        request = coordinator_pb2.PauseScheduleRequest(request_id=new_request_id(), name=name, paused=paused)
        return schedule_from_pb((await self._call(self._coordinator.PauseSchedule, request)).schedule)
