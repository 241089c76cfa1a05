"""One who follows the log, pushed to or reading: how far it is, what it is sent apart from the log, what it is doing.

`Follower` is what both kinds have in common; `Pushed` runs deliveries. What is changed from outside (held, replayed, too far behind) is
changed while it is stopped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from services.ingest import backoff
from services.ingest.delivery import Delivery
from services.ingest.events import (
    DeadLetter,
    SideFeed,
    SideKind,
    StoredSubscription,
    Subscription,
    SubscriptionPosition,
    SubscriptionState,
    SubscriptionStatus,
)
from services.ingest.log import EventLog
from services.ingest.replaying import Content, QueueFeed, ReplayFeed, SyncContent
from services.ingest.store import EventStore
from services.ingest.subscriber import Subscriber
from services.ingest.watermark import Watermark

logger = logging.getLogger(__name__)

MAX_DEAD_LETTERS = 100_000
"""Of one subscription, which is held when it has as many."""


@dataclass(frozen=True)
class Surroundings:
    """What every follower works with. `connect` opens the way to an address, `snapshot` the library as it is for a subscription's name.
    `moved` is told of every position, `hold` holds one across restarts. `window_bytes` says how much of events one may hold in memory at
    the moment."""

    store: EventStore
    log: EventLog
    connect: Callable[[Subscription], Subscriber]
    snapshot: Callable[[str], Content]
    moved: Callable[[str, SubscriptionPosition], None]
    hold: Callable[[str], Awaitable[None]]
    window_bytes: Callable[[], int]
    linger_seconds: float


class Follower(ABC):
    """One subscription."""

    def __init__(self, stored: StoredSubscription, around: Surroundings) -> None:
        self.subscription = stored.subscription
        self.position = stored.position
        self.cursor = Watermark(stored.position.cursor)
        self.too_far_behind = stored.too_far_behind
        self.events_lost = stored.events_lost
        self._around = around
        self.replay = self._replay_of(stored.side)

    @property
    def name(self) -> str:
        """Of the subscription."""
        return self.subscription.name

    @property
    @abstractmethod
    def state(self) -> SubscriptionState:
        """What it is doing."""

    @abstractmethod
    def start(self) -> None:
        """Lets it go on from its position."""

    @abstractmethod
    async def stop(self) -> None:
        """Nothing more happens to it until `start`; its position is final."""

    @abstractmethod
    def more_in_queue(self) -> None:
        """Something came into its queue."""

    @abstractmethod
    def status(self, lag_seconds: float, dead_letters: int) -> SubscriptionStatus:
        """What there is to say of it."""

    def hold(self, paused: bool) -> None:
        """Holds it, or lets it go on."""
        self.subscription = dataclasses.replace(self.subscription, paused=paused)

    def send_back(self, position: SubscriptionPosition | None, side: SideFeed | None) -> None:
        """Begins a replay: with `side`, from a position, or both. While it is stopped."""
        if position is not None:
            self.position = position
            self.cursor.reset(position.cursor)
            self.too_far_behind = False
        self.replay = self._replay_of(side)

    def fall_behind(self, lost: int) -> None:
        """Events that it needs are gone."""
        self.too_far_behind = True
        self.events_lost += lost

    def lost(self) -> MediasyncError:
        """Says that it is too far behind."""
        first = self._around.log.first
        return MediasyncError(
            Reason.SUBSCRIBER_TOO_FAR_BEHIND,
            f"{self.events_lost} events that {self.name!r} needs are no longer kept; the first one that is has number {first}",
            f"Fill it again: `mediasync events replay --subscriber {self.name} --from snapshot`.",
            metadata={"first": str(first)},
        )

    def queue(self) -> QueueFeed:
        """What waits for it apart from the log."""
        return QueueFeed(self._around.store, self.name)

    def _note(self, position: SubscriptionPosition) -> None:
        self.position = position
        self.cursor.advance(position.cursor)
        self._around.moved(self.name, position)

    def _replay_of(self, side: SideFeed | None) -> ReplayFeed | None:
        if side is None:
            return None
        content: Content
        if side.kind is SideKind.SNAPSHOT:
            content = self._around.snapshot(self.name)
        else:
            content = SyncContent(self._around.store, side.argument, side.until)
        return ReplayFeed(self._around.store, self.name, side, content, self._replay_over)

    def _replay_over(self) -> None:
        self.replay = None


class Pushed(Follower):
    """One that is called at its address."""

    def __init__(self, stored: StoredSubscription, around: Surroundings) -> None:
        super().__init__(stored, around)
        self._delivery: Delivery | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> SubscriptionState:
        """What it is doing."""
        if self._delivery is not None:
            return self._delivery.state
        return SubscriptionState.PAUSED if self.subscription.paused else SubscriptionState.ACTIVE

    def start(self) -> None:
        """Delivers from its position on."""
        around = self._around
        delivery = Delivery(
            self.subscription,
            self.position,
            around.log,
            around.connect(self.subscription),
            moved=lambda _, position: self._note(position),
            bury=self._bury,
            linger_seconds=around.linger_seconds,
            window_bytes=around.window_bytes,
            fell_behind=self._fell_behind,
        )
        if self.replay is not None:
            delivery.begin(self.replay)
        if self.too_far_behind:
            delivery.too_far_behind(_said(self.lost()))
        self._delivery = delivery
        # An empty context: the delivery must not inherit the sync and the span of the call that added the subscription.
        self._task = asyncio.get_running_loop().create_task(self._deliver(delivery), name=f"deliver to {self.name}", context=Context())

    async def stop(self) -> None:
        """Ends the delivery, with the answer to its call where that comes soon."""
        task, delivery = self._task, self._delivery
        if task is None or delivery is None:
            return
        task.cancel()
        await asyncio.wait([task])
        self._task = self._delivery = None
        await delivery.close()

    def abandon(self) -> None:
        """Nobody waits for the answer to its call any more."""
        if self._delivery is not None:
            self._delivery.abandon()

    def more_in_queue(self) -> None:
        """Sends what came into its queue, before it goes on with the log."""
        if self._delivery is not None:
            self._delivery.begin(self.queue())

    def hold(self, paused: bool) -> None:
        """Holds it, or lets it go on: at once, also where it would have waited for its subscriber."""
        super().hold(paused)
        if self._delivery is not None:
            if paused:
                self._delivery.pause()
            else:
                self._delivery.resume()

    def fall_behind(self, lost: int) -> None:
        """Events that it needs are gone."""
        super().fall_behind(lost)
        if self._delivery is not None:
            self._delivery.too_far_behind(_said(self.lost()))

    def status(self, lag_seconds: float, dead_letters: int) -> SubscriptionStatus:
        """What there is to say of it."""
        delivery, position = self._delivery, self.position
        if self.too_far_behind:
            # Whatever went wrong with the call that was under way: this is what has to be known.
            position = dataclasses.replace(position, last_error=_said(self.lost()))
        elif self.subscription.paused and dead_letters >= MAX_DEAD_LETTERS:
            remedy = f"`mediasync events dead-letters drop --subscriber {self.name}`, then `mediasync subscribers resume {self.name}`"
            position = dataclasses.replace(position, last_error=f"it is held because it has {dead_letters} dead letters: {remedy}")
        return SubscriptionStatus(
            self.subscription,
            position,
            max(0, self._around.log.tail.value - self.position.cursor),
            self.state,
            lag_seconds,
            delivery.events_per_second if delivery is not None else 0.0,
            dead_letters,
            delivery.waiting if delivery is not None else len(self.position.waiting),
            delivery.next_try_ns if delivery is not None else 0,
            self.events_lost,
        )

    async def _deliver(self, delivery: Delivery) -> None:
        attempts = 0
        while True:
            try:
                events, _ = await self._around.store.side_events(self.name, 0, 1, 1)
                break
            except Exception:
                # The disk, for instance. This one tries again, and the others do not feel it.
                attempts += 1
                logger.exception("a subscription waits for its database", extra={"subscription": self.name})
                await asyncio.sleep(backoff.delay(attempts))
        if events:
            delivery.begin(self.queue())
        await delivery.run()

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        await self._around.store.bury(letters)
        if (await self._around.store.count_dead_letters()).get(self.name, 0) >= MAX_DEAD_LETTERS:
            # Nothing is thrown away: it goes on when somebody has looked.
            logger.warning("a subscription has too many dead letters and is held", extra={"subscription": self.name})
            await self._around.hold(self.name)

    async def _fell_behind(self, name: str, lost: int) -> None:
        await self._around.store.mark_too_far_behind(name, lost)
        super().fall_behind(lost)


def _said(error: MediasyncError) -> str:
    return f"{error.reason}: {error.message}. {error.remedy}"
