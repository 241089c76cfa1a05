"""The nouns of the event log as plain data. An event's content is bytes here: the log keeps it, and does not look into it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

DEFAULT_BATCH_SIZE = 50
MAX_BATCH_SIZE = 1000


class EventKind(enum.IntEnum):
    """What an event tells. The numbers are those of `EventType` on the wire."""

    FILE_SYNCED = 1
    FILE_PROCESSED = 2
    FILE_DELETED = 3
    SYNC_COMPLETE = 4


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as it is published.

    `file_key` is the same for all events of one file, and empty for an event that is about none. `traceparent` (W3C) is the trace
    that it belongs to, so that its delivery, later and in another task, shows up there; empty outside of one.
    """

    event_id: str
    kind: EventKind
    file_key: bytes
    sync_id: str
    payload: bytes
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event with its place in the log."""

    sequence: int
    event_id: str
    kind: EventKind
    file_key: bytes
    sync_id: str
    payload: bytes
    traceparent: str = ""


@dataclass(frozen=True)
class Subscription:
    """Who follows the log. `kinds` empty means all; a `fixed` one is built in or stands in the configuration."""

    name: str
    address: str
    kinds: frozenset[EventKind] = frozenset()
    batch_size: int = DEFAULT_BATCH_SIZE
    fixed: bool = False


@dataclass(frozen=True)
class SubscriptionPosition:
    """How far a subscription is. Everything up to and including `cursor` was dealt with; `last_success_ns` is Unix time, 0 for never."""

    cursor: int
    last_error: str = ""
    last_success_ns: int = 0


@dataclass(frozen=True)
class SubscriptionStatus:
    """A subscription, how far it is, and how many events of the log come after that."""

    subscription: Subscription
    position: SubscriptionPosition
    lag: int


@dataclass(frozen=True)
class DeadLetter:
    """An event that a subscriber will never take. `number` orders them by age; `time_ns` is Unix time."""

    number: int
    subscription: str
    event: LoggedEvent
    reason: str
    attempts: int
    time_ns: int
