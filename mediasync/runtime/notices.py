"""Waking those who wait for something to change, with no polling and no missed change."""

from __future__ import annotations

import asyncio


class Notice:
    """Counts changes. A waiter remembers the count it has dealt with, so a change between its look and its wait is not missed."""

    def __init__(self) -> None:
        self.count = 0
        self._condition = asyncio.Condition()

    async def announce(self) -> None:
        """Something changed."""
        async with self._condition:
            self.count += 1
            self._condition.notify_all()

    async def wait_past(self, count: int, timeout_seconds: float | None = None) -> None:
        """Returns once more than `count` changes were announced, or the time is over."""
        try:
            async with asyncio.timeout(timeout_seconds), self._condition:
                await self._condition.wait_for(lambda: self.count > count)
        except TimeoutError:
            pass  # the caller looks again either way
