"""What became of a sync, or would."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from mediasync.model.cleaning import CleanupSummary
from mediasync.model.filtering import FilterReason
from mediasync.model.options import SyncSpec
from mediasync.model.problems import MAX_PROBLEMS, Problem


@dataclass(frozen=True)
class SyncSummary:
    """What a sync, or one folder of it, did, counted over all attempts. `filtered` divides `files_filtered` by the reason, as far as
    it is known; `cleanup` is that of its last step, None where there was none."""

    files_transferred: int = 0
    bytes_transferred: int = 0
    files_unchanged: int = 0
    files_filtered: int = 0
    files_unsettled: int = 0
    files_failed: int = 0
    files_vanished: int = 0
    files_invalid: int = 0
    problems: tuple[Problem, ...] = ()
    problems_total: int = 0
    duration_seconds: float = 0.0
    files_duplicate: int = 0
    files_culled: int = 0
    filtered: Mapping[FilterReason, int] = field(default_factory=dict)
    cleanup: CleanupSummary | None = None

    def __add__(self, other: SyncSummary) -> SyncSummary:
        return SyncSummary(
            self.files_transferred + other.files_transferred,
            self.bytes_transferred + other.bytes_transferred,
            self.files_unchanged + other.files_unchanged,
            self.files_filtered + other.files_filtered,
            self.files_unsettled + other.files_unsettled,
            self.files_failed + other.files_failed,
            self.files_vanished + other.files_vanished,
            self.files_invalid + other.files_invalid,
            (self.problems + other.problems)[:MAX_PROBLEMS],
            self.problems_total + other.problems_total,
            max(self.duration_seconds, other.duration_seconds),
            self.files_duplicate + other.files_duplicate,
            self.files_culled + other.files_culled,
            dict(Counter(self.filtered) + Counter(other.filtered)),
            # Of one job there is one clean-up.
            self.cleanup or other.cleanup,
        )


class JobState(enum.StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    COMPLETE_WITH_ERRORS = "complete_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (JobState.PENDING, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True)
class JobActivity:
    """What the watch of one folder is at. Times are Unix seconds, 0 while the source is there."""

    folder: bytes
    text: str
    gone_since: float = 0.0
    next_try: float = 0.0


class JobKind(enum.StrEnum):
    """What a job does."""

    SYNC = "sync"
    """It brings files into a library, and cleans up after that where its spec says so."""
    CLEANUP = "cleanup"
    """It only cleans up."""


@dataclass(frozen=True)
class Job:
    """A sync or a clean-up that was asked for, and what became of it. Times are Unix seconds; 0 before they are known.

    `retry_of` is the job whose failures it takes. `limit_mbps`, 0 for none, counts in place of what the options say; None while they
    count. `activities` are those of a watch that runs.
    """

    job_id: str
    sync_id: str
    state: JobState
    spec: SyncSpec
    create_time: float
    start_time: float = 0.0
    end_time: float = 0.0
    summary: SyncSummary = field(default_factory=SyncSummary)
    problem: Problem | None = None
    retry_of: str = ""
    limit_mbps: float | None = None
    activities: tuple[JobActivity, ...] = ()
    kind: JobKind = JobKind.SYNC


class PreviewDecision(enum.StrEnum):
    """What a sync would do with a file."""

    TAKE = "take"
    """Take it: it is new or changed."""
    UNCHANGED = "unchanged"
    """Leave it: it was taken, and has not changed."""
    FILTERED = "filtered"
    """Leave it: it is no result."""
    UNSETTLED = "unsettled"
    """Leave it for later: it is still being written, or too young."""
    CULLED = "culled"
    """Leave it: its owner deleted it in the library."""
    UNREADABLE = "unreadable"
    """It cannot be listed."""


@dataclass(frozen=True, slots=True)
class PreviewedFile:
    """A file, or a folder that cannot be listed, and what a sync would do with it. `reason` says why, for people; `size_bytes` is 0 where
    it was not looked at."""

    path: bytes
    size_bytes: int
    decision: PreviewDecision
    reason: str = ""


@dataclass(frozen=True)
class PreviewSummary:
    """What a sync would do. Files that have not changed are counted, though not every one of them is listed."""

    files_to_take: int = 0
    bytes_to_take: int = 0
    files_unchanged: int = 0
    files_filtered: int = 0
    files_unsettled: int = 0
    files_culled: int = 0
    files_unreadable: int = 0
    files_vanished: int = 0

    def __add__(self, other: PreviewSummary) -> PreviewSummary:
        return PreviewSummary(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))
