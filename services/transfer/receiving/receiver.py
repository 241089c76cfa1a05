"""The worker's end of a receiver process.

A receiver that dies, whatever of, is a line that broke: what it had not delivered is handed out again. One that is left in the middle of a
pull is killed; what it received of large files stays in staging, for whoever goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import WantedFile
from services.transfer.receiving import frames
from services.transfer.receiving.frames import Answer, Open, Order, PullOrder
from services.transfer.receiving.reception import OnBytes, Received

_COMMAND = (sys.executable, "-P", "-m", "services.transfer.receiving.receiver_process")
_OPEN_SECONDS = 90.0  # a login may take 30 s, and starting the program at the far side another 30
_END_SECONDS = 2.0
_logger = logging.getLogger(__name__)


class Receiver:
    """One process with one connection. Does one pull at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, order: Open
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._label = order.spec.label
        self.near = order.program is not None
        self.round_trip_seconds = 0.0
        self.idle_since = time.monotonic()
        self._opened = False
        self._window_said = False

    @classmethod
    async def start(cls, order: Open) -> Receiver:
        """A new process, which begins to log in at once. Raises INTERNAL if it cannot be started."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(*_COMMAND, str(theirs.fileno()), pass_fds=(theirs.fileno(),))
            reader, writer = await asyncio.open_connection(sock=ours)
        except OSError as error:
            ours.close()
            raise MediasyncError(Reason.INTERNAL, f"a receiver process cannot be started: {error}") from error
        writer.write(frames.order(Order.OPEN, order))
        return cls(process, reader, writer, order)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None and not self._reader.at_eof()

    def open(self, window_bytes: int) -> None:
        """Lets it go on from its login, with such a window. The first one counts."""
        if not self._window_said:
            self._window_said = True
            self._writer.write(frames.order(Order.WINDOW, window_bytes))

    async def opened(self, window_bytes: int) -> None:
        """Returns once it is connected, with such a window if it had none yet. Raises what made the connection fail."""
        if self._opened:
            return
        self.open(window_bytes)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                kind, payload = await self._read()
        except TimeoutError:
            raise MediasyncError(
                Reason.HOST_UNREACHABLE, f"a further connection to {self._label} was not made within {_OPEN_SECONDS:.0f} s"
            ) from None
        if kind != Answer.OPENED:
            raise self._nonsense(f"a frame of kind {kind} first")
        self.round_trip_seconds = frames.read_opened(payload)
        self._opened = True

    def set_rate(self, bytes_per_second: float | None) -> None:
        """From now on it takes no more than that."""
        self._writer.write(frames.order(Order.RATE, bytes_per_second))

    async def receive(self, batches: AsyncIterator[Sequence[WantedFile]], order: PullOrder, on_bytes: OnBytes) -> AsyncGenerator[Received]:
        """See `reception.receive`; the order's area is where the files go. One left early has to be killed."""
        asked: deque[WantedFile] = deque()
        told: dict[bytes, int] = {}
        self._writer.write(frames.order(Order.PULL, order))
        while True:
            kind, payload = await self._read()
            if kind == Answer.WANTS:
                batch = await anext(batches, None)
                if batch is None:
                    self._writer.write(frames.frame(Order.NO_MORE))
                else:
                    asked.extend(batch)
                    self._writer.write(frames.order(Order.BATCH, batch))
                await self._drained()
            elif kind == Answer.RECEIVED:
                for received in self._received(payload, asked):
                    wanted = asked.popleft()
                    if received.staged is not None and (missing := wanted.size_bytes - told.pop(wanted.path, 0)) > 0:
                        on_bytes(wanted, missing)
                    yield received
            elif kind == Answer.BYTES:
                count, place = frames.read_bytes_came(payload)
                if place >= len(asked):
                    raise self._nonsense("bytes of a file that was not asked for")
                told[asked[place].path] = told.get(asked[place].path, 0) + count
                on_bytes(asked[place], count)
            elif kind == Answer.PULLED and not asked:
                self.idle_since = time.monotonic()
                return
            else:
                raise self._nonsense(f"a frame of kind {kind} in the wrong place")

    def _received(self, payload: bytes, asked: deque[WantedFile]) -> list[Received]:
        try:
            return frames.read_received(payload, asked)
        except (ValueError, IndexError, struct.error) as error:
            raise self._nonsense(str(error)) from error

    async def _read(self) -> tuple[int, bytes]:
        """The next frame. Raises the error that the receiver says it ends with, or CONNECTION_LOST when it died."""
        try:
            kind, payload = await frames.read_frame(self._reader)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            code = await self._process.wait()
            raise MediasyncError(Reason.CONNECTION_LOST, f"a receiver of {self._label} died (exit code {code})") from error
        except ValueError as error:
            raise self._nonsense(str(error)) from error
        if kind == Answer.FAILED:
            raise frames.read_failed(payload)
        return kind, payload

    async def _drained(self) -> None:
        with contextlib.suppress(ConnectionError):  # the next read says what became of it
            await self._writer.drain()

    def _nonsense(self, what: str) -> MediasyncError:
        return MediasyncError(Reason.CONNECTION_LOST, f"a receiver of {self._label} said what makes no sense: {what}")

    async def end(self) -> None:
        """Lets it close its connection and end, or makes it. Bounded in time."""
        self._writer.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._writer.close()
        with contextlib.suppress(TimeoutError):  # one that hangs in the kernel, on a mount that does not answer, is reaped when it ends
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
