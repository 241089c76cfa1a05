"""Wanted files on their way from a scan to the pull, while the scan still runs: a long line is not left idle for as long as a look takes.

What a scan finds waits here, as much as keeps the lanes busy for a moment, and is handed out in batches; the rest goes to the scan's spool,
which follows once the scan is complete. A scan that breaks takes back what was not handed out, and what was is settled before the next
attempt begins, so that no file is asked for twice.

What it does not guarantee: an order among folders. What waits here is in the order in which it was found; only the spool lets them take
turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mediasync.model import SyncOptions
from mediasync.sources.base import FileEntry, WantedFile
from services.transfer.receiving.lanes import is_large
from services.transfer.spool import WantedSpool

BATCH_FILES = 128
BATCH_BYTES = 8 << 20
# About what a line of 1 Gbit/s carries in a second, and more than a pull needs to count as a large one.
_WAITING_FILES = 2048
_WAITING_BYTES = 128 << 20


class WantedFlow:
    """The files of one pull. `files` and `size_bytes` are what it has been given so far and did not have to give back.

    `known_since` says since when the list is complete, by the monotonic clock, and `rest_bytes` how much of it was to be asked for then.
    `on_handed_out` hears of each file that is asked for before the list is complete.
    """

    def __init__(self, options: SyncOptions, on_handed_out: Callable[[FileEntry], None] = lambda entry: None) -> None:
        self._options = options
        self._on_handed_out = on_handed_out
        self._waiting: deque[FileEntry] = deque()
        self._waiting_bytes = 0
        self._returned: deque[Sequence[WantedFile]] = deque()
        self._rest: Iterator[Sequence[FileEntry]] = iter(())
        self._changed = asyncio.Event()
        self._held = False
        self._complete = False
        self._unsettled = 0
        self.begun = False
        """So much is wanted that its pull need not wait for the scan's end."""
        self.files = 0
        self.size_bytes = 0
        self.known_since = float("inf")
        self.rest_bytes = 0

    @classmethod
    def of(cls, wanted: WantedSpool, options: SyncOptions) -> WantedFlow:
        """One whose list is complete."""
        flow = cls(options)
        flow.complete(wanted)
        return flow

    # The scan's end.

    def offer(self, entry: FileEntry) -> bool:
        """Takes a file, if there is room for it."""
        if len(self._waiting) >= _WAITING_FILES or self._waiting_bytes >= _WAITING_BYTES:
            return False
        self._waiting.append(entry)
        self._waiting_bytes += entry.size_bytes
        self.files += 1
        self.size_bytes += entry.size_bytes
        self.begun = self.begun or is_large(self.files, self.size_bytes)
        self._changed.set()
        return True

    def take_back(self) -> Sequence[FileEntry]:
        """What was not handed out; it does not belong to this pull any more."""
        taken = list(self._waiting)
        self._waiting.clear()
        self.files -= len(taken)
        self.size_bytes -= self._waiting_bytes
        self._waiting_bytes = 0
        return taken

    async def settle(self) -> None:
        """Returns once everything that was handed out is settled. Nothing new is handed out meanwhile."""
        self._held = True
        try:
            self._changed.set()
            while self._unsettled:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._held = False

    def complete(self, rest: WantedSpool) -> None:
        """The list is complete with what is in `rest`."""
        self._rest = rest.batches(BATCH_FILES, BATCH_BYTES)
        self._complete = True
        self.files += rest.files
        self.size_bytes += rest.size_bytes
        self.rest_bytes = self._waiting_bytes + rest.size_bytes
        self.known_since = time.monotonic()
        self._changed.set()

    def close(self) -> None:
        """Nothing comes any more, of a pull that was never begun."""
        self._complete = True
        self._changed.set()

    # The pull's end.

    async def large(self) -> bool:
        """Whether the pull should begin; waits until that is known."""
        while not self.begun and not self._complete:
            self._changed.clear()
            await self._changed.wait()
        return self.begun

    async def next(self, wait_seconds: float | None = None) -> Sequence[WantedFile] | None:
        """The next batch. None when there is none any more, or none came within `wait_seconds`."""
        try:
            async with asyncio.timeout(wait_seconds):
                while (batch := self._next()) is None:
                    if self._complete or (self._held and wait_seconds is not None):
                        return None
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return batch

    def _next(self) -> Sequence[WantedFile] | None:
        if self._returned:
            return self._returned.popleft()
        entries: Sequence[FileEntry] | None = None if self._held else (self._waited() or next(self._rest, None))
        if not entries:
            return None
        self._unsettled += len(entries)
        settle, incomplete = self._options.settle_seconds, self._options.incomplete_after_seconds
        return [WantedFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode, settle, incomplete) for entry in entries]

    def _waited(self) -> Sequence[FileEntry]:
        batch: list[FileEntry] = []
        batch_bytes = 0
        while self._waiting and len(batch) < BATCH_FILES and batch_bytes < BATCH_BYTES:
            entry = self._waiting.popleft()
            batch.append(entry)
            batch_bytes += entry.size_bytes
            if not self._complete:
                self._on_handed_out(entry)
        self._waiting_bytes -= batch_bytes
        return batch

    def give_back(self, files: Sequence[WantedFile]) -> None:
        """Files of a batch that were not answered: a lane broke."""
        self._returned.append(files)
        self._changed.set()

    def settled(self, files: int) -> None:
        """So many have their outcome: they are committed, or it is known why not."""
        self._unsettled -= files
        if not self._unsettled:
            self._changed.set()
