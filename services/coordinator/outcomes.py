"""What becomes of a job's steps, how it is kept, and what it makes of the job. Knows neither gRPC nor what makes steps durable."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from mediasync import convert
from mediasync.errors import MediasyncError
from mediasync.model import MAX_PROBLEMS, Job, JobState, Problem, SyncSummary
from mediasync.v1 import types_pb2
from services.coordinator.rows import Unit
from services.coordinator.terms import Terms

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

Json = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a step: it was done, failed with `problem`, or was `stopped`."""

    summary: SyncSummary = field(default_factory=SyncSummary)
    problem: Problem | None = None
    stopped: bool = False
    units: tuple[bytes, ...] = ()

    def to_json(self) -> Json:
        """As it is kept."""
        return {
            "summary": _dict(convert.summary_to_pb(self.summary)),
            "problem": _dict(convert.problem_to_pb(self.problem)) if self.problem else None,
            "stopped": self.stopped,
            "units": [base64.b64encode(unit).decode("ascii") for unit in self.units],
        }

    @classmethod
    def from_json(cls, kept: Json) -> Outcome:
        """What `to_json` wrote, by this version or an older one."""
        problem = kept["problem"]
        return cls(
            summary=convert.summary_from_pb(json_format.ParseDict(kept["summary"], types_pb2.SyncSummary(), ignore_unknown_fields=True)),
            problem=convert.problem_from_pb(json_format.ParseDict(problem, types_pb2.Problem(), ignore_unknown_fields=True))
            if problem
            else None,
            stopped=kept["stopped"],
            units=tuple(base64.b64decode(unit) for unit in kept["units"]),
        )


def job_to_json(job: Job) -> Json:
    """A job as a step keeps it."""
    return _dict(convert.job_to_pb(job))


def job_from_json(kept: Json) -> Job:
    """What `job_to_json` wrote."""
    return convert.job_from_pb(json_format.ParseDict(kept, types_pb2.Job(), ignore_unknown_fields=True))


def total(outcomes: Iterable[Outcome]) -> SyncSummary:
    """What all of them did together."""
    return sum((outcome.summary for outcome in outcomes), SyncSummary())


def failed(job: Job, error: MediasyncError) -> Job:
    """The job, ended by an error outside its steps."""
    return ended_as(job, JobState.FAILED, job.summary, Problem.of(error))


def settled(job: Job, told: Outcome) -> Job:
    """The job's end, once it is known whether subscribers could be told of it."""
    if told.problem is None:
        return job
    summary = with_problems(job.summary, (told.problem,), 1)
    state = JobState.COMPLETE_WITH_ERRORS if job.state is JobState.COMPLETE else job.state
    return dataclasses.replace(job, state=state, summary=summary)


def remains(job: Job, terms: Terms, units: Sequence[bytes], folders: Sequence[Outcome]) -> tuple[Unit, ...]:
    """What a retry of the job would take, once its units are known."""
    left = []
    for folder, outcome in zip(units, folders, strict=True):
        if outcome.problem or outcome.stopped:
            left.append(Unit(folder, terms.failed_of(folder)))
        elif outcome.summary.files_failed:
            left.append(Unit(folder, job.sync_id))
    return tuple(left)


async def guarded(name: str, terms: Terms, work: Callable[[trace.Span], Awaitable[Outcome]]) -> Outcome:
    """Does `work` in a span, until it is told to stop. What a person can do something about becomes the outcome's problem."""
    if terms.stop.is_set():
        return Outcome(stopped=True)
    with tracer.start_as_current_span(name) as span:
        task = asyncio.ensure_future(terms.pausing.while_going(lambda: work(span)))
        stopped = asyncio.ensure_future(terms.stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                span.set_attribute("stopped", True)
                return Outcome(stopped=True)
            return task.result()
        except MediasyncError as error:
            mark(span, error)
            logger.error("%s failed: %s", name, error, extra={"reason": error.reason.value})
            return Outcome(problem=Problem.of(error))
        finally:
            task.cancel()
            stopped.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)


def ended_as(job: Job, state: JobState, summary: SyncSummary, problem: Problem | None) -> Job:
    """The job, ended now."""
    end_time = max(time.time(), job.start_time)
    return dataclasses.replace(
        job,
        state=state,
        end_time=end_time,
        summary=dataclasses.replace(summary, duration_seconds=end_time - job.start_time if job.start_time else 0.0),
        problem=problem,
    )


def with_problems(summary: SyncSummary, problems: Sequence[Problem], problems_total: int) -> SyncSummary:
    """`summary` with more problems; the first hundred are told."""
    return dataclasses.replace(
        summary, problems=(*summary.problems, *problems)[:MAX_PROBLEMS], problems_total=summary.problems_total + problems_total
    )


def mark(span: trace.Span, error: MediasyncError) -> None:
    """A span that ended with an error."""
    span.set_attribute("error.type", error.reason.value)
    span.set_status(Status(StatusCode.ERROR, f"{error.reason.value}: {error.message}"))


def _dict(message: Any) -> Json:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
