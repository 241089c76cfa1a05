"""Files by way of SFTP: many are asked for at once, and of a large one many parts.

A file is looked at by its path, opened, looked at by its handle, read, and looked at by its handle again: size and mtime, in whole
seconds, are all there is to tell a change by. A small one is here whole before any of it is handed on. Of a large one, the parts that tell
whether it is complete are read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

import asyncssh

from mediasync.sources import endings
from mediasync.sources.base import FileRead, Pace, ReadStatus, SinkOpener, WantedFile
from mediasync.sources.sftp.ahead import HELD_BYTES, Ahead
from mediasync.sources.sftp.client import Look, OpenFile, says
from mediasync.sources.sftp.files import Files
from mediasync.sources.sftp.sightings import Sightings

PARALLEL_FILES = 64
FEWEST_PARTS = 4
MOST_PARTS = 256
_PIECE = 256 * 1024


@dataclass
class _Whole:
    """A small file that is here."""

    wanted: WantedFile
    data: bytes
    look: Look
    incomplete: bool


@dataclass
class _Open:
    """A large file that is open."""

    wanted: WantedFile
    file: OpenFile
    look: Look
    incomplete: bool


class Reading:
    """One `Connection.read`."""

    def __init__(self, files: Files, open_sink: SinkOpener, sightings: Sightings, pace: Pace | None, window_bytes: int) -> None:
        self._files = files
        self._open_sink = open_sink
        self._sightings = sightings
        self._pace = pace
        self._most_bytes = max(2 * window_bytes, 4 * HELD_BYTES)
        self._parts = max(FEWEST_PARTS, min(MOST_PARTS, window_bytes // files.sftp.read_bytes))

    async def run(self, batches: AsyncIterator[Sequence[WantedFile]]) -> AsyncGenerator[FileRead, None]:
        """The outcomes."""
        ahead: Ahead[WantedFile, FileRead | _Whole | _Open] = Ahead(
            self._begin, PARALLEL_FILES, self._most_bytes, self._files.places.forget
        )
        run = ahead.run(batches)
        try:
            async for ready in run:
                if isinstance(ready, _Whole):
                    yield await self._hand_on(ready)
                elif isinstance(ready, _Open):
                    yield await self._stream(ready)
                else:
                    yield ready
        finally:
            await run.aclose()

    async def _begin(self, wanted: WantedFile) -> FileRead | _Whole | _Open:
        """All that can be done before it is a file's turn."""
        status, look, file, message = await self._files.open(wanted)
        if file is None or look is None:
            assert status is not None
            return FileRead(wanted, status, look.entry(wanted.path) if look is not None else None, False, message)
        keep = False
        try:
            if wanted.size_bytes <= HELD_BYTES:
                return await self._whole(wanted, look, file)
            reached = await self._ended(wanted, file)
            take, incomplete = self._verdict(wanted, look, reached)
            if not take:
                return FileRead(wanted, ReadStatus.UNSETTLED, look.entry(wanted.path))
            keep = True
            return _Open(wanted, file, look, incomplete)
        except asyncssh.SFTPError as error:
            return FileRead(wanted, ReadStatus.UNREADABLE, look.entry(wanted.path), False, says(error))
        finally:
            if not keep and self._files.sftp.failure is None:
                await file.close()

    def _verdict(self, wanted: WantedFile, look: Look, reached: bool | None) -> tuple[bool, bool]:
        age = self._sightings.age_seconds(wanted.path, look)
        take, incomplete = endings.verdict(reached, age, wanted.settle_seconds, wanted.incomplete_after_seconds)
        if take:
            self._sightings.forget(wanted.path)
        return take, incomplete

    async def _whole(self, wanted: WantedFile, look: Look, file: OpenFile) -> FileRead | _Whole:
        data = b"".join([part async for part in self._files.parts(file, wanted.size_bytes, FEWEST_PARTS)])
        after = await file.look()
        if len(data) != wanted.size_bytes or after != look:
            return FileRead(wanted, ReadStatus.CHANGED, after.entry(wanted.path))
        spans = endings.Spans(wanted.size_bytes)
        spans.add(0, data)
        take, incomplete = self._verdict(wanted, look, endings.ended(spans, wanted.path.rpartition(b"/")[2]))
        if not take:
            return FileRead(wanted, ReadStatus.UNSETTLED, look.entry(wanted.path))
        return _Whole(wanted, data, look, incomplete)

    async def _ended(self, wanted: WantedFile, file: OpenFile) -> bool | None:
        """Whether a large file's own end is there."""
        spans = endings.Spans(wanted.size_bytes)
        step = self._files.sftp.read_bytes
        looks = endings.first_spans(wanted.size_bytes)
        while True:
            for offset, count in looks:
                pieces = [(start, min(step, offset + count - start)) for start in range(offset, offset + count, step)]
                spans.add(offset, b"".join([await file.read(start, length) for start, length in pieces]))
            try:
                return endings.ended(spans, wanted.path.rpartition(b"/")[2])
            except endings.SpanMissingError as missing:
                following = endings.next_span(missing, wanted.size_bytes)
                if following in looks:
                    # It shrank: reading it will tell.
                    return None
                looks = [following]

    async def _hand_on(self, ready: _Whole) -> FileRead:
        sink = self._open_sink(ready.wanted, 0)
        if ready.data:
            sink.write(ready.data)
            await self._wait(len(ready.data))
        return FileRead(ready.wanted, ReadStatus.OK, ready.look.entry(ready.wanted.path), ready.incomplete)

    async def _stream(self, ready: _Open) -> FileRead:
        """A large file's bytes, as they come."""
        wanted = ready.wanted
        sink = self._open_sink(wanted, 0)
        count = 0
        failure = ""
        after = ready.look
        try:
            parts = self._files.parts(ready.file, wanted.size_bytes, self._parts)
            try:
                async for part in parts:
                    sink.write(part)
                    count += len(part)
                    await self._wait(len(part))
            finally:
                await parts.aclose()
            after = await ready.file.look()
        except asyncssh.SFTPError as error:
            failure = says(error)
        if self._files.sftp.failure is None:
            await ready.file.close()
        while count < wanted.size_bytes:
            # Whoever takes it was told a length.
            zeros = min(wanted.size_bytes - count, _PIECE)
            sink.write(bytes(zeros))
            count += zeros
            failure = failure or "short"
        entry = after.entry(wanted.path)
        if failure and failure != "short":
            return FileRead(wanted, ReadStatus.UNREADABLE, entry, ready.incomplete, failure)
        status = ReadStatus.OK if after == ready.look and not failure else ReadStatus.CHANGED
        return FileRead(wanted, status, entry, ready.incomplete)

    async def _wait(self, count: int) -> None:
        delay = self._pace.took(count) if self._pace is not None else 0.0
        if delay > 0:
            await asyncio.sleep(delay)
