"""How far a sync is."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ProgressStatus(enum.StrEnum):
    """What a job is doing."""

    INITIALIZING = "initializing"
    SCANNING = "scanning"
    TRANSFERRING = "transferring"
    PROCESSING = "processing"
    CLEANING = "cleaning"
    """Deleting at the source what the library has."""
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    """Held; it goes on as what it was."""

    @property
    def terminal(self) -> bool:
        """Whether nothing changes any more."""
        return self in (ProgressStatus.COMPLETE, ProgressStatus.FAILED, ProgressStatus.CANCELLED)


@dataclass(frozen=True)
class FolderProgress:
    """Progress of one folder; an empty `folder` stands for files in the root itself."""

    folder: bytes
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    files_failed: int = 0


@dataclass(frozen=True)
class JobProgress:
    """Everything a progress display needs, complete in itself. Times are Unix seconds; 0 or None where unknown."""

    sync_id: str
    job_id: str = ""
    status: ProgressStatus = ProgressStatus.INITIALIZING
    percent: float = 0.0
    current_stage: str = ""
    current_folder: bytes = b""
    current_file: bytes = b""
    folders_total: int = 0
    folders_done: int = 0
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_per_second: int = 0
    remaining_seconds: float | None = None
    start_time: float = 0.0
    update_time: float = 0.0
    end_time: float = 0.0
    errors: int = 0
    warnings: int = 0
    folders: tuple[FolderProgress, ...] = ()
    files_processed: int = 0
    files_to_clean: int = 0
    files_cleaned: int = 0
    bytes_to_clean: int = 0
    bytes_cleaned: int = 0


@dataclass(frozen=True)
class JobProgressReport:
    """The job as a whole, as its coordinator knows it. Times are Unix seconds; 0 before they are known.

    `errors` and `warnings` count the whole job, what its units reported included; they are known once it has ended. `pause_changes`
    counts how often it was paused or resumed: it is paused while that is odd.
    """

    job_id: str
    status: ProgressStatus
    current_stage: str = ""
    start_time: float = 0.0
    end_time: float = 0.0
    units_total: int = 0
    files_processed: int = 0
    errors: int = 0
    warnings: int = 0
    pause_changes: int = 0
    files_to_clean: int = 0
    files_cleaned: int = 0
    bytes_to_clean: int = 0
    bytes_cleaned: int = 0


@dataclass(frozen=True)
class UnitProgress:
    """One unit of work, counted over all attempts of the run.

    `status` is SCANNING until every folder's totals are known, then TRANSFERRING. `current_file` is the path of the file that
    moved last, relative to the source's root. `folders` holds a row for each folder of the unit, relative to the same root.
    """

    status: ProgressStatus
    folders: tuple[FolderProgress, ...] = ()
    current_file: bytes = b""
    current_stage: str = ""
    warnings: int = 0
    done: bool = False


ProgressReport = JobProgressReport | UnitProgress


def is_final_report(report: ProgressReport) -> bool:
    """Whether nothing is to come after it from the same reporter."""
    return report.status.terminal if isinstance(report, JobProgressReport) else report.done
