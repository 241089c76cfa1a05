"""The nouns of the event log as plain data. An event's content is bytes here: the log keeps it, and does not look into it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

DEFAULT_BATCH_SIZE = 50
MAX_BATCH_SIZE = 1000
FILE_KEY_BYTES = 16


class EventKind(enum.IntEnum):
    """What an event tells. The numbers are those of `EventType` on the wire."""

    FILE_SYNCED = 1
    FILE_PROCESSED = 2
    FILE_DELETED = 3
    SYNC_COMPLETE = 4
    BATCH_SYNCED = 5


class NewEvent(NamedTuple):
    """An event as it is published. A tuple, because ten thousand a second are made.

    `file_key` has `FILE_KEY_BYTES` bytes for each file that it is about, the same for all events of one file: none, one, or two for a
    file that was moved, of which the first is the new place. `traceparent` (W3C) is the trace that it belongs to, so that its delivery,
    later and in another task, shows up there; empty outside of one.
    """

    event_id: str
    kind: EventKind
    file_key: bytes
    sync_id: str
    payload: bytes
    traceparent: str = ""


class LoggedEvent(NamedTuple):
    """An event with its place in the log; the fields are in the order of the columns, so that a row becomes one by `_make`.

    `kind` is a number of `EventKind`, `file_key` as in `NewEvent`, `append_time_ns` Unix time. Read from a side feed, `sequence` is the
    place there.
    """

    sequence: int
    event_id: str
    kind: int
    file_key: bytes
    sync_id: str
    traceparent: str
    append_time_ns: int
    payload: bytes


@dataclass(frozen=True)
class LogBounds:
    """What the log holds: the sequence numbers of the first and the last event (`first` is `last + 1` when there is none), their bytes,
    and when the oldest came, as Unix time, 0 when there is none."""

    first: int = 1
    last: int = 0
    size_bytes: int = 0
    oldest_append_ns: int = 0


@dataclass(frozen=True)
class Filter:
    """Which events are wanted; what is empty lets everything through. `sources` are names or URLs; `paths` are patterns as in .gitignore,
    and events that are about no file pass them."""

    kinds: frozenset[EventKind] = frozenset()
    sources: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the kind alone says it, so that no event need be looked into."""
        return not self.sources and not self.paths


@dataclass(frozen=True)
class Tls:
    """How an address off this machine is spoken to: whose certificates count, and ours where it asks for one."""

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class Subscription:
    """Who follows the log. Without an address its reader comes to us; a `fixed` one is built in or stands in the configuration."""

    name: str
    address: str
    filter: Filter = field(default_factory=Filter)
    batch_size: int = DEFAULT_BATCH_SIZE
    fixed: bool = False
    paused: bool = False
    tls: Tls | None = None
    token_file: Path | None = None

    @property
    def pull(self) -> bool:
        """Whether its reader comes to us."""
        return not self.address


@dataclass(frozen=True)
class Waiting:
    """An event that was read and is not dealt with: `attempts` were made for it, `refusals` of them are held against it."""

    sequence: int
    attempts: int = 0
    refusals: int = 0


@dataclass(frozen=True)
class SubscriptionPosition:
    """How far a subscription is. Everything up to and including `cursor` was dealt with, and so was everything up to `read_to` that is not
    among `waiting`. `last_success_ns` is Unix time, 0 for never."""

    cursor: int
    read_to: int
    waiting: tuple[Waiting, ...] = ()
    last_error: str = ""
    last_success_ns: int = 0

    @classmethod
    def at(cls, cursor: int) -> SubscriptionPosition:
        """Of one that has dealt with everything up to `cursor`, and with nothing after it."""
        return cls(cursor, cursor)


class SideKind(enum.StrEnum):
    """What a subscription is sent apart from the log."""

    SNAPSHOT = "snapshot"
    SYNC = "sync"


@dataclass(frozen=True)
class SideFeed:
    """Events that a subscription is sent before it goes on with the log: a snapshot of the library, or those of a sync, whose id is
    `argument`. `position` is how far that is, `until` the log's end when it began."""

    kind: SideKind
    argument: str = ""
    position: int = 0
    until: int = 0


@dataclass(frozen=True)
class StoredSubscription:
    """A subscription as the database has it. `too_far_behind`: events that it needs are no longer kept, `events_lost` of them in all."""

    subscription: Subscription
    position: SubscriptionPosition
    side: SideFeed | None = None
    too_far_behind: bool = False
    events_lost: int = 0


class SubscriptionState(enum.IntEnum):
    """What a subscription is doing. The numbers are those of `SubscriptionState` on the wire."""

    ACTIVE = 1
    PAUSED = 2
    RETRYING = 3
    UNREACHABLE = 4
    TOO_FAR_BEHIND = 5
    REBUILDING = 6
    IDLE = 7


@dataclass(frozen=True)
class SubscriptionStatus:
    """A subscription and what it is doing: `lag` events of the log, the oldest `lag_seconds` old, come after its position; `waiting` come
    again later, the next at `next_try_ns` (Unix time, 0 for none)."""

    subscription: Subscription
    position: SubscriptionPosition
    lag: int
    state: SubscriptionState = SubscriptionState.ACTIVE
    lag_seconds: float = 0.0
    events_per_second: float = 0.0
    dead_letters: int = 0
    waiting: int = 0
    next_try_ns: int = 0
    events_lost: int = 0


@dataclass(frozen=True)
class DeadLetter:
    """An event that a subscriber will never take, with its own copy of it. `number` orders them by age, 0 before it is kept; `answer` is
    the status or verdict of the last attempt; times are Unix time."""

    number: int
    subscription: str
    event: LoggedEvent
    reason: str
    attempts: int
    answer: str = ""
    first_attempt_ns: int = 0
    time_ns: int = 0
