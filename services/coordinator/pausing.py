"""Holding the work of a job, and letting it go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Pausing:
    """Whether a job is held. `changes` counts how often it was paused or resumed: it is held while that is odd."""

    def __init__(self, changes: int = 0) -> None:
        self.changes = changes
        self._moved = asyncio.Event()

    @property
    def paused(self) -> bool:
        """Whether it is held now."""
        return self.changes % 2 == 1

    def move(self, changes: int) -> None:
        """It was paused or resumed."""
        if changes > self.changes:
            self.changes = changes
            self._moved.set()
            self._moved = asyncio.Event()

    async def wait(self, *, paused: bool) -> None:
        """Returns once the job is held, or is not."""
        while self.paused != paused:
            await self._moved.wait()

    async def while_going(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns. A pause ends it, to be begun anew when the job is resumed."""
        while True:
            await self.wait(paused=False)
            task = asyncio.ensure_future(work())
            held = asyncio.ensure_future(self.wait(paused=True))
            try:
                await asyncio.wait({task, held}, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return task.result()
            finally:
                task.cancel()
                held.cancel()
                await asyncio.gather(task, held, return_exceptions=True)
