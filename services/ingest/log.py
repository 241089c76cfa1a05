"""The event log as the rest of the service sees it: append at one end, read from anywhere, wait for its end to move.

Appends that come while one is being written go into the next transaction together, so that many publishers cost one flush to the disk.
The newest events stay in memory for those who keep up: ten subscriptions at the end of the log read nothing from the database. One log a
process, and one process a log: what another one appended would not be seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from mediasync.runtime import crash
from services.ingest.events import Filter, LogBounds, LoggedEvent, NewEvent
from services.ingest.filtering import wanted_of
from services.ingest.store import EventLogStore
from services.ingest.tail_cache import TailCache
from services.ingest.watermark import Watermark

_logger = logging.getLogger(__name__)

ADMITTED_CALLS = 4
"""Appends that are looked at together. The others wait, each within its own deadline, so that memory is bounded."""
GROUP_EVENTS = 4000
GROUP_BYTES = 32 << 20


@dataclass
class _Append:
    """One call's events, and where its answer goes."""

    events: Sequence[NewEvent]
    size_bytes: int
    numbers: asyncio.Future[list[int]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class EventLog:
    """Appends and reads events; `tail` is the last sequence number, `first` the oldest that is kept, or the next one."""

    def __init__(self, store: EventLogStore, bounds: LogBounds) -> None:
        self.tail = Watermark(bounds.last)
        self.first = bounds.first
        self._store = store
        self._cache = TailCache(bounds.last)
        self._admitted = asyncio.Semaphore(ADMITTED_CALLS)
        self._queue: list[_Append] = []
        self._writing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, store: EventLogStore) -> EventLog:
        """The log in `store`."""
        return cls(store, await store.bounds())

    async def append(self, events: Sequence[NewEvent]) -> list[int]:
        """Appends `events`, durably, and wakes the deliveries. Returns the sequence number of each; an id that was there keeps its own.

        A caller that is cancelled meanwhile does not know whether they were appended and repeats the call.
        """
        async with self._admitted:
            entry = _Append(events, sum(len(event.payload) for event in events))
            self._queue.append(entry)
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_queued(), name="append to the event log")
            return await entry.numbers

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """At most `limit` wanted events after `after`, before `max_bytes` of payload but for the first, and up to where was read. That
        may be short of the end also when nothing was wanted: read on from there."""
        found = self._cache.read(after, wanted.kinds, limit, max_bytes)
        if found is None:
            found = await self._store.read(after, wanted.kinds, limit, max_bytes)
        events, read_to = found
        return events if wanted.plain else wanted_of(events, wanted), read_to

    async def by_sequences(self, sequences: Sequence[int]) -> list[LoggedEvent]:
        """Those of these events that are still there, in order."""
        return await self._store.by_sequences(sequences)

    async def prune(self, upto: int, limit: int) -> int:
        """Deletes at most `limit` events from the oldest on, none after `upto`; how many. Whoever needs them was told before."""
        # First, so that nobody believes to have read what goes away under the reading.
        before = self.first
        self.first = min(upto, self.tail.value, before + limit - 1) + 1
        pruned = await self._store.prune(upto, limit)
        self.first = before + pruned
        return pruned

    async def _write_queued(self) -> None:
        """Writes until nothing is queued. Of this task, not of a caller: one that goes away must not take the others' events along."""
        try:
            while self._queue:
                await self._write(self._next_group())
        finally:
            self._writing = None

    def _next_group(self) -> list[_Append]:
        count = events = size = 0
        for entry in self._queue:
            events += len(entry.events)
            size += entry.size_bytes
            if count and (events > GROUP_EVENTS or size > GROUP_BYTES):
                break
            count += 1
        group, self._queue = self._queue[:count], self._queue[count:]
        return group

    async def _write(self, group: Sequence[_Append]) -> None:
        try:
            crash.point("ingest.before_append")
            numbers, rows = await self._store.append([event for entry in group for event in entry.events])
        except BaseException as error:
            for entry in group:
                if not entry.numbers.done():
                    entry.numbers.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        crash.point("ingest.after_append")
        newest = max(numbers, default=0)
        # An append of before that was not known to have been done, and had been, left others between what is held and these.
        gap = newest > self.tail.value and newest - self.tail.value != len(rows)
        try:
            if not gap:
                self._cache.add(rows)
        except Exception:
            # They are in the database: nobody who waits for that may suffer for what holds the newest in memory.
            _logger.exception("the newest events cannot be held in memory")
            gap = True
        if gap:
            self._cache = TailCache(newest)
        at = 0
        for entry in group:
            if not entry.numbers.done():
                entry.numbers.set_result(numbers[at : at + len(entry.events)])
            at += len(entry.events)
        if newest > self.tail.value:
            self.tail.advance(newest)
