"""Events and who follows them. Apart from the others, so that who never speaks of events loads none of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.empty_pb2 import Empty

from mediasync.convert.basic import timestamp, to_seconds, to_unix
from mediasync.convert.jobs import job_state_from_pb, summary_from_pb
from mediasync.convert.media import catalog_file_from_pb
from mediasync.model import CatalogFile
from mediasync.model.events import (
    DeadLetter,
    Event,
    EventFilter,
    EventLogState,
    EventPage,
    EventStart,
    EventType,
    FolderBatch,
    StartKind,
    SubscriberProgress,
    SubscriberVerified,
    Subscription,
    SubscriptionState,
    SyncEnd,
)
from mediasync.v1 import catalog_pb2, media_ingest_pb2
from mediasync.v1 import events_pb2 as pb

_TYPES = {
    EventType.UNKNOWN: media_ingest_pb2.EVENT_TYPE_UNSPECIFIED,
    EventType.FILE_SYNCED: media_ingest_pb2.EVENT_TYPE_FILE_SYNCED,
    EventType.FILE_PROCESSED: media_ingest_pb2.EVENT_TYPE_FILE_PROCESSED,
    EventType.FILE_DELETED: media_ingest_pb2.EVENT_TYPE_FILE_DELETED,
    EventType.SYNC_COMPLETE: media_ingest_pb2.EVENT_TYPE_SYNC_COMPLETE,
    EventType.BATCH_SYNCED: media_ingest_pb2.EVENT_TYPE_BATCH_SYNCED,
}
_TYPES_BACK = {value: kind for kind, value in _TYPES.items()}
_STATES_BACK = {
    pb.SUBSCRIPTION_STATE_ACTIVE: SubscriptionState.ACTIVE,
    pb.SUBSCRIPTION_STATE_PAUSED: SubscriptionState.PAUSED,
    pb.SUBSCRIPTION_STATE_RETRYING: SubscriptionState.RETRYING,
    pb.SUBSCRIPTION_STATE_UNREACHABLE: SubscriptionState.UNREACHABLE,
    pb.SUBSCRIPTION_STATE_TOO_FAR_BEHIND: SubscriptionState.TOO_FAR_BEHIND,
    pb.SUBSCRIPTION_STATE_REBUILDING: SubscriptionState.REBUILDING,
    pb.SUBSCRIPTION_STATE_IDLE: SubscriptionState.IDLE,
}


def event_from_pb(message: media_ingest_pb2.Event) -> Event:
    """An event."""
    kind = message.WhichOneof("payload")
    return Event(
        event_id=message.event_id,
        sequence=message.sequence,
        type=_TYPES_BACK.get(message.type, EventType.UNKNOWN),
        time=to_unix(message.time),
        sync_id=message.sync_id,
        source=message.source,
        file=_file_from_pb(message) if kind == "file" else None,
        moved_from=message.file.moved_from.raw,
        sync=_sync_from_pb(message.sync) if kind == "sync" else None,
        batch=_batch_from_pb(message.batch) if kind == "batch" else None,
        synthetic=message.synthetic,
    )


def filter_to_pb(wanted: EventFilter) -> pb.EventFilter:
    """Which events."""
    return pb.EventFilter(types=[_TYPES[kind] for kind in wanted.types], sources=wanted.sources, paths=wanted.paths)


def filter_from_pb(message: pb.EventFilter) -> EventFilter:
    """Which events."""
    types = tuple(_TYPES_BACK.get(kind, EventType.UNKNOWN) for kind in message.types)
    return EventFilter(types, tuple(message.sources), tuple(message.paths))


def start_to_pb(start: EventStart) -> pb.EventStart:
    """Where to start."""
    match start.kind:
        case StartKind.BEGINNING:
            return pb.EventStart(beginning=Empty())
        case StartKind.SEQUENCE:
            return pb.EventStart(sequence=start.sequence)
        case StartKind.SINCE:
            return pb.EventStart(since=timestamp(start.since))
        case StartKind.SNAPSHOT:
            return pb.EventStart(snapshot=Empty())
        case StartKind.LAST:
            return pb.EventStart(last=start.last)
        case StartKind.NEXT:
            return pb.EventStart()


def subscription_to_pb(subscription: Subscription) -> pb.Subscription:
    """A subscription to add."""
    return pb.Subscription(
        name=subscription.name,
        address=subscription.address,
        filter=filter_to_pb(subscription.filter),
        batch_size=subscription.batch_size,
        pull=subscription.pull,
        tls_ca_file=subscription.tls_ca_file,
        tls_cert_file=subscription.tls_cert_file,
        tls_key_file=subscription.tls_key_file,
        token_file=subscription.token_file,
    )


def subscription_from_pb(message: pb.Subscription) -> Subscription:
    """A subscription and what it is doing."""
    return Subscription(
        name=message.name,
        address=message.address,
        filter=filter_from_pb(message.filter),
        batch_size=message.batch_size,
        tls_ca_file=message.tls_ca_file,
        tls_cert_file=message.tls_cert_file,
        tls_key_file=message.tls_key_file,
        token_file=message.token_file,
        fixed=message.fixed,
        state=state_from_pb(message.state),
        cursor=message.cursor,
        lag_events=message.lag,
        lag_seconds=to_seconds(message.lag_time),
        events_per_second=message.events_per_second,
        dead_letters=message.dead_letters,
        waiting=message.waiting,
        last_error=message.last_error,
        last_success_time=to_unix(message.last_success_time),
        next_try_time=to_unix(message.next_try_time),
        events_lost=message.events_lost,
    )


def state_from_pb(value: pb.SubscriptionState.ValueType) -> SubscriptionState:
    """What a subscription is doing; UNKNOWN for what this version does not know."""
    return _STATES_BACK.get(value, SubscriptionState.UNKNOWN)


def page_from_pb(message: pb.EventsSubscribeResponse) -> EventPage:
    """Events of a stream."""
    return EventPage(tuple(event_from_pb(event) for event in message.events), message.token, message.sequence)


def dead_letter_from_pb(message: pb.DeadLetter) -> DeadLetter:
    """A dead letter."""
    return DeadLetter(
        number=message.number,
        subscription=message.subscription,
        event=event_from_pb(message.event),
        reason=message.reason,
        answer=message.answer,
        attempts=message.attempts,
        first_attempt_time=to_unix(message.first_attempt_time),
        time=to_unix(message.time),
    )


def log_state_from_pb(message: pb.GetLogResponse) -> EventLogState:
    """What the log holds."""
    return EventLogState(message.first, message.last, message.size_bytes, to_unix(message.oldest_time))


def verify_from_pb(message: pb.VerifySubscriptionResponse) -> SubscriberProgress | CatalogFile | SubscriberVerified | None:
    """What came of the verify of a subscriber; None for what this version does not know. Of a lacking file only what the event would say
    is known: neither its source nor its sync."""
    match message.WhichOneof("event"):
        case "progress":
            return SubscriberProgress(message.progress.files_asked, message.progress.files_lacking)
        case "lacking":
            return catalog_file_from_pb(catalog_pb2.CatalogFile(file=message.lacking))
        case "done":
            return SubscriberVerified(message.done.files_asked, message.done.files_lacking, message.done.files_sent)
        case _:
            return None


def rejected_to_pb(rejected: Mapping[str, str]) -> Iterable[media_ingest_pb2.EventResult]:
    """Events that will never be taken, by their ids, with the reason of each."""
    verdict = media_ingest_pb2.EVENT_VERDICT_REJECTED
    return [media_ingest_pb2.EventResult(event_id=event_id, verdict=verdict, reason=reason) for event_id, reason in rejected.items()]


def _file_from_pb(event: media_ingest_pb2.Event) -> CatalogFile:
    """The file of an event, as the catalog would know it by this event alone."""
    kind = _TYPES_BACK.get(event.type)
    known = catalog_pb2.CatalogFile(
        file=event.file,
        source=event.source,
        sync_id=event.sync_id,
        processed=kind is EventType.FILE_PROCESSED,
        sync_time=event.time,
        source_delete_time=event.time if kind is EventType.FILE_DELETED else None,
    )
    return catalog_file_from_pb(known)


def _sync_from_pb(record: media_ingest_pb2.SyncRecord) -> SyncEnd:
    return SyncEnd(record.job_id, job_state_from_pb(record.state), summary_from_pb(record.summary), record.library_root)


def _batch_from_pb(record: media_ingest_pb2.BatchRecord) -> FolderBatch:
    return FolderBatch(record.folder.raw, record.files, record.size_bytes, record.library_root)
