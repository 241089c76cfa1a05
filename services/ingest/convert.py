"""Messages of `Events` and `MediaIngest` <-> the nouns of the event log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.paths import display
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from services.ingest.events import LoggedEvent
from services.ingest.subscriber import Answer, Answers, Verdict

MAX_REASON_CHARACTERS = 500

_VERDICTS = {
    ingest_pb.EVENT_VERDICT_ACCEPTED: Verdict.ACCEPTED,
    ingest_pb.EVENT_VERDICT_REJECTED: Verdict.REJECTED,
}


def event_to_pb(event: LoggedEvent) -> ingest_pb.Event:
    """An event as its subscribers see it; one of a snapshot has no sequence number."""
    return ingest_pb.Event.FromString(event.payload)


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
