"""Cumulative reports of many reporters -> one picture of a job. Pure: it is handed the time and does no I/O.

Of each reporter and folder the largest value ever reported of each number is kept, and the picture sums those. The largest of
several is the same in whatever order and however often they come, so lost, repeated and reordered reports do no harm, and no
sum can go down (invariant I9). Whether the job is paused comes and goes, and is told by a number that only grows: how often it
was paused or resumed. The few numbers that are no such sums (percent, folders) are held at their previous value.
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from mediasync.model import FolderProgress, JobProgress, JobProgressReport, ProgressReport, ProgressStatus, UnitProgress
from services.progress.rate import RateWindow

MAX_FOLDER_ROWS = 200
# What is shown at most of a job that has not completed.
_ALMOST_PERCENT = 99.9

_ORDER = {status: place for place, status in enumerate(ProgressStatus)}
# A pause is no place on the way: it is laid over the place where the job is.
_ORDER[ProgressStatus.PAUSED] = -1
_TRANSFERRING = _ORDER[ProgressStatus.TRANSFERRING]


class Change(enum.IntEnum):
    """What a report changed."""

    NOTHING = 0
    NUMBERS = 1
    MILESTONE = 2
    """The status moved on, the job was paused or resumed, or a unit is done: worth telling and storing at once."""


@dataclass
class _Unit:
    """What one reporter has said so far, joined."""

    status: ProgressStatus = ProgressStatus.INITIALIZING
    rows: dict[bytes, FolderProgress] = field(default_factory=dict)
    current_file: bytes = b""
    current_stage: str = ""
    warnings: int = 0
    done: bool = False

    @property
    def measured(self) -> bool:
        """Whether its totals are known."""
        return self.done or _ORDER[self.status] >= _TRANSFERRING


class JobAggregate:
    """The picture of one job.

    `progress`, `job` and `units` are what an earlier process had stored; the picture goes on from there.
    """

    def __init__(
        self,
        sync_id: str,
        progress: JobProgress | None = None,
        job: JobProgressReport | None = None,
        units: Mapping[str, UnitProgress] | None = None,
    ) -> None:
        self._previous = progress or JobProgress(sync_id)
        self._job = job or JobProgressReport("", ProgressStatus.INITIALIZING)
        self._units: dict[str, _Unit] = {}
        self._sums: dict[bytes, FolderProgress] = {}
        self._total = FolderProgress(b"")
        self._status = max(self._previous.status, self._job.status, key=_ORDER.__getitem__)
        self._current_file = self._previous.current_file
        self._stage_of: str | None = None
        self._rate = RateWindow()
        self._moved_bytes = 0
        self._heard: set[str] = set()
        for reporter, unit in (units or {}).items():
            self._merge_unit(reporter, unit)

    @property
    def terminal(self) -> bool:
        """Whether nothing changes any more."""
        return self._status.terminal

    @property
    def _paused(self) -> bool:
        return self._job.pause_changes % 2 == 1 and not self.terminal

    @property
    def job(self) -> JobProgressReport:
        """What was said of the job as a whole, joined."""
        return self._job

    def unit(self, reporter: str) -> UnitProgress:
        """What `reporter` has said of its unit, joined."""
        unit = self._units[reporter]
        return UnitProgress(unit.status, tuple(unit.rows.values()), unit.current_file, unit.current_stage, unit.warnings, unit.done)

    def merge(self, reporter: str, report: ProgressReport, now: float) -> Change:
        """Takes a report in. `now` is seconds of a monotonic clock."""
        if self.terminal:
            return Change.NOTHING
        if isinstance(report, JobProgressReport):
            return self._merge_job(report)
        before_bytes, before_status = self._total.bytes_done, self._status
        was_done = reporter in self._units and self._units[reporter].done
        changed = self._merge_unit(reporter, report)
        if reporter in self._heard:
            self._moved_bytes += self._total.bytes_done - before_bytes
        else:
            # What a reporter brings along (after a restart of either side) did not move just now.
            self._heard.add(reporter)
        self._rate.add(now, self._moved_bytes)
        if self._status is not before_status or self._units[reporter].done != was_done:
            return Change.MILESTONE
        return Change.NUMBERS if changed else Change.NOTHING

    def snapshot(self, unix_time: float, now: float) -> JobProgress:
        """The picture as it is now, no number of it below the last one's. `now` is seconds of the clock given to `merge`."""
        if self._previous.status.terminal:
            return self._previous
        status, total, job, previous = self._status, self._total, self._job, self._previous
        complete = status is ProgressStatus.COMPLETE
        folders_total, folders_done = self._folders()
        folders_total = max(folders_total, previous.folders_total)
        share = self._measured_share(status)
        paused = self._paused
        rate = round(self._rate.per_second(now)) if status is ProgressStatus.TRANSFERRING and not paused else 0
        remaining_seconds = max(total.bytes_total / share - total.bytes_done, 0.0) / rate if rate and share else None
        end_time = (job.end_time or unix_time) if status.terminal else 0.0
        self._previous = JobProgress(
            sync_id=previous.sync_id,
            job_id=job.job_id,
            status=ProgressStatus.PAUSED if paused else status,
            percent=100.0 if complete else max(self._percent(share), previous.percent),
            current_stage=ProgressStatus.PAUSED.value if paused else self._stage(status),
            current_folder=self._current_file.rpartition(b"/")[0],
            current_file=self._current_file,
            folders_total=folders_total,
            folders_done=folders_total if complete else max(folders_done, previous.folders_done),
            files_total=total.files_total,
            files_done=total.files_done,
            bytes_total=total.bytes_total,
            bytes_done=total.bytes_done,
            bytes_per_second=rate,
            remaining_seconds=remaining_seconds,
            start_time=job.start_time,
            update_time=max(unix_time, previous.update_time),
            end_time=end_time,
            errors=max(job.errors, total.files_failed),
            warnings=max(job.warnings, sum(unit.warnings for unit in self._units.values())),
            folders=self._busiest(),
            files_processed=job.files_processed,
            files_to_clean=job.files_to_clean,
            files_cleaned=job.files_cleaned,
            bytes_to_clean=job.bytes_to_clean,
            bytes_cleaned=job.bytes_cleaned,
        )
        return self._previous

    def _merge_job(self, report: JobProgressReport) -> Change:
        old, before, was_paused = self._job, self._status, self._paused
        newer = _ORDER[report.status] >= _ORDER[old.status]
        self._job = JobProgressReport(
            job_id=old.job_id or report.job_id,
            status=report.status if newer else old.status,
            current_stage=report.current_stage if newer else old.current_stage,
            start_time=old.start_time or report.start_time,
            end_time=old.end_time or report.end_time,
            units_total=max(old.units_total, report.units_total),
            files_processed=max(old.files_processed, report.files_processed),
            errors=max(old.errors, report.errors),
            warnings=max(old.warnings, report.warnings),
            pause_changes=max(old.pause_changes, report.pause_changes),
            files_to_clean=max(old.files_to_clean, report.files_to_clean, report.files_cleaned),
            files_cleaned=max(old.files_cleaned, report.files_cleaned),
            bytes_to_clean=max(old.bytes_to_clean, report.bytes_to_clean, report.bytes_cleaned),
            bytes_cleaned=max(old.bytes_cleaned, report.bytes_cleaned),
        )
        self._status = max(before, report.status, key=_ORDER.__getitem__)
        if self._status is not before or self._paused != was_paused:
            return Change.MILESTONE
        return Change.NUMBERS if self._job != old else Change.NOTHING

    def _merge_unit(self, reporter: str, report: UnitProgress) -> bool:
        """Returns whether anything changed."""
        changed = reporter not in self._units
        unit = self._units.setdefault(reporter, _Unit())
        for row in report.folders:
            old = unit.rows.get(row.folder)
            if old == row:
                continue
            joined = _join(old or FolderProgress(row.folder), row)
            if joined == old:
                continue
            changed = True
            unit.rows[row.folder] = joined
            grown = _plus(joined, old, -1) if old else joined
            self._sums[row.folder] = _plus(self._sums.get(row.folder, FolderProgress(row.folder)), grown)
            self._total = _plus(self._total, grown)
        # A unit ends when it says so; only the coordinator ends a job.
        status = report.status if _ORDER[report.status] < _TRANSFERRING else ProgressStatus.TRANSFERRING
        before = (unit.status, unit.current_file, unit.current_stage, unit.warnings, unit.done)
        unit.status = max(unit.status, status, key=_ORDER.__getitem__)
        self._status = max(self._status, unit.status, key=_ORDER.__getitem__)
        unit.current_file = report.current_file or unit.current_file
        unit.current_stage = report.current_stage
        unit.warnings = max(unit.warnings, report.warnings)
        unit.done = unit.done or report.done
        if report.current_file:
            self._current_file = report.current_file
        if unit.current_stage and not unit.done:
            self._stage_of = reporter
        return changed or before != (unit.status, unit.current_file, unit.current_stage, unit.warnings, unit.done)

    def _stage(self, status: ProgressStatus) -> str:
        """What a unit says of itself while units work, else what the coordinator says, else the status' own word."""
        if _ORDER[status] <= _TRANSFERRING and self._stage_of is not None:
            unit = self._units[self._stage_of]
            if unit.current_stage and not unit.done:
                return unit.current_stage
        if self._job.status is status and self._job.current_stage:
            return self._job.current_stage
        return status.value

    def _measured_share(self, status: ProgressStatus) -> float:
        """The share of units whose totals are known. Without it the first small unit would read 99 % and stay there."""
        if status in (ProgressStatus.PROCESSING, ProgressStatus.CLEANING, ProgressStatus.COMPLETE):
            return 1.0
        units = max(self._job.units_total, len(self._units))
        return sum(unit.measured for unit in self._units.values()) / units if units else 0.0

    def _percent(self, share: float) -> float:
        """Of what is brought; of what is deleted where that is all that the job does."""
        if self._units or not self._job.files_to_clean:
            return _percent(self._total, share)
        job = self._job
        return _percent(FolderProgress(b"", job.files_to_clean, job.files_cleaned, job.bytes_to_clean, job.bytes_cleaned), 1.0)

    def _folders(self) -> tuple[int, int]:
        """Folders in all and done. A unit of which no row is known counts as one folder."""
        unfinished: set[bytes] = set()
        rowless_done = with_rows = 0
        for unit in self._units.values():
            if unit.rows:
                with_rows += 1
                if not unit.done:
                    unfinished.update(row.folder for row in unit.rows.values() if not (unit.measured and _finished(row)))
            else:
                rowless_done += unit.done
        units = max(self._job.units_total, len(self._units))
        return len(self._sums) + units - with_rows, len(self._sums) - len(unfinished) + rowless_done

    def _busiest(self) -> tuple[FolderProgress, ...]:
        """The rows with anything to bring: those under way first, then those to come, then those that are done; the largest first."""
        rows = (row for row in self._sums.values() if row.files_total or row.files_failed)
        return tuple(heapq.nsmallest(MAX_FOLDER_ROWS, rows, key=_busy_key))


