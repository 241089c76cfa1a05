"""How jobs are kept in rows, and read back. What is kept as a message is read by newer versions too: its fields only ever grow."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mediasync import convert
from mediasync.convert.jobs import activity_from_pb
from mediasync.model import Job, JobKind, JobState, SyncSpec, SyncSummary
from mediasync.v1 import types_pb2


@dataclass(frozen=True)
class Unit:
    """A folder that a job did not, or not wholly, bring: all that is left of it, or only the files that failed in the run `failed_of`."""

    folder: bytes
    failed_of: str = ""


def job_row(job: Job) -> dict[str, object]:
    """A new job, as a row."""
    return {
        "job_id": job.job_id,
        "sync_id": job.sync_id,
        "state": job.state.value,
        "spec": encode_spec(job.spec),
        "create_time": job.create_time,
        "start_time": job.start_time,
        "end_time": job.end_time,
        "summary": encode_summary(job.summary),
        "problem": None,
        "retry_of": job.retry_of,
        "limit_mbps": job.limit_mbps,
        "kind": job.kind.value,
    }


def job_of(row: sa.Row[tuple[object, ...]]) -> Job:
    """The job that a row holds."""
    return Job(
        job_id=row.job_id,
        sync_id=row.sync_id,
        state=JobState(row.state),
        spec=decode_spec(row.spec),
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
        summary=convert.summary_from_pb(types_pb2.SyncSummary.FromString(row.summary)),
        problem=convert.problem_from_pb(types_pb2.Problem.FromString(row.problem)) if row.problem is not None else None,
        retry_of=row.retry_of,
        limit_mbps=row.limit_mbps,
        activities=tuple(activity_from_pb(activity) for activity in types_pb2.Job.FromString(row.activities).activities),
        kind=JobKind(row.kind),
    )


def encode_units(units: Sequence[Unit] | None) -> str | None:
    """Units, as they are kept; None for all that there are."""
    if units is None:
        return None
    return json.dumps([[base64.b64encode(unit.folder).decode("ascii"), unit.failed_of] for unit in units])


def decode_units(text: str | None) -> tuple[Unit, ...] | None:
    """What `encode_units` wrote."""
    if text is None:
        return None
    return tuple(Unit(base64.b64decode(folder), failed_of) for folder, failed_of in json.loads(text))


def encode_job(job: Job) -> bytes:
    """A job, as an answer keeps it."""
    return convert.job_to_pb(job).SerializeToString()


def decode_job(data: bytes) -> Job:
    """What `encode_job` wrote."""
    return convert.job_from_pb(types_pb2.Job.FromString(data))


def encode_spec(spec: SyncSpec) -> bytes:
    """A sync, as it is kept."""
    return convert.spec_to_pb(spec).SerializeToString()


def decode_spec(data: bytes) -> SyncSpec:
    """What `encode_spec` wrote."""
    return convert.spec_from_pb(types_pb2.SyncSpec.FromString(data))


def encode_summary(summary: SyncSummary) -> bytes:
    """A summary, as it is kept."""
    return convert.summary_to_pb(summary).SerializeToString()
