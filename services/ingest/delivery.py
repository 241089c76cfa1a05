"""Brings the log's events to one subscription: offers, waits for the answer, then moves the cursor.

One `Delivery` a subscription, each with its own task, window and connection, so that none can delay another. What happens to an
event that is not accepted:

- the subscriber cannot be reached: everything waits, for as long as it takes, and nothing is held against any event;
- the call fails otherwise: half as many events are tried, then half of those, until the one that breaks it is alone; from then on
  it goes alone, between growing pauses, while the others pass;
- the subscriber answers "try again": that event waits, with those of the same file behind it, and the others pass;
- the subscriber rejects it, or has refused it `MAX_REFUSALS` times: it becomes a dead letter.

Every failure is followed by a pause (`backoff`) that grows while nothing goes well, so that a subscriber that is broken as a whole
is neither hammered nor turned quickly into a heap of dead letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from opentelemetry import trace

from mediasync.runtime import context, crash
from services.ingest import backoff
from services.ingest.events import DeadLetter, EventKind, LoggedEvent, Subscription, SubscriptionPosition
from services.ingest.log import EventLog
from services.ingest.subscriber import Answer, Answers, CallFailed, Failure, Subscriber, Verdict
from services.ingest.watermark import Watermark
from services.ingest.window import Pending, Window, in_file_order

MAX_REFUSALS = 20
"""With the pauses of `backoff` five to ten minutes from the first refusal to the dead letter."""

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

_WARN_AGAIN_SECONDS = 600.0
_MISSING = Answer(Verdict.RETRY, "it answered without a word on this event")

Bury = Callable[[Sequence[DeadLetter]], Awaitable[None]]
"""Keeps dead letters, durably."""


class Delivery:
    """Delivers to one subscription. `moved` is called after every change of `position`; `bury` keeps a dead letter."""

    def __init__(
        self,
        subscription: Subscription,
        position: SubscriptionPosition,
        log: EventLog,
        subscriber: Subscriber,
        *,
        moved: Callable[[str, SubscriptionPosition], None],
        bury: Bury,
    ) -> None:
        self.subscription = subscription
        self.cursor = Watermark(position.cursor)
        self._log = log
        self._subscriber = subscriber
        self._moved = moved
        self._bury = bury
        self._last_error = position.last_error
        self._last_success_ns = position.last_success_ns
        self._window = Window(position.cursor)
        self._limit = subscription.batch_size
        self._batches = True
        self._suspects: frozenset[int] = frozenset()
        self._warned = ("", 0.0)
        self._failures = 0
        self._answered = 0
        self._not_interested: set[int] = set()

    @property
    def position(self) -> SubscriptionPosition:
        """How far it is."""
        return SubscriptionPosition(self.cursor.value, self.cursor.value, (), self._last_error, self._last_success_ns)

    async def run(self) -> NoReturn:
        """Delivers until cancelled. What goes wrong here stays here."""
        while True:
            try:
                await self._deliver()
            except Exception as error:
                # A fault of ours or of the disk. Other subscriptions must not feel it, and this one goes on from its cursor.
                logger.exception("delivery to a subscription failed", extra={"subscription": self.subscription.name})
                self._window = Window(self.cursor.value)
                await self._pause(f"internal error: {type(error).__name__}")

    async def close(self) -> None:
        """Ends the connection to the subscriber."""
        await self._subscriber.close()

    async def _deliver(self) -> NoReturn:
        clock = asyncio.get_running_loop().time
        while True:
            limit = self._limit if self._batches else 1
            now = clock()
            items = self._window.pick(limit, now)
            if len(items) < limit and self._window.room and self._log.tail.value > self._window.read_to:
                events, read_to = await self._log.read(
                    self._window.read_to, self.subscription.filter, self._window.room, self._window.room_bytes
                )
                self._window.add(events, read_to)
                self._move_cursor()
                continue
            if items:
                await self._offer(items)
                self._move_cursor()
            else:
                await self._wait(now)

    async def _wait(self, now: float) -> None:
        """Until the log grows or a waiting event may go, whichever comes first."""
        ready_at = self._window.next_ready_at(now)
        if not self._window.room and ready_at is not None:
            await asyncio.sleep(ready_at - now)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if ready_at is None else ready_at - now):
                await self._log.tail.reach(self._window.read_to + 1)

    async def _offer(self, items: Sequence[Pending]) -> None:
        events = [item.event for item in items]
        try:
            with context.resumed(events[0].sync_id, events[0].traceparent), tracer.start_as_current_span("ingest.deliver") as span:
                span.set_attribute("subscription", self.subscription.name)
                span.set_attribute("events", len(events))
                crash.point("ingest.before_delivery")
                if events[0].kind == EventKind.SYNC_COMPLETE or not self._batches:
                    answers = await self._subscriber.send(events[0])
                else:
                    answers = await self._subscriber.send_batch(events)
                crash.point("ingest.after_delivery")
        except CallFailed as error:
            await self._call_failed(items, error)
        else:
            await self._call_answered(items, answers)

    async def _call_answered(self, items: Sequence[Pending], answers: Answers) -> None:
        given_up: dict[int, str] = {}
        settled: set[int] = set()
        for item in items:
            answer = answers.by_id.get(item.event.event_id, _MISSING)
            item.attempts += 1
            if answer.verdict is Verdict.REJECTED:
                given_up[item.event.sequence] = answer.reason or "rejected without a reason"
            elif answer.verdict is Verdict.RETRY:
                if not self._refused(item):
                    continue
                given_up[item.event.sequence] = _gave_up(item, answer.reason)
            settled.add(item.event.sequence)
        for item in in_file_order(items, settled):
            if reason := given_up.get(item.event.sequence):
                await self._give_up(item, reason)
            self._window.remove(item.event)
        self._answered += len(settled)
        problem = answers.irregular or next((answer.reason for answer in answers.by_id.values() if answer.verdict is Verdict.RETRY), "")
        if not settled:
            await self._pause(problem or "it asked for every event again", items)
            return
        self._failures = 0
        self._suspects -= settled
        if not self._suspects:
            self._limit = self.subscription.batch_size
        self._last_success_ns = time.time_ns()
        self._note(problem)

    async def _call_failed(self, items: Sequence[Pending], error: CallFailed) -> None:
        match error.failure:
            case Failure.UNIMPLEMENTED:
                self._unimplemented(items[0].event)
                return
            case Failure.UNREACHABLE:
                # Who comes back may be another version of it: nothing learned about it holds.
                self._batches = True
                self._not_interested.clear()
            case _ if len(items) > 1:
                # The one that breaks it is among these: the calls stay small until they are all through, or it is found.
                self._suspects = frozenset(item.event.sequence for item in items)
                self._limit = len(items) // 2
            case _:
                self._suspects, self._limit = frozenset(), self.subscription.batch_size
                await self._failed_alone(items[0], error)
                await self._pause(str(error), items)
                return
        await self._pause(str(error))

    def _unimplemented(self, event: LoggedEvent) -> None:
        if self._batches and event.kind != EventKind.SYNC_COMPLETE:
            self._batches = False
            return
        if event.kind not in self._not_interested:
            self._not_interested.add(event.kind)
            logger.info(
                "a subscriber does not implement the call for a kind of event, which is skipped",
                extra={"subscription": self.subscription.name, "kind": EventKind(event.kind).name},
            )
        self._window.remove(event)
        self._failures = 0
        self._last_success_ns = time.time_ns()
        self._note("")

    async def _failed_alone(self, item: Pending, error: CallFailed) -> None:
        """A call with this event alone failed. A subscriber that is slow or full fails whatever it is given, so that such a failure is
        held against the event only if the subscriber has dealt with others since the last one."""
        item.attempts += 1
        item.alone = True
        before, item.answers_before = item.answers_before, self._answered
        if error.failure is Failure.BUSY and (before is None or before == self._answered):
            return
        if self._refused(item):
            await self._give_up(item, _gave_up(item, str(error)))
            self._window.remove(item.event)

    async def _give_up(self, item: Pending, reason: str) -> None:
        await self._bury([DeadLetter(0, self.subscription.name, item.event, reason, item.attempts)])

    def _refused(self, item: Pending) -> bool:
        """Holds a refusal against the event, which waits for its next attempt; returns whether it was the last."""
        item.refusals += 1
        self._put_off(item)
        return item.refusals >= MAX_REFUSALS

    def _put_off(self, item: Pending) -> None:
        item.ready_at = asyncio.get_running_loop().time() + backoff.delay(max(1, item.refusals))

    async def _pause(self, problem: str, refused: Sequence[Pending] = ()) -> None:
        """Leaves the subscriber alone for a while. `refused` then go on waiting, so that others come first after the pause."""
        self._failures += 1
        now = asyncio.get_running_loop().time()
        if problem != self._warned[0] or now - self._warned[1] > _WARN_AGAIN_SECONDS:
            self._warned = (problem, now)
            logger.warning("a subscriber did not take events", extra={"subscription": self.subscription.name, "problem": problem})
        self._note(problem)
        self._move_cursor()
        await asyncio.sleep(backoff.delay(self._failures))
        for item in refused:
            self._put_off(item)

    def _note(self, problem: str) -> None:
        self._last_error = problem
        self._moved(self.subscription.name, self.position)

    def _move_cursor(self) -> None:
        if self._window.cursor > self.cursor.value:
            self.cursor.advance(self._window.cursor)
            self._moved(self.subscription.name, self.position)


def _gave_up(item: Pending, reason: str) -> str:
    return f"given up after {item.attempts} attempts: {reason or 'no reason given'}"
