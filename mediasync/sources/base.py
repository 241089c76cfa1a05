"""The interface of a place where files come from. The transfer service knows nothing else of a source.

A `Source` is a description that can be connected to; a `Connection` is one live session that does one thing at a time.
Several connections to one source may be open at once. All paths are bytes, relative to the source's root, `/`-separated, and
have passed `mediasync.paths.check_relative`: a far side that names anything else is broken or hostile and ends the call
with SOURCE_PROTOCOL.

What every implementation promises (tests/contract/sources runs on each):

- links below the root are followed only as `Selection.follow_symlinks` says, and never out of the root; FIFOs, sockets and devices are
  counted as filtered, never opened;
- a file's bytes are handed out only together with the verdict, at their end, whether size, mtime and inode stood still from
  before the first byte to after the last;
- a file or folder that cannot be read is a result, not an error of the call;
- a connection that broke raises CONNECTION_LOST (or HOST_UNREACHABLE) once, from every call under way, and is then closed.

What it does not promise: that a scan is a snapshot. A file may appear, change or vanish while a scan runs.

What an engine cannot do at all (delete by way of an archive, watch over SFTP) raises ENGINE_CANNOT; what is true of each engine
stands in docs/sources.md.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mediasync.model import FilterReason, HostKey
from mediasync.sources.selection import EVERYTHING, Selection


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file as a scan saw it. Times are nanoseconds of the far side's clock. When it was born and last read are None unless the
    scan was asked for ages, and where the far side does not know them."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    birth_ns: int | None = None
    accessed_ns: int | None = None


@dataclass(frozen=True)
class ScanRequest:
    """What to look for below `folder` (empty: the whole root).

    With `changed_since_ns` None the scan is full: every file is reported. Otherwise it is exact: of a directory in
    `known_directories` (path -> inode, as the last scan reported them) only the files with a ctime at or after it are,
    and its names if its own mtime is; a directory that is not known, or has another inode, is reported in full.

    With `quick` only the known directories themselves are looked at: one whose mtime is before `changed_since_ns` is not reported
    and nothing in it looked at; any other is reported in full, and what is not known below it too. A directory that is gone is
    reported as `DirectoryGone`. Files that were changed in place are not found by it, and it counts only what it looked at.

    `selection` says what is a result. With `explain` each file that is none is reported as a `FileFiltered`. With `ages` files are
    reported with their times of birth and access, as far as the far side knows them.
    """

    folder: bytes = b""
    changed_since_ns: int | None = None
    known_directories: Mapping[bytes, int] = field(default_factory=dict)
    quick: bool = False
    selection: Selection = EVERYTHING
    explain: bool = False
    ages: bool = False


@dataclass(frozen=True, slots=True)
class DirectoryScanned:
    """One directory, after which come no more files of it. `path` is empty for the root.

    With `complete` every file in it was among `files`, which are sorted by path; else only the moved ones were. `names` is the
    sorted tuple of all its file names (last path part) when its mtime moved in an exact scan, else None. A directory with very
    many files comes as several of these: all but the last have `more` set. One whose mtime moved and whose names do not fit into
    one record is complete instead. `young` says that a file in it was left out for its age alone: it will be a result later, without
    anything about it having moved.
    """

    path: bytes
    inode: int
    files: Sequence[FileEntry]
    complete: bool
    names: tuple[bytes, ...] | None = None
    more: bool = False
    young: bool = False


@dataclass(frozen=True, slots=True)
class DirectoryGone:
    """A known directory that a quick scan did not find any more."""

    path: bytes


@dataclass(frozen=True, slots=True)
class FileFiltered:
    """A file that is no result, and why. Only in a scan that explains; `size_bytes` is 0 where it was not looked at."""

    path: bytes
    reason: FilterReason
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DirectoryUnreadable:
    """A directory that could not be listed. What was taken from it earlier is neither unchanged nor vanished."""

    path: bytes
    message: str


@dataclass(frozen=True, slots=True)
class ScanFinished:
    """The last record of a scan. `started_ns` is the far side's clock when it began; `files_seen` counts regular files that are
    results, reported or not; `filtered` what is not a result, by the reason."""

    started_ns: int
    files_seen: int
    bytes_seen: int
    filtered: Mapping[FilterReason, int] = field(default_factory=dict)

    @property
    def files_filtered(self) -> int:
        """All that is not a result."""
        return sum(self.filtered.values())


ScanRecord = DirectoryScanned | DirectoryUnreadable | DirectoryGone | FileFiltered | ScanFinished


@dataclass(frozen=True, slots=True)
class Partial:
    """The beginning of a file that is here already: `size_bytes` of it, with that hash."""

    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file to read, as the scan saw it. `settle_seconds` and `incomplete_after_seconds` as in `SyncOptions`. With `partial` the far side
    sends only the rest, if the file still begins with what is here; an engine that cannot tell sends all of it."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int
    settle_seconds: float = 2.0
    incomplete_after_seconds: float = 3600.0
    partial: Partial | None = None


class ReadStatus(enum.Enum):
    """What became of a wanted file."""

    OK = "ok"
    """Every byte went to the sink, and the file stood still meanwhile."""
    UNSETTLED = "unsettled"
    """It is being written, or its format's end is missing. No byte was sent, but by an engine that sees a large file's end only when it
    has all of it: what the sink got is worthless then."""
    CHANGED = "changed"
    """It is not what the scan saw, or changed while it was read; what the sink got is worthless."""
    VANISHED = "vanished"
    """It is gone."""
    UNREADABLE = "unreadable"
    """It cannot be opened or read; `message` says why."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """The outcome for one wanted file. `entry` is how the file was found, None unless it is still a regular file; `incomplete` says
    that its format's end is missing and it was taken for its age."""

    wanted: WantedFile
    status: ReadStatus
    entry: FileEntry | None = None
    incomplete: bool = False
    message: str = ""


