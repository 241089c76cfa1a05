"""What is on record of files of a source, and what was seen of their copies: between who deletes at sources and who knows the library.

Paths are bytes and relative to the source's or the library's root.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file at a source, as a scan saw it. The inode is 0 where the engine knows none."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int


class SyncedState(enum.Enum):
    """What is on record of a file of a source."""

    UNKNOWN = "unknown"
    """It was never synced."""
    SYNCED = "synced"
    """It was, just as it is, and the library should have copies."""
    CHANGED = "changed"
    """Something else was synced under its name."""
    INCOMPLETE = "incomplete"
    """It was incomplete when it was taken."""
    INVALID = "invalid"
    """Its content did not validate."""
    CULLED = "culled"
    """Its owner deleted the library's only copy; the hash is known."""
    EDITED = "edited"
    """The library's only copy was edited."""
    NOT_FLUSHED = "not_flushed"
    """The library's copy may not be on the disk yet."""


@dataclass(frozen=True, slots=True)
class SyncedFile:
    """What is on record of a file: its hash when it was synced (empty where there is none), and where the library should have these
    bytes, the place where it landed first. `copies` is empty unless the state is SYNCED."""

    state: SyncedState
    sha256: bytes = b""
    copies: tuple[bytes, ...] = ()
    sync_id: str = ""


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was seen of a copy in a library; neither `intact` nor `missing` says that it is there and is not what it should be."""

    library_path: bytes
    source_path: bytes
    intact: bool = False
    missing: bool = False
    message: str = ""
