"""The clean-up of a job: the last step of a sync whose policy asks for it, and all that a clean-up job does. Knows neither gRPC nor the
engine that makes steps durable.

Which files go is the cleanup service's, and so is the journal: a run that is asked for again, after a pause or a crash, goes on where it
was. Here it is set going, followed, held and stopped. A run that was cut short has its summary all the same: what is gone is gone, and is
told.

A sync that brought its files and could not clean up is complete with errors; a clean-up job that could not is failed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from opentelemetry import trace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupRun, CleanupSummary, Job, JobState, SyncSpec, SyncSummary
from services.coordinator.outcomes import Outcome, ended_as, guarded, with_problems
from services.coordinator.patience import Patience
from services.coordinator.terms import Alive, CleaningState, Reports, Terms

logger = logging.getLogger(__name__)

# What is under way at the source ends, and is written down, before a run that was left says that it has ended.
_SETTLE_SECONDS = 30.0
_SETTLE_POLL_SECONDS = 0.1


class CleanupPeer(Protocol):
    """The cleanup service, as the steps see it. Every call raises MediasyncError."""

    def run(self, sync_id: str, job_id: str, spec: SyncSpec) -> AsyncGenerator[CleaningState | Alive | CleanupSummary]:
        """Cleans up; ends after the summary. Leaving it ends the work after what is under way at the source."""

    async def get(self, sync_id: str) -> CleanupRun:
        """A run as it is now. Raises CLEANUP_NOT_FOUND."""


class Cleaning:
    """The clean-up of one job."""

    def __init__(self, peer: CleanupPeer, patience: Patience, reports: Reports, job: Job, terms: Terms) -> None:
        self._peer = peer
        self._patience = patience
        self._reports = reports
        self._job = job
        self._terms = terms

    @property
    def wanted(self) -> bool:
        """Whether the job, a sync, ends with a clean-up."""
        return self._job.spec.cleanup is not None and self._job.spec.cleanup.after_sync

    async def clean(self) -> Outcome:
        """Deletes at the source what the policy lets go."""

        async def work(span: trace.Span) -> Outcome:
            self._reports.clean(CleaningState("looking at the source"))

            async def attempt(alive: Callable[[], None]) -> CleanupSummary:
                async with aclosing(self._peer.run(self._job.sync_id, self._job.job_id, self._job.spec)) as events:
                    async for event in events:
                        alive()
                        if isinstance(event, CleanupSummary):
                            return event
                        if isinstance(event, CleaningState):
                            self._reports.clean(event)
                raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the cleanup service left the clean-up unfinished")

            summary = await self._patience.call("cleaning up", attempt)
            span.set_attributes({"files": summary.files_deleted, "bytes": summary.space_freed_bytes, "files.kept": summary.files_kept})
            return Outcome(SyncSummary(cleanup=summary))

        outcome = await guarded("sync.cleanup", self._terms, work)
        if outcome.stopped or outcome.problem:
            outcome = dataclasses.replace(outcome, summary=SyncSummary(cleanup=await self._so_far()))
        return outcome

    async def clean_after_sync(self) -> Outcome:
        """As `clean`; what keeps it from cleaning is no failure of the sync, whose files are in the library."""
        outcome = await self.clean()
        if outcome.problem is None:
            return outcome
        message = f"the files are in the library, and the source was not cleaned up: {outcome.problem.message}"
        problem = dataclasses.replace(outcome.problem, message=message)
        return Outcome(with_problems(outcome.summary, (problem,), 1), stopped=outcome.stopped)

    def conclude(self, outcome: Outcome) -> Job:
        """How a clean-up job ended."""
        if outcome.problem:
            state = JobState.FAILED
        elif outcome.stopped:
            state = JobState.CANCELLED
        elif left_undone(outcome.summary):
            state = JobState.COMPLETE_WITH_ERRORS
        else:
            state = JobState.COMPLETE
        return ended_as(self._job, state, outcome.summary, outcome.problem)

    async def _so_far(self) -> CleanupSummary | None:
        """What a run that was cut short has done; None where it never began, or that is not known."""
        summary = None
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                while True:
                    run = await self._peer.get(self._job.sync_id)
                    summary = run.summary
                    if not run.active:
                        break
                    await asyncio.sleep(_SETTLE_POLL_SECONDS)
        except MediasyncError as error:
            if error.reason is not Reason.CLEANUP_NOT_FOUND:
                logger.info("what the clean-up has done is not known: %s", error, extra={"reason": error.reason.value})
        except TimeoutError:
            pass
        return summary


def left_undone(summary: SyncSummary) -> bool:
    """Whether a clean-up leaves something that somebody should look at."""
    cleanup = summary.cleanup
    return bool(summary.problems_total or (cleanup and (cleanup.errors or cleanup.problems_total)))
