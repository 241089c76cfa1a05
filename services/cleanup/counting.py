"""What a clean-up comes to, counted while it runs.

Every file that the scan saw is counted once: as gone, as vanished, or as kept for one reason. What earlier attempts at the same run dealt
with is not listed any more, and is added from the journal; what they kept is listed again, and counts as it is now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupSummary, DeletionOutcome, Kept, KeptReason, Problem
from mediasync.paths import display
from services.cleanup.entities import Outcome, PlanRow

_REPAIR = "`mediasync library verify --deep --repair` brings it again from the source; `--accept` says that the copy is meant to be so."
_COPY = "the library's copy"
_PROBLEMS = {
    KeptReason.COPY_MISSING: (Reason.FILE_VERIFY_FAILED, _COPY, _REPAIR),
    KeptReason.COPY_CORRUPT: (Reason.FILE_VERIFY_FAILED, _COPY, _REPAIR),
    KeptReason.COPY_UNREADABLE: (Reason.FILE_VERIFY_FAILED, _COPY, "Check the library's disk, and who may read the file."),
    KeptReason.REFUSED: (Reason.FILE_NOT_DELETED, "the source refused:", ""),
}


@dataclass(frozen=True)
class CleanupProgress:
    """How far a clean-up is, over all attempts. Totals are 0 until there is a plan."""

    stage: str
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0


class Tally:
    """Counts one attempt at a run. `planned` is what its plan comes to; `gone_before` and `vanished_before` are what earlier attempts
    dealt with."""

    def __init__(
        self, planned: CleanupSummary, gone_before: Kept, vanished_before: Kept, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._planned = planned
        self._gone_before = gone_before
        self._vanished_before = vanished_before
        self._on_change = on_change
        self._gone = Kept()
        self._vanished = Kept()
        self._kept: dict[KeptReason, Kept] = {}
        self._summary = CleanupSummary(problems=planned.problems, problems_total=planned.problems_total, notes=planned.notes)
        self._errors = planned.errors
        self.folders_removed = 0
        self.free_bytes_after: int | None = None
        self.trashed = False

    def settled(self, rows: Iterable[tuple[PlanRow, Outcome]]) -> None:
        """What became of files of the plan."""
        for row, outcome in rows:
            one = Kept(1, row.size_bytes)
            if outcome.kept is not None:
                self._kept[outcome.kept] = self._kept.get(outcome.kept, Kept()) + one
                if outcome.kept.wrong:
                    self._errors += 1
                    self._summary = self._summary.with_problem(_problem(row, outcome.kept, outcome.message))
            elif outcome.outcome is DeletionOutcome.VANISHED:
                self._vanished += one
            else:
                self._gone += one
        self._on_change()

    def failed(self, error: MediasyncError) -> None:
        """Something beside the files went wrong."""
        self._errors += 1
        self._summary = self._summary.with_problem(Problem.of(error))

    @property
    def files_gone(self) -> int:
        """Files of this attempt that are not at the source any more."""
        return (self._gone + self._vanished).files

    def progress(self, stage: str) -> CleanupProgress:
        """How far it is."""
        before = self._gone_before + self._vanished_before
        done = sum(self._kept.values(), self._gone + self._vanished)
        return CleanupProgress(
            stage,
            self._planned.files_deleted + before.files,
            done.files + before.files,
            self._planned.space_freed_bytes + before.size_bytes,
            done.size_bytes + before.size_bytes,
        )

    def summary(self) -> CleanupSummary:
        """What the run came to so far. Files of the plan that had no turn are kept as STOPPED."""
        planned = self._planned
        kept = dict(planned.kept)
        for reason, files in self._kept.items():
            kept[reason] = kept.get(reason, Kept()) + files
        done = sum(self._kept.values(), self._gone + self._vanished)
        if (left := planned.files_deleted - done.files) > 0:
            stopped = Kept(left, max(planned.space_freed_bytes - done.size_bytes, 0))
            kept[KeptReason.STOPPED] = kept.get(KeptReason.STOPPED, Kept()) + stopped
        gone, vanished = self._gone + self._gone_before, self._vanished + self._vanished_before
        return replace(
            self._summary,
            files_scanned=planned.files_scanned + self._gone_before.files + self._vanished_before.files,
            files_deleted=gone.files,
            space_freed_bytes=gone.size_bytes,
            files_vanished=vanished.files,
            errors=self._errors,
            kept=kept,
            folders_removed=self.folders_removed,
            free_bytes_before=planned.free_bytes_before,
            free_bytes_after=self.free_bytes_after,
            trashed=self.trashed,
        )


def _problem(row: PlanRow, kept: KeptReason, message: str) -> Problem:
    reason, said, remedy = _PROBLEMS.get(kept, (Reason.FILE_NOT_DELETED, kept.value.replace("_", " "), ""))
    message = f"{display(row.path)} was kept: {said} {message}".rstrip(": ")
    return Problem.of(MediasyncError(reason, message, remedy), row.path)
