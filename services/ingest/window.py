"""What is under way to one subscriber: events read from a feed and not dealt with yet, and which of them may go next.

Pure data, no clock of its own, no I/O. The rules, in order of weight:

1. Events of one file go in the feed's order: while one waits for its next attempt, later ones of the same file wait with it. A move is
   about two files.
2. SYNC_COMPLETE goes after every earlier event of its sync, and alone.
3. Everything else passes what waits.
4. An event that made a call fail goes by itself, so that it takes no others along.
5. A call holds at most so many bytes as it is given unless a single event is larger, because gRPC servers refuse messages over 4 MiB
   unless told otherwise.

Most events are offered once and accepted: those are `fresh`, in order, and nothing is kept about them but themselves. What was offered
in vain, or has to wait behind such a one, is `troubled`. Every fresh event comes after every troubled one, so that the position, which is
stored, says all: everything up to `read_to` was dealt with but for those that it names.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.ingest.events import FILE_KEY_BYTES, EventKind, LoggedEvent, Waiting

MAX_EVENTS = 2000
MAX_BYTES = 8 * 1024 * 1024
MAX_CALL_BYTES = 3 * 1024 * 1024

_SYNC_COMPLETE = int(EventKind.SYNC_COMPLETE)


@dataclass(slots=True)
class Pending:
    """An event that was offered in vain, or waits behind such a one.

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
    first_attempt_ns: int = 0


