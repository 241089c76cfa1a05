"""Requests for files that are sent ahead, and their answers in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mediasync.model import FollowSymlinks
from mediasync.paths import check_relative
from mediasync.sources.base import DoomedFile, WantedFile
from mediasync.sources.posix import wire
from mediasync.sources.posix.stream import Stream

MAX_BATCHES = 8
_FOLLOW_WORDS = {FollowSymlinks.NONE: b"0", FollowSymlinks.FILES: b"1", FollowSymlinks.ALL: b"2"}

Asked = TypeVar("Asked", WantedFile, DoomedFile)
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Far:
    """What of a connection its calls need. `clock_offset_ns` is the far side's clock minus ours, rounded down."""

    stream: Stream
    clock_offset_ns: int
    folders: Sequence[bytes]
    groups: bool
    """Whether several files can be asked for at once."""

    def now_ns(self) -> int:
        """The far side's clock."""
        return time.time_ns() + self.clock_offset_ns


class Lines:
    """Requests for files: a line for the folder where it is another than before, and one for the file."""

    def __init__(self, far: Far, follow: FollowSymlinks) -> None:
        self._far = far
        self._follow = _FOLLOW_WORDS[follow]
        # Longest first: a named folder may lie in another one.
        self._named = sorted(far.folders, key=len, reverse=True)
        self._folder: bytes | None = None

    def ask(self, what: bytes, file: WantedFile | DoomedFile, *words: bytes) -> None:
        """Asks for one file."""
        self._far.stream.write(self._enter(file.path) + wire.request(what, *_file_words(file), *words))

    def ask_together(self, files: Sequence[DoomedFile]) -> None:
        """Asks for the end of several files of one folder."""
        words = [word for file in files for word in (*_file_words(file), file.sha256.hex().encode())]
        self._far.stream.write(self._enter(files[0].path) + wire.request(b"together", *words))

    def ask_to_drop(self, folder: bytes) -> None:
        """Asks for the end of a folder."""
        self._far.stream.write(self._enter(folder) + wire.request(b"drop", wire.path_word(folder.rpartition(b"/")[2])))

    def ask_many(self, files: Sequence[WantedFile]) -> None:
        """Asks for several of one folder at once."""
        words = [word for file in files for word in _file_words(file)]
        self._far.stream.write(self._enter(files[0].path) + wire.request(b"many", *words))

    def _enter(self, path: bytes) -> bytes:
        folder = path.rpartition(b"/")[0]
        if folder == self._folder:
            return b""
        self._folder = folder
        named = next((one for one in self._named if folder == one or folder.startswith(one + b"/")), b"")
        rest = folder[len(named) + 1 :] if named else folder
        return wire.request(b"enter", self._follow, wire.path_word(named), wire.path_word(rest))


def _file_words(file: WantedFile | DoomedFile) -> list[bytes]:
    name = file.path.rpartition(b"/")[2]
    return [wire.path_word(name), *wire.identity(file.size_bytes, file.mtime_ns, file.inode)]


class Pipeline(Generic[Asked, Outcome]):
    """Batches that are asked for ahead, and their outcomes in order.

    `prepare` sends what has to be asked for a batch, and tells by `expect`, in the same order, who takes each answer off the stream.
    """

    def __init__(self, stream: Stream, window_bytes: int) -> None:
        self._stream = stream
        self._window_bytes = window_bytes
        self._takers: deque[Callable[[], Awaitable[Outcome | None]]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._flying: deque[list[int]] = deque()  # for each batch: outcomes that are missing, bytes
        self._ended = False
        self._failure: BaseException | None = None

    def expect(self, taker: Callable[[], Awaitable[Outcome | None]]) -> None:
        """The next answer on the stream is for `taker`, which is awaited; what it returns, unless None, is an outcome."""
        self._takers.append(taker)
        self._changed.set()

    async def run(
        self, batches: AsyncIterator[Sequence[Asked]], prepare: Callable[[Sequence[Asked]], Awaitable[None]]
    ) -> AsyncGenerator[Outcome, None]:
        """The outcomes."""
        feeder = asyncio.create_task(self._feed(batches, prepare), name="batches for a shell")
        try:
            while True:
                while not self._takers:
                    if self._failure is not None:
                        raise self._failure
                    if self._ended:
                        return
                    self._changed.clear()
                    await self._changed.wait()
                outcome = await self._takers.popleft()()
                if outcome is not None:
                    self._landed()
                    yield outcome
        finally:
            feeder.cancel()
            await asyncio.wait([feeder])

    async def _feed(self, batches: AsyncIterator[Sequence[Asked]], prepare: Callable[[Sequence[Asked]], Awaitable[None]]) -> None:
        try:
            async for batch in batches:
                for file in batch:
                    check_relative(file.path)
                if not batch:
                    continue
                self._flying.append([len(batch), sum(file.size_bytes for file in batch)])
                await prepare(batch)
                await self._stream.drain()
                while not self._has_room():
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the caller's iterator raised: whoever takes the outcomes hears of it
            self._failure = error
        finally:
            self._ended = True
            self._changed.set()

    def _has_room(self) -> bool:
        # One batch streaming and one waiting always; more while they are small against what the line holds.
        flying = len(self._flying)
        return flying < 2 or (flying < MAX_BATCHES and sum(size for _, size in self._flying) < 2 * self._window_bytes)

    def _landed(self) -> None:
        self._flying[0][0] -= 1
        if not self._flying[0][0]:
            self._flying.popleft()
            self._room.set()
