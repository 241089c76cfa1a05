"""The event log as the rest of the service sees it: append at one end, read from anywhere, wait for its end to move."""

from __future__ import annotations

from collections.abc import Sequence

from mediasync.runtime import crash
from services.ingest.events import Filter, LoggedEvent, NewEvent
from services.ingest.sqlite_store import SqliteEventStore
from services.ingest.watermark import Watermark


class EventLog:
    """Appends and reads events; `tail` is the last sequence number."""

    def __init__(self, store: SqliteEventStore, end: int) -> None:
        self.tail = Watermark(end)
        self._store = store

    @classmethod
    async def open(cls, store: SqliteEventStore) -> EventLog:
        """The log in `store`."""
        return cls(store, await store.end())

    async def append(self, events: Sequence[NewEvent]) -> list[int]:
        """Appends `events`, durably, and wakes the deliveries. Returns the sequence number of each; an id that was there keeps its own.

        A caller that is cancelled meanwhile does not know whether they were appended and repeats the call, which then also wakes.
        """
        sequences, end = await self._store.append(events)
        crash.point("ingest.after_append")
        self.tail.advance(end)
        return sequences

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """See `EventStore.read`. Of `wanted` only the kinds count."""
        return await self._store.read(after, wanted.kinds, limit, max_bytes)
