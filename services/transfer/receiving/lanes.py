"""The ways in of one run: a connection of this process for a small pull, receivers for a large one."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from mediasync.model import SourceSpec, SshConnection, SyncOptions
from mediasync.sources.base import Connection, Pace, WantedFile
from mediasync.sources.selection import Selection
from services.transfer.bandwidth import Limits, Share
from services.transfer.pool import ConnectionPool
from services.transfer.receiving import windows
from services.transfer.receiving.frames import PullOrder
from services.transfer.receiving.receiver import Receiver
from services.transfer.receiving.receivers import Receivers
from services.transfer.receiving.reception import OnBytes, Received, receive
from services.transfer.staging import StagingArea

_RATE_SECONDS = 0.25
_WARM_LANES = 3

# What one connection of this process brings in about the time that receivers need to begin.
_LARGE_PULL_BYTES = 32 << 20
_LARGE_PULL_FILES = 1000


def is_large(files: int, size_bytes: int) -> bool:
    """Whether a pull of so much is worth receivers."""
    return size_bytes >= _LARGE_PULL_BYTES or files >= _LARGE_PULL_FILES


class Wanted(Protocol):
    """What a pull has to bring, as far as is known. `known_since` is when that was all, by the monotonic clock, and `rest_bytes` how
    much of it was to be asked for then."""

    files: int
    size_bytes: int
    known_since: float
    rest_bytes: int


class Lane(Protocol):
    """One connection."""

    def receive(self, batches: AsyncIterator[Sequence[WantedFile]], area: StagingArea, on_bytes: OnBytes) -> AsyncGenerator[Received]:
        """See `reception.receive`."""


LaneOpener = Callable[[], AbstractAsyncContextManager[Lane]]
"""Opens a lane, for one use; it is closed for good when the block raises."""


@dataclass
class Lanes:
    """The ways in of one run. `receivers` None keeps everything in this process."""

    spec: SourceSpec
    options: SyncOptions
    sync_id: str
    selection: Selection
    pool: ConnectionPool
    limits: Limits
    receivers: Receivers | None
    folders: tuple[bytes, ...] = ()

    @property
    def far(self) -> bool:
        """Whether logging in takes round trips over a line, and can be done in receivers."""
        connection = self.spec.connection
        if self.receivers is None or not isinstance(connection, SshConnection):
            return False
        try:
            return not ipaddress.ip_address(connection.host).is_loopback
        except ValueError:
            return connection.host != "localhost"

    def warm(self) -> None:
        """A large pull is expected: receivers begin to log in, while others still look at what there is."""
        if self.receivers is not None:
            most = self.options.parallel_transfers
            line = windows.Line(most, self.pool.line.bytes_per_second)
            self.receivers.warm(self.spec, line, min(_WARM_LANES, most), self.folders)

    @asynccontextmanager
    async def for_pull(self, wanted: Wanted) -> AsyncIterator[Sequence[LaneOpener]]:
        """As many lanes as a pull of so much deserves. One that is small so far and grows has begun too early."""
        if self.receivers is None or not is_large(wanted.files, wanted.size_bytes):
            count = 1 if self.receivers is not None else min(self.options.parallel_transfers, 1 + wanted.files // 128)
            yield [self._here] * count
            return
        plan = self._plan()
        share = self.limits.share(self.sync_id, self.options, plan.lanes)
        started = time.monotonic()
        try:
            yield [self._opener(self.receivers, plan.window_bytes, share, lane) for lane in range(plan.lanes)]
            if share.rate(0) is None:
                # A line that waited for the scan was not slow.
                self.pool.line.pulled(wanted.rest_bytes, time.monotonic() - max(started, wanted.known_since))
        finally:
            share.close()

    def _plan(self) -> windows.LanePlan:
        return windows.plan(self.pool.round_trip_seconds, self.options.parallel_transfers, self.pool.line.bytes_per_second)

    @asynccontextmanager
    async def _here(self) -> AsyncIterator[Lane]:
        async with self.pool.connection() as connection:
            yield _Here(connection, self.selection, self.limits.pace(self.sync_id, self.options))

    def _opener(self, receivers: Receivers, window_bytes: int, share: Share, number: int) -> LaneOpener:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Lane]:
            limit = share.rate(number)
            window = window_bytes if limit is None else windows.window_for_limit(self.pool.round_trip_seconds, limit)
            near = limit is None and self.pool.round_trip_seconds < windows.NEAR_SECONDS
            async with receivers.receiver(self.spec, window, self.folders, near=near) as receiver:
                yield _There(receiver, self.selection, share, number)

        return opened


class _Here:
    """A connection of this process with what belongs to the run."""

    def __init__(self, connection: Connection, selection: Selection, pace: Pace) -> None:
        self._connection = connection
        self._selection = selection
        self._pace = pace

    def receive(self, batches: AsyncIterator[Sequence[WantedFile]], area: StagingArea, on_bytes: OnBytes) -> AsyncGenerator[Received]:
        return receive(self._connection, batches, area, selection=self._selection, pace=self._pace, on_bytes=on_bytes)


class _There:
    """A receiver with what belongs to the run."""

    def __init__(self, receiver: Receiver, selection: Selection, share: Share, number: int) -> None:
        self._receiver = receiver
        self._selection = selection
        self._share = share
        self._number = number

    async def receive(self, batches: AsyncIterator[Sequence[WantedFile]], area: StagingArea, on_bytes: OnBytes) -> AsyncGenerator[Received]:
        rate = self._share.rate(self._number)

        def counted(wanted: WantedFile, count: int) -> None:
            self._share.took(self._number, count)
            on_bytes(wanted, count)

        keeping = asyncio.create_task(self._keep_rate(rate), name="rate of a lane")
        try:
            files = self._receiver.receive(batches, PullOrder(area, self._selection, rate), counted)
            async with contextlib.aclosing(files):
                async for received in files:
                    yield received
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})

    async def _keep_rate(self, rate: float | None) -> None:
        """Tells the receiver when its part of the limit changes."""
        while True:
            await asyncio.sleep(_RATE_SECONDS)
            now = self._share.rate(self._number)
            if now != rate:
                self._receiver.set_rate(now)
                rate = now
