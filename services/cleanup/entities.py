"""The nouns of cleaning up: what a plan has of a file, what the journal has of it, what its copy was found to be.

Paths are bytes and relative to the source's or the library's root; times with `_ns` are nanoseconds of the source's own clock. A library's
root is text, as in a `SyncSpec`: `os.fsencode` makes it a path.
"""

from __future__ import annotations

from dataclasses import dataclass

from mediasync.model import DeletionOutcome, KeptReason
from mediasync.model.synced import CopyReport, SourceFile


@dataclass(frozen=True, slots=True)
class OriginLibrary:
    """A library on record. `files` of the source that was asked about are on record there; 0 where none was."""

    root: str
    uuid: str
    files: int = 0


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A file in a plan, as it was when the plan was made.

    `number` orders the plan: first what would go, groups together and the oldest group first, then what is due and stays. With `joined` it
    belongs to the group of the row before it. `kept` is None for one that would go; `cause` says then why, for people. `sha256` is
    what both sides must have, empty only where nothing is verified; `copies` are where the library should have it, empty for one that its
    owner deleted there (`clean_culled`) and where nothing is verified. `ctime_ns` is 0 where it is not known.
    """

    number: int
    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int
    age_ns: int
    sha256: bytes = b""
    copies: tuple[bytes, ...] = ()
    kept: KeptReason | None = None
    joined: bool = False
    message: str = ""
    cause: str = ""
    ctime_ns: int = 0

    @property
    def file(self) -> SourceFile:
        """The file at the source."""
        return SourceFile(self.path, self.size_bytes, self.mtime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class Intent:
    """A deletion that is open in the journal, under `number`. `verified` says that the library's copy (`library_path`) was found good, so
    that the file may have been sent to the source to be deleted: what is not verified never was."""

    number: int
    sync_id: str
    source_key: str
    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: bytes
    library_root: str
    library_path: bytes
    verified: bool
    joined: bool = False
    trash_path: bytes = b""

    @property
    def file(self) -> SourceFile:
        """The file at the source."""
        return SourceFile(self.path, self.size_bytes, self.mtime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What the library was found to have of a file whose deletion is intended: the copy that is good, or why the file is kept, and what is
    to be told of the copies that were read."""

    row: PlanRow
    library_path: bytes = b""
    kept: KeptReason | None = None
    message: str = ""
    reports: tuple[CopyReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the deletion with that number in the journal."""

    number: int
    outcome: DeletionOutcome
    kept: KeptReason | None = None
    message: str = ""
