"""The second half of a verify: what was found is looked at once more, moves are followed, and lost files get the name of their source."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from mediasync.library import FindingKind, LibraryProgress, VerifyOptions
from mediasync.runtime import crash
from mediasync.storage.library_reading import LibraryReader
from services.transfer.diff import name_of
from services.transfer.entities import LibraryId
from services.transfer.judging import judge_read
from services.transfer.library_store import IndexedFile, LibraryStore, Own, Recorded
from services.transfer.repair_store import RepairStore

_PAGE = 1000
_MOST_ALIKE = 1000
_GONE = (FindingKind.MISSING, FindingKind.CULLED)
_LOST = (FindingKind.MISSING, FindingKind.CORRUPT)

Follow = Callable[[Sequence[tuple[Recorded, Own]]], Awaitable[None]]
"""Files that are on record at one path were found at another: everything that is remembered of them goes along."""


class Settling:
    """Settles the findings of one library that are on record."""

    def __init__(
        self,
        library: LibraryId,
        store: LibraryStore,
        repairs: RepairStore,
        reader: LibraryReader,
        options: VerifyOptions,
        follow: Follow,
        check_marker: Callable[[], None],
        on_progress: Callable[[LibraryProgress], None],
    ) -> None:
        self._library = library
        self._store = store
        self._repairs = repairs
        self._reader = reader
        self._options = options
        self._follow = follow
        self._check_marker = check_marker
        self._on_progress = on_progress

    async def run(self, *, thorough: bool) -> None:
        """Everything. When `thorough`, files that were changed, corrupt or unreadable are read again. Raises MediasyncError."""
        self._on_progress(LibraryProgress("looking once more at what was found"))
        async for page in self._pages(tuple(FindingKind)):
            await self._look_again(page, thorough=thorough)
        await self._follow_moves()
        if self._options.accept:
            await self._accept()
        async for page in self._pages(_LOST):
            await self._repairs.name_sources(self._library, page)

    async def _pages(self, kinds: Sequence[FindingKind]) -> AsyncIterator[list[Recorded]]:
        after = b""
        while page := await self._store.findings(self._library, kinds, after, _PAGE, self._options.below):
            yield page
            after = page[-1].path

    async def _look_again(self, page: Sequence[Recorded], *, thorough: bool) -> None:
        unknown = [item.path for item in page if item.kind is FindingKind.UNKNOWN]
        landing = await self._store.landing_now(self._library, unknown) if unknown else set()
        rows = await self._store.indexed_of(self._library, [item.path for item in page])
        there = await asyncio.to_thread(self._stats, page)
        await asyncio.to_thread(self._check_marker)
        settled: list[bytes] = []
        again: list[tuple[IndexedFile, bool]] = []
        for item, status in zip(page, there, strict=True):
            row = rows.get(item.path)
            if item.kind is FindingKind.UNKNOWN:
                if row is not None or item.path in landing or status is None:
                    settled.append(item.path)
            elif item.kind in _GONE:
                if row is None or status is not None:
                    settled.append(item.path)
            elif item.kind is FindingKind.MOVED:
                continue
            elif row is None:
                # A folder that could not be listed, or a row that is gone: only a walk can say more.
                if item.kind is not FindingKind.UNREADABLE:
                    settled.append(item.path)
            elif status is None:
                settled.append(item.path)
            elif not stat.S_ISREG(status.st_mode):
                continue
            elif thorough or row.sha256 != item.sha256:
                # Read again, or landed anew since it was judged.
                again.append((row, (status.st_size, status.st_mtime_ns) == row.expected[:2]))
        findings: list[Recorded] = []
        own: list[Own] = []
        if again:
            reads = await self._reader.read([(row.path, row.size_bytes) for row, _ in again])
            for (row, same_time), read in zip(again, reads, strict=True):
                verdict = judge_read(row, read, same_time=same_time)
                if isinstance(verdict, Recorded):
                    findings.append(verdict)
                    continue
                settled.append(row.path)
                if verdict is not None:
                    own.append(verdict)
        await self._store.replace(self._library, settled, findings, own)

    def _stats(self, page: Sequence[Recorded]) -> list[os.stat_result | None]:
        """How each is on the disk; None for one that is not there."""
        found: list[os.stat_result | None] = []
        for item in page:
            try:
                found.append(os.lstat(os.path.join(self._library.root, item.path)))
            except OSError:
                found.append(None)
        return found

    async def _follow_moves(self) -> None:
        """Unknown files that are, byte for byte, one that is gone."""
        after = b""
        while page := await self._store.possibly_moved(self._library, after, _PAGE):
            after = page[-1].path
            self._on_progress(LibraryProgress("looking for files that were moved", files_total=len(page)))
            reads = await self._reader.read([(item.path, item.size_bytes) for item in page])
            taken: set[bytes] = set()
            alike: dict[int, list[Recorded]] = {}
            moves: list[tuple[Recorded, Own]] = []
            for read in reads:
                if read.sha256 is None or not read.settled:
                    continue
                if read.size_bytes not in alike:
                    alike[read.size_bytes] = await self._store.gone_of_size(self._library, read.size_bytes, _MOST_ALIKE)
                same = [item for item in alike[read.size_bytes] if item.sha256 == read.sha256 and item.path not in taken]
                if same:
                    # Of several with the same bytes, the one that kept its name.
                    gone = min(same, key=lambda item: name_of(item.path) != name_of(read.path))
                    taken.add(gone.path)
                    moves.append((gone, Own(read.path, read.size_bytes, read.mtime_ns, read.sha256)))
            if moves:
                await asyncio.to_thread(self._check_marker)
                await self._follow(moves)
                crash.point("transfer.after_follow")

    async def _accept(self) -> None:
        """What is gone is meant to be, and what was edited is right as it is."""
        async for page in self._pages((FindingKind.MISSING,)):
            await self._store.cull(self._library, [item.path for item in page])
        async for page in self._pages((FindingKind.CHANGED,)):
            there = await asyncio.to_thread(self._stats, page)
            regular = [item for item, status in zip(page, there, strict=True) if status is not None and stat.S_ISREG(status.st_mode)]
            reads = await self._reader.read([(item.path, item.size_bytes) for item in regular])
            own = [Own(read.path, read.size_bytes, read.mtime_ns, read.sha256) for read in reads if read.sha256 and read.settled]
            await self._store.replace(self._library, [item.path for item in own], own=own)
