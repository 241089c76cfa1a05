"""Whether a subscription has dealt with every event of a sync: what a job waits for that is complete only then.

Worked out of the subscription's position and the log, so that neither a restart nor who delivers matters. An event that the log had
already, published by an earlier sync under the same id, counts for that one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
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
