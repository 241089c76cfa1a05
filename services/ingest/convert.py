"""Messages of `Events` and `MediaIngest` <-> the nouns of the event log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mediasync.convert import timestamp_ns
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.paths import display
from mediasync.v1 import events_pb2 as pb
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from services.ingest.events import (
    DEFAULT_BATCH_SIZE,
    DeadLetter,
    EventKind,
    Filter,
    LoggedEvent,
    Subscription,
    SubscriptionStatus,
)
from services.ingest.subscriber import Answer, Answers, Verdict

MAX_REASON_CHARACTERS = 500

_VERDICTS = {
    ingest_pb.EVENT_VERDICT_ACCEPTED: Verdict.ACCEPTED,
    ingest_pb.EVENT_VERDICT_REJECTED: Verdict.REJECTED,
}


def event_to_pb(event: LoggedEvent) -> ingest_pb.Event:
    """An event as it was published, with its sequence number."""
    message = ingest_pb.Event.FromString(event.payload)
    message.sequence = event.sequence
    return message


def answers_from_pb(asked: Sequence[LoggedEvent], results: Iterable[ingest_pb.EventResult]) -> Answers:
    """What a subscriber answered, as far as it makes sense: its answer is untrusted. The first result for an event counts."""
    wanted = {event.event_id for event in asked}
    by_id: dict[str, Answer] = {}
    unknown = repeated = 0
    for result in results:
        # With one event there is no doubt which one is meant.
        event_id = result.event_id or (asked[0].event_id if len(asked) == 1 else "")
        if event_id not in wanted:
            unknown += 1
        elif event_id in by_id:
            repeated += 1
        else:
            by_id[event_id] = Answer(_VERDICTS.get(result.verdict, Verdict.RETRY), for_people(result.reason))
    missing = len(wanted) - len(by_id)
    counts = ((unknown, "results for events it was not asked about"), (repeated, "repeated results"), (missing, "results missing"))
    said = ", ".join(f"{count} {what}" for count, what in counts if count)
    return Answers(by_id, f"its answer was irregular: {said}" if said else "")


def subscription_from_pb(message: pb.Subscription) -> Subscription:
    """A subscription to add. Types that this version does not know are left out, unless nothing is left."""
    known = {int(kind) for kind in EventKind}
    kinds = frozenset(EventKind(kind) for kind in message.types if kind in known)
    if message.types and not kinds:
        raise _invalid([FieldViolation("subscription.types", "types of events that there are")])
    return Subscription(message.name, message.address, Filter(kinds), message.batch_size or DEFAULT_BATCH_SIZE)


def status_to_pb(status: SubscriptionStatus) -> pb.Subscription:
    """A subscription and how far it is."""
    subscription, position = status.subscription, status.position
    message = pb.Subscription(
        name=subscription.name,
        address=subscription.address,
        types=[ingest_pb.EventType.ValueType(kind) for kind in sorted(subscription.filter.kinds)],
        batch_size=subscription.batch_size,
        cursor=position.cursor,
        lag=status.lag,
        last_error=position.last_error,
        fixed=subscription.fixed,
    )
    if position.last_success_ns:
        message.last_success_time.CopyFrom(timestamp_ns(position.last_success_ns))
    return message


def dead_letter_to_pb(letter: DeadLetter) -> pb.DeadLetter:
    """A dead letter."""
    return pb.DeadLetter(
        subscription=letter.subscription,
        event=event_to_pb(letter.event),
        reason=letter.reason,
        time=timestamp_ns(letter.time_ns),
        attempts=letter.attempts,
    )


def request_id_from_pb(request_id: str) -> str:
    """A request's id. Raises INVALID_ARGUMENT for one that is empty or too long."""
    if not 1 <= len(request_id) <= 128:
        raise _invalid([FieldViolation("request_id", "1 to 128 characters, drawn anew for each request")])
    return request_id


def for_people(text: str) -> str:
    """A subscriber's text, safe to print and bounded."""
    return display(text[:MAX_REASON_CHARACTERS].encode())


def _invalid(wrong: Sequence[FieldViolation]) -> MediasyncError:
    said = "; ".join(f"{violation.field} must be {violation.description}" for violation in wrong[:3])
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    return MediasyncError(Reason.INVALID_ARGUMENT, said + more, fields=wrong[:20])
