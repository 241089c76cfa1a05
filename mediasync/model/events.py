"""Events and who follows them, as clients see them. Times are Unix seconds, 0 where there is none; paths are bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from mediasync.model.jobs import JobState, SyncSummary
from mediasync.model.media import CatalogFile


class EventType(enum.StrEnum):
    """What an event tells."""

    UNKNOWN = "unknown"
    FILE_SYNCED = "file_synced"
    FILE_PROCESSED = "file_processed"
    FILE_DELETED = "file_deleted"
    SYNC_COMPLETE = "sync_complete"
    BATCH_SYNCED = "batch_synced"


class SubscriptionState(enum.StrEnum):
    """What a subscription is doing; see docs/ingest-guide.md."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    PAUSED = "paused"
    RETRYING = "retrying"
    UNREACHABLE = "unreachable"
    TOO_FAR_BEHIND = "too_far_behind"
    REBUILDING = "rebuilding"
    IDLE = "idle"


class StartKind(enum.StrEnum):
    """Where to start to tell."""

    NEXT = "next"
    BEGINNING = "beginning"
    SEQUENCE = "sequence"
    SINCE = "since"
    SNAPSHOT = "snapshot"
    LAST = "last"


@dataclass(frozen=True)
class EventStart:
    """Where to start: with the next event unless `kind` says otherwise. `sequence`, `since` and `last` (so many before the next one) count
    for the kind of the same name only."""

    kind: StartKind = StartKind.NEXT
    sequence: int = 0
    since: float = 0.0
    last: int = 0


@dataclass(frozen=True)
class EventFilter:
    """Which events; what is empty lets everything through. `sources` are names or URLs, `paths` patterns as in .gitignore."""

    types: tuple[EventType, ...] = ()
    sources: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subscription:
    """Who follows the events. To add one takes what stands before `fixed`; an empty address is a cursor, whose reader comes to us.

    The files are paths on the services' machine. `lag_events` of the log, the oldest of them `lag_seconds` old, are not dealt with;
    `waiting` of them come again. `events_lost` were no longer kept when they were wanted.
    """

    name: str
    address: str = ""
    filter: EventFilter = field(default_factory=EventFilter)
    batch_size: int = 0
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    token_file: str = ""
    fixed: bool = False
    state: SubscriptionState = SubscriptionState.UNKNOWN
    cursor: int = 0
    lag_events: int = 0
    lag_seconds: float = 0.0
    events_per_second: float = 0.0
    dead_letters: int = 0
    waiting: int = 0
    last_error: str = ""
    last_success_time: float = 0.0
    next_try_time: float = 0.0
    events_lost: int = 0

    @property
    def pull(self) -> bool:
        """Whether its reader comes to us."""
        return not self.address


@dataclass(frozen=True)
class SyncEnd:
    """A sync that has ended."""

    job_id: str
    state: JobState
    summary: SyncSummary
    library_root: str


@dataclass(frozen=True)
class FolderBatch:
    """What one folder of a sync brought."""

    folder: bytes
    files: int
    size_bytes: int
    library_root: str


@dataclass(frozen=True)
class Event:
    """Something that happened to a library. One of `file`, `sync` and `batch` is set, unless a later version says something else.

    `moved_from` is where a file was, empty unless it moved. A `synthetic` event was made from what the catalog knows: it is in no log,
    and its `sequence` is 0.
    """

    event_id: str
    sequence: int
    type: EventType
    time: float
    sync_id: str
    source: str
    file: CatalogFile | None = None
    moved_from: bytes = b""
    sync: SyncEnd | None = None
    batch: FolderBatch | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class EventPage:
    """Events in order, none in a sign of life. `token` says that everything up to here was sent, for `ack_events`; `sequence` is the same
    as a number, 0 while a replay or a snapshot is sent."""

    events: tuple[Event, ...] = ()
    token: str = ""
    sequence: int = 0


@dataclass(frozen=True)
class DeadLetter:
    """An event that a subscriber will never take. `answer` is the status or the verdict of the last of `attempts`."""

    number: int
    subscription: str
    event: Event
    reason: str
    answer: str
    attempts: int
    first_attempt_time: float
    time: float


@dataclass(frozen=True)
class EventLogState:
    """What the log holds: sequence numbers of the first and the last event, their bytes, and when the oldest came."""

    first: int
    last: int
    size_bytes: int
    oldest_time: float


@dataclass(frozen=True)
class SubscriberProgress:
    """How far the verify of a subscriber is."""

    files_asked: int
    files_lacking: int


@dataclass(frozen=True)
class SubscriberVerified:
    """What the verify of a subscriber came to; `files_sent` are on their way to it."""

    files_asked: int
    files_lacking: int
    files_sent: int