class Sink(Protocol):
    """Takes the bytes of one file, in order, quickly: it is called on the event loop."""

    def write(self, data: bytes) -> object:
        """Takes the next bytes. An OSError it raises ends the read call with that error."""


@runtime_checkable
class FileSink(Sink, Protocol):
    """A sink that is a file on this machine, so that bytes need not pass through this process. What is done with it may block and
    belongs into a thread. Every method raises OSError."""

    def fileno(self) -> int:
        """The open file, for copying into it at its end."""

    def copied(self, count: int) -> None:
        """So many bytes were copied into it behind the last ones."""

    def coming(self, count: int) -> None:
        """So many more bytes have come of the file that it will be given whole; for who counts them. Called on the event loop. They are
        not told again once it has them."""

    def adopt(self, path: bytes) -> None:
        """Takes over a whole file that lies in `folder`, in place of anything it got so far."""

    @property
    def folder(self) -> bytes:
        """Where files can be made that it can adopt. They are removed with it when they are left there."""


class SinkOpener(Protocol):
    """Makes the sink of a file."""

    def __call__(self, wanted: WantedFile, offset: int, /) -> Sink:
        """Called just before a file's first byte, also for an empty file. `offset` is where its bytes begin: the size of
        `wanted.partial`, or 0."""


@dataclass(frozen=True, slots=True)
class FileHashed:
    """The outcome of hashing a wanted file at the far side. `sha256` is None unless `status` is OK; `entry` as in `FileRead`."""

    wanted: WantedFile
    status: ReadStatus
    sha256: bytes | None = None
    entry: FileEntry | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class DoomedFile:
    """A file to delete at the source, if it is still exactly this one (invariant I3), as a scan with ages saw it: without, the engine rsync
    knows too little of it.

    With `joined` it goes together with the one before it, or neither goes: those that follow each other so in one batch are a group, such
    as a picture and its `.txt`. The first of a batch begins a group whatever it says. A group has at most `MOST_JOINED` files, all in one
    folder; another one is INVALID_ARGUMENT.
    """

    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: bytes
    joined: bool = False


MOST_JOINED = 7
"""The most files of one group: at the far side all of them are open at the same time, and a shell has numbers for so many."""


class DeleteStatus(enum.Enum):
    """What became of a doomed file."""

    DELETED = "deleted"
    """It was what it should be, before and after it was hashed, and is gone."""
    CHANGED = "changed"
    """It is not that file any more; it was kept."""
    VANISHED = "vanished"
    """It was gone already."""
    REFUSED = "refused"
    """It cannot be read or deleted; `message` says why."""
    KEPT = "kept"
    """It was as it should be; another file of its group was not."""


