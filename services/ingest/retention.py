"""How long events are kept: by age and by size, whole segments at a time, never the newest.

Nobody is moved on silently. A subscription that still needs what is about to go (also one that is paused, gone or read by pull) is marked
first, durably, with how many it misses, and is told nothing more until it is replayed, best from a snapshot. One that comes near is warned
of in the log of the service. Publishing the same event again has no effect for as long as the log has it, and no longer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError
from mediasync.runtime import crash
from services.ingest.events import SubscriptionPosition
from services.ingest.log import EventLog
from services.ingest.log_rows import SEGMENT_EVENTS
from services.ingest.store import EventStore

logger = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
CHUNK_EVENTS = 2000
"""In one transaction, so that nobody who publishes waits for long."""
NEAR = 0.8
"""Of a limit; from there on those who will miss events are warned of."""

_WARN_AGAIN_SECONDS = 6 * 3600.0

Segment = tuple[int, int, int]
"""See `EventLogStore.segments`."""
Behind = Callable[[str, int], Awaitable[None]]
"""Marks a subscription as too far behind, durably, by so many events, and ends its delivery."""


@dataclass(frozen=True)
class Limits:
    """0 for none."""

    age_seconds: float = 30 * 86_400.0
    size_bytes: int = 10 * 10**9

    def near(self) -> Limits:
        """A little less, to see what goes soon."""
        return Limits(self.age_seconds * NEAR, int(self.size_bytes * NEAR))


def expired(segments: Sequence[Segment], limits: Limits, now_ns: int) -> int:
    """The last sequence number that is kept no longer; 0 for none."""
    upto = 0
    size = sum(segment[2] for segment in segments)
    for last, newest_ns, size_bytes in segments[:-1]:
        too_old = limits.age_seconds and now_ns - newest_ns > limits.age_seconds * 1e9
        if not too_old and not (limits.size_bytes and size > limits.size_bytes):
            break
        upto = last
        size -= size_bytes
    return upto


def missed(position: SubscriptionPosition, first: int, upto: int) -> int:
    """How many events of the log from `first` to `upto` a subscription has not dealt with."""
    waiting = sum(first <= item.sequence <= upto for item in position.waiting)
    return waiting + max(0, upto - max(position.read_to, position.cursor, first - 1))


class Retention:
    """Prunes the log. `behind` is called, and awaited, before what a subscription needs is deleted."""

    def __init__(self, store: EventStore, log: EventLog, limits: Limits, behind: Behind) -> None:
        self._store = store
        self._log = log
        self._limits = limits
        self._behind = behind
        self._warned: dict[str, float] = {}

    async def run(self) -> None:
        """Prunes from time to time and after each segment, until cancelled."""
        while True:
            try:
                await self.sweep(time.time_ns())
            except MediasyncError as error:
                logger.warning("old events were not deleted from the event log: %s", error)
            tail = self._log.tail
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await tail.reach((tail.value // SEGMENT_EVENTS + 1) * SEGMENT_EVENTS + 1)
            except TimeoutError:
                continue

    async def sweep(self, now_ns: int) -> int:
        """Prunes what is over the limits now; how many events."""
        segments = await self._store.segments()
        if upto := expired(segments, self._limits, now_ns):
            await self._mark(upto)
        pruned = 0
        while chunk := await self._log.prune(upto, CHUNK_EVENTS):
            pruned += chunk
            crash.point("ingest.mid_prune")
        if pruned:
            logger.info("old events were deleted from the event log", extra={"events": pruned, "first": self._log.first})
        await self._warn(expired(segments, self._limits.near(), now_ns))
        return pruned

    async def _mark(self, upto: int) -> None:
        for stored in await self._store.subscriptions():
            if lost := missed(stored.position, self._log.first, upto):
                name = stored.subscription.name
                await self._behind(name, lost)
                logger.warning(
                    "a subscription is too far behind: events that it needs are kept no longer; run"
                    " `mediasync events replay --subscriber %s --from snapshot`",
                    name,
                    extra={"subscription": name, "events_lost": lost},
                )

    async def _warn(self, soon: int) -> None:
        now = asyncio.get_running_loop().time()
        for stored in await self._store.subscriptions() if soon else ():
            name = stored.subscription.name
            at_stake = missed(stored.position, self._log.first, soon)
            if at_stake and not stored.too_far_behind and now - self._warned.get(name, -_WARN_AGAIN_SECONDS) >= _WARN_AGAIN_SECONDS:
                self._warned[name] = now
                logger.warning(
                    "a subscription will miss events soon: they reach the limits of ingest.retention_days and ingest.retention_gb",
                    extra={"subscription": name, "events": at_stake},
                )
