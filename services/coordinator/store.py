"""What the coordinator must not forget: jobs, named sources, and the requests that were answered. The only place with SQL.

Specs, summaries and problems are kept as the messages of the contract, whose fields only ever grow, so that a newer version
reads what an older one wrote. A request id is stored in the transaction of its effect (invariant I10): a crash leaves both or neither.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.model import Job, JobState, Problem, SyncSpec, SyncSummary
from mediasync.storage.database import Database, Migration
from mediasync.v1 import types_pb2

T = TypeVar("T")

MIGRATIONS = (
    Migration(
        1,
        (
            """
            CREATE TABLE jobs (
                job_id TEXT PRIMARY KEY,
                sync_id TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL,
                spec BLOB NOT NULL,
                trace TEXT NOT NULL,
                create_time REAL NOT NULL,
                start_time REAL NOT NULL DEFAULT 0,
                end_time REAL NOT NULL DEFAULT 0,
                cancel_time REAL NOT NULL DEFAULT 0,
                summary BLOB NOT NULL DEFAULT x'',
                problem BLOB
            )
            """,
            "CREATE INDEX jobs_by_state ON jobs (state, job_id)",
            """
            CREATE TABLE sources (
                name TEXT PRIMARY KEY,
                spec BLOB NOT NULL,
                create_time REAL NOT NULL
            )
            """,
            """
            CREATE TABLE requests (
                request_id TEXT PRIMARY KEY,
                method TEXT NOT NULL,
                digest BLOB NOT NULL,
                answer BLOB NOT NULL,
                create_time REAL NOT NULL
            )
            """,
            "CREATE INDEX requests_by_time ON requests (create_time)",
        ),
    ),
)

_metadata = sa.MetaData()
_jobs = sa.Table(
    "jobs",
    _metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("sync_id", sa.Text),
    sa.Column("state", sa.Text),
    sa.Column("spec", sa.LargeBinary),
    sa.Column("trace", sa.Text),
    sa.Column("create_time", sa.Float),
    sa.Column("start_time", sa.Float),
    sa.Column("end_time", sa.Float),
    sa.Column("cancel_time", sa.Float),
    sa.Column("summary", sa.LargeBinary),
    sa.Column("problem", sa.LargeBinary),
)
_sources = sa.Table(
    "sources",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("spec", sa.LargeBinary),
    sa.Column("create_time", sa.Float),
)
_requests = sa.Table(
    "requests",
    _metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("method", sa.Text),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("answer", sa.LargeBinary),
    sa.Column("create_time", sa.Float),
)

_ACTIVE = (JobState.PENDING.value, JobState.RUNNING.value)


@dataclass(frozen=True)
class Request:
    """A mutation as a client asked for it: its id, and the digest of its whole body."""

    request_id: str
    method: str
    digest: bytes


@dataclass(frozen=True)
class StoredJob:
    """A job, with what only the coordinator needs: the trace it belongs to, and whether it was asked to stop."""

    job: Job
    trace: Mapping[str, str] = field(default_factory=dict)
    cancel_requested: bool = False


@dataclass(frozen=True)
class StoredSource:
    """A named source that a client added. `create_time` is Unix seconds."""

    name: str
    spec: SyncSpec
    create_time: float


class Store:
    """The coordinator's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, request: Request, job: Job, trace: Mapping[str, str]) -> tuple[Job, bool]:
        """Takes `job`, once for each request id. Returns the job as it was first accepted, and whether that was now."""

        def effect(connection: sa.Connection) -> bytes:
            values = {**_job_row(job), "trace": json.dumps(dict(trace)), "cancel_time": 0.0}
            connection.execute(_jobs.insert().values(values))
            return _encode_job(job)

        answer, first = await self._once(request, effect)
        return _decode_job(answer), first

    async def job(self, job_or_sync_id: str) -> StoredJob:
        """A job by either of its ids. Raises JOB_NOT_FOUND."""
        return await self._database.read(lambda connection: _find_job(connection, job_or_sync_id))

    async def jobs(self, limit: int, before: str = "", states: Sequence[JobState] = ()) -> list[Job]:
        """Jobs, newest first, older than the job id `before`, in one of `states` if any are given."""
        query = _jobs.select().order_by(_jobs.c.job_id.desc()).limit(limit)
        if before:
            query = query.where(_jobs.c.job_id < before)
        if states:
            query = query.where(_jobs.c.state.in_([state.value for state in states]))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_job(row) for row in rows]

    async def unfinished(self) -> list[str]:
        """Ids of the jobs that have not ended, oldest first."""
        query = sa.select(_jobs.c.job_id).where(_jobs.c.state.in_(_ACTIVE)).order_by(_jobs.c.job_id)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
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
            return _encode_job(stored.job)

        answer, _ = await self._once(request, effect)
        return _decode_job(answer)

    async def start(self, job_id: str) -> bool:
        """Marks a job as running. Returns whether it was so before: then this is a recovery."""

        def work(connection: sa.Connection) -> bool:
            pending = sa.and_(_jobs.c.job_id == job_id, _jobs.c.state == JobState.PENDING.value)
            change = _jobs.update().where(pending).values(state=JobState.RUNNING.value, start_time=time.time())
            return connection.execute(change).rowcount == 0

        return await self._database.write(work)

    async def advance(self, job_id: str, summary: SyncSummary) -> None:
        """Keeps what an active job has done so far."""
        await self._change_active(job_id, {"summary": _encode_summary(summary)})

    async def finish(self, job_id: str, state: JobState, end_time: float, summary: SyncSummary, problem: Problem | None) -> None:
        """Ends a job. One that has ended already stays as it is."""
        await self._change_active(
            job_id,
            {
                "state": state.value,
                "end_time": end_time,
                "summary": _encode_summary(summary),
                "problem": convert.problem_to_pb(problem).SerializeToString() if problem else None,
            },
        )

    async def create_source(self, request: Request, source: StoredSource) -> StoredSource:
        """Adds a named source. Returns it as it was first stored. Raises SOURCE_EXISTS."""

        def effect(connection: sa.Connection) -> bytes:
            if connection.execute(_sources.select().where(_sources.c.name == source.name)).first():
                raise MediasyncError(Reason.SOURCE_EXISTS, f"there is a source {source.name!r} already")
            spec = _encode_spec(source.spec)
            connection.execute(_sources.insert().values(name=source.name, spec=spec, create_time=source.create_time))
            return json.dumps({"name": source.name, "spec": spec.hex(), "create_time": source.create_time}).encode()

        answer, _ = await self._once(request, effect)
        fields = json.loads(answer)
        return StoredSource(fields["name"], _decode_spec(bytes.fromhex(fields["spec"])), fields["create_time"])

    async def sources(self) -> list[StoredSource]:
        """The named sources that clients added, by name. There are as many as a person cared to name."""
        rows = await self._database.read(lambda connection: connection.execute(_sources.select().order_by(_sources.c.name)).all())
        return [StoredSource(row.name, _decode_spec(row.spec), row.create_time) for row in rows]

    async def delete_source(self, request: Request, name: str, missing: MediasyncError) -> None:
        """Forgets a named source. Raises `missing` if there is none of that name."""

        def effect(connection: sa.Connection) -> bytes:
            if connection.execute(_sources.delete().where(_sources.c.name == name)).rowcount == 0:
                raise missing
            return b""

        await self._once(request, effect)

    async def answered(self, request: Request) -> bytes | None:
        """The first answer to a request whose effect is elsewhere; None when it was not answered yet. Raises REQUEST_ID_REUSED."""
        return await self._database.read(lambda connection: _first_answer(connection, request))

    async def answer(self, request: Request, answer: bytes) -> bytes:
        """Keeps the answer to a request whose effect is elsewhere. Returns the first one."""
        first, _ = await self._once(request, lambda connection: answer)
        return first

    async def forget_requests(self, before: float) -> int:
        """Forgets requests older than `before`, in Unix seconds. Returns how many there were."""
        old = _requests.delete().where(_requests.c.create_time < before)
        return await self._database.write(lambda connection: connection.execute(old).rowcount)

    async def _once(self, request: Request, effect: Callable[[sa.Connection], bytes]) -> tuple[bytes, bool]:
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

        return await self._database.write(work)

    async def _change_active(self, job_id: str, values: Mapping[str, object]) -> None:
        change = _jobs.update().where(_jobs.c.job_id == job_id, _jobs.c.state.in_(_ACTIVE)).values(**values)
        await self._database.write(lambda connection: connection.execute(change).rowcount)


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
    return StoredJob(_job(row), json.loads(row.trace), row.cancel_time > 0)


