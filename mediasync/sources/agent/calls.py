"""Calls that are under way: what was asked for, in order, against what arrives.

A `BatchCall` has one outcome for each item of its batches. Two things bound what is in flight: batches are asked for only while little of
the earlier ones is outstanding, and the far side is made to wait while the outcomes are not taken.
"""

from __future__ import annotations

import abc
import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from mediasync.paths import check_relative
from mediasync.sources.agent.payloads import broken
from mediasync.sources.agent.session import Session

WAITING_RECORDS = 8  # frames of a scan that wait for their reader before the far side does
WAITING_OUTCOMES = 256
MAX_BATCHES = 8


class RecordsCall:
    """Answers that are taken one by one; the far side waits while several are left lying."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self._paused = False

    @property
    def due(self) -> bool:
        """An answer would be taken at once."""
        return not self._paused

    def frame(self, kind: int, payload: bytes) -> int:
        """Keeps it for its reader."""
        self._waiting.append((kind, payload))
        self._arrived.set()
        if len(self._waiting) >= WAITING_RECORDS and not self._paused:
            self._paused = True
            self._session.pause()
        return 0

    def data(self, data: bytes) -> None:
        """Never called: no raw bytes follow a record."""
        raise AssertionError("no raw bytes follow a record")

    def failed(self, error: BaseException) -> None:
        """Nothing more comes."""
        self._failure = error
        self._arrived.set()

    async def next(self) -> tuple[int, bytes]:
        """The next answer. Raises what ended the session."""
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        item = self._waiting.popleft()
        if self._paused and len(self._waiting) <= WAITING_RECORDS // 2:
            self._paused = False
            self._session.resume()
        return item


class Asked(Protocol):
    """A file that something is asked about."""

    @property
    def path(self) -> bytes:
        """Where it is."""


Item = TypeVar("Item", bound=Asked)
Outcome = TypeVar("Outcome")


class BatchCall(abc.ABC, Generic[Item, Outcome]):
    """One outcome for each item of every batch, in order. What is asked and how an answer reads is for its subclasses."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: deque[Item] = deque()  # items that were asked for and have no outcome yet
        self._batch_ends: deque[int] = deque()  # for each batch in flight, how many items were asked for up to its end
        self._items_asked = self._items_answered = 0
        self._room = asyncio.Event()
        self._all_asked = False
        self._outcomes: deque[Outcome] = deque()
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self._paused = False

    @abc.abstractmethod
    def requests(self, batch: Sequence[Item]) -> Iterable[bytes]:
        """The frames that ask for a batch."""

    @abc.abstractmethod
    def frame(self, kind: int, payload: bytes) -> int:
        """Takes a frame; returns how many raw bytes follow it."""

    def data(self, data: bytes) -> None:
        """Takes the next raw bytes."""
        raise AssertionError("no raw bytes follow such an answer")

    @property
    def due(self) -> bool:
        """Answers are outstanding, and are taken as they come."""
        return bool(self._asked) and not self._paused

    async def run(self, batches: AsyncIterator[Sequence[Item]], first: Iterable[bytes] = ()) -> AsyncGenerator[Outcome, None]:
        """Every outcome; the frames `first` are sent before. A call that is left before its end ends the session."""
        self._session.begin(self)
        for frame in first:
            self._session.write(frame)
        feeder = asyncio.create_task(self._feed(batches), name="feed batches")
        done = False
        try:
            while (outcome := await self._next()) is not None:
                yield outcome
            done = True
            self._session.finish(self)
        finally:
            feeder.cancel()
            await asyncio.wait([feeder])
            if not done:
                await self._session.close()

    async def _feed(self, batches: AsyncIterator[Sequence[Item]]) -> None:
        """Sends batches while there is room for more, to their end. Whatever goes wrong here ends the call."""
        try:
            async for batch in batches:
                for item in batch:
                    check_relative(item.path)
                if not batch:
                    continue
                self._asked.extend(batch)
                self._items_asked += len(batch)
                self._batch_ends.append(self._items_asked)
                self.sent(batch)
                for frame in self.requests(batch):
                    self._session.write(frame)
                    await self._session.drain()
                while not self.has_room(len(self._batch_ends)):
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the caller's iterator raised: the one who awaits the outcomes hears of it
            self.failed(error)
        finally:
            self._all_asked = True
            self._arrived.set()

    def sent(self, batch: Sequence[Item]) -> None:
        """A batch is about to be asked for."""

    def has_room(self, batches: int) -> bool:
        """Whether one more batch may be asked for while `batches` are in flight: one that is worked on, and one that waits."""
        return batches < 2

    async def _next(self) -> Outcome | None:
        while not self._outcomes:
            if self._failure is not None:
                raise self._failure
            if self._all_asked and not self._asked:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        outcome = self._outcomes.popleft()
        if self._paused and len(self._outcomes) <= WAITING_OUTCOMES // 2:
            self._paused = False
            self._session.resume()
        return outcome

    def failed(self, error: BaseException) -> None:
        """Nothing more comes."""
        if self._failure is None:
            self._failure = error
        self._arrived.set()

    def expected(self) -> Item:
        """The item whose answer has to come next."""
        if not self._asked:
            raise broken("a file that was not asked for")
        return self._asked[0]

    def answered(self, outcome: Outcome) -> None:
        """The outcome of the expected item."""
        self._asked.popleft()
        self._items_answered += 1
        while self._batch_ends and self._batch_ends[0] <= self._items_answered:
            self._batch_ends.popleft()
        if self.has_room(len(self._batch_ends)):
            self._room.set()
        self._outcomes.append(outcome)
        self._arrived.set()
        if len(self._outcomes) >= WAITING_OUTCOMES and not self._paused:
            self._paused = True
            self._session.pause()
