"""Schedules. Apart from the others, as only coordinator and clients speak of them."""

from __future__ import annotations

from mediasync.convert.basic import timestamp, to_unix
from mediasync.model.jobs import JobKind
from mediasync.model.schedules import Schedule
from mediasync.v1 import coordinator_pb2, types_pb2

_KINDS = {JobKind.SYNC: types_pb2.JOB_KIND_SYNC, JobKind.CLEANUP: types_pb2.JOB_KIND_CLEANUP}


def schedule_to_pb(schedule: Schedule) -> coordinator_pb2.Schedule:
    """A schedule."""
    message = coordinator_pb2.Schedule(
        name=schedule.name,
        kind=_KINDS[schedule.kind],
        source=schedule.source,
        times=schedule.times,
        paused=schedule.paused,
        last_job_id=schedule.last_job_id,
    )
    for name in ("next_time", "last_time"):
        if value := getattr(schedule, name):
            getattr(message, name).CopyFrom(timestamp(value))
    return message


def schedule_from_pb(message: coordinator_pb2.Schedule) -> Schedule:
    """A schedule."""
    return Schedule(
        message.name,
        JobKind.CLEANUP if message.kind == types_pb2.JOB_KIND_CLEANUP else JobKind.SYNC,
        message.source,
        message.times,
        to_unix(message.next_time),
        message.paused,
        message.last_job_id,
        to_unix(message.last_time),
    )
