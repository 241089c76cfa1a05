"""The asynchronous client: start a sync, follow it, and look at what is there.

    async with Client() as client:
        job = await client.start_sync(SyncConfig(...))
        async for progress in client.watch(job):
            print(progress.percent)
        result = await job.result()

Without an address it uses the services of this machine's data folder: those that run, or its own for as long as it is open.

Every error is a `MediasyncError`. A coordinator that is restarted meanwhile is waited for, up to `PATIENCE_SECONDS`; mutations keep
their request id over such retries, so that each has one effect. Not thread-safe: one client belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc.aio

from mediasync import convert
from mediasync.cleanup_client import CleanupCalls
from mediasync.convert.media import catalog_file_from_pb
from mediasync.convert.named import asked_to_pb, named_source_from_pb
from mediasync.convert.previews import preview_summary_from_pb, previewed_from_pb
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.events_client import EventCalls
from mediasync.following import Forward
from mediasync.handle import JobHandle
from mediasync.ids import new_request_id
from mediasync.library_client import LibraryCalls
from mediasync.local.launch import local_services
from mediasync.model import (
    CatalogFile,
    HostKey,
    Job,
    JobProgress,
    JobState,
    NamedSource,
    PreviewedFile,
    PreviewSummary,
    SourceReport,
    SourceSpec,
    SshConnection,
    SyncOptions,
    SyncSpec,
)
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.runtime.context import bound
from mediasync.runtime.home import Home
from mediasync.v1 import catalog_pb2, catalog_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc

if TYPE_CHECKING:
    from mediasync.config import SyncConfig

PATIENCE_SECONDS = 20.0
"""How long a coordinator that was there may stay away."""
CONNECT_SECONDS = 5.0
"""How long the first answer of a given address may take."""
LOCAL_CONNECT_SECONDS = 30.0
"""How long it may take at a socket of this machine that is there: somebody has begun to serve, on a machine that may be busy."""

_CALL_SECONDS = 15.0
_SOURCE_SECONDS = 120.0  # calls that connect to a far side, which may be slow to refuse
_PAGE_SIZE = 200
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


class Client(LibraryCalls, EventCalls, CleanupCalls):
    """A connection to a coordinator. Use it with `async with`."""

    def __init__(self, coordinator: str | None = None, home: str | os.PathLike[str] | None = None) -> None:
        """`coordinator` is `host:port` or `unix:/path`; without it (and without MEDIASYNC_COORDINATOR_ADDRESS) the services of the data
        folder `home` (default: MEDIASYNC_HOME, see README) are used, and started if they do not run."""
        environ = dict(os.environ)
        if home is not None:
            environ["MEDIASYNC_HOME"] = os.fspath(Path(home).absolute())
        self._environ = environ
        self._home = Home.from_environment(environ)
        self._given = coordinator or environ.get("MEDIASYNC_COORDINATOR_ADDRESS", "")
        self._stack = contextlib.AsyncExitStack()
        self._channel: grpc.aio.Channel | None = None
        self.address = ""
        """The coordinator's address, once connected."""

    async def __aenter__(self) -> Client:
        """Connects. Raises SERVICES_UNREACHABLE when nobody answers at the given address, and what `local_services` raises."""
        try:
            if self._given:
                self.address = _checked_address(self._given)
            else:
                services = await self._stack.enter_async_context(local_services(self._home, self._environ))
                self.address = services.address
            self._channel = open_channel(self.address)
            self._stack.push_async_callback(self._channel.close)
            await self._reach()
        except BaseException:
            await self._stack.aclose()
            raise
        self._coordinator = coordinator_pb2_grpc.CoordinatorStub(self._channel)
        self._catalog = catalog_pb2_grpc.CatalogStub(self._channel)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    # Jobs.

    async def start_sync(self, sync: SyncConfig | SyncSpec | str) -> JobHandle:
        """Starts a sync; `sync` may be the name of a source. It goes on when the client leaves.

        Raises INVALID_ARGUMENT, naming every field that is wrong, and SOURCE_NOT_FOUND, naming the nearest one.
        """
        request = coordinator_pb2.StartSyncRequest(request_id=new_request_id(), spec=asked_to_pb(sync))
        response = await self._call(self._coordinator.StartSync, request)
        return JobHandle(response.job.job_id, response.job.sync_id, self)

    async def get_job(self, job_id: str) -> Job:
        """One job, by its id or its sync id. Raises JOB_NOT_FOUND."""
        response = await self._call(self._coordinator.GetJob, coordinator_pb2.GetJobRequest(job_id=job_id))
        return convert.job_from_pb(response.job)

    async def attach(self, job_id: str) -> JobHandle:
        """A handle on a job that was started elsewhere. Raises JOB_NOT_FOUND."""
        job = await self.get_job(job_id)
        return JobHandle(job.job_id, job.sync_id, self)

    async def list_jobs(self, states: Sequence[JobState] = ()) -> AsyncGenerator[Job, None]:
        """Jobs, newest first; only those in one of `states` if any are given."""
        wanted = [convert.job_state_to_pb(state) for state in states]

        def page(token: str) -> coordinator_pb2.ListJobsRequest:
            return coordinator_pb2.ListJobsRequest(page_size=_PAGE_SIZE, page_token=token, states=wanted)

        async for response in self._pages(self._coordinator.ListJobs, page):
            for job in response.jobs:
                yield convert.job_from_pb(job)

    async def cancel_job(self, job_id: str) -> Job:
        """Asks a job to stop; returns it as it was. Harmless when it has ended. Raises JOB_NOT_FOUND."""
        request = coordinator_pb2.CancelJobRequest(request_id=new_request_id(), job_id=job_id)
        return convert.job_from_pb((await self._call(self._coordinator.CancelJob, request)).job)

    async def pause_job(self, job_id: str) -> Job:
        """Holds a job, across restarts, until it is resumed or cancelled; returns it with that. Raises JOB_NOT_FOUND, JOB_ENDED."""
        request = coordinator_pb2.PauseJobRequest(request_id=new_request_id(), job_id=job_id)
        return convert.job_from_pb((await self._call(self._coordinator.PauseJob, request)).job)

    async def resume_job(self, job_id: str) -> Job:
        """Lets a paused job go on with what is left; returns it with that. Raises JOB_NOT_FOUND, JOB_ENDED."""
        request = coordinator_pb2.ResumeJobRequest(request_id=new_request_id(), job_id=job_id)
        return convert.job_from_pb((await self._call(self._coordinator.ResumeJob, request)).job)

    async def retry_job(self, job_id: str) -> JobHandle:
        """Starts a new job for what an ended one did not bring. Raises JOB_NOT_FOUND, JOB_NOT_ENDED, NOTHING_FAILED."""
        request = coordinator_pb2.RetryJobRequest(request_id=new_request_id(), job_id=job_id)
        job = (await self._call(self._coordinator.RetryJob, request)).job
        return JobHandle(job.job_id, job.sync_id, self)

    async def limit_job(self, job_id: str, megabits: float | None) -> Job:
        """Changes how fast a job may be, at once: megabits a second, 0 for no limit, None for what its options say. Returns it with that.
        Raises JOB_NOT_FOUND, JOB_ENDED."""
        request = coordinator_pb2.SetJobLimitRequest(request_id=new_request_id(), job_id=job_id, megabits=megabits)
        return convert.job_from_pb((await self._call(self._coordinator.SetJobLimit, request)).job)

    async def preview_sync(self, sync: SyncConfig | SyncSpec | str) -> AsyncGenerator[PreviewedFile | PreviewSummary, None]:
        """What `start_sync` would do with each file, and last a summary. Takes nothing. Raises what `start_sync` raises, and the source's
        reasons."""
        call = self._coordinator.PreviewSync(coordinator_pb2.PreviewSyncRequest(spec=asked_to_pb(sync)))
        try:
            with rpc_errors(self._what):
                async for event in call:
                    for file in event.files.files:
                        yield previewed_from_pb(file)
                    if event.HasField("summary"):
                        yield preview_summary_from_pb(event.summary)
        finally:
            call.cancel()

    async def watch(self, job: JobHandle | str) -> AsyncGenerator[JobProgress, None]:
        """Follows a job to its end, yielding a snapshot whenever something changed, at most 10 a second.

        No number goes down. Goes on by itself after a coordinator's restart; raises SERVICES_UNREACHABLE when that lasts too long, and
        JOB_NOT_FOUND.
        """
        handle = job if isinstance(job, JobHandle) else await self.attach(job)
        if handle._finished is not None:
            return
        forward = Forward()
        async for event in self._follow(handle):
            if isinstance(event, Job):
                handle._finished = event
                return
            yield forward.step(event)

    # Sources.

    async def add_source(self, name: str, spec: SyncSpec) -> NamedSource:
        """Names a source, with the sync that its name stands for. Raises SOURCE_EXISTS."""
        source = coordinator_pb2.Source(name=name, spec=convert.spec_to_pb(spec))
        request = coordinator_pb2.CreateSourceRequest(request_id=new_request_id(), source=source)
        return named_source_from_pb((await self._call(self._coordinator.CreateSource, request)).source)

    async def get_source(self, name: str) -> NamedSource:
        """A named source. Raises SOURCE_NOT_FOUND, naming the nearest one."""
        response = await self._call(self._coordinator.GetSource, coordinator_pb2.GetSourceRequest(name=name))
        return named_source_from_pb(response.source)

    async def list_sources(self) -> AsyncGenerator[NamedSource, None]:
        """Named sources, by name; those of the configuration file among them."""

        def page(token: str) -> coordinator_pb2.ListSourcesRequest:
            return coordinator_pb2.ListSourcesRequest(page_size=_PAGE_SIZE, page_token=token)

        async for response in self._pages(self._coordinator.ListSources, page):
            for source in response.sources:
                yield named_source_from_pb(source)

    async def remove_source(self, name: str) -> None:
        """Forgets a named source; no file is touched. Raises SOURCE_NOT_FOUND, SOURCE_IN_CONFIGURATION."""
        await self._call(self._coordinator.DeleteSource, coordinator_pb2.DeleteSourceRequest(request_id=new_request_id(), name=name))

    async def test_source(
        self, source: SourceSpec | str, folders: Sequence[bytes] = (), *, options: SyncOptions | None = None, dest_path: str = ""
    ) -> SourceReport:
        """Connects to a source, given by its name or in full, and says what is there, how fast it can be read, and what a sync with
        `options` would look at. Takes nothing. With `dest_path` also says how much space is free there. Raises the source's reasons."""
        request = coordinator_pb2.TestSourceRequest(
            source=convert.source_to_pb(_source(source)),
            folders=[convert.file_path(folder) for folder in folders],
            options=None if options is None else convert.options_to_pb(options),
            dest_path=dest_path,
        )
        return convert.report_from_pb((await self._call(self._coordinator.TestSource, request, _SOURCE_SECONDS)).report)

    async def host_key(self, source: SourceSpec | str) -> HostKey:
        """The key that a source's host shows, and whether it is known. Trusts nothing."""
        request = coordinator_pb2.GetHostKeyRequest(source=convert.source_to_pb(_source(source)))
        return convert.host_key_from_pb((await self._call(self._coordinator.GetHostKey, request, _SOURCE_SECONDS)).host_key)

    async def trust_host_key(self, source: SourceSpec | str, fingerprint: str) -> str:
        """Remembers the host's key if it still has that fingerprint; returns the file that holds it. Raises HOST_KEY_CHANGED."""
        request = coordinator_pb2.TrustHostKeyRequest(
            request_id=new_request_id(), source=convert.source_to_pb(_source(source)), fingerprint=fingerprint
        )
        return str((await self._call(self._coordinator.TrustHostKey, request, _SOURCE_SECONDS)).known_hosts_file)

    # The catalog.

    async def list_files(self, sync_id: str = "", path_prefix: bytes = b"", source: str = "") -> AsyncGenerator[CatalogFile, None]:
        """Files of the library, newest first; empty arguments let everything through. Their metadata lacks the long texts."""

        def page(token: str) -> catalog_pb2.CatalogListRequest:
            return catalog_pb2.CatalogListRequest(
                page_size=_PAGE_SIZE, page_token=token, sync_id=sync_id, path_prefix=path_prefix, source=source
            )

        async for response in self._pages(self._catalog.List, page):
            for file in response.files:
                yield catalog_file_from_pb(file)

    async def get_file(self, library_path: bytes, library_root: str = "") -> CatalogFile:
        """One file, complete. Raises FILE_NOT_FOUND."""
        request = catalog_pb2.CatalogGetRequest(library_path=library_path, library_root=library_root)
        return catalog_file_from_pb((await self._call(self._catalog.Get, request)).file)

    # Inside.

    @property
    def _what(self) -> str:
        return f"the coordinator at {self.address}"

    async def _reach(self) -> None:
        assert self._channel is not None
        path = self.address.removeprefix("unix:")
        local = path != self.address and await asyncio.to_thread(os.path.exists, unquote(path))
        try:
            async with asyncio.timeout(LOCAL_CONNECT_SECONDS if local else CONNECT_SECONDS):
                await self._channel.channel_ready()
        except TimeoutError:
            raise MediasyncError(
                Reason.SERVICES_UNREACHABLE,
                f"nobody answers at {self.address}",
                "Start the services with `mediasync up`, or give the right address with --coordinator HOST:PORT." if self._given else "",
            ) from None

    async def _call(self, method: Any, request: object, seconds: float = _CALL_SECONDS) -> Any:
        """One unary call, made again while the coordinator is away."""
        patience = _Patience()
        while True:
            try:
                with rpc_errors(self._what):
                    return await method(request, timeout=seconds)
            except MediasyncError as error:
                await patience.wait_after(error)

    async def _pages(self, method: Callable[..., Awaitable[Any]], request: Callable[[str], object]) -> AsyncGenerator[Any, None]:
        token = ""
        while True:
            response = await self._call(method, request(token))
            yield response
            token = response.next_page_token
            if not token:
                return

    async def _follow(self, job: JobHandle) -> AsyncGenerator[JobProgress | Job, None]:
        """Events of a job, over as many calls as it takes. The last one is the job as it ended."""
        token = ""
        patience = _Patience()
        while True:
            with bound(job.sync_id):  # the call takes trace and baggage with it when it is made
                call = self._coordinator.WatchJob(coordinator_pb2.WatchJobRequest(job_id=job.job_id, resume_token=token))
            try:
                with rpc_errors(self._what):
                    async for event in call:
                        patience = _Patience()
                        token = event.resume_token or token
                        if event.HasField("finished"):
                            yield convert.job_from_pb(event.finished)
                            return
                        if event.HasField("progress"):
                            yield convert.progress_from_pb(event.progress)
                # A stream that ends early was closed by a coordinator that drains.
                await patience.wait_after(MediasyncError(Reason.SERVICES_UNREACHABLE, f"{self._what} ended the watch"))
            except MediasyncError as error:
                if error.reason is Reason.RESUME_TOKEN_EXPIRED and token:
                    token = ""
                else:
                    await patience.wait_after(error)
            finally:
                call.cancel()


def _checked_address(address: str) -> str:
    """`address`, if it can be one. Raises INVALID_ARGUMENT."""
    host, colon, port = address.rpartition(":")
    if address.startswith("unix:") or (host and colon and port.isdecimal() and int(port) <= 65535):
        return address
    raise MediasyncError(
        Reason.INVALID_ARGUMENT,
        f"{address!r} is not the address of a coordinator; expected HOST:PORT, such as 127.0.0.1:7171",
        "`mediasync status` shows the address of the services on this machine.",
        [FieldViolation("coordinator", "not HOST:PORT")],
    )


class _Patience:
    """Pauses between attempts to reach services that are away, and the end of it."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._pause = _FIRST_PAUSE_SECONDS

    async def wait_after(self, error: MediasyncError) -> None:
        """Waits before the next attempt. Raises `error` when another attempt makes no sense, or it was enough."""
        if error.reason is not Reason.SERVICES_UNREACHABLE or time.monotonic() - self._since > PATIENCE_SECONDS:
            raise error
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)


def _source(source: SourceSpec | str) -> SourceSpec:
    return SourceSpec(SshConnection(""), name=source) if isinstance(source, str) else source
