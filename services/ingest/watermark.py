"""A number that grows, unless it is set back on purpose, and that tasks can wait for."""

from __future__ import annotations

import asyncio

from mediasync.errors import MediasyncError


class Watermark:
    """How far something has come: the log's end, or a subscription's cursor. Belongs to one event loop."""

    def __init__(self, value: int) -> None:
        self.value = value
        self._changed = asyncio.Event()
        self._closed: MediasyncError | None = None

    def advance(self, value: int) -> None:
        """Moves to `value` and wakes who waits for it; a lower value changes nothing."""
        if value > self.value:
            self.value = value
            self._wake()

    def reset(self, value: int) -> None:
        """Moves to `value`, back if need be; who waits goes on waiting for what it waits for."""
        self.value = value
        self._wake()

    def close(self, reason: MediasyncError) -> None:
        """It will not move again: whoever waits in vain gets `reason`."""
        self._closed = reason
        self._wake()

    async def reach(self, value: int) -> int:
        """Waits until it is at `value` or beyond, and returns where it is. Not bounded: bound it at the call."""
        while self.value < value:
            if self._closed is not None:
                raise self._closed
            await self._changed.wait()
        return self.value

    def _wake(self) -> None:
        # A fresh event for those who come later; everybody who waits now holds the old one.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
