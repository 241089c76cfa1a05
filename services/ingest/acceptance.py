"""Whether a subscription has dealt with every event of a sync: what a job waits for that is complete only then.

Worked out of the subscription's position and the log, so that neither a restart nor who delivers matters. An event that the log had
already, published by an earlier sync under the same id, counts for that one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from services.ingest.events import LoggedEvent, SubscriptionState
from services.ingest.filtering import wanted_of
from services.ingest.following import Follower
from services.ingest.store import EventStore

_PAGE = 1000
_PAGE_BYTES = 4 * 1024 * 1024
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Acceptance:
    """How a subscription stands to a sync; `state` is None where there is no such subscription."""

    subscription: str
    rejected: int = 0
    left: int = 0
    last_error: str = ""
    state: SubscriptionState | None = None


async def wait_for_all(
    store: EventStore, followers: Mapping[str, Follower], names: Sequence[str], sync_id: str, seconds: float
) -> list[Acceptance]:
    """How these stand when all have dealt with a sync, or one of them never will, or the time is over."""
    asked = [followers.get(name) for name in names]
    waits = {asyncio.ensure_future(wait(store, one, sync_id)) for one in asked if one is not None}
    try:
        # Running out of time is an answer as well: it says who lacks how many.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                pending = waits if None not in asked else set()
                while pending:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    if not all(one.result() for one in done):
                        break
    finally:
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return [await accepted(store, name, followers.get(name), sync_id) for name in names]


async def accepted(store: EventStore, name: str, follower: Follower | None, sync_id: str) -> Acceptance:
    """How one stands now."""
    if follower is None:
        return Acceptance(name)
    left = await _left(store, follower, sync_id)
    rejected = await store.rejected_of_sync(name, sync_id)
    return Acceptance(name, rejected, left, follower.position.last_error, follower.state)


async def wait(store: EventStore, follower: Follower, sync_id: str) -> bool:
    """Waits until it has dealt with all of the sync that is in the log; False when it never will. Not bounded."""
    last = await store.last_of_sync(sync_id)
    try:
        while follower.position.cursor < last:
            if follower.state is SubscriptionState.TOO_FAR_BEHIND:
                return False
            # Only when all of the sync was read can what waits be the rest of it.
            if follower.position.read_to >= last and not await _left(store, follower, sync_id):
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                    await follower.cursor.reach(last)
    except MediasyncError as error:
        if error.reason is not Reason.SUBSCRIPTION_NOT_FOUND:
            raise
        # It was removed meanwhile.
        return False
    return True


async def _left(store: EventStore, follower: Follower, sync_id: str) -> int:
    position, wanted = follower.position, follower.subscription.filter
    waiting = [one.sequence for one in position.waiting]
    left = _of(await store.by_sequences(waiting), sync_id) if waiting else []
    count = len(wanted_of(left, wanted))
    last = await store.last_of_sync(sync_id)
    after = position.read_to
    while after < last:
        events, after = await store.read_of_sync(sync_id, after, last, _PAGE, _PAGE_BYTES)
        count += len(wanted_of(_of(events, sync_id), wanted))
    return count


def _of(events: Sequence[LoggedEvent], sync_id: str) -> list[LoggedEvent]:
    return [event for event in events if event.sync_id == sync_id]
