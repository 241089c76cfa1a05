"""How a sync behaves, and a sync as it is asked for."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from mediasync.model.cleaning import CleanupPolicy
from mediasync.model.sources import SourceSpec

MAX_PARALLEL_TRANSFERS = 16


class FollowSymlinks(enum.StrEnum):
    """Which links below a source's root are followed. The root and the folders that were named may be links in any case."""

    NONE = "none"
    FILES = "files"
    ALL = "all"


class Duplicates(enum.StrEnum):
    """What becomes of a file whose content the library has already, under another name."""

    KEEP = "keep"
    """It is kept under both."""
    SKIP = "skip"
    """It stays under the one it has; the new one is not made."""
    HARDLINK = "hardlink"
    """Both names share one content, where the file system can."""


class Durability(enum.StrEnum):
    """When a file counts as being in the library."""

    FULL = "full"
    """Once its bytes and its name are on the disk."""
    FAST = "fast"
    """Once they are handed to the system; the disk has them when the sync is complete."""


REWRITTEN_PATTERNS = ("log.html", "log.csv")
"""Files that generators keep appending to or writing anew: A1111 and Forge log what was saved in them."""


@dataclass(frozen=True)
class SyncOptions:
    """How a sync behaves. Sizes and limits of 0, and empty lists, mean none; empty modes and owners mean the process's own.

    `bandwidth_timetable` holds lines such as `08:00-18:00 20mbit`, local time, that count in place of `bandwidth_limit_mbps` while
    they last.
    """

    parallel_transfers: int = 3
    retry_attempts: int = 3
    retry_delay_seconds: float = 5.0
    extract_metadata: bool = True
    verify_transfers: bool = False
    full_scan: bool = False
    settle_seconds: float = 2.0
    incomplete_after_seconds: float = 3600.0
    newest_first: bool = False
    restore: bool = False
    watch: bool = False
    bandwidth_limit_mbps: float = 0.0
    bandwidth_timetable: tuple[str, ...] = ()
    follow_symlinks: FollowSymlinks = FollowSymlinks.NONE
    min_size_bytes: int = 0
    max_size_bytes: int = 0
    min_age_minutes: float = 0.0
    max_age_days: float = 0.0
    allowed_extensions: tuple[str, ...] = ()
    include_patterns: tuple[str, ...] = ()
    excluded_patterns: tuple[str, ...] = ()
    temporary_suffixes: tuple[str, ...] = ()
    rewritten_patterns: tuple[str, ...] = REWRITTEN_PATTERNS
    duplicates: Duplicates = Duplicates.KEEP
    durability: Durability = Durability.FULL
    min_free_space_gb: float = 1.0
    file_mode: str = ""
    dir_mode: str = ""
    owner: str = ""
    group: str = ""


@dataclass(frozen=True)
class SyncSpec:
    """One sync, as it is asked for. `dest_path` is absolute on the services' machine; no `folders` means the type's default. Nothing is
    deleted at the source without `cleanup`."""

    source: SourceSpec
    dest_path: str
    folders: tuple[bytes, ...] = ()
    options: SyncOptions = field(default_factory=SyncOptions)
    cleanup: CleanupPolicy | None = None


class SourceOrigin(enum.StrEnum):
    """Who put a named source there."""

    CONFIGURATION = "configuration"
    ADDED = "added"


@dataclass(frozen=True)
class NamedSource:
    """A named source, with the sync that its name stands for. `create_time` is Unix seconds, 0 for the configuration's."""

    name: str
    spec: SyncSpec
    origin: SourceOrigin
    create_time: float = 0.0
