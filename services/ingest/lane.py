"""A feed on its way to one subscriber: its window, and the reading that goes on while a call is under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from services.ingest.events import Filter
from services.ingest.feeds import Bury, Feed, Log, Side
from services.ingest.window import MAX_EVENTS, Window

_CHUNK = MAX_EVENTS // 8
"""Nothing is read for less room than this while there is something to send: a read costs the same for one event as for many."""


class EventsLostError(Exception):
    """Events that come next are no longer kept, `count` of them."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} events are no longer kept")
        self.count = count


class Lane:
    """Reads a feed into a window as far as there is room. `bury` keeps dead letters of this feed; `side` is the feed where it is not
    the log."""

    def __init__(self, feed: Feed, window: Window, bury: Bury, *, log: Log | None = None, side: Side | None = None) -> None:
        self.window = window
        self.bury = bury
        self.side = side
        self._feed = feed
        self._log = log
        self._freed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    def of_log(cls, log: Log, window: Window, bury: Bury) -> Lane:
        """The log, which has no end."""
        return cls(log, window, bury, log=log)

    @classmethod
    def of_side(cls, side: Side) -> Lane:
        """A side feed, from where it was left."""
        return cls(side, Window(side.position), side.bury, side=side)

    @property
    def ended(self) -> bool:
        """Whether everything was read that there is."""
        return self._reader is not None and self._reader.done()

    @contextlib.asynccontextmanager
    async def reading(self, wanted: Filter, window_bytes: Callable[[], int], wake: Callable[[], None]) -> AsyncIterator[None]:
        """Reads meanwhile what is wanted. `wake` is called after every read, `window_bytes` says how much may be held."""
        self._reader = asyncio.create_task(self._read(wanted, window_bytes, wake))
        self._reader.add_done_callback(lambda _: wake())
        try:
            yield
        finally:
            self._reader.cancel()
            # What broke it off is known by now, or comes too late.
            await asyncio.gather(self._reader, return_exceptions=True)

    def check(self) -> None:
        """Raises what broke the reading off."""
        if self._reader is not None and self._reader.done() and (error := self._reader.exception()):
            raise error

    def freed(self) -> None:
        """There may be room again."""
        self._freed.set()

    async def _read(self, wanted: Filter, window_bytes: Callable[[], int], wake: Callable[[], None]) -> None:
        window = self.window
        while await self._more():
            while True:
                self._freed.clear()
                window.max_bytes = window_bytes()
                if window.room >= _CHUNK or (window.room and not window.fresh):
                    break
                await self._freed.wait()
            events, read_to = await self._feed.read(window.read_to, wanted, window.room, window.room_bytes)
            self._check_kept()
            window.add(events, read_to)
            wake()

    async def _more(self) -> bool:
        """Waits until there is more to read, and says whether there ever will be."""
        if self.side is not None:
            return not self.side.ended(self.window.read_to)
        if self._log is not None:
            await self._log.tail.reach(self.window.read_to + 1)
        return True

    def _check_kept(self) -> None:
        """After a read, since what is to be read may be pruned meanwhile."""
        if self._log is not None and self._log.first > self.window.read_to + 1:
            raise EventsLostError(self._log.first - self.window.read_to - 1)
