"""Messages of `Events` about subscriptions, cursors and dead letters <-> their nouns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mediasync.convert import duration, timestamp_ns
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.v1 import events_pb2 as pb
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from services.ingest.acceptance import Acceptance
from services.ingest.convert import event_to_pb, for_people
from services.ingest.events import DEFAULT_BATCH_SIZE, DeadLetter, EventKind, Filter, LogBounds, Subscription, SubscriptionStatus, Tls
from services.ingest.pulling import Upto
from services.ingest.replaying import Start, StartKind
from services.ingest.verifying import Done, Found, Progress

MAX_REJECTED = 1000
MAX_NUMBERS = 1000


def subscription_from_pb(message: pb.Subscription) -> Subscription:
    """A subscription to add. Types that this version does not know are left out, unless nothing is left."""
    tls = None
    if message.tls_ca_file:
        tls = Tls(Path(message.tls_ca_file), _path(message.tls_cert_file), _path(message.tls_key_file))
    elif message.tls_cert_file or message.tls_key_file:
        raise invalid("subscription.tls_ca_file", "set, to say whose certificates count, where the others are")
    if bool(message.tls_cert_file) != bool(message.tls_key_file):
        raise invalid("subscription.tls_key_file", "set with tls_cert_file, and only with it")
    if message.pull and message.address:
        raise invalid("subscription.address", "empty, where its reader comes to us")
    if not message.pull and not message.address:
        raise invalid("subscription.address", "host:port or unix:/path, or `pull` set")
    return Subscription(
        message.name,
        message.address,
        _filter(message.filter, message.types, "subscription."),
        message.batch_size or DEFAULT_BATCH_SIZE,
        tls=tls,
        token_file=_path(message.token_file),
    )


def filter_from_pb(message: pb.EventFilter) -> Filter:
    """Which events are asked for."""
    return _filter(message, (), "")


def _filter(message: pb.EventFilter, types: Sequence[int], where: str) -> Filter:
    known = {int(kind) for kind in EventKind}
    asked = message.types or types
    if message.types and types and set(message.types) != set(types):
        raise invalid(f"{where}filter.types", "those of `types`, where both are set")
    kinds = frozenset(EventKind(kind) for kind in asked if kind in known)
    if asked and not kinds:
        raise invalid(f"{where}types", "types of events that there are")
    return Filter(kinds, tuple(message.sources), tuple(message.paths))


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def start_from_pb(message: pb.EventStart) -> Start:
    """Where to start."""
    match message.WhichOneof("start"):
        case "beginning":
            return Start(StartKind.BEGINNING)
        case "sequence":
            return Start(StartKind.SEQUENCE, _positive("start.sequence", message.sequence))
        case "since":
            return Start(StartKind.SINCE, max(0, message.since.ToNanoseconds()))
        case "snapshot":
            return Start(StartKind.SNAPSHOT)
        case "last":
            return Start(StartKind.LAST, max(0, message.last))
    return Start()


def upto_from_pb(message: pb.EventsAckRequest) -> Upto:
    """How far a reader is."""
    match message.WhichOneof("upto"):
        case "sequence":
            return Upto.sequence(_positive("sequence", message.sequence))
        case "token":
            return Upto.parse(message.token)
    raise invalid("upto", "a sequence number or a token")


def rejected_from_pb(results: Sequence[ingest_pb.EventResult]) -> Mapping[str, str]:
    """The ids of events that a reader will never take, with its reasons."""
    if len(results) > MAX_REJECTED:
        raise invalid("rejected", f"at most {MAX_REJECTED}, not {len(results)}")
    for index, result in enumerate(results):
        if not result.event_id:
            raise invalid(f"rejected[{index}].event_id", "set")
        if result.verdict not in (ingest_pb.EVENT_VERDICT_UNSPECIFIED, ingest_pb.EVENT_VERDICT_REJECTED):
            raise invalid(f"rejected[{index}].verdict", "REJECTED: the others need no word")
    return {result.event_id: for_people(result.reason) for result in results}


def numbers_from_pb(subscription: str, numbers: Sequence[int]) -> Sequence[int]:
    """Of dead letters of a subscription."""
    if not subscription:
        raise invalid("subscription", "set")
    if len(numbers) > MAX_NUMBERS:
        raise invalid("numbers", f"at most {MAX_NUMBERS}, not {len(numbers)}; none means all")
    return [_positive("numbers", number) for number in sorted(set(numbers))]


def status_to_pb(status: SubscriptionStatus) -> pb.Subscription:
    """A subscription and how far it is."""
    subscription, position = status.subscription, status.position
    types = [ingest_pb.EventType.ValueType(kind) for kind in sorted(subscription.filter.kinds)]
    message = pb.Subscription(
        name=subscription.name,
        address=subscription.address,
        types=types,
        batch_size=subscription.batch_size,
        cursor=position.cursor,
        lag=status.lag,
        last_error=position.last_error,
        fixed=subscription.fixed,
        filter=pb.EventFilter(types=types, sources=subscription.filter.sources, paths=subscription.filter.paths),
        pull=subscription.pull,
        state=pb.SubscriptionState.ValueType(status.state),
        lag_time=duration(status.lag_seconds),
        events_per_second=status.events_per_second,
        dead_letters=status.dead_letters,
        waiting=status.waiting,
        events_lost=status.events_lost,
        token_file=str(subscription.token_file or ""),
    )
    if tls := subscription.tls:
        message.tls_ca_file = str(tls.ca_file)
        message.tls_cert_file = str(tls.cert_file or "")
        message.tls_key_file = str(tls.key_file or "")
    if position.last_success_ns:
        message.last_success_time.CopyFrom(timestamp_ns(position.last_success_ns))
    if status.next_try_ns:
        message.next_try_time.CopyFrom(timestamp_ns(status.next_try_ns))
    return message


def dead_letter_to_pb(letter: DeadLetter) -> pb.DeadLetter:
    """A dead letter."""
    message = pb.DeadLetter(
        subscription=letter.subscription,
        event=event_to_pb(letter.event),
        reason=letter.reason,
        time=timestamp_ns(letter.time_ns),
        attempts=letter.attempts,
        number=letter.number,
        answer=letter.answer,
    )
    if letter.first_attempt_ns:
        message.first_attempt_time.CopyFrom(timestamp_ns(letter.first_attempt_ns))
    return message


def acceptance_to_pb(found: Acceptance) -> pb.Acceptance:
    """How a subscription stands to a sync."""
    return pb.Acceptance(
        subscription=found.subscription,
        rejected=found.rejected,
        left=found.left,
        last_error=found.last_error,
        state=pb.SubscriptionState.ValueType(found.state or 0),
    )


def log_to_pb(bounds: LogBounds) -> pb.GetLogResponse:
    """What the log holds."""
    message = pb.GetLogResponse(first=bounds.first, last=bounds.last, size_bytes=bounds.size_bytes)
    if bounds.oldest_append_ns:
        message.oldest_time.CopyFrom(timestamp_ns(bounds.oldest_append_ns))
    return message


def verified_to_pb(found: Found) -> pb.VerifySubscriptionResponse:
    """What a verify says."""
    if isinstance(found, Progress):
        progress = pb.VerifyProgress(files_asked=found.files_asked, files_lacking=found.files_lacking)
        return pb.VerifySubscriptionResponse(progress=progress)
    if isinstance(found, Done):
        done = pb.VerifyDone(files_asked=found.files_asked, files_lacking=found.files_lacking, files_sent=found.files_sent)
        return pb.VerifySubscriptionResponse(done=done)
    return pb.VerifySubscriptionResponse(lacking=found)


def invalid(field: str, description: str) -> MediasyncError:
    """A request's field is wrong."""
    return MediasyncError(Reason.INVALID_ARGUMENT, f"{field} must be {description}", fields=[FieldViolation(field, description)])


def _positive(field: str, number: int) -> int:
    if number < 1:
        raise invalid(field, f"1 or more, not {number}")
    return number
