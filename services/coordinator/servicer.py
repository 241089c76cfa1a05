"""The Coordinator service on the wire: parse, call, convert."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc.aio

from mediasync import convert
from mediasync.convert.previews import preview_summary_from_pb, preview_summary_to_pb
from mediasync.errors import FieldViolation
from mediasync.model import PreviewSummary, SyncSpec
from mediasync.runtime import paging
from mediasync.v1 import coordinator_pb2 as pb
from mediasync.v1 import types_pb2
from services.coordinator import validation
from services.coordinator.asked import name_in_trace, request_of, trace_of_caller
from services.coordinator.cleaning_servicer import CleaningServicer
from services.coordinator.cleanup_peer import GrpcCleanupPeer
from services.coordinator.cleanups import Cleanups, require_meant
from services.coordinator.jobs import Jobs
from services.coordinator.peers import GrpcPeers
from services.coordinator.repairs import Repairs
from services.coordinator.schedules import Schedules
from services.coordinator.sources import Origin, Source, Sources
from services.coordinator.store import Store
from services.coordinator.watch import Watches

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

_ORIGINS = {Origin.CONFIGURATION: pb.SOURCE_ORIGIN_CONFIGURATION, Origin.ADDED: pb.SOURCE_ORIGIN_ADDED}


class CoordinatorServicer(CleaningServicer):
    """Serves jobs, sources and watches; see `CleaningServicer` for clean-ups and schedules."""

    def __init__(
        self,
        jobs: Jobs,
        sources: Sources,
        watches: Watches,
        peers: GrpcPeers,
        cleanup: GrpcCleanupPeer,
        schedules: Schedules,
        store: Store,
    ) -> None:
        super().__init__(jobs, Cleanups(sources), cleanup, schedules, store)
        self._sources = sources
        self._watches = watches
        self._peers = peers
        self._repairs = Repairs(jobs, sources, peers)

    async def StartSync(self, request: pb.StartSyncRequest, context: Context) -> pb.StartSyncResponse:
        asked = request_of(request, request.request_id)
        spec = convert.spec_from_pb(request.spec)
        # A repetition gets the first answer, though what it names may be gone by now.
        if await self._store.answered(asked) is None:
            spec = await self._sources.fill(spec, options_given=request.spec.HasField("options"))
            validation.require(validation.check_request_id(request.request_id) + validation.check_spec(spec, "spec"))
            require_meant(spec)
        job = await self._jobs.start(asked, spec, trace_of_caller())
        name_in_trace(job)
        return pb.StartSyncResponse(job=convert.job_to_pb(job))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=convert.job_to_pb(await self._jobs.get(request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        size = paging.page_size(request.page_size)
        states = [convert.job_state_from_pb(state) for state in request.states]
        # One more than asked for tells whether there is another page.
        jobs = await self._jobs.list(size + 1, _after(request.page_token), states)
        token = paging.encode([jobs[size - 1].job_id]) if len(jobs) > size else ""
        return pb.ListJobsResponse(jobs=[convert.job_to_pb(job) for job in jobs[:size]], next_page_token=token)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        validation.require(validation.check_request_id(request.request_id))
        job = await self._jobs.cancel(request_of(request, request.request_id), request.job_id)
        return pb.CancelJobResponse(job=convert.job_to_pb(job))

    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        validation.require(validation.check_request_id(request.request_id))
        job = await self._jobs.pause(request_of(request, request.request_id), request.job_id, paused=True)
        return pb.PauseJobResponse(job=convert.job_to_pb(job))

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        validation.require(validation.check_request_id(request.request_id))
        job = await self._jobs.pause(request_of(request, request.request_id), request.job_id, paused=False)
        return pb.ResumeJobResponse(job=convert.job_to_pb(job))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        validation.require(validation.check_request_id(request.request_id))
        job = await self._jobs.retry(request_of(request, request.request_id), request.job_id, trace_of_caller())
        name_in_trace(job)
        return pb.RetryJobResponse(job=convert.job_to_pb(job))

    async def SetJobLimit(self, request: pb.SetJobLimitRequest, context: Context) -> pb.SetJobLimitResponse:
        megabits = request.megabits if request.HasField("megabits") else None
        wrong = validation.check_request_id(request.request_id)
        # Also not a number, which is neither.
        if megabits is not None and not 0 <= megabits <= validation.MAX_MEGABITS:
            wrong.append(FieldViolation("megabits", f"must be 0 to {validation.MAX_MEGABITS:.0f}, is {megabits:g}"))
        validation.require(wrong)
        job = await self._jobs.limit(request_of(request, request.request_id), request.job_id, megabits)
        return pb.SetJobLimitResponse(job=convert.job_to_pb(job))

    async def PreviewSync(self, request: pb.PreviewSyncRequest, context: Context) -> AsyncIterator[pb.PreviewSyncResponse]:
        spec = await self._sources.fill(convert.spec_from_pb(request.spec), options_given=request.spec.HasField("options"))
        validation.require(validation.check_spec(spec, "spec"))
        summary = PreviewSummary()
        # Without its destination: whether a library could be there, a preview finds out without making one.
        for unit in await self._peers.probe(dataclasses.replace(spec, dest_path="")):
            async with aclosing(self._peers.preview_folder(spec, unit)) as events:
                async for event in events:
                    kind = event.WhichOneof("event")
                    if kind == "summary":
                        summary += preview_summary_from_pb(event.summary)
                    elif kind == "files":
                        yield pb.PreviewSyncResponse(files=event.files)
                    else:
                        yield pb.PreviewSyncResponse(heartbeat=types_pb2.Heartbeat())
        yield pb.PreviewSyncResponse(summary=preview_summary_to_pb(summary))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        async for event in self._watches.watch(request.job_id, request.resume_token):
            yield event

    async def CreateSource(self, request: pb.CreateSourceRequest, context: Context) -> pb.CreateSourceResponse:
        spec = convert.spec_from_pb(request.source.spec)
        named = request.source.spec.source.name
        wrong = validation.check_request_id(request.request_id) + validation.check_name(request.source.name, "source.name")
        found = validation.check_spec(spec, "source.spec", needs_dest=False)
        wrong += [violation for violation in found if violation.field != "source.spec.source.name"]
        if named and named != request.source.name:
            wrong.append(FieldViolation("source.spec.source.name", f"must be empty or the source's name, is {named!r}"))
        validation.require(wrong)
        source = await self._sources.create(request_of(request, request.request_id), request.source.name, spec)
        return pb.CreateSourceResponse(source=_source(source))

    async def GetSource(self, request: pb.GetSourceRequest, context: Context) -> pb.GetSourceResponse:
        return pb.GetSourceResponse(source=_source(await self._sources.get(request.name)))

    async def ListSources(self, request: pb.ListSourcesRequest, context: Context) -> pb.ListSourcesResponse:
        size = paging.page_size(request.page_size)
        sources = await self._sources.list(size + 1, _after(request.page_token))
        token = paging.encode([sources[size - 1].name]) if len(sources) > size else ""
        return pb.ListSourcesResponse(sources=[_source(source) for source in sources[:size]], next_page_token=token)

    async def DeleteSource(self, request: pb.DeleteSourceRequest, context: Context) -> pb.DeleteSourceResponse:
        validation.require(validation.check_request_id(request.request_id))
        await self._sources.delete(request_of(request, request.request_id), request.name)
        return pb.DeleteSourceResponse()

    async def TestSource(self, request: pb.TestSourceRequest, context: Context) -> pb.TestSourceResponse:
        folders = tuple(folder.raw for folder in request.folders)
        asked = SyncSpec(convert.source_from_pb(request.source), request.dest_path, folders, convert.options_from_pb(request.options))
        spec = await self._sources.fill(asked, options_given=request.HasField("options"))
        wrong = validation.check_source(spec.source, "source") + validation.check_folders(spec.folders, "folders")
        validation.require(wrong + validation.check_options(spec.options, "options"))
        report = await self._peers.test_source(spec, context.time_remaining())
        return pb.TestSourceResponse(report=convert.report_to_pb(report))

    async def RepairLibrary(self, request: pb.RepairLibraryRequest, context: Context) -> pb.RepairLibraryResponse:
        validation.require(validation.check_request_id(request.request_id))
        jobs, without = await self._repairs.repair(request_of(request, request.request_id), request.library_path, trace_of_caller())
        return pb.RepairLibraryResponse(jobs=[convert.job_to_pb(job) for job in jobs], files_without_source=without)

    async def GetHostKey(self, request: pb.GetHostKeyRequest, context: Context) -> pb.GetHostKeyResponse:
        source = await self._sources.fill_source(convert.source_from_pb(request.source))
        validation.require(validation.check_source(source, "source"))
        return pb.GetHostKeyResponse(host_key=convert.host_key_to_pb(await self._peers.host_key(source)))

    async def TrustHostKey(self, request: pb.TrustHostKeyRequest, context: Context) -> pb.TrustHostKeyResponse:
        wrong = validation.check_request_id(request.request_id)
        if not request.fingerprint:
            wrong.append(FieldViolation("fingerprint", "must not be empty"))
        source = await self._sources.fill_source(convert.source_from_pb(request.source))
        validation.require(wrong + validation.check_source(source, "source"))
        asked = request_of(request, request.request_id)
        # The effect is the transfer worker's, and trusting the same key twice is one effect.
        file = await self._store.answered(asked)
        if file is None:
            file = await self._store.answer(asked, (await self._peers.trust_host_key(source, request.fingerprint)).encode())
        return pb.TrustHostKeyResponse(known_hosts_file=file.decode())


def _source(source: Source) -> pb.Source:
    message = pb.Source(name=source.name, spec=convert.spec_to_pb(source.spec), origin=_ORIGINS[source.origin])
    if source.create_time:
        message.create_time.CopyFrom(convert.timestamp(source.create_time))
    return message


def _after(page_token: str) -> str:
    """The key that a page goes on after; empty for the first."""
    position = paging.decode(page_token, str)
    return str(position[0]) if position else ""
