"""What the coordinator must not forget: jobs, named sources, standing watches, and the requests that were answered. The only place with
SQL; the tables stand in `schema`.

Specs, summaries and problems are kept as the messages of the contract, whose fields only ever grow, so that a newer version
reads what an older one wrote. A request id is stored in the transaction of its effect (invariant I10): a crash leaves both or neither.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import sqlalchemy as sa

from mediasync import convert
from mediasync.convert.jobs import activity_to_pb
from mediasync.errors import MediasyncError, Reason
from mediasync.model import Job, JobActivity, JobKind, JobState, SyncSpec, SyncSummary
from mediasync.storage.database import Database
from mediasync.v1 import types_pb2
from services.coordinator.rows import (
    Unit,
    decode_job,
    decode_spec,
    decode_units,
    encode_job,
    encode_spec,
    encode_summary,
    encode_units,
    job_of,
    job_row,
)
from services.coordinator.schema import jobs as _jobs
from services.coordinator.schema import requests as _requests
from services.coordinator.schema import sources as _sources
from services.coordinator.schema import standing_watches as _standing

T = TypeVar("T")

_ACTIVE = (JobState.PENDING.value, JobState.RUNNING.value, JobState.PAUSED.value)


@dataclass(frozen=True)
class Request:
    """A mutation as a client asked for it: its id, and the digest of its whole body."""

    request_id: str
    method: str
    digest: bytes


@dataclass(frozen=True)
class StoredJob:
    """A job, with what only the coordinator needs: the trace it belongs to, whether it was asked to stop, how often it was paused or
    resumed, the units that it is restricted to, and, once it has ended, those that are left (None are all that there are), and whether
    it watches for the configuration's sake.
    """

    job: Job
    trace: Mapping[str, str] = field(default_factory=dict)
    cancel_requested: bool = False
    pause_changes: int = 0
    scope: tuple[Unit, ...] | None = None
    remains: tuple[Unit, ...] | None = None
    standing: bool = False


@dataclass(frozen=True)
class StandingWatch:
    """The job that watches a source for the configuration's sake. `digest` is of the sync that was asked for."""

    name: str
    digest: str
    job_id: str


@dataclass(frozen=True)
class StoredSource:
    """A named source that a client added. `create_time` is Unix seconds."""

    name: str
    spec: SyncSpec
    create_time: float


