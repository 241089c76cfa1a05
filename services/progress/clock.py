"""The time, as one thing to hand in, so that what depends on it can be shown without waiting."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def unix_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Waits until `event` is set, at most for `seconds`; returns whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        return event.is_set()
