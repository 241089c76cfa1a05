"""What the steps of a sync do, one after the other. Knows neither gRPC nor the engine that makes them durable.

1. probe: is the source there, is the library fit, which folders are the units of work;
2. folder, once a unit: the transfer worker brings what is new;
3. processing: until every file was looked into and everything about it is in the event log; where the configuration says so, until
   subscribers have accepted it;
4. conclude: how the job ended, decided once;
5. publish: subscribers are told.

A step may run again after a crash, so each may be repeated: the transfer worker counts what it did for the same run before, the event
log knows an event by its id. A step's outcome is kept as JSON and replayed. A step ends early when the job is asked to stop, or when
another unit has failed: then it is `stopped`, and so are those after it. While the job is paused no step is at work: the one that was
begins anew when the job is resumed.

A watch is a sync whose folder steps do not end by themselves. A retry's units are those that the job before it left.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.model import MAX_PROBLEMS, Job, JobState, Problem, ProgressStatus, SyncSpec, SyncSummary
from mediasync.paths import display
from mediasync.runtime import crash
from mediasync.v1 import types_pb2
from services.coordinator.accepting import Acceptors, accepted
from services.coordinator.patience import Patience
from services.coordinator.rows import Unit
from services.coordinator.terms import Activity, Peers, Processed, Reports, Scanned, Terms, Watcher

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

CATALOG_SUBSCRIPTION = "catalog"
"""The built-in subscription: `mediasync files list` right after a sync shows its files."""

_DELIVERY_SECONDS = 5.0
_DELIVERY_SECONDS_CUT_SHORT = 1.0
_SETTLE_SECONDS = 1.5
_SETTLE_POLL_SECONDS = 0.25
# A watch waits for a source that is gone; what else is wrong with it stays wrong.
_GONE = (Reason.HOST_UNREACHABLE, Reason.CONNECTION_LOST)
_FIRST_TRY_SECONDS = 5.0
_LONGEST_TRY_SECONDS = 60.0

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
    return _ended(job, JobState.FAILED, job.summary, Problem.of(error))


def settled(job: Job, told: Outcome) -> Job:
    """The job's end, once it is known whether subscribers could be told of it."""
    if told.problem is None:
        return job
    summary = _with_problems(job.summary, (told.problem,), 1)
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


async def publish(peers: Peers, patience: Patience, ended: Job) -> Outcome:
    """Tells subscribers that the job has ended, and gives the catalog a moment to take it in."""
    with tracer.start_as_current_span("sync.publish") as span:

        async def attempt(alive: Callable[[], None]) -> int:
            return await peers.publish_end(ended)

        try:
            sequence = await patience.call("publishing the end of the sync", attempt)
        except MediasyncError as error:
            _mark(span, error)
            logger.error("subscribers were not told of the end of the sync: %s", error, extra={"reason": error.reason.value})
            message = f"subscribers could not be told that the sync has ended: {error.message}"
            return Outcome(problem=Problem(error.reason, message, error.remedy))
        seconds = _DELIVERY_SECONDS_CUT_SHORT if ended.state in (JobState.FAILED, JobState.CANCELLED) else _DELIVERY_SECONDS
        try:
            await peers.wait_delivered(CATALOG_SUBSCRIPTION, sequence, seconds)
        except MediasyncError as error:
            # It gets there; only `files list` right now may lack something.
            logger.info("the catalog is behind: %s", error, extra={"reason": error.reason.value})
        return Outcome()