class Window:
    """The events between a subscription's cursor and where its feed was read to. One call is under way at a time: what `pick` gave is
    its until `settle` or `put_back`."""

    def __init__(self, read_to: int, max_bytes: int = MAX_BYTES) -> None:
        self.read_to = read_to
        """Place up to which the feed was read."""
        self.max_bytes = max_bytes
        self._fresh: deque[LoggedEvent] = deque()
        self._troubled: dict[int, Pending] = {}
        self.calling: Sequence[LoggedEvent] = ()
        """What the call that is under way holds."""
        self._count = 0
        self._bytes = 0

    @property
    def cursor(self) -> int:
        """Everything up to and including it was dealt with."""
        first = self.oldest
        return self.read_to if first is None else first.sequence - 1

    @property
    def settled_to(self) -> int:
        """Everything up to and including it was dealt with, but for `waiting`."""
        return self._fresh[0].sequence - 1 if self._fresh else self.read_to

    @property
    def oldest(self) -> LoggedEvent | None:
        """The first event that is not dealt with."""
        first = self._fresh[0] if self._fresh else None
        if self.calling and (first is None or self.calling[0].sequence < first.sequence):
            first = self.calling[0]
        if self._troubled:
            troubled = next(iter(self._troubled.values())).event
            if first is None or troubled.sequence < first.sequence:
                first = troubled
        return first

    @property
    def troubled(self) -> int:
        """How many events were offered in vain, or wait behind such a one."""
        return len(self._troubled)

    @property
    def fresh(self) -> int:
        """How many events were never offered."""
        return len(self._fresh)

    @property
    def room(self) -> int:
        """How many more events to read; bounded, so that a subscriber that takes nothing costs no more memory."""
        return max(0, MAX_EVENTS - self._count) if self._bytes < self.max_bytes else 0

    @property
    def room_bytes(self) -> int:
        """How many more bytes of events to read."""
        return max(0, self.max_bytes - self._bytes)

    @property
    def empty(self) -> bool:
        """Whether everything that was read is dealt with."""
        return self._count == 0

    def waiting(self) -> tuple[Waiting, ...]:
        """What is not dealt with up to `settled_to`, in order."""
        if not self._troubled and not self.calling:
            return ()
        found = {sequence: Waiting(sequence, item.attempts, item.refusals) for sequence, item in self._troubled.items()}
        for event in self.calling:
            found.setdefault(event.sequence, Waiting(event.sequence))
        return tuple(found[sequence] for sequence in sorted(found))

    def restore(self, events: Iterable[LoggedEvent], waiting: Iterable[Waiting]) -> None:
        """Takes up what was not dealt with when the position was stored."""
        told = {item.sequence: item for item in waiting}
        for event in events:
            item = told[event.sequence]
            self._troubled[event.sequence] = Pending(event, item.attempts, item.refusals)
            self._grow(event)

    def add(self, events: Iterable[LoggedEvent], read_to: int) -> None:
        """Takes events read from the feed, in order. `read_to` may lie beyond the last: what lies between is not wanted."""
        for event in events:
            self._fresh.append(event)
            self._grow(event)
        self.read_to = max(self.read_to, read_to)

    def fills(self, limit: int, max_bytes: int) -> bool:
        """Whether a call would gain nothing by waiting for more events."""
        if self._troubled or len(self._fresh) >= limit or self._bytes >= max_bytes:
            return True
        return any(event.kind == _SYNC_COMPLETE for event in self._fresh)

    def next_ready_at(self, now: float) -> float | None:
        """When the first of the events that wait at `now` may go; None when none waits."""
        return min((item.ready_at for item in self._troubled.values() if item.ready_at > now), default=None)

    def pick(self, limit: int, max_bytes: int, now: float) -> Sequence[LoggedEvent]:
        """The events of the next call, at most `limit` and `max_bytes`; empty when every one of them waits."""
        picked: list[LoggedEvent] = []
        held: set[bytes] = set()
        waiting_syncs: set[str] = set()
        size = 0
        for item in self._troubled.values():
            event = item.event
            if event.kind == _SYNC_COMPLETE:
                # Of its sync nothing earlier may wait or be in this call.
                if not picked and item.ready_at <= now and event.sync_id not in waiting_syncs:
                    return self._call([event])
                continue
            if item.ready_at <= now and (not held or held.isdisjoint(keys(event))):
                if not picked and item.alone:
                    return self._call([event])
                if not item.alone and len(picked) < limit and (not picked or size + len(event.payload) <= max_bytes):
                    picked.append(event)
                    size += len(event.payload)
                    continue
            held.update(keys(event))
            waiting_syncs.add(event.sync_id)
        return self._call(self._pick_fresh(picked, size, limit, max_bytes, held, waiting_syncs))

    def _pick_fresh(
        self, picked: list[LoggedEvent], size: int, limit: int, max_bytes: int, held: set[bytes], waiting_syncs: set[str]
    ) -> list[LoggedEvent]:
        fresh = self._fresh
        while fresh and len(picked) < limit:
            event = fresh[0]
            if event.kind == _SYNC_COMPLETE:
                if event.sync_id not in waiting_syncs:
                    return picked or [fresh.popleft()]
                self._wait(fresh.popleft())
            elif held and not held.isdisjoint(keys(event)):
                self._wait(fresh.popleft())
                held.update(keys(event))
                waiting_syncs.add(event.sync_id)
            else:
                size += len(event.payload)
                if picked and size > max_bytes:
                    break
                picked.append(fresh.popleft())
        return picked

    def trouble(self, event: LoggedEvent) -> Pending:
        """What is known of an event of the call; from now on it is kept."""
        found = self._troubled.get(event.sequence)
        if found is None:
            found = self._wait(event)
        return found

    def settle(self, settled: Container[int] | None = None) -> None:
        """The call has ended: its events with these places are dealt with (None: all), the others come again."""
        again = []
        for event in self.calling:
            if settled is None or event.sequence in settled:
                self._troubled.pop(event.sequence, None)
                self._count -= 1
                self._bytes -= len(event.payload)
            elif event.sequence not in self._troubled:
                again.append(event)
        self.calling = ()
        for event in again:
            self._wait(event)
        self._sort()

    def put_back(self) -> None:
        """The call has ended as if it had not been made."""
        back = [event for event in self.calling if event.sequence not in self._troubled]
        self.calling = ()
        if self._troubled and back and next(reversed(self._troubled)) > back[0].sequence:
            # One that was read after these waits behind another: as fresh ones they would be overtaken by it.
            for event in back:
                self._wait(event)
            self._sort()
        else:
            self._fresh.extendleft(reversed(back))

    def _call(self, events: list[LoggedEvent]) -> Sequence[LoggedEvent]:
        self.calling = events
        return events

    def _wait(self, event: LoggedEvent) -> Pending:
        found = self._troubled[event.sequence] = Pending(event)
        return found

    def _sort(self) -> None:
        places = list(self._troubled)
        if any(earlier > later for earlier, later in itertools.pairwise(places)):
            self._troubled = dict(sorted(self._troubled.items()))

    def _grow(self, event: LoggedEvent) -> None:
        self._count += 1
        self._bytes += len(event.payload)


def keys(event: LoggedEvent) -> Iterator[bytes]:
    """One for each file that an event is about."""
    key = event.file_key
    return (key[start : start + FILE_KEY_BYTES] for start in range(0, len(key), FILE_KEY_BYTES))


def in_file_order(events: Sequence[LoggedEvent], settled: Container[int]) -> set[int]:
    """Of the events of one call, those that are dealt with: an event that comes after one of the same file that is not has to come
    again after it, whatever was answered for it. `settled` and the result hold places."""
    held: set[bytes] = set()
    result = set()
    for event in events:
        if event.sequence in settled and (not held or held.isdisjoint(keys(event))):
            result.add(event.sequence)
        else:
            held.update(keys(event))
    return result
