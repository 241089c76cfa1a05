"""The nouns of landing and remembering."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mediasync.sources.base import FileEntry


@dataclass(frozen=True)
class LibraryId:
    """A library that this installation knows: the key of its rows, the id in its marker, and its root."""

    key: int
    uuid: str
    root: bytes


@dataclass(frozen=True)
class Origin:
    """One source feeding one library. What was taken is remembered for each such pair."""

    key: int
    source_key: str
    source_label: str
    library: LibraryId


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What was last taken under a name. `sha256` is of the copy at `library_path`."""

    name: bytes
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    sha256: bytes
    library_path: bytes
    vanished: bool


class LandingKind(enum.Enum):
    """How a pulled file ended up in the library. The value is what an intent has on record."""

    NEW = "new"
    """It was renamed into place."""
    LINKED = "linked"
    """Its name is a hard link to the same bytes under another."""
    REPLACED = "replaced"
    """It is one that is rewritten, and took the place of the former version."""
    COPIED = "copied"
    """It is a sidecar, copied beside the picture that it belongs to."""
    REPAIRED = "repaired"
    """It took the place of a copy that the disk had lost bytes of, which was put aside."""
    KNOWN = "known"
    """The same bytes were there under the same name already; the staged copy was dropped."""
    REMEMBERED = "remembered"
    """It was brought before, and what is there now is its owner's, whatever they made of it; the staged copy was dropped."""
    DUPLICATE = "duplicate"
    """The same bytes are there under another name, which is enough."""
    CULLED = "culled"
    """It was brought before, and its owner deleted it; the staged copy was dropped."""

    @property
    def visible(self) -> bool:
        """Whether a name in the library was made for it."""
        return self in _VISIBLE


_VISIBLE = frozenset({LandingKind.NEW, LandingKind.LINKED, LandingKind.REPLACED, LandingKind.COPIED, LandingKind.REPAIRED})


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file whose every byte is in staging, with its hash taken as the bytes passed."""

    entry: FileEntry
    staged_path: bytes
    sha256: bytes
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class LandedFile:
    """A file that is in the library. `library_path` is relative to the library's root."""

    entry: FileEntry
    library_path: bytes
    sha256: bytes
    kind: LandingKind
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is on record of a name: the row of this source, what other files of its folder and stem became, and library paths with the
    hash that was landed there: of its own name, of names it was given for want of its own, and of the row's."""

    row: Remembered | None
    companions: tuple[Remembered, ...]
    landed: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A manifest row: a file of the source as it was taken, and where in the library it is."""

    entry: FileEntry
    sha256: bytes
    library_path: bytes
    incomplete: bool


@dataclass(frozen=True)
class SyncUnit:
    """One folder of one run: the key under which its committed work is counted."""

    sync_id: str
    origin: Origin
    folder: bytes
    extract_metadata: bool

    @property
    def beginnings_key(self) -> str:
        """Tells what came in part of this folder's files from that of any other's, also between runs."""
        return f"{self.origin.source_key}\0{self.folder.hex()}"


@dataclass(frozen=True)
class UnitCounts:
    """What was committed for a unit so far, over all attempts."""

    files: int = 0
    bytes: int = 0
    vanished: int = 0
    duplicates: int = 0
    culled: int = 0


@dataclass(frozen=True)
class ScanState:
    """What the last finished scan of a folder left: a time of the far side's clock since when changes are unknown, when it was last
    listed in full (Unix seconds), and a digest of what counted as a result."""

    watermark_ns: int | None
    directories: dict[bytes, int]
    full_scan_time: float = 0.0
    selection: str = ""


@dataclass(frozen=True)
class OriginShare:
    """A library that a source was synced into, and how many of its files are on record there."""

    library: LibraryId
    files: int


@dataclass(frozen=True, slots=True)
class ProcessingTask:
    """A file whose media stages are still to run."""

    key: int
    sync_id: str
    library: LibraryId
    source_label: str
    landed: LandedFile
    extract_metadata: bool
    attempts: int
