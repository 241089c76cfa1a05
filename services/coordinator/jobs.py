"""What a client can ask of jobs, and the interface of the engine that runs them. Knows nothing of how they are run."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from mediasync.ids import new_job_id, new_sync_id
from mediasync.model import Job, JobKind, JobState, SourceSpec, SshConnection, SyncSpec
from mediasync.runtime import crash
from services.coordinator.rows import Unit
from services.coordinator.store import Request, Store


class Engine(Protocol):
    """Runs accepted jobs to their end, whatever dies in between."""

    async def submit(self, job_id: str) -> None:
        """Begins an accepted job; durable once returned. Harmless for one that has begun."""

    def cancel(self, job_id: str) -> None:
        """Makes a running job look at what it was asked: to stop, which the store knows already. Harmless for any other."""

    async def look(self, job_id: str) -> None:
        """Makes a running job look at whether it is paused and how fast it may be, as the store has it. Harmless for any other."""

    async def recover(self) -> None:
        """Sees to it that every job that has not ended is under way."""


class Hold(Protocol):
    """Keeps the other services from being stopped while a job is active."""

    async def begin(self, job_id: str) -> None:
        """A job is active; returns once that is known where it matters, or after a short while."""

    def end(self, job_id: str) -> None:
        """It no longer is."""


class Endings:
    """Tells those who wait that a job has ended."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    @contextmanager
    def heard(self, job_id: str, listener: Callable[[], None]) -> Iterator[None]:
        """Calls `listener` if the job ends while the context is open."""
        self._listeners[job_id].append(listener)
        try:
            yield
        finally:
            listeners = self._listeners[job_id]
            listeners.remove(listener)
            if not listeners:
                del self._listeners[job_id]

    def announce(self, job_id: str) -> None:
        """The job has ended, and the store says so."""
        for listener in list(self._listeners.get(job_id, ())):
            listener()


class Jobs:
    """Jobs, as clients see them."""

    def __init__(self, store: Store, engine: Engine, hold: Hold) -> None:
        self._store = store
        self._engine = engine
        self._hold = hold
        # Or the one that was asked first might take effect last.
        self._changing = asyncio.Lock()

    async def start(
        self,
        request: Request,
        spec: SyncSpec,
        trace: Mapping[str, str],
        *,
        kind: JobKind = JobKind.SYNC,
        standing: tuple[str, str] | None = None,
    ) -> Job:
        """Accepts a job and sets it going. `trace` is the trace it belongs to, as it travels between processes; `standing` the source that
        it watches for the configuration's sake, and the digest of what is configured.

        The job is durable before it is begun: killed in between, the coordinator begins it when it is started again.
        """
        job = Job(new_job_id(), new_sync_id(), JobState.PENDING, spec, create_time=time.time(), kind=kind)
        accepted, first = await self._store.accept(request, job, trace, standing)
        return await self._begin(accepted, first)

    async def start_for(self, request: Request, spec: SyncSpec, trace: Mapping[str, str], scope: Sequence[Unit]) -> Job:
        """Starts a sync that is restricted to some units."""
        job = Job(new_job_id(), new_sync_id(), JobState.PENDING, spec, create_time=time.time())
        accepted, first = await self._store.accept(request, job, trace, scope=scope)
        return await self._begin(accepted, first)

    async def retry(self, request: Request, job_or_sync_id: str, trace: Mapping[str, str]) -> Job:
        """Starts a job for what an ended one did not bring. Raises JOB_NOT_FOUND, JOB_NOT_ENDED, NOTHING_FAILED."""
        nowhere = SyncSpec(SourceSpec(SshConnection("")), "")  # the store puts in that of the other job
        new = Job(new_job_id(), new_sync_id(), JobState.PENDING, nowhere, create_time=time.time())
        accepted, first = await self._store.accept_retry(request, job_or_sync_id, new, trace)
        return await self._begin(accepted, first)

    async def _begin(self, accepted: Job, first: bool) -> Job:
        crash.point("coordinator.after_accept")
        if first or not (await self._store.job(accepted.job_id)).job.state.terminal:
            # Before the answer: once the client has it, it may leave, and with it the last one who kept the services up.
            await self._hold.begin(accepted.job_id)
            try:
                await self._engine.submit(accepted.job_id)
            except BaseException:
                # The client asks again, or the engine finds the job when it looks after lost ones.
                self._hold.end(accepted.job_id)
                raise
        return accepted

    async def get(self, job_or_sync_id: str) -> Job:
        """One job. Raises JOB_NOT_FOUND."""
        return (await self._store.job(job_or_sync_id)).job

    async def list(self, limit: int, before: str, states: Sequence[JobState]) -> list[Job]:
        """Jobs, newest first, older than the job id `before` (empty: from the newest), in one of `states` if any are given."""
        return await self._store.jobs(limit, before, states)

    async def cancel(self, request: Request, job_or_sync_id: str) -> Job:
        """Asks a job to stop. Returns it as it was. Raises JOB_NOT_FOUND."""
        job = await self._store.request_cancel(request, job_or_sync_id)
        self._engine.cancel(job.job_id)
        return job

    async def pause(self, request: Request, job_or_sync_id: str, *, paused: bool) -> Job:
        """Holds a job, or lets it go on. Raises JOB_NOT_FOUND, JOB_ENDED."""
        async with self._changing:
            job = await self._store.request_pause(request, job_or_sync_id, paused=paused)
            crash.point("coordinator.after_pause")
            await self._engine.look(job.job_id)
        return job

    async def limit(self, request: Request, job_or_sync_id: str, megabits: float | None) -> Job:
        """Changes how fast a job may be: megabits a second, 0 for no limit, None for what its options say. Raises JOB_NOT_FOUND,
        JOB_ENDED."""
        async with self._changing:
            job = await self._store.request_limit(request, job_or_sync_id, megabits)
            await self._engine.look(job.job_id)
        return job
