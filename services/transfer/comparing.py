"""Which of the doubtful files the library has already: their hashes are asked of the far side, and no other byte crosses the line.

Doubtful are files that are on record with the same size and have moved otherwise, and files that are not on record and have a namesake of
the same size in the library: one filled by rsync for years, or by the same source under another name (*adoption*). The hash from the far
side is compared with the one on record, or with that of the library's own file. Equal: it is known from now on, without having been
moved. Otherwise, and where the far side cannot hash, it is pulled like any other.

A copy that the owner deleted or edited stays as it is: what counts for a file on record is what was taken, not what became of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import FileEntry, FileHashed, ReadStatus, WantedFile
from mediasync.sources.retries import Attempts
from mediasync.storage.library_marker import library_error
from services.transfer import messages
from services.transfer.entities import LandedFile, LandingKind
from services.transfer.groups import first_error
from services.transfer.hashing import sha256_of
from services.transfer.parts import Parts
from services.transfer.spool import WantedSpool

_BATCH_FILES = 256
_BATCH_BYTES = 256 << 20
_COMMIT_FILES = 512

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Expected:
    """A file and the hash that it has if it is known. `library_path` is the namesake to adopt; None for a file on record."""

    entry: FileEntry
    sha256: bytes
    library_path: bytes | None


class Comparison:
    """One comparison of a list of files. `on_wanted` hears of each that has to be pulled after all."""

    def __init__(self, parts: Parts, on_wanted: Callable[[FileEntry], None]) -> None:
        self._parts = parts
        self._on_wanted = on_wanted
        self._batches: Iterator[Sequence[FileEntry]] = iter(())
        self._returned: deque[list[_Expected]] = deque()
        self._cannot = False
        self._done = 0
        self._known = 0
        self._files = 0

    async def run(self, doubtful: WantedSpool, wanted: WantedSpool) -> int:
        """Adds to `wanted` what is not known, and remembers the rest. Returns how many files are known. Raises MediasyncError."""
        self._files = doubtful.files
        self._batches = doubtful.batches(_BATCH_FILES, _BATCH_BYTES)
        count = min(self._parts.options.parallel_transfers, 1 + doubtful.files // _BATCH_FILES)
        with first_error():
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(self._compare(wanted), name=f"compare {number}")
        return self._known

    async def _compare(self, wanted: WantedSpool) -> None:
        """One connection's work, over as many reconnects as it takes."""
        attempts = Attempts(self._parts.options)
        while (first := await self._next_batch(wanted)) is not None:
            if self._cannot:
                self._pull(first, wanted)
                continue
            pending: deque[_Expected] = deque(first)
            known: list[_Expected] = []
            try:
                async with self._parts.lanes.pool.connection() as connection:
                    batches = self._feed(first, pending, wanted)
                    async for outcome in connection.hash_files(batches, selection=self._parts.lanes.selection):
                        self._settle(pending.popleft(), outcome, known, wanted)
                        attempts.succeeded()
                        if len(known) >= _COMMIT_FILES:
                            await self._remember(known)
            except MediasyncError as error:
                if error.reason is Reason.ENGINE_CANNOT:
                    self._cannot = True
                    self._pull(pending, wanted)
                    continue
                delay = attempts.delay_after(error)
                _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay, "files_left": len(pending)})
                self._parts.activity(str(attempts))
                self._returned.append(list(pending))
                await asyncio.sleep(delay)
            finally:
                await self._remember(known)

    async def _feed(
        self, first: Sequence[_Expected], pending: deque[_Expected], wanted: WantedSpool
    ) -> AsyncIterator[Sequence[WantedFile]]:
        yield [_asked(item.entry) for item in first]
        while (batch := await self._next_batch(wanted)) is not None:
            pending.extend(batch)
            yield [_asked(item.entry) for item in batch]

    async def _next_batch(self, wanted: WantedSpool) -> list[_Expected] | None:
        """The next files that can be compared at all."""
        if self._returned:
            return self._returned.popleft()
        while (entries := next(self._batches, None)) is not None:
            batch = await self._expectations(entries, wanted)
            if batch:
                return batch
        return None

    async def _expectations(self, entries: Sequence[FileEntry], wanted: WantedSpool) -> list[_Expected]:
        library = self._parts.unit.origin.library
        rows = await self._parts.manifest.rows(self._parts.unit.origin, [entry.path for entry in entries])
        others = [entry for entry in entries if entry.path not in rows]
        indexed = await self._parts.landings.indexed(library, [entry.path for entry in others])
        adopted = dict(
            await asyncio.gather(*(self._parts.run(_namesake, library.root, entry, indexed.get(entry.path)) for entry in others))
        )
        batch = []
        for entry in entries:
            row = rows.get(entry.path)
            namesake = adopted.get(entry.path)
            if row is not None and row.size_bytes == entry.size_bytes:
                batch.append(_Expected(entry, row.sha256, None))
            elif namesake is not None:
                batch.append(_Expected(entry, namesake, entry.path))
            else:
                self._want(entry, wanted)
        return batch

    def _settle(self, item: _Expected, outcome: FileHashed, known: list[_Expected], wanted: WantedSpool) -> None:
        if outcome.status is ReadStatus.OK and outcome.sha256 == item.sha256:
            known.append(replace(item, entry=outcome.entry or item.entry))
            self._done += 1
            self._parts.activity(f"comparing with the library ({self._done:,} of {self._files:,} files)")
        else:
            # What is wrong with it, if something is, the pull will say.
            self._want(item.entry, wanted)

    def _pull(self, items: Sequence[_Expected] | deque[_Expected], wanted: WantedSpool) -> None:
        for item in items:
            self._want(item.entry, wanted)

    def _want(self, entry: FileEntry, wanted: WantedSpool) -> None:
        self._done += 1
        wanted.add(entry)
        self._on_wanted(entry)

    async def _remember(self, known: list[_Expected]) -> None:
        """Commits what was found equal, and forgets it here."""
        items = list(known)
        known.clear()
        self._known += len(items)
        unit = self._parts.unit
        await self._parts.manifest.refresh(unit.origin, [item.entry for item in items if item.library_path is None])
        adopted = [
            LandedFile(item.entry, item.library_path, item.sha256, LandingKind.KNOWN) for item in items if item.library_path is not None
        ]
        if adopted:
            label, library = unit.origin.source_label, unit.origin.library
            await self._parts.landings.commit_landed(unit, adopted, lambda file: messages.file_synced(unit.sync_id, library, label, file))
            await self._parts.on_committed()


def _asked(entry: FileEntry) -> WantedFile:
    return WantedFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode)


def _namesake(root: bytes, entry: FileEntry, indexed: tuple[int, int, bytes] | None) -> tuple[bytes, bytes | None]:
    """The path of `entry`, and the hash of the library's file of that path and size; None if there is none. What the index says is
    believed of a file that has not moved since."""
    path = os.path.join(root, entry.path)
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size_bytes:
            return entry.path, None
        if indexed is not None and indexed[:2] == (status.st_size, status.st_mtime_ns):
            return entry.path, indexed[2]
        return entry.path, sha256_of(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return entry.path, None
    except OSError as error:
        raise library_error(error, root) from error
