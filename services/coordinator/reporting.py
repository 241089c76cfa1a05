"""What the coordinator tells the progress service of a job: its status, and its end."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from mediasync.model import Job, JobProgressReport, JobState, ProgressStatus
from services.coordinator.terms import CleaningState

REPORTER = "coordinator"

_STATUS_OF_END = {
    JobState.COMPLETE: ProgressStatus.COMPLETE,
    JobState.COMPLETE_WITH_ERRORS: ProgressStatus.COMPLETE,
    JobState.FAILED: ProgressStatus.FAILED,
    JobState.CANCELLED: ProgressStatus.CANCELLED,
}
_ORDER = tuple(ProgressStatus)


class Reporter(Protocol):
    """Takes the newest report; `mediasync.reporting.ProgressReporter` does."""

    def update(self, report: JobProgressReport) -> None:
        """Makes `report` the newest."""


class JobReports:
    """The cumulative report of one job. Its status only moves forward, however many units say what they are at (invariant I9)."""

    def __init__(self, reporter: Reporter, job: Job, pause_changes: int = 0) -> None:
        self._reporter = reporter
        self._report = JobProgressReport(job.job_id, ProgressStatus.INITIALIZING, start_time=job.start_time, pause_changes=pause_changes)

    def plan(self, units_total: int) -> None:
        """How many units of work there are; told with the next report."""
        self._report = dataclasses.replace(self._report, units_total=units_total)

    def pause(self, changes: int) -> None:
        """The job was paused or resumed so often, in all."""
        self._report = dataclasses.replace(self._report, pause_changes=max(self._report.pause_changes, changes))
        self._reporter.update(self._report)

    def stage(self, text: str) -> None:
        """What it is at, in words; empty for the status' own."""
        self._report = dataclasses.replace(self._report, current_stage=text)
        self._reporter.update(self._report)

    def show(self, status: ProgressStatus, *, files_processed: int = 0) -> None:
        """The job is at this now."""
        self._report = dataclasses.replace(
            self._report,
            status=max(self._report.status, status, key=_ORDER.index),
            files_processed=max(self._report.files_processed, files_processed),
        )
        self._reporter.update(self._report)

    def clean(self, state: CleaningState) -> None:
        """The clean-up is so far."""
        report = self._report
        self._report = dataclasses.replace(
            report,
            status=max(report.status, ProgressStatus.CLEANING, key=_ORDER.index),
            current_stage=state.stage,
            files_to_clean=max(report.files_to_clean, state.files_total),
            files_cleaned=max(report.files_cleaned, state.files_done),
            bytes_to_clean=max(report.bytes_to_clean, state.bytes_total),
            bytes_cleaned=max(report.bytes_cleaned, state.bytes_done),
        )
        self._reporter.update(self._report)

    def end(self, job: Job) -> None:
        """The job has ended, as `job` says."""
        summary = job.summary
        left = summary.cleanup.errors if summary.cleanup else 0
        self._reporter.update(
            dataclasses.replace(
                self._report,
                status=_STATUS_OF_END[job.state],
                end_time=job.end_time,
                current_stage="",
                errors=max(summary.files_failed, summary.problems_total - summary.files_invalid, 0) + left,
                warnings=summary.files_invalid,
            )
        )
