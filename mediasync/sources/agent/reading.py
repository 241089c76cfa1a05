"""One read of many files: what was asked for, in order, against what arrives.

Bytes go to the sink in the very callback that received them. Two things bound what is in flight: batches are asked for
only while little of the earlier ones is outstanding, and the far side is made to wait while the outcomes are not taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from mediasync.paths import check_relative
from mediasync.sources.agent import wire
from mediasync.sources.agent.session import Session
from mediasync.sources.base import FileRead, SinkOpener, WantedFile

WAITING_OUTCOMES = 256
MAX_BATCHES = 8


class ReadCall:
    """Answers of one `Connection.read`."""

    def __init__(self, session: Session, open_sink: SinkOpener, folders: Sequence[bytes], window_bytes: int) -> None:
        self._session = session
        self._open_sink = open_sink
        self._folders = folders
        self._window_bytes = window_bytes
        self._asked: deque[WantedFile] = deque()  # files that were asked for and have no outcome yet
        self._batch_ends: deque[int] = deque()  # for each batch in flight, how many files were asked for up to its end
        self._files_asked = self._files_answered = 0
        self._bytes_outstanding = 0
        self._room = asyncio.Event()
        self._all_asked = False
        self._outcomes: deque[FileRead] = deque()
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self._paused = False
        self._write: Callable[[bytes], object] | None = None
        self._incomplete = False

    @property
    def due(self) -> bool:
        """Files are outstanding, and their bytes are taken as they come."""
        return bool(self._asked) and not self._paused

    async def feed(self, batches: AsyncIterator[Sequence[WantedFile]]) -> None:
        """Sends batches while there is room for more, to their end. Whatever goes wrong here ends the read."""
        try:
            async for batch in batches:
                for file in batch:
                    check_relative(file.path)
                if not batch:
                    continue
                self._asked.extend(batch)
                self._files_asked += len(batch)
                self._batch_ends.append(self._files_asked)
                self._bytes_outstanding += sum(file.size_bytes for file in batch)
                for frame in wire.read(batch, self._folders):
                    self._session.write(frame)
                    await self._session.drain()
                while not self._has_room():
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the caller's iterator raised: the one who awaits the outcomes hears of it
            self.failed(error)
        finally:
            self._all_asked = True
            self._arrived.set()

    def _has_room(self) -> bool:
        # One batch streaming and one waiting always; more while they are small against what the line holds.
        flying = len(self._batch_ends)
        return flying < 2 or (flying < MAX_BATCHES and self._bytes_outstanding < 2 * self._window_bytes)

    async def next(self) -> FileRead | None:
        """The next outcome, or None after the last."""
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

    def data(self, data: bytes) -> None:
        """The next bytes of the file that is being sent."""
        assert self._write is not None
        self._write(data)

    def frame(self, kind: int, payload: bytes) -> int:
        """A file begins, ends, or is not sent."""
        if not self._asked:
            raise wire.broken("a file that was not asked for")
        wanted = self._asked[0]
        if kind == wire.Answer.BEGIN and self._write is None:
            entry, self._incomplete = wire.begin(payload, wanted.path)
            if entry.size_bytes != wanted.size_bytes:
                raise wire.broken("a file of another size than was asked for")
            self._write = self._open_sink(wanted, 0).write
            return entry.size_bytes
        if kind == wire.Answer.END and self._write is not None:
            self._write = None
            status, found, message = wire.end(payload, wanted.path)
            self._answered(FileRead(wanted, status, found, self._incomplete, message))
        elif kind == wire.Answer.SKIPPED and self._write is None:
            status, there, message = wire.skipped(payload, wanted.path)
            self._answered(FileRead(wanted, status, there, False, message))
        else:
            raise wire.broken(f"a frame of kind {kind} in the wrong place")
        return 0

    def _answered(self, outcome: FileRead) -> None:
        self._asked.popleft()
        self._files_answered += 1
        self._bytes_outstanding -= outcome.wanted.size_bytes
        while self._batch_ends and self._batch_ends[0] <= self._files_answered:
            self._batch_ends.popleft()
        if self._has_room():
            self._room.set()
        self._outcomes.append(outcome)
        self._arrived.set()
        if len(self._outcomes) >= WAITING_OUTCOMES and not self._paused:
            self._paused = True
            self._session.pause()
