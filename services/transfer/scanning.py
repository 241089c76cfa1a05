"""Looking at one folder of a source, and holding what is there against the manifest: what is wanted, what is doubtful, what is gone.

A scan is exact by default: the far side answers only with what moved since the last one that was finished. It is full the first time,
once a day, when asked for, when another selection is in force than the last time (a filter that was taken away must bring the older
files), and when the far side's clock went back. Nothing is changed by a scan, here or there.

Memory: a note for each directory, and some thousand rows at a time; the files themselves go to a `WantedSpool`.

What it does not guarantee: that a scan is a snapshot, and that an in-place change in a tick of the far side's clock is told apart from
one in the tick before. Two seconds are looked at twice for that.
"""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import hashlib
import logging
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mediasync.errors import MediasyncError
from mediasync.sources.base import (
    Connection,
    DirectoryGone,
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    FileFiltered,
    ScanFinished,
    ScanRequest,
)
from mediasync.sources.packed import PackedFiles
from mediasync.sources.retries import Attempts
from mediasync.sources.selection import Selection
from services.transfer.diff import DirectoryDiff, RowState, diff_directory, directory_of, name_of
from services.transfer.entities import ManifestRow, ScanState
from services.transfer.parts import Parts
from services.transfer.spool import WantedSpool

FULL_SCAN_EVERY_SECONDS = 86_400
# No directory has this inode number, so a scan takes one that is on record with it for another and lists it in full.
LIST_IN_FULL = 0
# ctime comes from a clock of ticks of some milliseconds, and a file may have been changed just as it was looked at.
_WATERMARK_MARGIN_NS = 2_000_000_000
# A file that is absent because it just grew too old for the selection is not gone: so far our two clocks may differ.
_CLOCKS_DIFFER_SECONDS = 60.0
_PAGE_ROWS = 5_000

_logger = logging.getLogger(__name__)


def digest_of(selection: Selection) -> str:
    """Tells selections apart."""
    return hashlib.sha256(repr(selection).encode()).hexdigest()


@dataclass
class ScanResult:
    """What a scan of a folder found. `wanted` has to come; of `doubtful` the hash decides (`comparing`). `vanished` are names by directory,
    None for all of it. `seen` is what the next exact scan is told of each directory. The holder closes it."""

    wanted: WantedSpool
    doubtful: WantedSpool
    finished: ScanFinished = field(default_factory=lambda: ScanFinished(0, 0, 0))
    full: bool = False
    seen: dict[bytes, int] = field(default_factory=dict)
    unreadable: list[DirectoryUnreadable] = field(default_factory=list)
    vanished: dict[bytes, Sequence[bytes] | None] = field(default_factory=dict)

    @property
    def watermark_ns(self) -> int:
        """Since when changes are unknown after this scan, by the far side's clock."""
        return self.finished.started_ns - _WATERMARK_MARGIN_NS

    def close(self) -> None:
        """Gives the space back."""
        self.wanted.close()
        self.doubtful.close()


OnDirectory = Callable[[DirectoryScanned, DirectoryDiff, Sequence[FileEntry]], Awaitable[None]]
OnFiltered = Callable[[FileFiltered], Awaitable[None]]


def missing_copies(root: bytes, rows: Mapping[bytes, ManifestRow]) -> set[bytes]:
    """Source paths whose copies are not in the library. One that cannot be looked at is there."""
    found = set()
    for path, row in rows.items():
        try:
            os.lstat(os.path.join(root, row.library_path))
        except (FileNotFoundError, NotADirectoryError):
            found.add(path)
        except OSError:
            continue
    return found