def _job_row(job: Job) -> dict[str, object]:
    return {
        "job_id": job.job_id,
        "sync_id": job.sync_id,
        "state": job.state.value,
        "spec": _encode_spec(job.spec),
        "create_time": job.create_time,
        "start_time": job.start_time,
        "end_time": job.end_time,
        "summary": _encode_summary(job.summary),
        "problem": None,
    }


def _job(row: sa.Row[tuple[object, ...]]) -> Job:
    return Job(
        job_id=row.job_id,
        sync_id=row.sync_id,
        state=JobState(row.state),
        spec=_decode_spec(row.spec),
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
        summary=convert.summary_from_pb(types_pb2.SyncSummary.FromString(row.summary)),
        problem=convert.problem_from_pb(types_pb2.Problem.FromString(row.problem)) if row.problem is not None else None,
    )


def _encode_job(job: Job) -> bytes:
    return convert.job_to_pb(job).SerializeToString()


def _decode_job(data: bytes) -> Job:
    return convert.job_from_pb(types_pb2.Job.FromString(data))


def _encode_spec(spec: SyncSpec) -> bytes:
    return convert.spec_to_pb(spec).SerializeToString()


def _decode_spec(data: bytes) -> SyncSpec:
    return convert.spec_from_pb(types_pb2.SyncSpec.FromString(data))


def _encode_summary(summary: SyncSummary) -> bytes:
    return convert.summary_to_pb(summary).SerializeToString()
