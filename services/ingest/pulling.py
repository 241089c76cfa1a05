"""Readers that come to us: a stream of pages from the log, and named cursors that their readers move.

A cursor moves by Ack alone: what was sent and not acknowledged comes again with the next stream. What is in hand for a reader that does
not read is one page and what gRPC buffers; the log keeps the rest. Without a name nothing is kept, and nothing is held for the reader.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.runtime import crash
from services.ingest.events import (
    DeadLetter,
    Filter,
    LoggedEvent,
    SideFeed,
    StoredSubscription,
    SubscriptionPosition,
    SubscriptionState,
    SubscriptionStatus,
)
from services.ingest.feeds import Side
from services.ingest.following import Follower, Surroundings
from services.ingest.log import EventLog
from services.ingest.rate import Rate
from services.ingest.replaying import Content, check_kept

HEARTBEAT_SECONDS = 10.0
MAX_PAGE_BYTES = 3 * 1024 * 1024
_SCAN = 1000

_TOKEN = re.compile(r"(?P<stage>[msq]):(?P<place>\d{1,19})(?P<end>\.?)")
MAIN, SIDE, QUEUE = "m", "s", "q"


@dataclass(frozen=True)
class Page:
    """Some events of a stream; none in a heartbeat. `sequence` is 0 while they come from apart from the log."""

    events: Sequence[LoggedEvent] = ()
    token: str = ""
    sequence: int = 0

    @property
    def stage(self) -> str:
        """Where its events come from."""
        return self.token[:1]

    @property
    def heartbeat(self) -> bool:
        """Whether it says nothing but that the stream lives."""
        return not self.token


@dataclass(frozen=True)
class Upto:
    """How far a reader is, as it says: a place of the log, of a replay or of the queue; `end` where that is the last one."""

    stage: str
    place: int
    end: bool = False

    @classmethod
    def parse(cls, token: str) -> Upto:
        """Of a token that was given out here. Raises INVALID_ARGUMENT for any other."""
        found = _TOKEN.fullmatch(token)
        if found is None or int(found["place"]) >= 1 << 63:
            raise invalid("token", "the one that came with the events")
        return cls(found["stage"], int(found["place"]), bool(found["end"]))

    @classmethod
    def sequence(cls, number: int) -> Upto:
        """A place of the log."""
        return cls(MAIN, number)

    def __str__(self) -> str:
        return f"{self.stage}:{self.place}{'.' if self.end else ''}"


@dataclass(frozen=True)
class Sent:
    """What was sent apart from the log, to its end: up to `place` of it, before anything of the log behind `after`."""

    side: Side
    place: int
    after: int


class Reading:
    """One stream: what comes apart from the log first, to its end, then the log."""

    def __init__(self, log: EventLog, wanted: Filter, after: int, limit: int, snapshot: Content | None = None) -> None:
        self.after = after
        """How far in the log."""
        self.wake = asyncio.Event()
        """To be set when `next` may have more, or the stream has to end."""
        self.sent: dict[str, Sent] = {}
        self._log = log
        self._wanted = wanted
        self._limit = limit
        self._sides: dict[str, Side] = {}
        self._stages: dict[str, tuple[Content, int]] = {} if snapshot is None else {SIDE: (snapshot, 0)}

    def also(self, stage: str, side: Side) -> None:
        """Sends this, as far as it was not sent, before it goes on with the log."""
        if stage not in self._stages:
            self._stages[stage] = (side, max(side.position, self.sent[stage].place if stage in self.sent else 0))
            self._sides[stage] = side

    async def next(self) -> Page | None:
        """The next page; None while there is none. Raises SUBSCRIBER_TOO_FAR_BEHIND."""
        if self._stages:
            return await self._aside()
        if self._log.tail.value <= self.after:
            return None
        events, read_to = await self._log.read(self.after, self._wanted, self._limit, MAX_PAGE_BYTES)
        # Behind the reading: what was pruned meanwhile may have been passed over.
        check_kept(self.after + 1, self._log)
        self.after = read_to
        return Page(events, str(Upto.sequence(self.after)), self.after)

    async def more(self, draining: asyncio.Event) -> bool:
        """Waits until there is more to send or to say; False when a heartbeat is due."""
        waits = [asyncio.ensure_future(wait) for wait in (self._log.tail.reach(self.after + 1), self.wake.wait(), draining.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self.wake.clear()
        return bool(done)

    async def _aside(self) -> Page:
        stage, (content, after) = next(iter(self._stages.items()))
        events, read_to = await content.read(after, self._wanted, self._limit, MAX_PAGE_BYTES)
        if not content.ended(read_to):
            self._stages[stage] = (content, read_to)
            return Page(events, str(Upto(stage, read_to)))
        # Named by its last event: what comes into the queue behind that is not meant.
        place = events[-1].sequence if events else after
        del self._stages[stage]
        if stage in self._sides:
            self.sent[stage] = Sent(self._sides.pop(stage), place, self.after)
        return Page(events, str(Upto(stage, place, end=True)))


async def open_stream(
    reading: Reading, draining: asyncio.Event, *, follow: bool, check: Callable[[], None] = lambda: None
) -> AsyncGenerator[Page]:
    """The pages of a stream, to the log's end or for as long as the reader stays. `check` raises what ends it. Raises
    SERVICES_UNREACHABLE when the service ends."""
    while True:
        check()
        if draining.is_set():
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the ingest service is going down; subscribe again to go on")
        page = await reading.next()
        if page is not None:
            yield page
        elif not follow:
            return
        elif not await reading.more(draining):
            yield Page()


class PullCursor(Follower):
    """A named cursor. One reader at a time: a newer one takes it over."""

    def __init__(self, stored: StoredSubscription, around: Surroundings) -> None:
        super().__init__(stored, around)
        self._reading: Reading | None = None
        self._sent: dict[str, Sent] = {}
        self._ended_by = ""
        self._replayed = False
        self._at_rest = False
        self._rate = Rate(_now())
        self._acknowledging = asyncio.Lock()

    def start(self) -> None:
        """Streams may begin."""
        self._at_rest = False

    async def stop(self) -> None:
        """Ends the stream, if there is one, and waits for the acknowledgement that is being taken: what it goes by is about to change."""
        self._at_rest = True
        self._end_stream("it is being changed; subscribe again to go on")
        async with self._acknowledging:
            return

    def more_in_queue(self) -> None:
        """Sends what came into the queue."""
        if self._reading is not None:
            self._reading.also(QUEUE, self.queue())
            self._reading.wake.set()

    def hold(self, paused: bool) -> None:
        """Holds it, which ends its stream, or lets it go on."""
        super().hold(paused)
        if paused:
            self._end_stream("somebody holds it")

    def fall_behind(self, lost: int) -> None:
        """Events that it needs are gone."""
        super().fall_behind(lost)
        self._end_stream("events that it needs are no longer kept")

    def send_back(self, position: SubscriptionPosition | None, side: SideFeed | None) -> None:
        """Begins a replay."""
        super().send_back(position, side)
        self._replayed = True
        self._end_stream("it is sent back; subscribe again to go on")

    @property
    def state(self) -> SubscriptionState:
        """What it is doing."""
        if self.subscription.paused:
            return SubscriptionState.PAUSED
        if self.replay is not None:
            return SubscriptionState.REBUILDING
        if self.too_far_behind:
            return SubscriptionState.TOO_FAR_BEHIND
        return SubscriptionState.ACTIVE if self._reading is not None else SubscriptionState.IDLE

    def status(self, lag_seconds: float, dead_letters: int) -> SubscriptionStatus:
        """What there is to say of it."""
        position = self.position
        if self.too_far_behind:
            position = dataclasses.replace(position, last_error=f"{Reason.SUBSCRIBER_TOO_FAR_BEHIND}: {self.lost().message}")
        lag = max(0, self._around.log.tail.value - position.cursor)
        rate = self._rate.per_second(_now())
        return SubscriptionStatus(
            self.subscription, position, lag, self.state, lag_seconds, rate, dead_letters, events_lost=self.events_lost
        )

    async def pages(self, draining: asyncio.Event, *, follow: bool, limit: int) -> AsyncGenerator[Page]:
        """Streams from where the cursor is. Raises SUBSCRIPTION_BUSY when another reader takes over, or the cursor is held or replayed,
        SUBSCRIBER_TOO_FAR_BEHIND, SERVICES_UNREACHABLE."""
        if self._at_rest:
            raise self._changing()
        if self.subscription.paused:
            remedy = f"Let it go on: `mediasync subscribers resume {self.name}`."
            raise MediasyncError(Reason.SUBSCRIPTION_BUSY, f"the cursor {self.name!r} is held", remedy)
        if self.too_far_behind and self.replay is None:
            raise self.lost()
        self._end_stream("another reader has taken it over")
        self._replayed = False
        mine = self._reading = Reading(self._around.log, self.subscription.filter, self.position.cursor, limit)
        self._sent = mine.sent

        def check() -> None:
            if self._reading is not mine:
                raise MediasyncError(Reason.SUBSCRIPTION_BUSY, f"the stream of the cursor {self.name!r} ends: {self._ended_by}")

        try:
            if self.replay is not None:
                mine.also(SIDE, self.replay)
            mine.also(QUEUE, self.queue())
            async for page in open_stream(mine, draining, follow=follow, check=check):
                if page.events or page.stage != QUEUE:
                    # An empty queue says nothing.
                    yield page
        finally:
            if self._reading is mine:
                self._reading = None

    async def ack(self, upto: Upto, rejected: Mapping[str, str]) -> None:
        """Moves the cursor. `rejected` are ids of events that were sent, with reasons: they become dead letters first, durably. What was
        acknowledged before changes nothing. Raises INVALID_ARGUMENT for what was not sent."""
        async with self._acknowledging:
            if self._at_rest:
                raise self._changing()
            if upto.stage == MAIN and upto.place > self._around.log.tail.value:
                raise invalid("upto", f"at most {self._around.log.tail.value}, the log's end")
            # After a replay the places of an older stream say nothing: what they name is to be sent again.
            if self._replayed:
                return
            left = dict(rejected)
            known = await self._ack(upto, left)
            if left and not known:
                names = ", ".join(sorted(left)[:3])
                raise invalid("rejected", f"events between the cursor and what is acknowledged; not among them: {names}")

    async def _ack(self, upto: Upto, rejected: dict[str, str]) -> bool:
        """Returns whether all of it was acknowledged before."""
        if upto.stage == SIDE:
            return self.replay is None or await self._ack_aside(self.replay, upto, rejected)
        if upto.stage == QUEUE:
            return await self._ack_aside(self.queue(), upto, rejected)
        # A place in the log says that everything before it is done, also what was sent apart.
        for stage, sent in list(self._sent.items()):
            if upto.place > sent.after:
                await self._ack_aside(sent.side, Upto(stage, sent.place, end=True), rejected)
                del self._sent[stage]
        if upto.place <= self.position.cursor:
            return True
        after = self.position.cursor
        while rejected and after < upto.place:
            events, after = await self._around.log.read(after, self.subscription.filter, _SCAN, MAX_PAGE_BYTES)
            if letters := self._letters([event for event in events if event.sequence <= upto.place], rejected):
                await self._around.store.bury(letters)
        if not rejected:
            crash.point("ingest.after_ack")
            self._rate.add(upto.place - self.position.cursor, _now())
            self._note(SubscriptionPosition(upto.place, upto.place, last_success_ns=time.time_ns()))
        return False

    async def _ack_aside(self, side: Side, upto: Upto, rejected: dict[str, str]) -> bool:
        repeated = upto.place <= side.position
        after = side.position
        while after < upto.place:
            events, read_to = await side.read(after, self.subscription.filter, _SCAN, MAX_PAGE_BYTES)
            events = [event for event in events if event.sequence <= upto.place]
            letters = self._letters(events, rejected)
            if letters:
                await side.bury(letters)
            buried = {letter.event.event_id for letter in letters}
            after = min(read_to, upto.place)
            await side.moved(after, [event for event in events if event.event_id not in buried])
        crash.point("ingest.after_ack")
        if upto.end:
            await side.finished()
        return repeated

    def _changing(self) -> MediasyncError:
        return MediasyncError(Reason.SUBSCRIPTION_BUSY, f"the cursor {self.name!r} is being changed", "Try again.")

    def _letters(self, events: Sequence[LoggedEvent], rejected: dict[str, str]) -> list[DeadLetter]:
        now = time.time_ns()
        return [
            DeadLetter(
                0, self.name, event, rejected.pop(event.event_id) or "rejected without a reason", 1, answer="REJECTED", first_attempt_ns=now
            )
            for event in events
            if event.event_id in rejected
        ]

    def _end_stream(self, why: str) -> None:
        if self._reading is not None:
            self._ended_by = why
            self._reading.wake.set()
            self._reading = None


def invalid(field: str, description: str) -> MediasyncError:
    """A request's field is wrong."""
    return MediasyncError(Reason.INVALID_ARGUMENT, f"{field} must be {description}", fields=[FieldViolation(field, description)])


def _now() -> float:
    return asyncio.get_running_loop().time()