class FolderScan:
    """Scans of one unit. One at a time.

    `on_directory` hears of each directory, or piece of one: the record, what it means, and the files not on record whose name and size the
    library has already, which may be adopted. `on_filtered` hears of what is no result, in a scan that explains. With
    `only` nothing else than these paths, and what is below them, is wanted. A wanted file that `offer` takes, as soon as it is found, is
    not in the result.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        on_directory: OnDirectory,
        on_filtered: OnFiltered | None = None,
        only: Sequence[bytes] | None = None,
        offer: Callable[[FileEntry], bool] = lambda entry: False,
    ) -> None:
        self._parts = parts
        self._options = parts.options
        self._on_directory = on_directory
        self._on_filtered = on_filtered
        self._only = frozenset(only) if only is not None else None
        self._offer = offer
        self._selection = parts.lanes.selection
        self._known_folders: dict[bytes, bool] = {}

    @property
    def selection(self) -> Selection:
        """What counts as a result."""
        return self._selection

    async def exact(self, on_attempt: Callable[[], Awaitable[None]]) -> ScanResult:
        """Looks at everything. Raises MediasyncError when the source is lost for good. `on_attempt` is awaited before each attempt."""
        attempts = Attempts(self._options)
        full = self._options.full_scan or self._options.restore or self._on_filtered is not None
        while True:
            try:
                await on_attempt()
                async with self._parts.lanes.pool.connection() as connection:
                    state = await self._parts.manifest.scan_state(self._parts.unit.origin, self._parts.unit.folder)
                    since = None if full or self._is_due(state) else state.watermark_ns
                    request = self._request(since, state.directories if since is not None else {})
                    result = await self.scan(connection, request)
                if since is not None and result.finished.started_ns < since:
                    # The far side's clock was put back: ctimes from before say nothing any more.
                    _logger.warning("the source's clock went back; listing everything")
                    result.close()
                    full = True
                    continue
                self._find_gone_directories(state.directories, result)
                return result
            except MediasyncError as error:
                delay = attempts.delay_after(error)
                _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay})
                self._parts.activity(str(attempts))
                await asyncio.sleep(delay)

    async def quick(self, connection: Connection, since_ns: int, known: Mapping[bytes, int]) -> ScanResult:
        """Looks only at the `known` directories, and at what is new in those that moved."""
        return await self.scan(connection, dataclasses.replace(self._request(since_ns, known), quick=True))

    def _request(self, since_ns: int | None, known: Mapping[bytes, int]) -> ScanRequest:
        return ScanRequest(self._parts.unit.folder, since_ns, known, selection=self._selection, explain=self._on_filtered is not None)

    def _is_due(self, state: ScanState) -> bool:
        return time.time() - state.full_scan_time > FULL_SCAN_EVERY_SECONDS or state.selection != digest_of(self._selection)

    async def scan(self, connection: Connection, request: ScanRequest) -> ScanResult:
        """One scan over one connection, compared."""
        scratch, newest_first = self._parts.scratch, self._options.newest_first
        result = ScanResult(WantedSpool(scratch, newest_first=newest_first), WantedSpool(scratch))
        result.full = request.changed_since_ns is None
        self._known_folders.clear()
        far_now = time.time() + connection.probe.clock_offset_seconds
        try:
            after: bytes | None = None
            async for record in connection.scan(request):
                if isinstance(record, DirectoryScanned):
                    after = await self._compare(record, after, result, far_now)
                elif isinstance(record, DirectoryUnreadable):
                    result.unreadable.append(record)
                elif isinstance(record, DirectoryGone):
                    result.vanished[record.path] = None
                elif isinstance(record, FileFiltered):
                    if self._on_filtered is not None:
                        await self._on_filtered(record)
                else:
                    result.finished = record
        except BaseException:
            result.close()
            raise
        return result

    async def _compare(self, record: DirectoryScanned, after: bytes | None, result: ScanResult, far_now: float) -> bytes | None:
        """Adds what a directory brings to `result`. Returns the name up to which a directory that comes in pieces was compared."""
        manifest, origin = self._parts.manifest, self._parts.unit.origin
        files = record.files
        packed = files if isinstance(files, PackedFiles) else None
        last = None
        if record.more and files:
            last = packed.last_name if packed else name_of(files[-1].path)
        if packed and record.complete and await manifest.holds(origin, record.path, after, last, packed):
            await self._take_in(record, DirectoryDiff([], [], [], packed), result, far_now)
        elif record.complete or record.names is not None:
            # A directory that was emptied may have a million rows and no file: they are read in pages.
            names = None if record.complete else frozenset(record.names or ())
            start, done = 0, False
            while not done:
                rows = await manifest.states(origin, record.path, after, last, _PAGE_ROWS)
                done = len(rows) < _PAGE_ROWS
                end = len(files) if done else bisect.bisect_right(files, rows[-1][0], start, key=lambda entry: name_of(entry.path))
                page = diff_directory(record.path, files[start:end], rows, complete=record.complete, names=names)
                await self._take_in(record, page, result, far_now)
                start = end
                after = rows[-1][0] if rows else after
        elif files:
            rows = await manifest.states_of(origin, record.path, [name_of(entry.path) for entry in files])
            await self._take_in(record, diff_directory(record.path, files, rows, complete=False), result, far_now)
        else:
            await self._on_directory(record, DirectoryDiff([], [], [], []), ())
        if record.young or result.seen.get(record.path) != LIST_IN_FULL or not record.more:
            result.seen[record.path] = LIST_IN_FULL if record.young else record.inode
        return last

    async def _take_in(self, record: DirectoryScanned, difference: DirectoryDiff, result: ScanResult, far_now: float) -> None:
        corrupt = await self._restore(difference) if self._options.restore else frozenset()
        if self._only is not None:
            difference.wanted[:] = filter(self._is_asked_for, difference.wanted)
            difference.doubtful[:] = filter(self._is_asked_for, difference.doubtful)
        there = await self._parts.run(self._in_library, difference.wanted) if difference.wanted else []
        if corrupt:
            # What the library has of them is nothing to compare with.
            there = [entry for entry in there if entry.path not in corrupt]
        if there:
            adopted = {entry.path for entry in there}
            difference.wanted[:] = [entry for entry in difference.wanted if entry.path not in adopted]
        await self._on_directory(record, difference, there)
        for entry in difference.wanted:
            if not self._offer(entry):
                result.wanted.add(entry)
        for entry in (*difference.doubtful, *there):
            result.doubtful.add(entry)
        gone = [row[0] for row in difference.vanished if not self._is_hidden(record.path, row, far_now)]
        if gone:
            result.vanished[record.path] = [*(result.vanished.get(record.path) or ()), *gone]

    def _is_asked_for(self, entry: FileEntry) -> bool:
        path = entry.path
        while path not in (self._only or ()):
            if not path:
                return False
            path = directory_of(path)
        return True

    def _is_hidden(self, directory: bytes, row: RowState, far_now: float) -> bool:
        """Whether a file on record is not listed because it is no result any more. It may be there or not."""
        path = directory + b"/" + row[0] if directory else row[0]
        age = far_now - row[2] / 1e9
        hidden = self._selection.file_reason(path, row[1], age) or self._selection.file_reason(path, row[1], age + _CLOCKS_DIFFER_SECONDS)
        return hidden is not None

    async def _restore(self, difference: DirectoryDiff) -> frozenset[bytes]:
        """Makes files wanted whose copies the owner deleted from the library, or of which its disk lost bytes. Returns the latter."""
        known = [*difference.unchanged, *difference.doubtful]
        rows = await self._parts.manifest.rows(self._parts.unit.origin, [entry.path for entry in known])
        library = self._parts.unit.origin.library
        missing = await self._parts.run(missing_copies, library.root, rows)
        copies = await self._parts.landings.corrupt(library, [row.library_path for row in rows.values()])
        corrupt = frozenset(path for path, row in rows.items() if row.library_path in copies)
        missing |= corrupt
        if missing:
            difference.wanted[:] = sorted(
                [*difference.wanted, *(entry for entry in known if entry.path in missing)], key=lambda entry: entry.path
            )
            difference.unchanged = [entry for entry in difference.unchanged if entry.path not in missing]
            difference.doubtful[:] = [entry for entry in difference.doubtful if entry.path not in missing]
        return corrupt

    def _in_library(self, entries: Sequence[FileEntry]) -> list[FileEntry]:
        """Those that the library has a file of that size for, under the same path."""
        root = self._parts.unit.origin.library.root
        found = []
        for entry in entries:
            folder = directory_of(entry.path)
            there = self._known_folders.get(folder)
            if there is None:
                there = self._known_folders[folder] = os.path.isdir(os.path.join(root, folder))
            if not there:
                continue
            try:
                status = os.lstat(os.path.join(root, entry.path))
            except OSError:
                continue  # nothing to compare with; landing says what is wrong, if something is
            if stat.S_ISREG(status.st_mode) and status.st_size == entry.size_bytes:
                found.append(entry)
        return found

    def _find_gone_directories(self, known: Mapping[bytes, int], result: ScanResult) -> None:
        """Directories on record that the scan did not report are gone, unless they are, or are below, one that could not be read or that
        is no result any more."""
        closed = {record.path for record in result.unreadable}
        closed_prefixes = tuple(path + b"/" if path else b"" for path in closed)
        for path in known:
            if path in result.seen:
                continue
            if path in closed or (closed_prefixes and path.startswith(closed_prefixes)):
                result.seen[path] = LIST_IN_FULL
            elif not self._is_hidden_folder(path):
                result.vanished[path] = None

    def _is_hidden_folder(self, path: bytes) -> bool:
        while path and path != self._parts.unit.folder:
            if self._selection.folder_reason(path) is not None:
                return True
            path = directory_of(path)
        return False