@dataclass(frozen=True, slots=True)
class FileDeleted:
    """The outcome for one doomed file."""

    doomed: DoomedFile
    status: DeleteStatus
    message: str = ""


@dataclass(frozen=True)
class SourceProbe:
    """What the far side says of itself. `root` is absolute there; `clock_offset_seconds` is its clock minus ours."""

    engine: str
    platform: str
    root: bytes
    round_trip_seconds: float
    clock_offset_seconds: float


@dataclass(frozen=True)
class Surroundings:
    """What else a person wants to know of a far side. Bytes of the root's file system, None where they are not known; `tools` are the
    programs that were found there and matter to us, with their versions where they say them."""

    free_bytes: int | None = None
    total_bytes: int | None = None
    tools: tuple[str, ...] = ()


class Pace(Protocol):
    """A limit on how fast bytes may come. Shared by the connections that it counts together; called on the event loop."""

    def took(self, count: int) -> float:
        """So many bytes came in. Returns for how many seconds nothing more should be taken; 0 to go on."""


class Connection(Protocol):
    """One live session at a source's root. Does one thing at a time; close it when done or broken."""

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""

    @property
    def broken(self) -> bool:
        """Whether it has ended, as far as is known: nothing can be asked of it any more."""

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, sorted, at most `limit`."""

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` (relative paths) that are no directories below the root. A configured folder may be a symbolic link."""

    def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files. Ends with one ScanFinished; a folder that does not exist gives just that one."""

    def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """Watches the `known_directories` of `request` below its `folder`: yields the paths of those in which something moved, soon
        after it did, and the empty set every few seconds as a sign of life. What is new in them is for a scan to find. The first is the
        empty set, once it watches: what moved before is for a scan that begins after it. Directories that appear in known ones are watched
        too.

        Runs until it is left, which closes the connection. Raises ENGINE_CANNOT where the engine has no means; quick scans are
        the way then.
        """

    def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads the files of every batch, in order, one outcome each.

        The next batch is asked for from `batches` and sent to the far side while the last one still streams, so that no
        round trip is waited for. `open_sink` is not called for a file that is not sent. `selection` says which links may be followed;
        its filters were applied by the scan. `pace` holds the far side back.
        """

    def hash_files(self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING) -> AsyncIterator[FileHashed]:
        """Hashes files where they are, in order, one outcome each; they have to be as the scan saw them, as for `read`, but need not be
        settled. Raises ENGINE_CANNOT where the far side has no means to."""

    def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files that are still exactly what is said of them, in order, one outcome each: each is opened without following links,
        compared, hashed, compared again and unlinked inside one command. Of a group all are compared and hashed before the first one is
        unlinked; if one is not what it should be, the others are KEPT. Where unlinking one fails after others of its group went, those are
        DELETED and it is REFUSED. Raises ENGINE_CANNOT where that cannot be had."""

    def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """Like `delete_unchanged`, but a file is renamed to its path below the folder `into` (a path below the root), never replacing
        anything, and is not hashed if its `sha256` is empty. Folders are made as they are needed, for their owner alone; the file
        must be on the same file system, else it is REFUSED. DELETED says that it went. Raises ENGINE_CANNOT where that cannot be had."""

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """Removes each folder in `folder` that is called like a day (YYYY-MM-DD) before `before`, with all that is in it and without
        following links; returns how many files went. 0 if there is no such folder. Raises ENGINE_CANNOT where that cannot be had."""

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes those of `folders` that are empty, in the order given, without following links; never the root. Returns those that
        went. Raises ENGINE_CANNOT where that cannot be had."""

    async def surroundings(self) -> Surroundings:
        """Free space, and the programs that are there."""

    async def close(self) -> None:
        """Ends the session, and the program on the far side with it. May be called at any time, more than once."""


class Source(Protocol):
    """A place that can be connected to."""

    async def connect(self) -> Connection:
        """Opens a session. Raises MediasyncError with one of the reasons HOST_*, AUTHENTICATION_FAILED, SOURCE_ROOT_MISSING,
        SOURCE_UNREADABLE, SOURCE_WITHOUT_PYTHON, SOURCE_PROTOCOL."""

    async def host_key(self) -> HostKey:
        """Asks for the host's key without logging in."""

    async def trust_host_key(self, fingerprint: str) -> str:
        """Remembers the host's key if its fingerprint is `fingerprint`; returns the file that holds it now."""
