"""Events and who follows them, for people and for machines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mediasync.cli import output
from mediasync.paths import display

if TYPE_CHECKING:
    from mediasync.model.events import DeadLetter, Event, EventFilter, EventLogState, Subscription

_COLOURS = {"active": "green", "idle": "", "paused": "yellow", "retrying": "yellow", "rebuilding": "cyan"}


def safe(text: str) -> str:
    """Somebody else's words, on one line and unable to move the cursor."""
    return display(" ".join(text.split()).encode("utf-8", "replace"))


def state(subscription: Subscription) -> str:
    """What it is doing, in colour."""
    name = subscription.state.value
    return output.style(name.replace("_", " "), _COLOURS.get(name, "red"))


def wishes(wanted: EventFilter) -> str:
    """`file_synced, file_processed of forge in txt2img-images/**`."""
    text = ", ".join(kind.value for kind in wanted.types) or "all events"
    text += f" of {', '.join(map(safe, wanted.sources))}" if wanted.sources else ""
    return text + (f" in {', '.join(map(safe, wanted.paths))}" if wanted.paths else "")


def behind(subscription: Subscription) -> str:
    """`1,200 events, 3 min 4 s`; empty where there is nothing to come."""
    if not subscription.lag_events:
        return ""
    return f"{output.count(subscription.lag_events, 'event')}, {output.span(subscription.lag_seconds)}"


def rate(subscription: Subscription) -> str:
    """Events a second; empty for none to speak of."""
    return f"{subscription.events_per_second:,.1f}" if subscription.events_per_second >= 0.05 else ""


def where(subscription: Subscription) -> str:
    """Its address."""
    return safe(subscription.address) or "pull"


def subscription_json(one: Subscription) -> dict[str, Any]:
    """A subscription for machines."""
    return {
        "name": one.name,
        "address": one.address,
        "pull": one.pull,
        "state": one.state.value,
        "events": [kind.value for kind in one.filter.types],
        "sources": list(one.filter.sources),
        "paths": list(one.filter.paths),
        "batch_size": one.batch_size,
        "cursor": one.cursor,
        "lag_events": one.lag_events,
        "lag_seconds": one.lag_seconds,
        "events_per_second": one.events_per_second,
        "dead_letters": one.dead_letters,
        "waiting": one.waiting,
        "last_error": one.last_error,
        "last_success_time": one.last_success_time,
        "next_try_time": one.next_try_time,
        "events_lost": one.events_lost,
        "fixed": one.fixed,
    }


def print_subscription(one: Subscription) -> None:
    """All that is known of one."""
    now = time.time()
    secured = [f"{label} {path}" for label, path in (("CA", one.tls_ca_file), ("certificate", one.tls_cert_file)) if path]
    due = max(0.0, one.next_try_time - now)
    output.pairs(
        [
            ("name", one.name),
            ("address", where(one) if one.address else "none; its reader comes to us"),
            ("state", state(one)),
            ("wants", wishes(one.filter)),
            ("a call", f"at most {output.count(one.batch_size, 'event')}" if one.address else ""),
            ("TLS", ", ".join(secured)),
            ("token", f"in {one.token_file}" if one.token_file else ""),
            ("dealt with", f"everything up to event {one.cursor:,}" if one.cursor else "nothing yet"),
            ("behind", behind(one) or "no event"),
            ("rate", f"{rate(one)} events/s over the last minute" if rate(one) else ""),
            ("come again", f"{output.count(one.waiting, 'event')}" if one.waiting else ""),
            ("next try", f"in {output.span(due)}" if one.next_try_time else ""),
            ("dead letters", f"{one.dead_letters:,}" if one.dead_letters else ""),
            ("lost", f"{output.count(one.events_lost, 'event')} that were no longer kept" if one.events_lost else ""),
            ("last reached", output.moment(one.last_success_time) or ("never" if one.address else "")),
            ("last error", safe(one.last_error)),
            ("from", "the configuration, or built in" if one.fixed else "`mediasync subscribers add`"),
        ]
    )


def log_line(log: EventLogState) -> str:
    """What the log holds."""
    if log.last < log.first:
        return "The event log is empty."
    since = f", the oldest of {output.moment(log.oldest_time)}" if log.oldest_time else ""
    return f"The log holds events {log.first:,} to {log.last:,} ({output.size(log.size_bytes)}){since}."


def event_json(event: Event) -> dict[str, Any]:
    """An event for machines."""
    from mediasync.cli.files import file_json

    shown: dict[str, Any] = {
        "sequence": event.sequence,
        "event_id": event.event_id,
        "type": event.type.value,
        "time": event.time,
        "sync_id": event.sync_id,
        "source": event.source,
        "synthetic": event.synthetic,
    }
    if event.file is not None:
        shown["file"] = file_json(event.file) | {"moved_from": display(event.moved_from)}
    if event.sync is not None:
        shown["sync"] = output.plain(event.sync)
    if event.batch is not None:
        shown["batch"] = output.plain(event.batch)
    return shown


def about(event: Event) -> str:
    """What an event is about, in a few words."""
    if event.file is not None:
        moved = f" (was {display(event.moved_from)})" if event.moved_from else ""
        return f"{display(event.file.library_path)}{moved}"
    if event.sync is not None:
        summary = event.sync.summary
        brought = f"{output.count(summary.files_transferred, 'file')}, {output.size(summary.bytes_transferred)}"
        return f"{event.sync_id}: {event.sync.state.value}, {brought}"
    if event.batch is not None:
        folder = display(event.batch.folder) or "everything"
        return f"{folder}: {output.count(event.batch.files, 'new file')}, {output.size(event.batch.size_bytes)}"
    return ""


def event_line(event: Event) -> str:
    """An event in one line."""
    number = f"{event.sequence:>8}" if event.sequence else f"{'-':>8}"
    kind = f"{event.type.value:<14}"
    moment = output.style(output.moment(event.time), dim=True)
    return f"{moment} {number} {output.style(kind, 'cyan')} {safe(event.source):<12} {about(event)}".rstrip()


def dead_letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter for machines, without its event's content."""
    event = letter.event
    return {
        "number": letter.number,
        "subscriber": letter.subscription,
        "sequence": event.sequence,
        "event_id": event.event_id,
        "type": event.type.value,
        "path": display(event.file.library_path) if event.file else "",
        "reason": letter.reason,
        "answer": letter.answer,
        "attempts": letter.attempts,
        "first_attempt_time": letter.first_attempt_time,
        "time": letter.time,
    }
