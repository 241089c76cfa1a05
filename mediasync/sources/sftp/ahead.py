"""Work on many files that is begun ahead and taken in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from mediasync.paths import check_relative
from mediasync.sources.base import WantedFile
from mediasync.sources.groups import Group

HELD_BYTES = 1024 * 1024
"""How much of one file is held here at most."""

Asked = TypeVar("Asked", WantedFile, Group)
Ready = TypeVar("Ready")


class Ahead(Generic[Asked, Ready]):
    """Work on the files of batches that is begun for several at once, and taken in order."""

    def __init__(
        self, begin: Callable[[Asked], Coroutine[Any, Any, Ready]], parallel: int, most_bytes: int, on_batch: Callable[[], None]
    ) -> None:
        self._begin: Callable[[Asked], Coroutine[Any, Any, Ready]] = begin
        self._parallel = parallel
        self._most_bytes = most_bytes
        self._on_batch = on_batch
        self._begun: deque[tuple[Asked, asyncio.Task[Ready]]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._failure: BaseException | None = None

    async def run(self, batches: AsyncIterator[Sequence[Asked]]) -> AsyncGenerator[Ready, None]:
        """What `begin` made of each file."""
        feeder = asyncio.create_task(self._feed(batches), name="batches for SFTP")
        try:
            while True:
                while not self._begun:
                    if self._failure is not None:
                        raise self._failure
                    if self._ended:
                        return
                    self._changed.clear()
                    await self._changed.wait()
                file, task = self._begun[0]
                ready = await task
                yield ready
                self._begun.popleft()
                self._bytes -= self._weight(file)
                self._room.set()
        finally:
            feeder.cancel()
            tasks: list[asyncio.Task[Any]] = [feeder, *(task for _, task in self._begun)]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _feed(self, batches: AsyncIterator[Sequence[Asked]]) -> None:
        try:
            async for batch in batches:
                self._on_batch()
                for file in batch:
                    check_relative(file.path)
                for file in batch:
                    while self._begun and (len(self._begun) >= self._parallel or self._bytes + self._weight(file) > self._most_bytes):
                        self._room.clear()
                        await self._room.wait()
                    self._bytes += self._weight(file)
                    self._begun.append((file, asyncio.create_task(self._begin(file))))
                    self._changed.set()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the caller's iterator raised: whoever takes the outcomes hears of it
            self._failure = error
        finally:
            self._ended = True
            self._changed.set()

    @staticmethod
    def _weight(file: Asked) -> int:
        """How much of it is held here."""
        return min(file.size_bytes, HELD_BYTES)