class Store:
    """The coordinator's database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def accept(
        self,
        request: Request,
        job: Job,
        trace: Mapping[str, str],
        standing: tuple[str, str] | None = None,
        scope: Sequence[Unit] | None = None,
    ) -> tuple[Job, bool]:
        """Takes `job`, once for each request id. Returns the job as it was first accepted, and whether that was now. `standing` are name
        and digest of a standing watch, which is this job's from now on; `scope` are the units that it is restricted to."""

        def effect(connection: sa.Connection) -> bytes:
            _insert(connection, job, trace, scope)
            if standing is not None:
                name, digest = standing
                connection.execute(_standing.delete().where(_standing.c.name == name))
                connection.execute(_standing.insert().values(name=name, digest=digest, job_id=job.job_id))
            return encode_job(job)

        answer, first = await self.once(request, effect)
        return decode_job(answer), first

    async def accept_retry(self, request: Request, job_or_sync_id: str, new: Job, trace: Mapping[str, str]) -> tuple[Job, bool]:
        """Takes a job for what another one left, once for each request id; `new` gets its spec and limit from that. Returns it as it was
        first accepted, and whether that was now. Raises JOB_NOT_FOUND, JOB_NOT_ENDED, NOTHING_FAILED."""

        def effect(connection: sa.Connection) -> bytes:
            stored = _find_job(connection, job_or_sync_id)
            former = stored.job
            if not former.state.terminal:
                raise MediasyncError(Reason.JOB_NOT_ENDED, f"{former.job_id} has not ended: it is {former.state.value}")
            if _nothing_left(stored):
                raise MediasyncError(Reason.NOTHING_FAILED, f"{former.job_id} has taken every file that there was; nothing is left of it")
            job = replace(new, spec=former.spec, retry_of=former.job_id, limit_mbps=former.limit_mbps, kind=former.kind)
            _insert(connection, job, trace, stored.remains)
            return encode_job(job)

        answer, first = await self.once(request, effect)
        return decode_job(answer), first

    async def job(self, job_or_sync_id: str) -> StoredJob:
        """A job by either of its ids. Raises JOB_NOT_FOUND."""
        return await self.database.read(lambda connection: _find_job(connection, job_or_sync_id))

    async def jobs(self, limit: int, before: str = "", states: Sequence[JobState] = ()) -> list[Job]:
        """Jobs, newest first, older than the job id `before`, in one of `states` if any are given."""
        query = _jobs.select().order_by(_jobs.c.job_id.desc()).limit(limit)
        if before:
            query = query.where(_jobs.c.job_id < before)
        if states:
            query = query.where(_jobs.c.state.in_([state.value for state in states]))
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [job_of(row) for row in rows]

    async def unfinished(self) -> list[str]:
        """Ids of the jobs that have not ended, oldest first."""
        query = sa.select(_jobs.c.job_id).where(_jobs.c.state.in_(_ACTIVE)).order_by(_jobs.c.job_id)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [row.job_id for row in rows]

    async def request_cancel(self, request: Request, job_or_sync_id: str) -> Job:
        """Notes that a job is to stop, unless it has ended. Returns it as it was then. Raises JOB_NOT_FOUND."""

        def effect(connection: sa.Connection) -> bytes:
            stored = _find_job(connection, job_or_sync_id)
            connection.execute(
                _jobs.update()
                .where(_jobs.c.job_id == stored.job.job_id, _jobs.c.cancel_time == 0, _jobs.c.state.in_(_ACTIVE))
                .values(cancel_time=time.time())
            )
            return encode_job(stored.job)

        answer, _ = await self.once(request, effect)
        return decode_job(answer)

    async def request_pause(self, request: Request, job_or_sync_id: str, *, paused: bool) -> Job:
        """Notes that a job is to be held, or to go on. Returns it as it is with that. Raises JOB_NOT_FOUND, JOB_ENDED."""

        def effect(connection: sa.Connection) -> bytes:
            job = _find_active(connection, job_or_sync_id)
            if (job.state is JobState.PAUSED) != paused:
                going = JobState.RUNNING if job.start_time else JobState.PENDING
                job = replace(job, state=JobState.PAUSED if paused else going, activities=())
                values = {"state": job.state.value, "pause_changes": _jobs.c.pause_changes + 1, "activities": b""}
                connection.execute(_jobs.update().where(_jobs.c.job_id == job.job_id).values(values))
            return encode_job(job)

        answer, _ = await self.once(request, effect)
        return decode_job(answer)

    async def request_limit(self, request: Request, job_or_sync_id: str, megabits: float | None) -> Job:
        """Notes how fast a job may be. Returns it as it is with that. Raises JOB_NOT_FOUND, JOB_ENDED."""

        def effect(connection: sa.Connection) -> bytes:
            job = replace(_find_active(connection, job_or_sync_id), limit_mbps=megabits)
            connection.execute(_jobs.update().where(_jobs.c.job_id == job.job_id).values(limit_mbps=megabits))
            return encode_job(job)

        answer, _ = await self.once(request, effect)
        return decode_job(answer)

    async def start(self, job_id: str) -> bool:
        """Marks a job as begun. Returns whether it was so before: then this is a recovery."""

        def work(connection: sa.Connection) -> bool:
            fresh = sa.and_(_jobs.c.job_id == job_id, _jobs.c.start_time == 0, _jobs.c.state.in_(_ACTIVE))
            # One that was paused before it began stays so.
            running = sa.case((_jobs.c.state == JobState.PENDING.value, JobState.RUNNING.value), else_=_jobs.c.state)
            begun = connection.execute(_jobs.update().where(fresh).values(state=running, start_time=time.time())).rowcount > 0
            # What a watch was at before is not what it is at now.
            connection.execute(_jobs.update().where(_jobs.c.job_id == job_id, _jobs.c.state.in_(_ACTIVE)).values(activities=b""))
            return not begun

        return await self.database.write(work)

    async def note_activities(self, job_id: str, activities: Sequence[JobActivity]) -> None:
        """Keeps what the watches of a running job are at."""
        message = types_pb2.Job(activities=[activity_to_pb(activity) for activity in activities])
        running = sa.and_(_jobs.c.job_id == job_id, _jobs.c.state == JobState.RUNNING.value)
        change = _jobs.update().where(running).values(activities=message.SerializeToString())
        await self.database.write(lambda connection: connection.execute(change).rowcount)

    async def advance(self, job_id: str, summary: SyncSummary) -> None:
        """Keeps what an active job has done so far."""
        await self._change_active(job_id, {"summary": encode_summary(summary)})

    async def finish(self, ended: Job, remains: Sequence[Unit] | None) -> None:
        """Ends a job; `remains` are the units that a retry would take, None for all that there are. One that has ended already stays as it
        is."""
        await self._change_active(
            ended.job_id,
            {
                "state": ended.state.value,
                "end_time": ended.end_time,
                "summary": encode_summary(ended.summary),
                "problem": convert.problem_to_pb(ended.problem).SerializeToString() if ended.problem else None,
                "remains": encode_units(remains),
                "activities": b"",
            },
        )

    async def standing_watches(self) -> list[StandingWatch]:
        """The jobs that watch sources for the configuration's sake, by name."""
        rows = await self.database.read(lambda connection: connection.execute(_standing.select().order_by(_standing.c.name)).all())
        return [StandingWatch(row.name, row.digest, row.job_id) for row in rows]

    async def drop_standing_watch(self, name: str) -> None:
        """Forgets which job watches a source."""
        change = _standing.delete().where(_standing.c.name == name)
        await self.database.write(lambda connection: connection.execute(change).rowcount)

    async def create_source(self, request: Request, source: StoredSource) -> StoredSource:
        """Adds a named source. Returns it as it was first stored. Raises SOURCE_EXISTS."""

        def effect(connection: sa.Connection) -> bytes:
            if connection.execute(_sources.select().where(_sources.c.name == source.name)).first():
                raise MediasyncError(Reason.SOURCE_EXISTS, f"there is a source {source.name!r} already")
            spec = encode_spec(source.spec)
            connection.execute(_sources.insert().values(name=source.name, spec=spec, create_time=source.create_time))
            return json.dumps({"name": source.name, "spec": spec.hex(), "create_time": source.create_time}).encode()

        answer, _ = await self.once(request, effect)
        fields = json.loads(answer)
        return StoredSource(fields["name"], decode_spec(bytes.fromhex(fields["spec"])), fields["create_time"])

    async def sources(self) -> list[StoredSource]:
        """The named sources that clients added, by name. There are as many as a person cared to name."""
        rows = await self.database.read(lambda connection: connection.execute(_sources.select().order_by(_sources.c.name)).all())
        return [StoredSource(row.name, decode_spec(row.spec), row.create_time) for row in rows]

    async def delete_source(self, request: Request, name: str, missing: MediasyncError) -> None:
        """Forgets a named source. Raises `missing` if there is none of that name."""

        def effect(connection: sa.Connection) -> bytes:
            if connection.execute(_sources.delete().where(_sources.c.name == name)).rowcount == 0:
                raise missing
            return b""

        await self.once(request, effect)

    async def answered(self, request: Request) -> bytes | None:
        """The first answer to a request whose effect is elsewhere; None when it was not answered yet. Raises REQUEST_ID_REUSED."""
        return await self.database.read(lambda connection: _first_answer(connection, request))

    async def answer(self, request: Request, answer: bytes) -> bytes:
        """Keeps the answer to a request whose effect is elsewhere. Returns the first one."""
        first, _ = await self.once(request, lambda connection: answer)
        return first

    async def forget_requests(self, before: float) -> int:
        """Forgets requests older than `before`, in Unix seconds. Returns how many there were."""
        old = _requests.delete().where(_requests.c.create_time < before)
        return await self.database.write(lambda connection: connection.execute(old).rowcount)

    async def once(self, request: Request, effect: Callable[[sa.Connection], bytes]) -> tuple[bytes, bool]:
        """Has the effect and keeps its answer, in one transaction; or returns the answer it had. True when it was had now."""

        def work(connection: sa.Connection) -> tuple[bytes, bool]:
            first = _first_answer(connection, request)
            if first is not None:
                return first, False
            answer = effect(connection)
            connection.execute(
                _requests.insert().values(
                    request_id=request.request_id, method=request.method, digest=request.digest, answer=answer, create_time=time.time()
                )
            )
            return answer, True

        return await self.database.write(work)

    async def _change_active(self, job_id: str, values: Mapping[str, object]) -> None:
        change = _jobs.update().where(_jobs.c.job_id == job_id, _jobs.c.state.in_(_ACTIVE)).values(**values)
        await self.database.write(lambda connection: connection.execute(change).rowcount)


