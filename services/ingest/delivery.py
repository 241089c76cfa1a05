"""Brings events to one subscription: offers, waits for the answer, then moves the position.

One `Delivery` a subscription, each with its own task, window and connection, so that none can delay another. One call is under way at a
time, and the next events are read meanwhile. What happens to an event that is not accepted:

- the subscriber cannot be reached: everything waits, for as long as it takes, and nothing is held against any event (`circuit`);
- the call fails otherwise: half as many events are tried, then half of those, until the one that breaks it is alone; from then on
  it goes alone, between growing pauses, while the others pass;
- the subscriber answers "try again": that event waits, with those of the same file behind it, and the others pass;
- the subscriber rejects it, or has refused it `settling.MAX_REFUSALS` times: it becomes a dead letter.

Every failure is followed by a pause (`backoff`) that grows while nothing goes well, so that a subscriber that is broken as a whole
is neither hammered nor turned quickly into a heap of dead letters.

Side feeds are sent to their ends, one after another, before the log goes on. Not here: where positions and side feeds are kept. What is
said of a position is never ahead of what was answered or buried.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from opentelemetry import trace

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime import context, crash
from services.ingest import backoff, settling
from services.ingest.circuit import Circuit, CircuitState
from services.ingest.events import EventKind, LoggedEvent, Subscription, SubscriptionPosition, SubscriptionState
from services.ingest.feeds import Bury, Log, Side
from services.ingest.lane import EventsLostError, Lane
from services.ingest.rate import Rate
from services.ingest.reception import Reception
from services.ingest.settling import Settlement
from services.ingest.subscriber import Answers, CallFailed, Failure, Subscriber
from services.ingest.watermark import Watermark
from services.ingest.window import MAX_BYTES, Window

LINGER_SECONDS = 0.02
"""How long a call that follows another at once waits for events to go with it."""
GRACE_SECONDS = 5.0
"""How long a delivery that is ended waits for the answer to its call, so that those events do not come again."""

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

_WARN_AGAIN_SECONDS = 600.0
_LOOK_AGAIN_SECONDS = 0.25
_MAX_LINKS = 20


async def _nobody(_name: str, _lost: int) -> None:
    """Nobody keeps that events were lost."""


class Delivery:
    """Delivers to one subscription. `moved` is called after every change of `position`; `bury` keeps dead letters; `fell_behind` keeps how
    many events were lost because they are no longer in the log; `window_bytes` says how much it may hold at the moment."""

    def __init__(
        self,
        subscription: Subscription,
        position: SubscriptionPosition,
        log: Log,
        subscriber: Subscriber,
        *,
        moved: Callable[[str, SubscriptionPosition], None],
        bury: Bury,
        linger_seconds: float = LINGER_SECONDS,
        window_bytes: Callable[[], int] = lambda: MAX_BYTES,
        fell_behind: Callable[[str, int], Awaitable[None]] = _nobody,
    ) -> None:
        self.subscription = subscription
        self.cursor = Watermark(position.cursor)
        self._log = log
        self._subscriber = subscriber
        self._moved = moved
        self._bury = bury
        self._linger_seconds = linger_seconds
        self._window_bytes = window_bytes
        self._fell_behind = fell_behind
        self._place = position
        self._last_error = position.last_error
        self._last_success_ns = position.last_success_ns
        self._window: Window | None = None
        self._sides: deque[Side] = deque()
        self._circuit = Circuit()
        self._reception = Reception(subscription.batch_size)
        self._rate: Rate | None = None
        self._wake = asyncio.Event()
        self._paused = subscription.paused
        self._behind = False
        self._failures = 0
        self._quiet_until = 0.0
        self._ended_at = -math.inf
        self._answered = 0
        self._not_interested: set[int] = set()
        self._warned = ("", 0.0)
        self._grace_seconds = GRACE_SECONDS

    @property
    def position(self) -> SubscriptionPosition:
        """How far it is."""
        return self._place

    @property
    def state(self) -> SubscriptionState:
        """What it is doing."""
        if self._behind:
            return SubscriptionState.TOO_FAR_BEHIND
        if self._paused:
            return SubscriptionState.PAUSED
        if self._circuit.state is CircuitState.OPEN:
            return SubscriptionState.UNREACHABLE
        if self._sides:
            return SubscriptionState.REBUILDING
        return SubscriptionState.RETRYING if self._failures or self._circuit.failing or self.waiting else SubscriptionState.ACTIVE

    @property
    def waiting(self) -> int:
        """How many events of the log come again, or wait behind such a one."""
        return self._window.troubled if self._window is not None else len(self._place.waiting)

    @property
    def oldest_append_ns(self) -> int:
        """When the first event that was read and is not dealt with came into the log; 0 when there is none."""
        oldest = self._window.oldest if self._window is not None else None
        return oldest.append_time_ns if oldest is not None else 0

    @property
    def events_per_second(self) -> float:
        """How many were dealt with, over the last minute."""
        return self._rate.per_second(_now()) if self._rate is not None else 0.0

    @property
    def next_try_ns(self) -> int:
        """When it tries again, as Unix time; 0 when it waits for no such time."""
        now = _now()
        held_until = max(self._circuit.next_try_at, self._quiet_until)
        ready_at = held_until if held_until > now else self._window.next_ready_at(now) if self._window is not None else None
        return time.time_ns() + int((ready_at - now) * 1e9) if ready_at is not None else 0

    def begin(self, side: Side) -> None:
        """Sends a side feed before the log goes on, after those that were begun earlier."""
        self._sides.append(side)
        self._wake.set()

    def pause(self) -> None:
        """No call begins until `resume`; the one under way ends as ever."""
        self._paused = True
        self._wake.set()

    def resume(self) -> None:
        """Goes on, and tries at once where it would have waited for the subscriber."""
        self._paused = False
        self._circuit.try_now()
        self._quiet_until = 0.0
        self._wake.set()

    def too_far_behind(self, problem: str) -> None:
        """Events that come next are lost: this one offers nothing any more. `problem` says so to people."""
        self._behind = True
        self._report(problem)
        self._wake.set()

    def abandon(self) -> None:
        """When it is ended, the call under way is not waited for."""
        self._grace_seconds = 0.0

    async def run(self) -> NoReturn:
        """Delivers until cancelled. What goes wrong here stays here."""
        self._rate = Rate(_now())
        while True:
            try:
                await self._deliver()
            except EventsLostError as lost:
                await self._lose(lost.count)
            except MediasyncError as error:
                # Of a feed: the catalog that a snapshot is made from is not there, for instance.
                self._rest(str(error))
            except Exception as error:
                # A fault of ours or of the disk. Other subscriptions must not feel it, and this one goes on from its position.
                logger.exception("delivery to a subscription failed", extra={"subscription": self.subscription.name})
                self._rest(f"internal error: {type(error).__name__}")

    async def close(self) -> None:
        """Ends the connection to the subscriber."""
        await self._subscriber.close()

    async def _deliver(self) -> NoReturn:
        await self._held()
        window = await self._restored()
        lane = Lane.of_log(self._log, window, self._bury)
        self._window = window
        async with lane.reading(self.subscription.filter, self._window_bytes, self._wake.set):
            while True:
                if self._sides:
                    await self._send(self._sides[0])
                    self._sides.popleft()
                    self._report("")
                else:
                    await self._follow(lane)

    async def _held(self) -> None:
        """Waits while a pause lasts that the last failure left, and for ever when there is nothing to go on from."""
        while self._behind or _now() < self._quiet_until:
            self._wake.clear()
            await self._until(None if self._behind else self._quiet_until - _now())

    async def _restored(self) -> Window:
        window = Window(self._place.read_to)
        if waiting := self._place.waiting:
            events = await self._log.by_sequences([item.sequence for item in waiting])
            if len(events) < len(waiting):
                raise EventsLostError(len(waiting) - len(events))
            window.restore(events, waiting)
        return window

    async def _send(self, side: Side) -> None:
        lane = Lane.of_side(side)
        async with lane.reading(self.subscription.filter, self._window_bytes, self._wake.set):
            await self._follow(lane)
        await side.finished()

    async def _follow(self, lane: Lane) -> None:
        """Offers what a lane has, until it ends, or until something else comes before the log."""
        window = lane.window
        while True:
            self._wake.clear()
            if self._paused or self._behind:
                await self._wake.wait()
                continue
            lane.check()
            await self._pass(lane)
            if (lane.ended and window.empty) or (lane.side is None and self._sides):
                return
            now = _now()
            if (seconds := self._seconds_held(now)) > 0:
                await self._until(seconds)
                continue
            limit = 1 if self._circuit.state is CircuitState.OPEN else self._reception.limit
            budget = self._reception.budget_bytes
            lingers = self._ended_at + self._linger_seconds - now
            if lingers > 0 and window.fresh and not lane.ended and not window.fills(limit, budget):
                await self._until(lingers)
            elif events := window.pick(limit, budget, now):
                await self._finish(self._offer(lane, events))
                lane.freed()
            else:
                ready_at = window.next_ready_at(now)
                await self._until(None if ready_at is None else ready_at - now)

    async def _pass(self, lane: Lane) -> None:
        """Moves past what was read and is not wanted."""
        if lane.side is not None:
            if lane.window.cursor > lane.side.position:
                await lane.side.moved(lane.window.cursor, ())
        elif lane.window.cursor > self.cursor.value:
            self._report(self._last_error)

    def _seconds_held(self, now: float) -> float:
        """How long to leave the subscriber alone before the next call."""
        if self._circuit.next_try_at > now:
            if self._subscriber.returned() and now >= self._circuit.early_at:
                self._circuit.try_now()
            else:
                # Whether it is back is looked at often, since the next try may be half a minute away.
                return min(self._circuit.next_try_at - now, _LOOK_AGAIN_SECONDS)
        return self._quiet_until - now

    async def _until(self, seconds: float | None) -> None:
        """Waits for `seconds` (None: without end), or until something has changed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _finish(self, offering: Awaitable[None]) -> None:
        """Makes a call; when this delivery is ended meanwhile, its answer still counts if it comes soon."""
        call = asyncio.ensure_future(offering)
        try:
            await asyncio.shield(call)
        finally:
            if not call.done():
                try:
                    await asyncio.wait([call], timeout=self._grace_seconds)
                finally:
                    call.cancel()
                await asyncio.wait([call])

    async def _offer(self, lane: Lane, events: Sequence[LoggedEvent]) -> None:
        called_ns = time.time_ns()
        first = events[0]
        parents = {event.traceparent for event in events} - {first.traceparent, ""}
        links = [context.link_to(parent) for parent in sorted(parents)[:_MAX_LINKS]]
        try:
            with context.resumed(first.sync_id, first.traceparent), tracer.start_as_current_span("ingest.deliver", links=links) as span:
                span.set_attribute("subscription", self.subscription.name)
                span.set_attribute("events", len(events))
                crash.point("ingest.before_delivery")
                if first.kind == EventKind.SYNC_COMPLETE or not self._reception.batches:
                    answers = await self._subscriber.send(first)
                else:
                    answers = await self._subscriber.send_batch(events)
                crash.point("ingest.after_delivery")
        except CallFailed as error:
            await self._call_failed(lane, events, error, called_ns)
        else:
            await self._call_answered(lane, events, answers, called_ns)
        self._ended_at = _now()

    async def _call_answered(self, lane: Lane, events: Sequence[LoggedEvent], answers: Answers, called_ns: int) -> None:
        self._circuit.answered()
        now = _now()
        settlement = settling.of_answers(lane.window, self.subscription.name, events, answers, now=now, called_ns=called_ns)
        await self._settle(lane, settlement)
        if not settlement.settled:
            self._rest(settlement.problem or "it asked for every event again", lane, events)
            return
        self._answered += len(settlement.settled)
        self._succeeded(settlement.problem)

    async def _call_failed(self, lane: Lane, events: Sequence[LoggedEvent], error: CallFailed, called_ns: int) -> None:
        name, now = self.subscription.name, _now()
        if error.failure is Failure.UNREACHABLE:
            self._reception.forget()
            self._not_interested.clear()
            lane.window.put_back()
            self._circuit.failed(now)
            self._warn(str(error))
            self._report(str(error))
            return
        self._circuit.answered()
        if error.failure is Failure.UNIMPLEMENTED:
            await self._unimplemented(lane, events)
            return
        sensible = False
        if error.failure is Failure.TOO_LARGE:
            before = self._reception.budget_bytes
            sensible = self._reception.too_large(sum(len(event.payload) for event in events), error.limit_bytes)
            if len(events) > 1 and self._reception.budget_bytes < before:
                lane.window.put_back()
                self._rest(str(error))
                return
        if len(events) > 1:
            self._reception.broke(events)
            lane.window.settle(frozenset())
            self._rest(str(error))
            return
        self._reception.found()
        if sensible:
            settlement = settling.of_too_large(lane.window, name, events[0], error.limit_bytes, called_ns=called_ns)
        else:
            answered = self._answered
            settlement = settling.of_failure_alone(lane.window, name, events[0], error, answered=answered, now=now, called_ns=called_ns)
        await self._settle(lane, settlement)
        self._rest(str(error), lane, () if settlement.settled else events)

    async def _unimplemented(self, lane: Lane, events: Sequence[LoggedEvent]) -> None:
        kind = events[0].kind
        if self._reception.batches and kind != EventKind.SYNC_COMPLETE:
            self._reception.batches = False
            lane.window.put_back()
            return
        if kind not in self._not_interested:
            self._not_interested.add(kind)
            logger.info(
                "a subscriber does not implement the call for a kind of event, which is skipped",
                extra={"subscription": self.subscription.name, "kind": EventKind(kind).name},
            )
        await self._settle(lane, Settlement(frozenset(event.sequence for event in events)))
        self._succeeded("")

    async def _settle(self, lane: Lane, settlement: Settlement) -> None:
        """The call has ended: keeps the dead letters, and then nothing comes again that is dealt with."""
        if settlement.letters:
            await lane.bury(settlement.letters)
            crash.point("ingest.after_bury")
        lane.window.settle(settlement.settled)
        if settlement.settled:
            self._reception.took(settlement.settled)
            if self._rate is not None:
                self._rate.add(len(settlement.settled), _now())
        if lane.side is not None and settlement.settled:
            await lane.side.moved(lane.window.cursor, settlement.accepted)

    def _succeeded(self, problem: str) -> None:
        self._failures = 0
        self._last_success_ns = time.time_ns()
        self._report(problem)

    def _rest(self, problem: str, lane: Lane | None = None, refused: Sequence[LoggedEvent] = ()) -> None:
        """Leaves the subscriber alone for a while. `refused` then go on waiting, so that others come first after the pause."""
        self._failures += 1
        self._quiet_until = _now() + backoff.delay(self._failures)
        if lane is not None:
            for event in refused:
                settling.put_off(lane.window.trouble(event), self._quiet_until)
        self._warn(problem)
        self._report(problem)

    async def _lose(self, lost: int) -> None:
        name = self.subscription.name
        await self._fell_behind(name, lost)
        self.too_far_behind(
            f"{Reason.SUBSCRIBER_TOO_FAR_BEHIND}: {lost} events that come next are no longer kept;"
            f" `mediasync events replay --subscriber {name} --from snapshot` sends the library as it is"
        )

    def _warn(self, problem: str) -> None:
        now = _now()
        if problem != self._warned[0] or now - self._warned[1] > _WARN_AGAIN_SECONDS:
            self._warned = (problem, now)
            logger.warning("a subscriber did not take events", extra={"subscription": self.subscription.name, "problem": problem})

    def _report(self, problem: str) -> None:
        """Says how far it is, and what is wrong."""
        self._last_error = problem
        window, place = self._window, self._place
        cursor, read_to, waiting = place.cursor, place.read_to, place.waiting
        if window is not None:
            cursor, read_to, waiting = window.cursor, window.settled_to, window.waiting()
        self._place = SubscriptionPosition(cursor, read_to, waiting, problem, self._last_success_ns)
        self.cursor.advance(cursor)
        self._moved(self.subscription.name, self._place)


def _now() -> float:
    return asyncio.get_running_loop().time()
