"""A receiver: one connection to one source, in a process of its own. Started by `receiver.Receiver`; ends with its socket.

It logs in at once, and begins its session with the window that it is told, or that its login lets it reckon. It opens no database
and decides nothing: what is wanted comes in batches, what became of each file goes back in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime import crash
from mediasync.sources import ssh_program
from mediasync.sources.base import Connection, Source, WantedFile
from mediasync.storage.library_marker import library_error
from services.transfer.bandwidth import LanePace
from services.transfer.receiving import frames
from services.transfer.receiving.frames import Answer, Open, Order, PullOrder
from services.transfer.receiving.reception import Received, receive

_TELL_SECONDS = 0.03
_TELL_FILES = 64
_TELL_BYTES = 1 << 20


class _Worker:
    """The other end: the process that owns the manifest."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.window: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pulls: asyncio.Queue[PullOrder] = asyncio.Queue()
        self.batches: asyncio.Queue[Sequence[WantedFile] | None] = asyncio.Queue()
        self.pace = LanePace()

    async def hear(self) -> None:
        """Sorts what the worker says, until it says nothing any more."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, payload = await frames.read_frame(self._reader)
                if kind == Order.BATCH:
                    self.batches.put_nowait(cast(Sequence[WantedFile], frames.value_of(payload)))
                elif kind == Order.NO_MORE:
                    self.batches.put_nowait(None)
                elif kind == Order.PULL:
                    self.pulls.put_nowait(cast(PullOrder, frames.value_of(payload)))
                elif kind == Order.RATE:
                    self.pace.set_rate(cast("float | None", frames.value_of(payload)))
                elif kind == Order.WINDOW and not self.window.done():
                    self.window.set_result(cast(int, frames.value_of(payload)))

    async def first(self) -> Open:
        """What to connect to."""
        _, payload = await frames.read_frame(self._reader)
        return cast(Open, frames.value_of(payload))

    def tell(self, frame: bytes) -> None:
        """Says something; `drained` waits until it is mostly on its way."""
        self._writer.write(frame)

    async def drained(self) -> None:
        """Waits while the worker takes its time."""
        await self._writer.drain()


class _Telling:
    """Gathers what became of files for a moment, so that thousands of small ones are told in few frames."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._asked: deque[WantedFile] = deque()
        self._waiting: list[Received] = []
        self._unsaid: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def batches(self) -> AsyncIterator[Sequence[WantedFile]]:
        """The worker's, each asked for when there is room for it."""
        while True:
            self._worker.tell(frames.frame(Answer.WANTS))
            batch = await self._worker.batches.get()
            if batch is None:
                return
            self._asked.extend(batch)
            yield batch

    def bytes_came(self, wanted: WantedFile, count: int) -> None:
        """Bytes of a large file came in; those of a small one are told by its outcome."""
        if wanted.size_bytes >= _TELL_BYTES:
            self._unsaid[wanted.path] = self._unsaid.get(wanted.path, 0) + count
            self._soon()

    async def answered(self, received: Received) -> None:
        """A file has its outcome."""
        self._waiting.append(received)
        if len(self._waiting) >= _TELL_FILES:
            self.now()
            await self._worker.drained()
        else:
            self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TELL_SECONDS, self.now)

    def now(self) -> None:
        """Tells what there is to tell."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answered = {received.outcome.wanted.path for received in self._waiting}
        if self._waiting:
            crash.point("receiver.before_telling")
            self._worker.tell(frames.received(self._waiting))
            for _ in self._waiting:
                self._asked.popleft()
            self._waiting.clear()
        for path, count in self._unsaid.items():
            if path not in answered:
                place = next((place for place, wanted in enumerate(self._asked) if wanted.path == path), None)
                if place is not None:
                    self._worker.tell(frames.bytes_came(count, place))
        self._unsaid.clear()


async def _serve(worker: _Worker, order: Open) -> None:
    connector = _Connector(worker, order)
    connection = await connector.connect()
    worker.tell(frames.opened(connection.probe.round_trip_seconds))
    while True:
        pull = await worker.pulls.get()
        if connection.broken:
            # It ended while nobody looked, as servers do that let nobody idle.
            await connection.close()
            connection = await connector.connect()
        try:
            await _pull(worker, connection, pull)
        except OSError as error:
            raise library_error(error, pull.area.root) from error
        worker.tell(frames.frame(Answer.PULLED))


class _Connector:
    """Connects as ordered: by way of the system's client where that does, else with our own."""

    def __init__(self, worker: _Worker, order: Open) -> None:
        self._worker = worker
        self._order = order
        self._source: Source | None = None
        self._began = 0.0

    async def connect(self) -> Connection:
        """A new connection. Raises MediasyncError."""
        order = self._order
        if order.program is not None and (connection := await ssh_program.connect(order.program, order.folders)) is not None:
            return connection
        if self._source is None:
            # Not before it is needed: all that may be a source takes longer to load than a near host to be reached.
            from mediasync.sources.factory import open_source

            self._source = open_source(order.spec, home=Path(order.home), window=self._window, folders=order.folders)
        self._began = time.monotonic()
        return await self._source.connect()

    async def _window(self) -> int:
        line = self._order.line
        if line is not None and not self._worker.window.done():
            return line.window_after_login(time.monotonic() - self._began)
        return await self._worker.window


async def _pull(worker: _Worker, connection: Connection, pull: PullOrder) -> None:
    worker.pace.set_rate(pull.bytes_per_second)
    telling = _Telling(worker)
    files = receive(connection, telling.batches(), pull.area, selection=pull.selection, pace=worker.pace, on_bytes=telling.bytes_came)
    async with contextlib.aclosing(files):
        async for received in files:
            await telling.answered(received)
    telling.now()
    await worker.drained()


async def _main(end: socket.socket) -> int:
    reader, writer = await asyncio.open_connection(sock=end)
    worker = _Worker(reader, writer)
    order = await worker.first()
    hearing = asyncio.create_task(worker.hear(), name="hear")
    serving = asyncio.create_task(_serve(worker, order), name="serve")
    await asyncio.wait({hearing, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        worker.tell(frames.failed(_as_error(serving.exception(), order)))
        with contextlib.suppress(ConnectionError):
            await worker.drained()
    for task in (serving, hearing):
        task.cancel()
    await asyncio.gather(serving, hearing, return_exceptions=True)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return 0


def _as_error(error: BaseException | None, order: Open) -> MediasyncError:
    if isinstance(error, MediasyncError):
        return error
    return MediasyncError(Reason.INTERNAL, f"the receiver of {order.spec.label} failed: {type(error).__name__}: {error}")


def main() -> int:
    """The process. Its one argument is the number of an open socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides when this ends
    return asyncio.run(_main(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
