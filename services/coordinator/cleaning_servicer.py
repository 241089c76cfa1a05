"""The part of the Coordinator service that is about clean-ups and schedules: parse, call, convert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from mediasync import convert
from mediasync.convert.schedules import schedule_to_pb
from mediasync.errors import FieldViolation, MediasyncError
from mediasync.model import JobKind
from mediasync.paths import check_relative, display
from mediasync.runtime import paging
from mediasync.v1 import cleanup_pb2, coordinator_pb2_grpc
from mediasync.v1 import coordinator_pb2 as pb
from services.coordinator import validation
from services.coordinator.asked import name_in_trace, request_of, trace_of_caller
from services.coordinator.cleanup_peer import GrpcCleanupPeer
from services.coordinator.cleanups import Cleanups
from services.coordinator.jobs import Jobs
from services.coordinator.schedules import Schedules
from services.coordinator.store import Store

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class CleaningServicer(coordinator_pb2_grpc.CoordinatorServicer):
    """Serves clean-ups and schedules."""

    def __init__(self, jobs: Jobs, cleanups: Cleanups, peer: GrpcCleanupPeer, schedules: Schedules, store: Store) -> None:
        self._jobs = jobs
        self._cleanups = cleanups
        self._cleanup_peer = peer
        self._schedules = schedules
        self._store = store

    async def StartCleanup(self, request: pb.StartCleanupRequest, context: Context) -> pb.StartCleanupResponse:
        asked = request_of(request, request.request_id)
        spec = convert.spec_from_pb(request.spec)
        # A repetition gets the first answer, though what it names may be gone by now.
        if await self._store.answered(asked) is None:
            spec = await self._cleanups.fill(spec, options_given=request.spec.HasField("options"), request_id=request.request_id)
        job = await self._jobs.start(asked, spec, trace_of_caller(), kind=JobKind.CLEANUP)
        name_in_trace(job)
        return pb.StartCleanupResponse(job=convert.job_to_pb(job))

    async def PreviewCleanup(self, request: pb.PreviewCleanupRequest, context: Context) -> pb.PreviewCleanupResponse:
        asked = cleanup_pb2.PlanCleanupRequest(page_size=request.page_size, page_token=request.page_token)
        if not request.page_token:
            spec = await self._cleanups.fill(convert.spec_from_pb(request.spec), options_given=request.spec.HasField("options"))
            asked.spec.CopyFrom(convert.spec_to_pb(spec))
        page = await self._cleanup_peer.plan(asked, context.time_remaining())
        return pb.PreviewCleanupResponse(
            plan_id=page.plan_id,
            plan=page.plan if page.HasField("plan") else None,
            files=page.files,
            next_page_token=page.next_page_token,
        )

    async def ExplainFile(self, request: pb.ExplainFileRequest, context: Context) -> pb.ExplainFileResponse:
        path = request.path.raw
        try:
            check_relative(path)
        except MediasyncError:
            shown = display(path[:200])
            wrong = FieldViolation("path", f"must be relative to the source's root, without `.` and `..`, is {shown!r}")
            validation.require([wrong])
        spec = await self._cleanups.fill(convert.spec_from_pb(request.spec), options_given=request.spec.HasField("options"))
        return pb.ExplainFileResponse(explanation=await self._cleanup_peer.explain(spec, path, context.time_remaining()))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Context) -> pb.ListSchedulesResponse:
        size = paging.page_size(request.page_size)
        position = paging.decode(request.page_token, str)
        schedules = await self._schedules.list(size + 1, str(position[0]) if position else "")
        token = paging.encode([schedules[size - 1].name]) if len(schedules) > size else ""
        return pb.ListSchedulesResponse(schedules=map(schedule_to_pb, schedules[:size]), next_page_token=token)

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, context: Context) -> pb.PauseScheduleResponse:
        validation.require(validation.check_request_id(request.request_id))
        schedule = await self._schedules.pause(request_of(request, request.request_id), request.name, paused=request.paused)
        return pb.PauseScheduleResponse(schedule=schedule_to_pb(schedule))
