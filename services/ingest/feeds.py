"""What a delivery reads from: the log, and now and then a side feed, which is sent to its end before the log goes on.

`LoggedEvent.sequence` is the place in the feed, so that it grows from one event to the next; what the subscriber sees is in the payload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from services.ingest.events import DeadLetter, Filter, LoggedEvent
from services.ingest.watermark import Watermark

Bury = Callable[[Sequence[DeadLetter]], Awaitable[None]]
"""Keeps dead letters, durably."""


class Feed(Protocol):
    """Events in an order of their own."""

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[Sequence[LoggedEvent], int]:
        """At most `limit` events that are wanted, behind `after`, and up to where was read. Stops before `max_bytes` of payload, but
        gives one event at least if there is one."""


class Log(Feed, Protocol):
    """The event log."""

    tail: Watermark
    """Its last sequence number."""

    @property
    def first(self) -> int:
        """The sequence number of the oldest event that is kept; the next one's when there is none."""

    async def by_sequences(self, sequences: Sequence[int]) -> list[LoggedEvent]:
        """Those of these events that are still there, in order."""


class Side(Feed, Protocol):
    """Events that a subscription is sent apart from the log. It comes to an end, and keeps how far it was dealt with by itself."""

    @property
    def position(self) -> int:
        """Everything up to and including it was dealt with."""

    def ended(self, read_to: int) -> bool:
        """Whether nothing comes behind `read_to`."""

    async def moved(self, position: int, accepted: Sequence[LoggedEvent]) -> None:
        """Everything up to `position` is dealt with. `accepted` since the last time; what is missing there was skipped or buried."""

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps dead letters of it, durably. `letters[i].event.sequence` is the place in this feed."""

    async def finished(self) -> None:
        """All of it was dealt with. It is not used any more."""
