"""Connections to sources, kept for a while and used again: a login costs several round trips."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from mediasync.model import SourceSpec
from mediasync.sources.base import Connection, Source
from services.transfer.receiving.windows import LineRate

_IDLE_SECONDS = 30.0
_logger = logging.getLogger(__name__)


class ConnectionPool:
    """Connections to one source, at most `size` at a time. Broken ones are not used again."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._reaper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._keepers = 0
        self.round_trip_seconds = 0.0
        """Of the last connection that was made; 0 before there was one."""
        self.line = LineRate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """An open connection, for one use. If the block raises, whatever it raises, the connection is closed: its stream may be
        in any state."""
        async with self._slots:
            if self._reaper is not None:
                self._reaper.cancel()
                self._reaper = None
            connection = await self._taken()
            try:
                yield connection
            except BaseException:
                await connection.close()
                raise
            self._idle.append(connection)
            if self._reaper is None and not self._keepers:
                self._reaper = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._reap)

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[Connection]:
        """A connection for one long use, which is not counted and is closed at its end."""
        connection = await self._source.connect()
        try:
            yield connection
        finally:
            await connection.close()

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """While this lasts, connections that nobody uses stay open: the next use must not wait for a login."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            if not self._keepers and self._idle and self._reaper is None:
                self._reaper = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._reap)

    async def _taken(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.broken:
                return connection
            # It ended while nobody looked: the container was restarted, or the server lets nobody idle.
            await connection.close()
        connection = await self._source.connect()
        self.round_trip_seconds = connection.probe.round_trip_seconds
        return connection

    def _reap(self) -> None:
        self._reaper = None
        task = asyncio.ensure_future(self.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()


class ConnectionPools:
    """One pool for each source and number of connections."""

    def __init__(self, open_source: Callable[[SourceSpec], Source]) -> None:
        self._open_source = open_source
        self._pools: dict[tuple[SourceSpec, int], ConnectionPool] = {}

    def source(self, spec: SourceSpec) -> Source:
        """The source itself, for what needs no pooled connection."""
        return self._open_source(spec)

    def pool(self, spec: SourceSpec, size: int) -> ConnectionPool:
        """The pool for a source."""
        key = (spec, size)
        if key not in self._pools:
            self._pools[key] = ConnectionPool(self._open_source(spec), size)
        return self._pools[key]

    async def close(self) -> None:
        """Closes every idle connection."""
        for pool in self._pools.values():
            await pool.close()