def _busy_key(row: FolderProgress) -> tuple[int, int, int, bytes]:
    under_way = 2 if _finished(row) else 0 if row.bytes_done or row.files_done else 1
    return (under_way, -row.bytes_total, -row.files_total, row.folder)


def _finished(row: FolderProgress) -> bool:
    return row.files_done + row.files_failed >= row.files_total


def _percent(total: FolderProgress, share: float) -> float:
    """Of bytes, or of files where none has any."""
    done, whole = (total.bytes_done, total.bytes_total) if total.bytes_total else (total.files_done, total.files_total)
    return min(round(100.0 * done / whole * share, 1), _ALMOST_PERCENT) if whole else 0.0


def _join(a: FolderProgress, b: FolderProgress) -> FolderProgress:
    """The larger of each number; no total below what is done of it."""
    files_done, bytes_done = max(a.files_done, b.files_done), max(a.bytes_done, b.bytes_done)
    return FolderProgress(
        folder=a.folder,
        files_total=max(a.files_total, b.files_total, files_done),
        files_done=files_done,
        bytes_total=max(a.bytes_total, b.bytes_total, bytes_done),
        bytes_done=bytes_done,
        files_failed=max(a.files_failed, b.files_failed),
    )


def _plus(a: FolderProgress, b: FolderProgress, sign: int = 1) -> FolderProgress:
    """The sum of two rows (or their difference), under the first one's folder."""
    return dataclasses.replace(
        a,
        files_total=a.files_total + sign * b.files_total,
        files_done=a.files_done + sign * b.files_done,
        bytes_total=a.bytes_total + sign * b.bytes_total,
        bytes_done=a.bytes_done + sign * b.bytes_done,
        files_failed=a.files_failed + sign * b.files_failed,
    )
