"""What is under way to one subscriber: events read from the log and not dealt with yet, and which of them may go next.

Pure data, no clock of its own, no I/O. The rules, in order of weight:

1. Events of one file go in log order: while one waits for its next attempt, later ones of the same file wait with it.
2. SYNC_COMPLETE goes after every earlier event of its sync, and alone.
3. Everything else passes what waits.
4. An event that made a call fail goes by itself, so that it takes no others along.
5. A call holds events of one sync only, so that it belongs to one trace, and at most `MAX_CALL_BYTES` of them unless a single
   event is larger, because gRPC servers refuse messages over 4 MiB unless told otherwise.

The cursor that goes with it is the position before the oldest event that is not dealt with. After a crash, events behind a
waiting one are therefore offered again: at least once, never less.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from services.ingest.events import EventKind, LoggedEvent

MAX_EVENTS = 1000
MAX_BYTES = 16 * 1024 * 1024
MAX_CALL_BYTES = 3 * 1024 * 1024


@dataclass(slots=True)
class Pending:
    """An event that is not dealt with.

    `attempts` counts the calls made for it alone or answered for it, `refusals` those that are held against it. `ready_at` is a time
    of the caller's clock. `alone`: a call with it in it failed as a whole, so it goes by itself. `answers_before` is how many
    events the subscriber had answered for when this one failed last.
    """

    event: LoggedEvent
    attempts: int = 0
    refusals: int = 0
    ready_at: float = 0.0
    alone: bool = False
    answers_before: int | None = None


class Window:
    """The events between a subscription's cursor and where the log was read to."""

    def __init__(self, cursor: int) -> None:
        self._pending: dict[int, Pending] = {}
        self._bytes = 0
        self.read_to = cursor
        """Sequence number up to which the log was read."""

    @property
    def cursor(self) -> int:
        """Everything up to and including it was dealt with."""
        return next(iter(self._pending)) - 1 if self._pending else self.read_to

    @property
    def room(self) -> int:
        """How many more events to read; bounded, so that a subscriber that takes nothing costs no more memory."""
        return max(0, MAX_EVENTS - len(self._pending)) if self._bytes < MAX_BYTES else 0

    @property
    def room_bytes(self) -> int:
        """How many more bytes of events to read."""
        return max(0, MAX_BYTES - self._bytes)

    def next_ready_at(self, now: float) -> float | None:
        """When the first of the events that wait at `now` may go; None when none waits."""
        return min((item.ready_at for item in self._pending.values() if item.ready_at > now), default=None)

    def add(self, events: Iterable[LoggedEvent], read_to: int) -> None:
        """Takes events read from the log, in order. `read_to` may lie beyond the last: what lies between is not wanted."""
        for event in events:
            self._pending[event.sequence] = Pending(event)
            self._bytes += len(event.payload)
        self.read_to = max(self.read_to, read_to)

    def remove(self, event: LoggedEvent) -> None:
        """The event was dealt with."""
        del self._pending[event.sequence]
        self._bytes -= len(event.payload)

    def pick(self, limit: int, now: float) -> Sequence[Pending]:
        """The events of the next call, at most `limit`; empty when every one of them waits."""
        picked: list[Pending] = []
        size = 0
        waiting_files: set[bytes] = set()
        waiting_syncs: set[str] = set()
        for item in self._pending.values():
            event = item.event
            if event.kind == EventKind.SYNC_COMPLETE:
                if item.ready_at > now or event.sync_id in waiting_syncs:
                    continue
                return picked or [item]
            if item.alone and item.ready_at <= now and event.file_key not in waiting_files and not picked:
                return [item]
            if item.alone or item.ready_at > now or event.file_key in waiting_files:
                waiting_files.add(event.file_key)
                waiting_syncs.add(event.sync_id)
                continue
            size += len(event.payload)
            if picked and (event.sync_id != picked[0].event.sync_id or size > MAX_CALL_BYTES):
                break
            picked.append(item)
            if len(picked) >= limit:
                break
        return picked


def in_file_order(items: Sequence[Pending], settled: Container[int]) -> list[Pending]:
    """Of the events of one call, those that are dealt with: an event that comes after one of the same file that is not has to come
    again after it, whatever was answered for it. `settled` holds sequence numbers."""
    held: set[bytes] = set()
    result = []
    for item in items:
        if item.event.sequence in settled and item.event.file_key not in held:
            result.append(item)
        else:
            held.add(item.event.file_key)
    return result
