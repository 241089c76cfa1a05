"""A source as a clean-up sees it: listed folder by folder, judged by the policy, and what is old enough put aside.

Of files that stay only counts are kept. Columns are judged as they come, in a thread, a few thousand files at a time: a million files that
are all too young are never made into objects, and a folder that is not complete yet is all that is held.

Links are not followed, whatever the sync does: a file is deleted by its own name only.
"""

from __future__ import annotations

import asyncio
import bisect
import operator
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import AgeBasis, FollowSymlinks, Kept, KeptReason, SyncSpec
from mediasync.paths import display
from mediasync.sources import packed
from mediasync.sources.base import Connection, DirectoryScanned, DirectoryUnreadable, FileEntry, ScanFinished, ScanRequest
from mediasync.sources.selection import Selection, selection_for
from services.cleanup.due_store import DueFile, DueFiles, DueStore
from services.cleanup.policy import FolderFiles, Judgement, Terms, ages, judge

_JUDGED_AT_ONCE = 5_000
_MOST_EMPTY_FOLDERS = 10_000
_MOST_STAYS = 10_000


def selection_of(spec: SyncSpec) -> Selection:
    """What counts as a result at a source that is cleaned up. Raises INVALID_ARGUMENT for a pattern that is none."""
    try:
        return replace(selection_for(spec.source, spec.options), follow_symlinks=FollowSymlinks.NONE)
    except ValueError as error:
        raise MediasyncError(Reason.INVALID_ARGUMENT, str(error)) from None


class Listing:
    """The files of one folder, in the pieces in which they came. Raises SOURCE_PROTOCOL for a folder with a name twice."""

    def __init__(self, path: bytes, pieces: Sequence[Sequence[FileEntry]], basis: AgeBasis, looked_ns: int) -> None:
        self._pieces = pieces
        columns = (_columns(piece, basis) for piece in pieces)
        names, sizes, modified, since = _joined(columns) if len(pieces) > 1 else next(columns)
        self._order: Sequence[int] = range(len(names))
        # One that came whole is in order.
        if len(pieces) > 1 and not _in_order(names):
            self._order = order = sorted(range(len(names)), key=names.__getitem__)
            names = [names[at] for at in order]
            sizes, modified, since = ([column[at] for at in order] for column in (sizes, modified, since))
            if not _in_order(names):
                raise MediasyncError(Reason.SOURCE_PROTOCOL, f"the source named a file of {display(path) or 'its root'} twice")
        self.files = FolderFiles(path, names, sizes, modified, since, looked_ns)

    def entries(self, places: Sequence[int]) -> dict[int, FileEntry]:
        """The files at some places."""
        found: dict[int, FileEntry] = {}
        wanted = sorted((self._order[place], place) for place in places)
        start = first = 0
        for piece in self._pieces:
            end = bisect.bisect_left(wanted, (start + len(piece),), first)
            here = wanted[first:end]
            if here:
                entries = packed.picked(piece, [at - start for at, _ in here])
                found.update(zip((place for _, place in here), entries, strict=True))
            start, first = start + len(piece), end
        return found


_FourColumns = tuple[Sequence[bytes], Sequence[int], Sequence[int], Sequence[int]]


def _columns(files: Sequence[FileEntry], basis: AgeBasis) -> _FourColumns:
    modified = packed.modified(files)
    if basis is AgeBasis.MODIFIED:
        return packed.names(files), packed.sizes(files), modified, modified
    since = ages(basis, modified, packed.changed(files), packed.born(files), packed.accessed(files))
    return packed.names(files), packed.sizes(files), modified, since


def _joined(pieces: Iterable[_FourColumns]) -> _FourColumns:
    """The columns of a folder that came in pieces, which may be a million files: as numbers of eight bytes, and not one object each."""
    names: list[bytes] = []
    sizes, modified, since = array("q"), array("q"), array("q")
    for piece in pieces:
        names.extend(piece[0])
        sizes.extend(piece[1])
        modified.extend(piece[2])
        since.extend(piece[3])
    return names, sizes, modified, since


def _in_order(names: Sequence[bytes]) -> bool:
    return all(map(operator.lt, names, names[1:]))


@dataclass
class Seen:
    """What a look at a source came to. Each listed file is in `kept` or put aside; of folders that something of was put aside, `listed_in`
    says how many files they have. `behind_ns` is how much earlier than it was taken for the source's clock turned out to be."""

    listed: int = 0
    filtered: int = 0
    kept: dict[KeptReason, Kept] = field(default_factory=dict)
    unreadable: list[DirectoryUnreadable] = field(default_factory=list)
    unreadable_total: int = 0
    empty_folders: list[bytes] = field(default_factory=list)
    listed_in: dict[bytes, int] = field(default_factory=dict)
    due: bool = False
    stays_left_out: int = 0
    behind_ns: int = 0

    def count(self, kept: Mapping[KeptReason, Kept]) -> None:
        """Counts files that stay."""
        for reason, files in kept.items():
            self.kept[reason] = self.kept.get(reason, Kept()) + files


