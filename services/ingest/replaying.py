"""Where a subscription starts, and what it is sent apart from the log: the events of a sync again, or its own queue of retried dead
letters and repairs.

A side feed has places of its own, and ends.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mediasync.errors import FieldViolation, MediasyncError, Reason
from services.ingest import framing
from services.ingest.events import DeadLetter, Filter, LoggedEvent, SideFeed
from services.ingest.filtering import wanted_of
from services.ingest.log import EventLog
from services.ingest.store import EventStore

END = 1 << 62
"""The end of a side feed whose length nobody knows beforehand."""


class StartKind(enum.Enum):
    """From where a subscription is told."""

    NEXT = "next"
    BEGINNING = "beginning"
    SEQUENCE = "sequence"
    SINCE = "since"
    SNAPSHOT = "snapshot"
    LAST = "last"


@dataclass(frozen=True)
class Start:
    """A place to start from. `argument` is the sequence number, the Unix time in ns, or how many before the next one."""

    kind: StartKind = StartKind.NEXT
    argument: int = 0


async def cursor_at(start: Start, log: EventLog, store: EventStore) -> int:
    """The cursor of one that starts there; for a snapshot the log's end. Raises INVALID_ARGUMENT, and SUBSCRIBER_TOO_FAR_BEHIND for a
    sequence number that is no longer kept."""
    oldest, end = log.first - 1, log.tail.value
    match start.kind:
        case StartKind.BEGINNING:
            return oldest
        case StartKind.SEQUENCE:
            if start.argument > end + 1:
                what = f"at most {end + 1}, the next one's"
                raise MediasyncError(
                    Reason.INVALID_ARGUMENT, f"the sequence number must be {what}", fields=[FieldViolation("sequence", what)]
                )
            check_kept(start.argument, log)
            return start.argument - 1
        case StartKind.SINCE:
            return await store.sequence_since(start.argument) - 1
        case StartKind.LAST:
            return max(oldest, end - max(0, start.argument))
    return end


def check_kept(sequence: int, log: EventLog) -> None:
    """Raises SUBSCRIBER_TOO_FAR_BEHIND when an event is no longer kept."""
    if sequence < log.first:
        raise MediasyncError(
            Reason.SUBSCRIBER_TOO_FAR_BEHIND,
            f"event {sequence} is no longer kept; the first one that is has number {log.first}",
            metadata={"first": str(log.first)},
        )


class Content(Protocol):
    """Events with places of their own, which come to an end."""

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[Sequence[LoggedEvent], int]:
        """See `feeds.Feed`."""

    def ended(self, read_to: int) -> bool:
        """Whether nothing comes behind `read_to`."""


class SyncContent:
    """The events of a sync, and what came of its files since, up to the log's end at that time: a file's last word comes last."""

    def __init__(self, store: EventStore, sync_id: str, until: int) -> None:
        self._store = store
        self._sync_id = sync_id
        self._until = until

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[Sequence[LoggedEvent], int]:
        """See `feeds.Feed`."""
        events, read_to = await self._store.read_of_sync(self._sync_id, after, self._until, limit, max_bytes)
        return wanted_of(events, wanted), read_to

    def ended(self, read_to: int) -> bool:
        """Whether nothing comes behind `read_to`."""
        return read_to >= self._until


class ReplayFeed:
    """A snapshot or a sync that one subscription is sent. How far it is survives a restart, as far as the disk was told."""

    def __init__(self, store: EventStore, name: str, side: SideFeed, content: Content, over: Callable[[], None]) -> None:
        self.side = side
        self._over = over
        self._store = store
        self._name = name
        self._content = content

    @property
    def position(self) -> int:
        """Everything up to and including it was dealt with."""
        return self.side.position

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[Sequence[LoggedEvent], int]:
        """See `feeds.Feed`."""
        return await self._content.read(after, wanted, limit, max_bytes)

    def ended(self, read_to: int) -> bool:
        """Whether nothing comes behind `read_to`."""
        return self._content.ended(read_to)

    async def moved(self, position: int, accepted: Sequence[LoggedEvent]) -> None:
        """Everything up to `position` is dealt with."""
        self.side = dataclasses.replace(self.side, position=position)
        await self._store.set_side(self._name, self.side)

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps dead letters of it, durably, under the numbers that the subscriber saw."""
        await self._store.bury([_as_seen(letter) for letter in letters])

    async def finished(self) -> None:
        """All of it was dealt with."""
        await self._store.set_side(self._name, None)
        self._over()


class QueueFeed:
    """What waits for one subscription apart from the log: dead letters that are tried again, and what it was found to lack. It gets all of
    it, whatever its filter says now."""

    def __init__(self, store: EventStore, name: str) -> None:
        self.position = 0
        self._store = store
        self._name = name
        self._end: int | None = None

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[Sequence[LoggedEvent], int]:
        """See `feeds.Feed`."""
        events, read_to = await self._store.side_events(self._name, after, limit, max_bytes)
        if not events:
            # What is added from now on must not go with what is dropped up to here: it is a queue of its own.
            self._end = after
        return events, read_to

    def ended(self, read_to: int) -> bool:
        """Whether nothing comes behind `read_to`."""
        return self._end is not None and read_to >= self._end

    async def moved(self, position: int, accepted: Sequence[LoggedEvent]) -> None:
        """Everything up to `position` leaves the queue; what was accepted is no dead letter any more. In this order: a crash between the
        two has it sent again, and a dead letter that nobody tries again is worse."""
        self.position = position
        if accepted:
            await self._store.forgive(self._name, [event.event_id for event in accepted])
        await self._store.drop_side_events(self._name, position)

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps dead letters of it, durably, in the place of those that they were."""
        await self._store.bury([_as_seen(letter) for letter in letters])

    async def finished(self) -> None:
        """All of it was dealt with; it has left the queue as it was."""


def _as_seen(letter: DeadLetter) -> DeadLetter:
    event = letter.event
    return dataclasses.replace(letter, event=event._replace(sequence=framing.sequence_of(event.payload)))
