"""The newest events of the log in memory, shared by all who read at its end. Pure data."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.ingest.events import LoggedEvent

MAX_EVENTS = 20_000
MAX_BYTES = 16 << 20


class TailCache:
    """Events without a gap up to the log's end, which is `end` at first. Reading costs no copy of them."""

    def __init__(self, end: int) -> None:
        self._events: list[LoggedEvent] = []
        self._after = end
        """The number before the first that is held."""
        self._bytes = 0

    def add(self, events: Sequence[LoggedEvent]) -> None:
        """They were appended, in order."""
        self._events += events
        self._bytes += sum(len(event.payload) for event in events)
        if len(self._events) > MAX_EVENTS or self._bytes > MAX_BYTES:
            self._shrink()

    def read(self, after: int, kinds: Collection[int], limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int] | None:
        """As `EventLogStore.read`; None when it begins before what is held."""
        start = after - self._after
        if start < 0:
            return None
        found: list[LoggedEvent] = []
        size = 0
        # A slice first: those who keep up take a few of thousands.
        for event in self._events[start : start + limit] if not kinds else self._events[start:]:
            if kinds and event.kind not in kinds:
                continue
            size += len(event.payload)
            if (found and size > max_bytes) or len(found) == limit:
                return found, found[-1].sequence
            found.append(event)
        if len(found) == limit:
            return found, found[-1].sequence
        return found, max(after, self._after + len(self._events))

    def _shrink(self) -> None:
        # To three quarters, so that it is not done for every append.
        dropped = max(0, len(self._events) - MAX_EVENTS * 3 // 4)
        size = self._bytes - sum(len(event.payload) for event in self._events[:dropped])
        while size > MAX_BYTES * 3 // 4:
            size -= len(self._events[dropped].payload)
            dropped += 1
        del self._events[:dropped]
        self._after += dropped
        self._bytes = size
