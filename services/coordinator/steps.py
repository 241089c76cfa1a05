"""What the steps of a sync do, one after the other. Knows neither gRPC nor the engine that makes them durable.

1. probe: is the source there, is the library fit, which folders are the units of work;
2. folder, once a unit: the transfer worker brings what is new;
3. processing: until every file was looked into and everything about it is in the event log; where the configuration says so, until
   subscribers have accepted it;
4. cleanup, where the sync's policy has it: see `cleaning`;
5. conclude: how the job ended, decided once;
6. publish: subscribers are told.

A step may run again after a crash, so each may be repeated: the transfer worker counts what it did for the same run before, the event
log knows an event by its id. A step's outcome is kept as JSON and replayed. A step ends early when the job is asked to stop, or when
another unit has failed: then it is `stopped`, and so are those after it. While the job is paused no step is at work: the one that was
begins anew when the job is resumed.

A watch is a sync whose folder steps do not end by themselves. A retry's units are those that the job before it left.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Job, JobState, Problem, ProgressStatus, SyncSpec, SyncSummary
from mediasync.paths import display
from mediasync.runtime import crash
from services.coordinator.accepting import Acceptors, accepted
from services.coordinator.cleaning import left_undone
from services.coordinator.outcomes import Outcome, ended_as, guarded, mark, total, with_problems
from services.coordinator.patience import Patience
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


async def publish(peers: Peers, patience: Patience, ended: Job) -> Outcome:
    """Tells subscribers that the job has ended, and gives the catalog a moment to take it in."""
    with tracer.start_as_current_span("sync.publish") as span:

        async def attempt(alive: Callable[[], None]) -> int:
            return await peers.publish_end(ended)

        try:
            sequence = await patience.call("publishing the end of the sync", attempt)
        except MediasyncError as error:
            mark(span, error)
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

        return await guarded("sync.probe", self._terms, work)

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

        return await guarded("sync.folder", self._terms, work)

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
            summary = with_problems(SyncSummary(files_invalid=last.files_invalid), last.problems, len(last.problems))
            if self._acceptors is None:
                return Outcome(summary)
            # No step of its own: with one step more, or one less, a job that is under way could not go on when the setting changes.
            problem = await accepted(self._peers, self._patience, self._reports.stage, self._job.sync_id, self._acceptors)
            if problem:
                span.set_status(Status(StatusCode.ERROR, f"{problem.reason.value}: {problem.message}"))
                logger.error("subscribers did not accept the sync: %s", problem.message, extra={"reason": problem.reason.value})
            return Outcome(summary, problem)

        return await guarded("sync.processing", self._terms, work)

    async def conclude(self, folders: Sequence[bytes], units: Sequence[Outcome], others: Sequence[Outcome], cleaned: Outcome | None) -> Job:
        """How the job ended. `folders` are its units of work, `units` what became of them; `others` are the outcomes of other steps, and
        `cleaned` is that of the clean-up, where there was one."""
        outcomes = (*units, *others, *([cleaned] if cleaned else []))
        problem = next((outcome.problem for outcome in outcomes if outcome.problem), None)
        done, beside = total(units), total(others)
        if problem:
            state = JobState.FAILED
        elif any(outcome.stopped for outcome in outcomes):
            state = JobState.CANCELLED
        elif done.files_failed or done.problems_total or (cleaned and left_undone(cleaned.summary)):
            state = JobState.COMPLETE_WITH_ERRORS
        else:
            state = JobState.COMPLETE
        if state in (JobState.FAILED, JobState.CANCELLED):
            done = await self._with_landed(done)
        if state is JobState.CANCELLED and folders:
            await self._leave_nothing(folders)
        # A unit may count invalid files of its own; processing has seen all of them.
        invalid = max(done.files_invalid, beside.files_invalid)
        summary = with_problems(dataclasses.replace(done, files_invalid=invalid), beside.problems, beside.problems_total)
        if cleaned:
            summary += cleaned.summary
        return ended_as(self._job, state, summary, problem)

    async def publish(self, ended: Job) -> Outcome:
        """See `publish`."""
        return await publish(self._peers, self._patience, ended)

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
