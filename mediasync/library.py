"""What is said of a library as a whole: what a verify finds, what an adoption took, what there is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class FindingKind(enum.Enum):
    """What is not as it was with a file of a library."""

    MISSING = "missing"
    """On record, and not there; nobody has said that this is meant to be."""
    CULLED = "culled"
    """On record, and not there, which its owner wants so."""
    CHANGED = "changed"
    """Other bytes than on record, with another size or time: somebody edited it."""
    CORRUPT = "corrupt"
    """Other bytes than on record, with the same size and time: the disk lost them."""
    UNKNOWN = "unknown"
    """There, and not on record."""
    MOVED = "moved"
    """On record under another path, which it was moved from; the record has followed it."""
    UNREADABLE = "unreadable"
    """A file that cannot be read, or a folder that cannot be listed."""

    @property
    def wrong(self) -> bool:
        """Whether somebody should do something about it."""
        return self in _WRONG


_WRONG = frozenset({FindingKind.MISSING, FindingKind.CHANGED, FindingKind.CORRUPT, FindingKind.UNREADABLE})

FindingCounts = Mapping[FindingKind, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a verify found. `source` is the label of a source that brought the file and had it when it was last looked at."""

    kind: FindingKind
    path: bytes
    size_bytes: int = 0
    moved_from: bytes = b""
    source: str = ""
    message: str = ""


@dataclass(frozen=True)
class LibraryProgress:
    """How far a verify or an adoption is. Totals are of the stage, 0 where they are not known."""

    stage: str
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    resumed: bool = False


@dataclass(frozen=True)
class VerifyOptions:
    """What a verify looks at. `since_ns` is of the Unix clock, 0 for none; see `VerifyLibraryRequest` for the rest."""

    below: bytes = b""
    deep: bool = False
    since_ns: int = 0
    restart: bool = False
    accept: bool = False
    findings_only: bool = False


@dataclass(frozen=True)
class VerifySummary:
    """What a verify came to. `files_read` are those of `files_intact` whose every byte was read and compared."""

    files_intact: int = 0
    files_read: int = 0
    files_left_out: int = 0
    others: int = 0
    bytes_read: int = 0
    findings: FindingCounts = field(default_factory=dict)

    @property
    def wrong(self) -> int:
        """How many findings somebody should do something about."""
        return sum(count for kind, count in self.findings.items() if kind.wrong)


@dataclass(frozen=True)
class AdoptSummary:
    """What an adoption came to."""

    files_adopted: int = 0
    bytes_adopted: int = 0
    files_known: int = 0
    others: int = 0
    files_unsettled: int = 0
    findings: FindingCounts = field(default_factory=dict)


@dataclass(frozen=True)
class LibraryShare:
    """Files of one source, or of one type."""

    name: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class LibraryStats:
    """What a library holds. Times are Unix seconds, 0 for never; see `LibraryStatsResponse` for what each number means."""

    files: int = 0
    size_bytes: int = 0
    sources: tuple[LibraryShare, ...] = ()
    types: tuple[LibraryShare, ...] = ()
    duplicate_files: int = 0
    duplicate_bytes: int = 0
    incomplete_files: int = 0
    culled_files: int = 0
    last_sync_time: float = 0.0
    last_verify_time: float = 0.0
    findings: FindingCounts = field(default_factory=dict)
    files_read: int = 0
    free_bytes: int = 0
    capacity_bytes: int = 0
