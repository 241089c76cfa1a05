"""What the event log's database does: events, subscriptions with positions, dead letters, the events that wait apart from the log.

Every method is one transaction. Durable when it returns, but for what says otherwise: an older position only means that events are offered
again. A `request_id` is kept with `body`, the digest of its request: a repeated one has no second effect, and another request with the
same id raises REQUEST_ID_REUSED. What names a subscription that is not there raises SUBSCRIPTION_NOT_FOUND unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.ingest.events import (
    DeadLetter,
    LogBounds,
    LoggedEvent,
    NewEvent,
    SideFeed,
    StoredSubscription,
    Subscription,
    SubscriptionPosition,
)

Page = tuple[list[LoggedEvent], int]
"""Events in order, and up to where was read: beyond the last of them where nothing wanted follows."""


class EventLogStore(Protocol):
    """The events."""

    async def bounds(self) -> LogBounds:
        """What the log holds."""

    async def append(self, events: Sequence[NewEvent]) -> tuple[list[int], list[LoggedEvent]]:
        """Appends those whose id is not in the log yet. Returns the number of each, and those that were new, in order. Numbers are dense,
        and given again to nothing, whatever was pruned."""

    async def read(self, after: int, kinds: Collection[int], limit: int, max_bytes: int) -> Page:
        """At most `limit` events of `kinds` (empty: all) after `after`. Stops before `max_bytes` of payload, but gives one at least."""

    async def read_of_sync(self, sync_id: str, after: int, upto: int, limit: int, max_bytes: int) -> Page:
        """The same of a sync's events, and of later events of their files, up to `upto`."""

    async def read_of_file(self, keys: Sequence[bytes], after: int, limit: int) -> list[LoggedEvent]:
        """Events after `after` that are about one of these files, wherever in their key it stands."""

    async def by_sequences(self, sequences: Sequence[int]) -> list[LoggedEvent]:
        """Those of these events that are still there, in order."""

    async def sequence_since(self, time_ns: int) -> int:
        """The first event that came then or later; the next one's number when there is none."""

    async def last_of_sync(self, sync_id: str) -> int:
        """The last event of a sync; 0 when there is none."""

    async def segments(self) -> list[tuple[int, int, int]]:
        """The log in pieces, from the oldest on: the last number that belongs to each, when its newest event came, and its bytes."""

    async def prune(self, upto: int, limit: int) -> int:
        """Deletes at most `limit` events from the oldest on, none after `upto`. Returns how many. Not durable by itself."""


class SubscriptionStore(Protocol):
    """The subscriptions and how far they are."""

    async def subscriptions(self) -> list[StoredSubscription]:
        """Every subscription, by name."""

    async def put_fixed(self, subscriptions: Sequence[tuple[Subscription, int | None, SideFeed | None]]) -> None:
        """Stores the subscriptions of the configuration, each with the cursor (None: the log's end) and the side feed that it begins with
        if it is new. One that is known keeps its position, its side feed, and whether it is paused."""

    async def add_subscription(
        self, request_id: str, body: str, subscription: Subscription, *, cursor: int | None, side: SideFeed | None, replaces_dormant: bool
    ) -> tuple[StoredSubscription, bool]:
        """Stores a subscription with its first cursor (None: the log's end); returns it, and whether it is new: a repeated request returns
        what the first did. `replaces_dormant`: one of that name that the configuration held earlier is forgotten. An empty `request_id`
        is not kept. Raises SUBSCRIPTION_EXISTS."""

    async def remove_subscription(self, request_id: str, body: str, name: str) -> bool:
        """Forgets a subscription, its dead letters and its side queue; False for a repeated request."""

    async def was_answered(self, request_id: str, body: str) -> bool:
        """Whether the request is a repetition."""

    async def set_paused(self, request_id: str, body: str, name: str, paused: bool) -> bool:
        """Holds a subscription, or lets it go on; False for a repeated request."""

    async def set_side(
        self, name: str, side: SideFeed | None, *, position: SubscriptionPosition | None = None, request_id: str = "", body: str = ""
    ) -> bool:
        """Begins, moves or ends a side feed. With `position` the subscription goes on from there, backwards too, and is no longer too far
        behind. False for a repeated request; an empty `request_id` is not kept. Durable only with `position`."""

    async def mark_too_far_behind(self, name: str, lost: int) -> None:
        """Events that it needs are about to be pruned; `lost` are added to those that it missed. Unknown names are passed over."""

    async def save_positions(self, positions: Mapping[str, SubscriptionPosition]) -> None:
        """Stores how far subscriptions are. Unknown names are passed over. Not durable by itself."""


class DeadLetterStore(Protocol):
    """The dead letters, and the side queues that they are offered again from."""

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps events as dead letters; numbers, and `time_ns` where it is 0, are given here. One there already (same event id) gets the
        new reason, answer and attempts. Their sequence is the one in the payload: an event of a side feed has its place there outside."""

    async def dead_letters(self, subscription: str, before: int, limit: int) -> list[DeadLetter]:
        """Dead letters of a subscription (empty: of all) with a number below `before` (0: from the newest), newest first."""

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """One of them."""

    async def count_dead_letters(self) -> Mapping[str, int]:
        """How many each subscription has; none is not among them."""

    async def rejected_of_sync(self, subscription: str, sync_id: str) -> int:
        """How many events of a sync are dead letters of a subscription."""

    async def drop_dead_letters(self, request_id: str, body: str, subscription: str, numbers: Sequence[int]) -> int:
        """Forgets those of a subscription with these numbers (none: all). Returns how many, the same for a repeated request."""

    async def retry_dead_letters(self, request_id: str, body: str, subscription: str, numbers: Sequence[int]) -> int:
        """Puts copies of those with these numbers (none: all), each with the later events of its files, into the side queue, by sequence,
        whatever the subscription wants.
        Returns how many letters, the same for a repeated request. A letter stays until `forgive`."""

    async def forgive(self, subscription: str, event_ids: Sequence[str]) -> None:
        """Forgets the dead letters of events that were accepted after all."""

    async def put_side_events(self, subscription: str, events: Sequence[LoggedEvent]) -> None:
        """Appends to the side queue of a subscription."""

    async def side_events(self, subscription: str, after: int, limit: int, max_bytes: int) -> Page:
        """The side queue behind `after`; `sequence` is the place in the queue, the payload's own is what the subscriber sees."""

    async def drop_side_events(self, subscription: str, upto: int) -> None:
        """They are dealt with. Not durable by itself."""


class EventStore(EventLogStore, SubscriptionStore, DeadLetterStore, Protocol):
    """All of it."""