class Steps:
    """The steps of one job."""

    def __init__(
        self,
        peers: Peers,
        patience: Patience,
        reports: Reports,
        job: Job,
        terms: Terms,
        watcher: Watcher,
        acceptors: Acceptors | None = None,
    ) -> None:
        self._peers = peers
        self._patience = patience
        self._reports = reports
        self._job = job
        self._terms = terms
        self._watcher = watcher
        self._acceptors = acceptors
        # How far it was is not known, and progress never goes back.
        self._at_least = ProgressStatus.TRANSFERRING if terms.recovered else ProgressStatus.SCANNING

    async def probe(self) -> Outcome:
        """Which units of work there are."""

        async def work(span: trace.Span) -> Outcome:
            async def attempt(alive: Callable[[], None]) -> tuple[bytes, ...]:
                return await self._peers.probe(self._job.spec)

            gone_since, pause = 0.0, _FIRST_TRY_SECONDS
            while True:
                try:
                    units = await self._patience.call("probing the source", attempt)
                    break
                except MediasyncError as error:
                    if not self._job.spec.options.watch or error.reason not in _GONE:
                        raise
                    gone_since = gone_since or time.time()
                    await self._watcher.heard(b"", Activity(error.message, gone_since, time.time() + pause))
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_TRY_SECONDS)
            if gone_since:
                await self._watcher.heard(b"", Activity(""))
            if self._terms.scope is not None:
                units = tuple(unit.folder for unit in self._terms.scope)
            span.set_attribute("units", len(units))
            return Outcome(units=units)

        return await self._step("sync.probe", work)

    async def folder(self, folder: bytes) -> Outcome:
        """Brings what is new in one folder."""

        async def work(span: trace.Span) -> Outcome:
            span.set_attribute("folder", display(folder))
            self._reports.show(self._at_least)

            async def attempt(alive: Callable[[], None]) -> SyncSummary:
                crash.point("coordinator.before_step_sync")
                call = self._peers.sync_folder(self._job.sync_id, self._limited(), folder, self._terms.failed_of(folder))
                async with aclosing(call) as events:
                    async for event in events:
                        alive()
                        if isinstance(event, SyncSummary):
                            return event
                        if isinstance(event, Scanned) and event.files_to_take:
                            self._reports.show(ProgressStatus.TRANSFERRING)
                        if isinstance(event, Activity):
                            await self._watcher.heard(folder, event)
                raise MediasyncError(Reason.SERVICES_UNREACHABLE, f"the transfer worker left the folder {display(folder)!r} unfinished")

            summary = await self._patience.call(f"syncing the folder {display(folder)!r}", attempt)
            span.set_attributes({"files": summary.files_transferred, "bytes": summary.bytes_transferred})
            return Outcome(summary=summary)

        return await self._step("sync.folder", work)

    def _limited(self) -> SyncSpec:
        """The sync as it is to be now."""
        spec, limit = self._job.spec, self._terms.limit_mbps
        if limit is None:
            return spec
        options = dataclasses.replace(spec.options, bandwidth_limit_mbps=limit, bandwidth_timetable=())
        return dataclasses.replace(spec, options=options)

    def halt(self) -> None:
        """Ends what is under way, and stops what has not begun."""
        self._terms.stop.set()

    async def processing(self) -> Outcome:
        """Waits until every file was looked into, and where that is asked for until subscribers have accepted them. Files that are not what
        their names say are in the library all the same."""

        async def work(span: trace.Span) -> Outcome:
            self._reports.show(ProgressStatus.PROCESSING)

            async def attempt(alive: Callable[[], None]) -> Processed:
                last = Processed(0, 0)
                async with aclosing(self._peers.processing(self._job.sync_id)) as states:
                    async for state in states:
                        alive()
                        last = state
                        self._reports.show(ProgressStatus.PROCESSING, files_processed=state.files_done)
                if last.files_left:
                    raise MediasyncError(Reason.SERVICES_UNREACHABLE, f"the transfer worker left {last.files_left} files unprocessed")
                return last

            last = await self._patience.call("waiting for processing", attempt)
            span.set_attributes({"files": last.files_done, "files.invalid": last.files_invalid})
            summary = _with_problems(SyncSummary(files_invalid=last.files_invalid), last.problems, len(last.problems))
            if self._acceptors is None:
                return Outcome(summary)
            # No step of its own: with one step more, or one less, a job that is under way could not go on when the setting changes.
            problem = await accepted(self._peers, self._patience, self._reports.stage, self._job.sync_id, self._acceptors)
            if problem:
                span.set_status(Status(StatusCode.ERROR, f"{problem.reason.value}: {problem.message}"))
                logger.error("subscribers did not accept the sync: %s", problem.message, extra={"reason": problem.reason.value})
            return Outcome(summary, problem)

        return await self._step("sync.processing", work)

    async def conclude(self, folders: Sequence[bytes], units: Sequence[Outcome], others: Sequence[Outcome]) -> Job:
        """How the job ended. `folders` are its units of work, `units` what became of them; `others` are the outcomes of other steps."""
        outcomes = (*units, *others)
        problem = next((outcome.problem for outcome in outcomes if outcome.problem), None)
        done, beside = total(units), total(others)
        if problem:
            state = JobState.FAILED
        elif any(outcome.stopped for outcome in outcomes):
            state = JobState.CANCELLED
        elif done.files_failed or done.problems_total:
            state = JobState.COMPLETE_WITH_ERRORS
        else:
            state = JobState.COMPLETE
        if state in (JobState.FAILED, JobState.CANCELLED):
            done = await self._with_landed(done)
        if state is JobState.CANCELLED and folders:
            await self._leave_nothing(folders)
        # A unit may count invalid files of its own; processing has seen all of them.
        invalid = max(done.files_invalid, beside.files_invalid)
        summary = _with_problems(dataclasses.replace(done, files_invalid=invalid), beside.problems, beside.problems_total)
        return _ended(self._job, state, summary, problem)

    async def publish(self, ended: Job) -> Outcome:
        """See `publish`."""
        return await publish(self._peers, self._patience, ended)

    async def _step(self, name: str, work: Callable[[trace.Span], Awaitable[Outcome]]) -> Outcome:
        """Does `work` in a span, until it is told to stop. What a person can do something about becomes the outcome's problem."""
        if self._terms.stop.is_set():
            return Outcome(stopped=True)
        with tracer.start_as_current_span(name) as span:
            task = asyncio.ensure_future(self._terms.pausing.while_going(lambda: work(span)))
            stopped = asyncio.ensure_future(self._terms.stop.wait())
            try:
                await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    span.set_attribute("stopped", True)
                    return Outcome(stopped=True)
                return task.result()
            except MediasyncError as error:
                _mark(span, error)
                logger.error("%s failed: %s", name, error, extra={"reason": error.reason.value})
                return Outcome(problem=Problem.of(error))
            finally:
                task.cancel()
                stopped.cancel()
                await asyncio.gather(task, stopped, return_exceptions=True)

    async def _leave_nothing(self, folders: Sequence[bytes]) -> None:
        """A cancel leaves nothing but finished files; a pause and a failure leave beginnings to go on from."""
        try:
            await self._peers.discard_beginnings(dataclasses.replace(self._job.spec, folders=tuple(folders)))
        except MediasyncError as error:
            logger.info("what came in part of large files stays for a week: %s", error, extra={"reason": error.reason.value})

    async def _with_landed(self, done: SyncSummary) -> SyncSummary:
        """With what units brought that did not come to their end. Workers finish what they are landing when they are stopped."""
        files, size = 0, 0
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                files, size = await self._peers.landed(self._job.sync_id)
                while True:
                    await asyncio.sleep(_SETTLE_POLL_SECONDS)
                    before, (files, size) = (files, size), await self._peers.landed(self._job.sync_id)
                    if before == (files, size):
                        break
        except MediasyncError as error:
            logger.info("what was brought by unfinished folders is not known: %s", error, extra={"reason": error.reason.value})
            return done
        except TimeoutError:
            pass
        return dataclasses.replace(
            done, files_transferred=max(done.files_transferred, files), bytes_transferred=max(done.bytes_transferred, size)
        )


def _ended(job: Job, state: JobState, summary: SyncSummary, problem: Problem | None) -> Job:
    end_time = max(time.time(), job.start_time)
    return dataclasses.replace(
        job,
        state=state,
        end_time=end_time,
        summary=dataclasses.replace(summary, duration_seconds=end_time - job.start_time if job.start_time else 0.0),
        problem=problem,
    )


def _with_problems(summary: SyncSummary, problems: Sequence[Problem], problems_total: int) -> SyncSummary:
    return dataclasses.replace(
        summary, problems=(*summary.problems, *problems)[:MAX_PROBLEMS], problems_total=summary.problems_total + problems_total
    )


def _mark(span: trace.Span, error: MediasyncError) -> None:
    span.set_attribute("error.type", error.reason.value)
    span.set_status(Status(StatusCode.ERROR, f"{error.reason.value}: {error.message}"))


def _dict(message: Any) -> Json:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
