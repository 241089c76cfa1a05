"""Who follows the log: the built-in and configured subscriptions and those added by calls, pushed to or reading.

What changes one is durable before it counts, and done once for each request id. While it is being changed it is stopped, so that no
position of before can overwrite the change.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.runtime import crash
from services.ingest import acceptance
from services.ingest.acceptance import Acceptance
from services.ingest.delivery import LINGER_SECONDS
from services.ingest.events import (
    DeadLetter,
    Filter,
    SideFeed,
    SideKind,
    StoredSubscription,
    Subscription,
    SubscriptionPosition,
    SubscriptionStatus,
)
from services.ingest.following import Follower, Pushed, Surroundings
from services.ingest.forms import check, check_filter
from services.ingest.log import EventLog
from services.ingest.pulling import PullCursor, Reading
from services.ingest.replaying import Content, Start, StartKind, cursor_at
from services.ingest.store import EventStore
from services.ingest.subscriber import Subscriber
from services.ingest.window import MAX_BYTES, MAX_EVENTS

logger = logging.getLogger(__name__)

CATALOG = "catalog"

_SAVE_EVERY_SECONDS = 0.05
_CATALOG_SECONDS = 10.0
_WINDOWS_BYTES = 64 * 1024 * 1024


class Subscriptions:
    """Runs one follower for each subscription. `connect` opens the way to an address, `snapshot` the library as it is."""

    def __init__(
        self,
        store: EventStore,
        log: EventLog,
        connect: Callable[[Subscription], Subscriber],
        snapshot: Callable[[str], Content],
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._store = store
        self._log = log
        self._around = Surroundings(store, log, connect, snapshot, self._note_moved, self._hold, self._window_bytes, linger_seconds)
        self._followers: dict[str, Follower] = {}
        self._changing = asyncio.Lock()
        self._running = False
        self._moved: dict[str, SubscriptionPosition] = {}
        self._any_moved = asyncio.Event()

    async def load(self, fixed: Sequence[tuple[Subscription, Start]]) -> None:
        """Takes up the subscriptions of the configuration, new ones where they are to start, and those added earlier. One that the
        configuration no longer holds sleeps: its cursor stays, so that it misses nothing if it comes back."""
        names = [subscription.name for subscription, _ in fixed]
        known = {stored.subscription.name: stored for stored in await self._store.subscriptions()}
        filled = known[CATALOG].position.cursor if CATALOG in known else self._log.first - 1
        put: list[tuple[Subscription, int | None, SideFeed | None]] = []
        for subscription, start in fixed:
            check(subscription, Reason.CONFIGURATION_INVALID)
            if names.count(subscription.name) > 1:
                raise MediasyncError(
                    Reason.CONFIGURATION_INVALID,
                    f"there are two subscriptions {subscription.name!r}",
                    "Give each of ingest.subscribers a name of its own; `catalog` is the built-in one's.",
                )
            cursor, side = None, None
            if subscription.name not in known:
                cursor, side = await self._place(start, filled)
            put.append((subscription, cursor, side))
        await self._store.put_fixed(put)
        for stored in await self._store.subscriptions():
            if not stored.subscription.fixed or stored.subscription.name in names:
                self._create(stored)

    async def run(self) -> None:
        """Delivers until cancelled."""
        self._running = True
        try:
            for follower in self._followers.values():
                follower.start()
            await self._keep_positions()
        finally:
            self._running = False
            await asyncio.gather(*(follower.stop() for follower in self._followers.values()))

    async def close(self) -> None:
        """Stores how far everybody is. After `run` has ended."""
        await self._save_moved()

    async def add(self, request_id: str, subscription: Subscription, start: Start) -> SubscriptionStatus:
        """Adds a subscription and starts it. A repeated request answers as the first did; an empty id is none.

        Raises INVALID_ARGUMENT, ADDRESS_NOT_LOOPBACK, SUBSCRIPTION_EXISTS, REQUEST_ID_REUSED, SUBSCRIBER_TOO_FAR_BEHIND.
        """
        check(subscription, Reason.INVALID_ARGUMENT)
        if start.kind is StartKind.SNAPSHOT:
            await self._catalog_is_full()
        wanted, tls = subscription.filter, subscription.tls
        body = _digest(
            *("add", subscription.name, subscription.address, sorted(int(kind) for kind in wanted.kinds), wanted.sources, wanted.paths),
            *(subscription.batch_size, str(tls), str(subscription.token_file), start.kind.value, start.argument),
        )
        async with self._changing:
            dormant = subscription.name not in self._followers
            if request_id and await self._store.was_answered(request_id, body):
                cursor, side = None, None
            else:
                cursor, side = await self._place(start, self._catalog_cursor())
            stored, new = await self._store.add_subscription(
                request_id, body, subscription, cursor=cursor, side=side, replaces_dormant=dormant
            )
            if not new:
                return SubscriptionStatus(stored.subscription, stored.position, max(0, self._log.tail.value - stored.position.cursor))
            follower = self._create(stored)
            if self._running:
                follower.start()
            return follower.status(0.0, 0)

    async def remove(self, request_id: str, name: str) -> None:
        """Ends a subscription and forgets it. Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_FIXED, REQUEST_ID_REUSED."""
        body = _digest("remove", name)
        async with self._changing:
            if await self._store.was_answered(request_id, body):
                return
            follower = self.find(name)
            if follower.subscription.fixed:
                raise MediasyncError(Reason.SUBSCRIPTION_FIXED, f"the subscription {name!r} is built in or stands in the configuration")
            del self._followers[name]
            if isinstance(follower, Pushed):
                follower.abandon()
            await follower.stop()
            # A later subscription of the same name must not inherit this one's cursor.
            self._moved.pop(name, None)
            follower.cursor.close(MediasyncError(Reason.SUBSCRIPTION_NOT_FOUND, f"the subscription {name!r} was removed"))
            await self._store.remove_subscription(request_id, body, name)

    async def pause(self, request_id: str, name: str, paused: bool) -> SubscriptionStatus:
        """Holds a subscription, across restarts, or lets it go on; one that is not held is tried at once. Raises SUBSCRIPTION_NOT_FOUND,
        REQUEST_ID_REUSED."""
        async with self._changing:
            follower = self.find(name)
            if await self._store.set_paused(request_id, _digest("pause", name, paused), name, paused):
                follower.hold(paused)
        return await self.status(name)

    async def replay(self, request_id: str, name: str, start: Start, sync_id: str) -> tuple[SubscriptionStatus, int]:
        """Sends again: everything of a sync, the library as it is, or everything from a place on. Returns also how many events are to
        come, -1 where that is not known. Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_BUSY, SUBSCRIPTION_WRONG_KIND, INVALID_ARGUMENT,
        SUBSCRIBER_TOO_FAR_BEHIND, REQUEST_ID_REUSED."""
        body = _digest("replay", name, start.kind.value, start.argument, sync_id)
        if not sync_id and start.kind is StartKind.SNAPSHOT and name == CATALOG:
            raise MediasyncError(
                Reason.SUBSCRIPTION_WRONG_KIND,
                "a snapshot is made of what the catalog knows, so that the catalog cannot be filled from one",
                "`mediasync subscribers verify catalog --repair` fills it from the library.",
            )
        if start.kind is StartKind.SNAPSHOT:
            self.find(name)
            await self._catalog_is_full()
        async with self._changing:
            follower = self.find(name)
            if await self._store.was_answered(request_id, body):
                return await self.status(name), -1
            if follower.replay is not None:
                raise MediasyncError(Reason.SUBSCRIPTION_BUSY, f"{name!r} is being sent a replay or a snapshot already")
            position: SubscriptionPosition | None = None
            side: SideFeed | None = None
            if sync_id:
                side = await self._of_sync(sync_id)
            else:
                cursor, side = await self._place(start, self._catalog_cursor())
                position = SubscriptionPosition.at(self._log.tail.value if cursor is None else cursor)
            async with self._stopped(follower):
                await self._store.set_side(name, side, position=position, request_id=request_id, body=body)
                self._moved.pop(name, None)
                follower.send_back(position, side)
        status = await self.status(name)
        return status, -1 if side is not None else status.lag

    async def statuses(self, after: str, limit: int) -> Sequence[SubscriptionStatus]:
        """At most `limit` subscriptions whose name comes after `after`, by name."""
        letters = await self._store.count_dead_letters()
        names = sorted(name for name in self._followers if name > after)[:limit]
        return [await self._status(self._followers[name], letters.get(name, 0)) for name in names if name in self._followers]

    async def status(self, name: str) -> SubscriptionStatus:
        """One of them. Raises SUBSCRIPTION_NOT_FOUND."""
        follower = self.find(name)
        return await self._status(follower, (await self._store.count_dead_letters()).get(name, 0))

    async def wait_delivered(self, name: str, sequence: int) -> int:
        """Waits until a subscription has dealt with everything up to `sequence`, and returns how far it is. Not bounded.

        Raises SUBSCRIPTION_NOT_FOUND, also when it is removed meanwhile, and SUBSCRIPTION_BUSY for one that is held.
        """
        follower = self.find(name)
        if follower.subscription.paused and follower.position.cursor < sequence:
            remedy = f"Let it go on: `mediasync subscribers resume {name}`."
            raise MediasyncError(Reason.SUBSCRIPTION_BUSY, f"the subscription {name!r} is held", remedy)
        return await follower.cursor.reach(sequence)

    async def wait_accepted(self, names: Sequence[str], sync_id: str, seconds: float) -> Sequence[Acceptance]:
        """Waits until these have dealt with every event of a sync that is in the log, or one of them never will, or the time is over. Says
        how each stands then."""
        return await acceptance.wait_for_all(self._store, self._followers, names, sync_id, seconds)

    async def cursor(self, name: str, start: Start, wanted: Filter, batch_size: int) -> PullCursor:
        """The cursor of that name, made if there is none. Raises SUBSCRIPTION_WRONG_KIND for a subscription that is called, and what `add`
        raises."""
        if name not in self._followers:
            try:
                await self.add("", Subscription(name, "", wanted, batch_size), start)
            except MediasyncError as error:
                # Somebody else was quicker.
                if error.reason is not Reason.SUBSCRIPTION_EXISTS:
                    raise
        return self.find_cursor(name)

    async def reading(self, start: Start, wanted: Filter, limit: int) -> Reading:
        """A stream for one who keeps its own place. Raises INVALID_ARGUMENT, SUBSCRIBER_TOO_FAR_BEHIND."""
        check_filter(wanted)
        if start.kind is not StartKind.SNAPSHOT:
            return Reading(self._log, wanted, await cursor_at(start, self._log, self._store), limit)
        await self._catalog_is_full()
        return Reading(self._log, wanted, self._catalog_cursor(), limit, self._around.snapshot(""))

    def find_cursor(self, name: str) -> PullCursor:
        """The cursor of that name. Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_WRONG_KIND."""
        follower = self.find(name)
        if not isinstance(follower, PullCursor):
            raise MediasyncError(
                Reason.SUBSCRIPTION_WRONG_KIND,
                f"the subscription {name!r} is called at {follower.subscription.address}, so that nobody can read by it",
                "Choose another name for a cursor.",
            )
        return follower

    async def dead_letters(self, name: str, before: int, limit: int) -> Sequence[DeadLetter]:
        """See `DeadLetterStore.dead_letters`. Raises SUBSCRIPTION_NOT_FOUND."""
        if name:
            self.find(name)
        return await self._store.dead_letters(name, before, limit)

    async def dead_letter(self, number: int) -> DeadLetter:
        """One of them. Raises DEAD_LETTER_NOT_FOUND."""
        letter = await self._store.dead_letter(number)
        if letter is None:
            raise MediasyncError(Reason.DEAD_LETTER_NOT_FOUND, f"there is no dead letter {number}")
        return letter

    async def retry(self, request_id: str, name: str, numbers: Sequence[int]) -> int:
        """Offers dead letters of a subscription again (none named: all), each with what the log has of its file since. Returns how many.
        Raises SUBSCRIPTION_NOT_FOUND, DEAD_LETTER_NOT_FOUND, REQUEST_ID_REUSED."""
        self.find(name)
        body = _digest("retry", name, *numbers)
        await self._check_letters(request_id, body, name, numbers)
        count = await self._store.retry_dead_letters(request_id, body, name, numbers)
        await self.side_events_added(name)
        return count

    async def drop(self, request_id: str, name: str, numbers: Sequence[int]) -> int:
        """Forgets dead letters of a subscription (none named: all). Returns how many. Raises as `retry`."""
        self.find(name)
        body = _digest("drop", name, *numbers)
        await self._check_letters(request_id, body, name, numbers)
        return await self._store.drop_dead_letters(request_id, body, name, numbers)

    async def side_events_added(self, name: str) -> None:
        """Something came into the side queue of a subscription."""
        if follower := self._followers.get(name):
            follower.more_in_queue()

    async def fall_behind(self, name: str, lost: int) -> None:
        """So many events that a subscription needs are about to be deleted: that is durable before it returns, and it is told nothing more.
        Unknown names are passed over."""
        async with self._changing:
            await self._store.mark_too_far_behind(name, lost)
            if follower := self._followers.get(name):
                follower.fall_behind(lost)

    def find(self, name: str) -> Follower:
        """Raises SUBSCRIPTION_NOT_FOUND."""
        try:
            return self._followers[name]
        except KeyError:
            there = ", ".join(sorted(self._followers))
            raise MediasyncError(Reason.SUBSCRIPTION_NOT_FOUND, f"there is no subscription {name!r}; there are: {there}") from None

    def _create(self, stored: StoredSubscription) -> Follower:
        follower = PullCursor(stored, self._around) if stored.subscription.pull else Pushed(stored, self._around)
        self._followers[stored.subscription.name] = follower
        return follower

    @contextlib.asynccontextmanager
    async def _stopped(self, follower: Follower) -> AsyncIterator[None]:
        """It is at rest meanwhile."""
        await follower.stop()
        try:
            yield
        finally:
            if self._running:
                follower.start()

    async def _place(self, start: Start, filled: int) -> tuple[int | None, SideFeed | None]:
        """The first cursor, None for the log's end, and what comes before. `filled` is how far the catalog is: what comes after that may
        not be in a snapshot of it."""
        if start.kind is StartKind.NEXT:
            return None, None
        if start.kind is StartKind.SNAPSHOT:
            return filled, SideFeed(SideKind.SNAPSHOT, until=filled)
        return await cursor_at(start, self._log, self._store), None

    async def _of_sync(self, sync_id: str) -> SideFeed:
        last = await self._store.last_of_sync(sync_id)
        if not last:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                f"the event log has no event of the sync {sync_id!r}, or none any more",
                "`mediasync jobs list` shows the syncs there were; what the log no longer has comes with `--from snapshot`.",
                fields=[FieldViolation("sync_id", "the id of a sync that the log has events of")],
            )
        return SideFeed(SideKind.SYNC, sync_id, until=self._log.tail.value)

    def _catalog_cursor(self) -> int:
        return self._followers[CATALOG].position.cursor if CATALOG in self._followers else self._log.first - 1

    async def _catalog_is_full(self) -> None:
        """Waits a moment, so that a snapshot holds what was there when it was asked for. Without that it only holds less, and the log the
        rest."""
        catalog = self._followers.get(CATALOG)
        if catalog is not None and not catalog.subscription.paused:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CATALOG_SECONDS):
                    await catalog.cursor.reach(self._log.tail.value)

    async def _check_letters(self, request_id: str, body: str, name: str, numbers: Sequence[int]) -> None:
        if await self._store.was_answered(request_id, body):
            return
        for number in numbers:
            letter = await self._store.dead_letter(number)
            if letter is None or letter.subscription != name:
                raise MediasyncError(Reason.DEAD_LETTER_NOT_FOUND, f"{name!r} has no dead letter {number}")

    async def _status(self, follower: Follower, dead_letters: int) -> SubscriptionStatus:
        next_ones, _ = await self._log.read(max(follower.position.cursor, self._log.first - 1), Filter(), 1, 1)
        age = (time.time_ns() - next_ones[0].append_time_ns) / 1e9 if next_ones else 0.0
        return follower.status(max(0.0, age), dead_letters)

    async def _hold(self, name: str) -> None:
        await self._store.set_paused("", "", name, True)
        if follower := self._followers.get(name):
            follower.hold(True)

    def _window_bytes(self) -> int:
        """Those who keep up hold next to nothing; those who lag share what there is."""
        near = self._log.tail.value - MAX_EVENTS
        lagging = sum(1 for follower in self._followers.values() if follower.position.cursor < near)
        return min(MAX_BYTES, _WINDOWS_BYTES // max(1, lagging))

    def _note_moved(self, name: str, position: SubscriptionPosition) -> None:
        self._moved[name] = position
        self._any_moved.set()

    async def _keep_positions(self) -> None:
        """Stores positions as they move: one transaction for all that moved in a while."""
        while True:
            await self._any_moved.wait()
            await asyncio.sleep(_SAVE_EVERY_SECONDS)
            self._any_moved.clear()
            await self._save_moved()

    async def _save_moved(self) -> None:
        if self._moved:
            moved, self._moved = self._moved, {}
            crash.point("ingest.before_position")
            await self._store.save_positions(moved)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
