"""What a clean-up may delete, what it did, and what its journal says. Times are Unix seconds, 0 where there is none; paths are bytes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mediasync.model.problems import MAX_PROBLEMS, Problem

MAX_NOTES = 20
WHATEVER_AGE_HOURS = 1e6
"""No file is that old: only low space lets any go."""


class AgeBasis(enum.StrEnum):
    """Which time of a file is its age."""

    CREATED = "created"
    """Its birth; where that is not known, the older of its ctime and its modification time."""
    MODIFIED = "modified"
    ACCESSED = "accessed"


class KeptReason(enum.StrEnum):
    """Why a clean-up left a file at the source; docs/cleanup.md explains each."""

    UNKNOWN = "unknown"
    TOO_YOUNG = "too_young"
    RECENT = "recent"
    FUTURE = "future"
    PRESERVED = "preserved"
    EXCLUDED = "excluded"
    EXTENSION = "extension"
    TOO_SMALL = "too_small"
    KEEP_LAST = "keep_last"
    COUNTER = "counter"
    COMPANION = "companion"
    NOT_SYNCED = "not_synced"
    CHANGED = "changed"
    INCOMPLETE = "incomplete"
    INVALID = "invalid"
    CULLED = "culled"
    EDITED = "edited"
    COPY_MISSING = "copy_missing"
    COPY_CORRUPT = "copy_corrupt"
    COPY_UNREADABLE = "copy_unreadable"
    COPY_NOT_FLUSHED = "copy_not_flushed"
    NO_RESULT = "no_result"
    CAP = "cap"
    CHANGED_MEANWHILE = "changed_meanwhile"
    REFUSED = "refused"
    STOPPED = "stopped"
    UNREADABLE = "unreadable"

    @property
    def wrong(self) -> bool:
        """Whether somebody should do something about it."""
        return self in _WRONG


_WRONG = frozenset(
    {KeptReason.COPY_MISSING, KeptReason.COPY_CORRUPT, KeptReason.COPY_UNREADABLE, KeptReason.REFUSED, KeptReason.UNREADABLE}
)


@dataclass(frozen=True)
class CleanupPolicy:
    """What a clean-up deletes; see `CleanupPolicy` of the contracts for each. Amounts of 0, and empty lists, mean none."""

    after_sync: bool = False
    dry_run: bool = False
    verify_synced: bool = True
    i_mean_it: bool = False
    age_hours: float = 24.0
    age_basis: AgeBasis = AgeBasis.MODIFIED
    preserve_recent_minutes: float = 5.0
    preserve_patterns: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    allowed_extensions: tuple[str, ...] = ()
    min_size_bytes: int = 0
    keep_last: int = 0
    keep_counter: bool = True
    min_free_space_gb: float = 0.0
    target_free_space_gb: float = 0.0
    min_free_space_percent: float = 0.0
    target_free_space_percent: float = 0.0
    min_age_minutes: float = 60.0
    max_files_per_batch: int = 100
    max_delete_files: int = 10_000
    max_delete_share: float = 0.9
    force_cap: bool = False
    trash_days: float = 30.0
    clean_culled: bool = False
    plan_id: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """How many files were kept for one reason."""

    files: int = 0
    size_bytes: int = 0

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.files + other.files, self.size_bytes + other.size_bytes)


@dataclass(frozen=True)
class CleanupSummary:
    """What a clean-up did, or, of a dry run, would do. `files_kept` is the sum of `kept`; free space is None where it is not known."""

    files_scanned: int = 0
    files_deleted: int = 0
    space_freed_bytes: int = 0
    errors: int = 0
    dry_run: bool = False
    files_vanished: int = 0
    kept: Mapping[KeptReason, Kept] = field(default_factory=dict)
    folders_removed: int = 0
    problems: tuple[Problem, ...] = ()
    problems_total: int = 0
    notes: tuple[str, ...] = ()
    free_bytes_before: int | None = None
    free_bytes_after: int | None = None
    trashed: bool = False

    @property
    def files_kept(self) -> int:
        """All that was left."""
        return sum(kept.files for kept in self.kept.values())

    def with_problem(self, problem: Problem) -> CleanupSummary:
        """With one more problem; the first hundred are told."""
        return replace(self, problems=(*self.problems, problem)[:MAX_PROBLEMS], problems_total=self.problems_total + 1)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file in a plan: it would go, or is kept for a reason. With `joined` it goes only together with the file before it."""

    path: bytes
    size_bytes: int
    age_time: float
    kept: KeptReason | None = None
    joined: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class PlannedFolder:
    """What a plan would do in a folder."""

    folder: bytes
    files: int = 0
    size_bytes: int = 0
    files_kept: int = 0


@dataclass(frozen=True)
class CleanupPlan:
    """What a plan comes to. `oldest` and `newest` are of the files that would go."""

    summary: CleanupSummary
    oldest: float = 0.0
    newest: float = 0.0
    folders: tuple[PlannedFolder, ...] = ()
    library_root: str = ""
    source: str = ""


class DeletionOutcome(enum.StrEnum):
    """What became of a file whose deletion was intended."""

    OPEN = "open"
    DELETED = "deleted"
    KEPT = "kept"
    VANISHED = "vanished"
    TRASHED = "trashed"


@dataclass(frozen=True)
class Deletion:
    """An entry of the journal."""

    number: int
    sync_id: str
    source: str
    path: bytes
    size_bytes: int
    modify_time: float
    sha256: bytes
    library_root: str
    library_path: bytes
    outcome: DeletionOutcome
    kept: KeptReason | None = None
    message: str = ""
    intent_time: float = 0.0
    outcome_time: float = 0.0
    cause: str = ""
    trash_path: bytes = b""


@dataclass(frozen=True)
class CleanupRun:
    """A clean-up, as the journal knows it. While it is `active`, at work, the summary lacks what is under way at the source."""

    sync_id: str
    job_id: str
    source: str
    library_root: str
    ended: bool
    start_time: float
    end_time: float
    summary: CleanupSummary
    active: bool = False


@dataclass(frozen=True)
class FileExplanation:
    """Why a file is gone, or still there. `present` is None where the source could not be asked; `problem` says why."""

    present: bool | None
    problem: Problem | None = None
    planned: PlannedFile | None = None
    deletions: tuple[Deletion, ...] = ()
    library_path: bytes = b""
    library_root: str = ""
