"""What an answer, or none, makes of the events of a call: dealt with, a dead letter, or to come again. No I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.ingest import backoff
from services.ingest.events import DeadLetter, LoggedEvent
from services.ingest.subscriber import Answer, Answers, CallFailed, Failure, Verdict
from services.ingest.window import Pending, Window, in_file_order

MAX_REFUSALS = 20
"""With the pauses of `backoff` five to ten minutes from the first refusal to the dead letter."""

_MISSING = Answer(Verdict.RETRY, "it answered without a word on this event")


@dataclass(frozen=True)
class Settlement:
    """Places of the events that are dealt with once `letters` are kept, and what was wrong, for people."""

    settled: frozenset[int]
    accepted: Sequence[LoggedEvent] = ()
    letters: Sequence[DeadLetter] = field(default_factory=tuple)
    problem: str = ""


def of_answers(
    window: Window, subscription: str, events: Sequence[LoggedEvent], answers: Answers, *, now: float, called_ns: int
) -> Settlement:
    """Of a call that was answered at `now`. An event whose word is "again" waits in the window from now on."""
    if answers.all_accepted:
        return Settlement(frozenset(event.sequence for event in events), events)
    done: set[int] = set()
    letters: dict[int, DeadLetter] = {}
    said = ""
    for event in events:
        answer = answers.by_id.get(event.event_id, _MISSING)
        item = window.trouble(event)
        item.attempts += 1
        item.first_attempt_ns = item.first_attempt_ns or called_ns
        if answer.verdict is Verdict.REJECTED:
            letters[event.sequence] = _letter(subscription, item, answer.reason or "rejected without a reason", "REJECTED")
        elif answer.verdict is Verdict.RETRY:
            said = said or answer.reason
            if not refused(item, now):
                continue
            letters[event.sequence] = _letter(subscription, item, _gave_up(item, answer.reason), "RETRY")
        done.add(event.sequence)
    settled = in_file_order(events, done)
    return Settlement(
        frozenset(settled),
        [event for event in events if event.sequence in settled and event.sequence not in letters],
        [letter for sequence, letter in letters.items() if sequence in settled],
        answers.irregular or said,
    )


def of_failure_alone(
    window: Window, subscription: str, event: LoggedEvent, error: CallFailed, *, answered: int, now: float, called_ns: int
) -> Settlement:
    """Of a failed call with this event alone, when the subscriber had dealt with `answered` events in all. One that is slow or full fails
    whatever it is given, so that such a failure is held against the event only if others were dealt with since its last one."""
    item = window.trouble(event)
    item.attempts += 1
    item.first_attempt_ns = item.first_attempt_ns or called_ns
    item.alone = True
    before, item.answers_before = item.answers_before, answered
    if error.failure is Failure.BUSY and (before is None or before == answered):
        return Settlement(frozenset())
    if refused(item, now):
        return Settlement(frozenset([event.sequence]), (), [_letter(subscription, item, _gave_up(item, str(error)), error.status)])
    return Settlement(frozenset())


def of_too_large(window: Window, subscription: str, event: LoggedEvent, limit_bytes: int, *, called_ns: int) -> Settlement:
    """Of a failed call with this event alone, which is larger than anything that the subscriber takes."""
    item = window.trouble(event)
    item.attempts += 1
    item.first_attempt_ns = item.first_attempt_ns or called_ns
    size = len(event.payload)
    reason = f"its {size} bytes are more than the {limit_bytes} that it takes in a message; raise its limit (max_receive_message_length)"
    return Settlement(frozenset([event.sequence]), (), [_letter(subscription, item, reason, "RESOURCE_EXHAUSTED")])


def refused(item: Pending, now: float) -> bool:
    """Holds a refusal against the event, which waits for its next attempt; returns whether it was the last."""
    item.refusals += 1
    put_off(item, now)
    return item.refusals >= MAX_REFUSALS


def put_off(item: Pending, now: float) -> None:
    """The event waits, the longer the more often it was refused."""
    item.ready_at = now + backoff.delay(max(1, item.refusals))


def _letter(subscription: str, item: Pending, reason: str, answer: str) -> DeadLetter:
    return DeadLetter(0, subscription, item.event, reason, item.attempts, answer, item.first_attempt_ns)


def _gave_up(item: Pending, reason: str) -> str:
    return f"given up after {item.attempts} attempts: {reason or 'no reason given'}"