class Look:
    """One look at the folders of a source. What is old enough goes to `due`."""

    def __init__(self, connection: Connection, selection: Selection, terms: Terms, due: DueStore) -> None:
        self._connection = connection
        self._selection = selection
        self._terms = terms
        self._due = due
        self._began = time.monotonic_ns()
        self._waiting: list[Listing] = []
        self._stays = 0
        self.seen = Seen()

    @property
    def _now_ns(self) -> int:
        """The source's clock."""
        return self._terms.now_ns + time.monotonic_ns() - self._began

    async def folder(self, folder: bytes) -> None:
        """Looks at all that is below a folder. Raises MediasyncError."""
        seen, basis = self.seen, self._terms.policy.age_basis
        request = ScanRequest(folder, selection=self._selection, ages=basis is not AgeBasis.MODIFIED)
        asked_ns = self._now_ns
        path, pieces, waiting = b"", list[Sequence[FileEntry]](), 0
        ready: list[tuple[bytes, list[Sequence[FileEntry]], int]] = []
        async for record in self._connection.scan(request):
            if isinstance(record, DirectoryScanned):
                if pieces and record.path != path:
                    raise MediasyncError(Reason.SOURCE_PROTOCOL, f"the source did not say all of {display(path) or 'its root'}")
                path = record.path
                pieces.append(record.files)
                waiting += len(record.files)
                if record.more:
                    continue
                if any(pieces):
                    ready.append((path, pieces, self._now_ns))
                elif len(seen.empty_folders) < _MOST_EMPTY_FOLDERS:
                    seen.empty_folders.append(path)
                pieces = []
                if waiting >= _JUDGED_AT_ONCE:
                    await asyncio.to_thread(self._judge, ready)
                    ready, waiting = [], 0
            elif isinstance(record, DirectoryUnreadable):
                seen.unreadable_total += 1
                if len(seen.unreadable) < _MOST_STAYS:
                    seen.unreadable.append(record)
            elif isinstance(record, ScanFinished):
                seen.filtered += record.files_filtered
                seen.behind_ns = max(seen.behind_ns, asked_ns - record.started_ns)
        if pieces:
            raise MediasyncError(Reason.SOURCE_PROTOCOL, f"the source did not say all of {display(path) or 'its root'}")
        await asyncio.to_thread(self._judge, ready)

    def _judge(self, folders: Sequence[tuple[bytes, Sequence[Sequence[FileEntry]], int]]) -> None:
        aside: list[DueFiles] = []
        for path, pieces, looked_ns in folders:
            listing = Listing(path, pieces, self._terms.policy.age_basis, looked_ns)
            self.seen.listed += len(listing.files.names)
            judgement = judge(listing.files, self._terms)
            self.seen.count(judgement.kept)
            if judgement.groups:
                self.seen.due = True
                self.seen.listed_in[path] = len(listing.files.names)
            for some in self._aside(listing, judgement):
                aside += some
                if len(aside) >= _JUDGED_AT_ONCE:
                    self._due.add(aside)
                    aside = []
        if aside:
            self._due.add(aside)

    def _aside(self, listing: Listing, judgement: Judgement) -> Iterator[list[DueFiles]]:
        """What is put aside of a folder, some at a time."""
        files, groups, stays = listing.files, judgement.groups, judgement.stays
        for start in range(0, len(groups), _JUDGED_AT_ONCE):
            some = groups[start : start + _JUDGED_AT_ONCE]
            entries = listing.entries([place for group in some for place in group.places])
            yield [
                DueFiles(tuple(_due(entries[place], files.ages[place]) for place in group.places), group.age_ns, group.extra)
                for group in some
            ]
        shown = stays[: _MOST_STAYS - self._stays]
        self._stays += len(shown)
        self.seen.stays_left_out += len(stays) - len(shown)
        entries = listing.entries([stay.place for stay in shown])
        yield [
            DueFiles((_due(entries[stay.place], files.ages[stay.place], stay.reason, stay.message),), files.ages[stay.place])
            for stay in shown
        ]


def _due(entry: FileEntry, age_ns: int, kept: KeptReason | None = None, message: str = "") -> DueFile:
    return DueFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode, age_ns, kept, message, entry.ctime_ns)


def in_words(offset_seconds: float) -> str:
    """How far a clock is off."""
    minutes = abs(offset_seconds) / 60
    amount = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours" if minutes < 2880 else f"{minutes / 1440:.0f} days"
    return f"{amount} {'ahead of' if offset_seconds > 0 else 'behind'}"
