"""Taking files that are in a library already into its index: a tree that rsync filled for years becomes a library, with no byte moved.

First comes a verify that reads nothing: it says which files are unknown, and follows those that were only moved. These unknown ones are
then hashed and put on record, with the events and processing tasks that landed files have. Cut off at any point, the next adoption does
what is left: what is on record is not unknown any more.

Syncs that go on meanwhile come first: the processing tasks wait behind theirs, and no more than some hundred events are put in front of
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mediasync.library import AdoptSummary, FindingKind, LibraryProgress
from mediasync.runtime import crash
from mediasync.runtime.notices import Notice
from mediasync.sources.base import FileEntry
from mediasync.storage.library_reading import LibraryReader
from services.transfer import messages
from services.transfer.adoption_store import AdoptionStore
from services.transfer.entities import LandedFile, LandingKind, LibraryId
from services.transfer.library_store import LibraryStore, Own, Recorded

SOURCE_KEY = "adopted:"
SOURCE_LABEL = "adopted"
"""What the catalog shows as the source of adopted files."""

_GROUP_FILES = 500
_GROUP_BYTES = 1 << 30
_MOST_UNSENT = 2 * _GROUP_FILES
_LONGEST_WAIT_SECONDS = 1.0
_UNKNOWN = (FindingKind.UNKNOWN,)


class Adoption:
    """The second half of an adoption: puts a library's unknown files on record. `sent` is announced when events left the outbox."""

    def __init__(
        self,
        library: LibraryId,
        store: LibraryStore,
        adoptions: AdoptionStore,
        executor: ThreadPoolExecutor,
        run_id: str,
        origin: int,
        committed: Notice,
        sent: Notice,
        on_progress: Callable[[LibraryProgress], None],
    ) -> None:
        self._library = library
        self._store = store
        self._adoptions = adoptions
        self._reader = LibraryReader(library.root, executor)
        self._run_id = run_id
        self._origin = origin
        self._committed = committed
        self._sent = sent
        self._on_progress = on_progress

    async def run(self) -> AdoptSummary:
        """Adopts everything that is unknown. Raises MediasyncError."""
        files_total = (await self._store.counts(self._library)).get(FindingKind.UNKNOWN, 0)
        bytes_total = await self._adoptions.unknown_bytes(self._library)
        files = size = unsettled = 0
        after = b""

        def report() -> None:
            read = self._reader.bytes_read
            self._on_progress(LibraryProgress("adopting", files + unsettled, files_total, read, max(read, bytes_total)))

        report()
        while page := await self._store.findings(self._library, _UNKNOWN, after, _GROUP_FILES):
            page = _bounded(page)
            after = page[-1].path
            reads = await self._reader.read([(item.path, item.size_bytes) for item in page], report)
            whole = [Own(read.path, read.size_bytes, read.mtime_ns, read.sha256) for read in reads if read.sha256 and read.settled]
            unreadable = [
                Recorded(item.path, FindingKind.UNREADABLE, item.size_bytes, item.mtime_ns, message=read.error)
                for item, read in zip(page, reads, strict=True)
                if read.error
            ]
            gone = [read.path for read in reads if read.sha256 is None and not read.error]
            unsettled += sum(not read.settled for read in reads)
            crash.point("transfer.before_adopt")
            added = await self._adoptions.adopt(self._library, self._run_id, self._origin, whole, self._event, extract_metadata=True)
            await self._store.replace(self._library, gone, unreadable)
            files, size = files + added[0], size + added[1]
            report()
            await self._committed.announce()
            await self._room()
        return AdoptSummary(files_adopted=files, bytes_adopted=size, files_unsettled=unsettled)

    def _event(self, file: Own) -> bytes:
        entry = FileEntry(file.path, file.size_bytes, file.mtime_ns, 0, 0)
        landed = LandedFile(entry, file.path, file.sha256, LandingKind.KNOWN)
        return messages.file_synced(self._run_id, self._library, SOURCE_LABEL, landed)

    async def _room(self) -> None:
        """Waits a moment while many events are still to be sent: those of a sync wait in the same line."""
        seen = self._sent.count
        if await self._adoptions.unsent(_MOST_UNSENT) >= _MOST_UNSENT:
            await self._sent.wait_past(seen, _LONGEST_WAIT_SECONDS)


async def settled_events(store: AdoptionStore, sent: Notice, seconds: float) -> None:
    """Waits until the event log has everything, for a while."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                seen = sent.count
                if not await store.unsent(1):
                    return
                await sent.wait_past(seen, _LONGEST_WAIT_SECONDS)
    except TimeoutError:
        return  # it goes on behind our back


def _bounded(page: list[Recorded]) -> list[Recorded]:
    """The first files of a page, not more than can be read in a while."""
    size = 0
    for index, item in enumerate(page):
        size += item.size_bytes
        if size >= _GROUP_BYTES:
            return page[: index + 1]
    return page