def _first_answer(connection: sa.Connection, request: Request) -> bytes | None:
    row = connection.execute(_requests.select().where(_requests.c.request_id == request.request_id)).first()
    if row is None:
        return None
    if (row.method, row.digest) != (request.method, request.digest):
        raise MediasyncError(Reason.REQUEST_ID_REUSED, f"the request id {request.request_id!r} was used for another request")
    return bytes(row.answer)


def _find_job(connection: sa.Connection, job_or_sync_id: str) -> StoredJob:
    either = sa.or_(_jobs.c.job_id == job_or_sync_id, _jobs.c.sync_id == job_or_sync_id)
    row = connection.execute(_jobs.select().where(either)).first()
    if row is None:
        raise MediasyncError(Reason.JOB_NOT_FOUND, f"there is no job {job_or_sync_id[:100]!r}")
    standing = connection.execute(_standing.select().where(_standing.c.job_id == row.job_id)).first() is not None
    return StoredJob(
        job_of(row),
        json.loads(row.trace),
        row.cancel_time > 0,
        row.pause_changes,
        decode_units(row.scope),
        decode_units(row.remains),
        standing,
    )


def _nothing_left(stored: StoredJob) -> bool:
    """Whether a retry of an ended job would do nothing. A clean-up is done again, of one that was done there may be more by now."""
    job = stored.job
    if job.kind is JobKind.CLEANUP:
        return False
    cleans = job.spec.cleanup is not None and job.spec.cleanup.after_sync
    return job.state is JobState.COMPLETE or (stored.remains == () and not cleans)


def _find_active(connection: sa.Connection, job_or_sync_id: str) -> Job:
    job = _find_job(connection, job_or_sync_id).job
    if job.state.terminal:
        raise MediasyncError(Reason.JOB_ENDED, f"{job.job_id} has ended already: {job.state.value}")
    return job


def _insert(connection: sa.Connection, job: Job, trace: Mapping[str, str], scope: Sequence[Unit] | None) -> None:
    values = {**job_row(job), "trace": json.dumps(dict(trace)), "cancel_time": 0.0, "scope": encode_units(scope)}
    connection.execute(_jobs.insert().values(values))
