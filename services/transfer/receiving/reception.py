"""Wanted files in, staged files out, over one connection: what every lane does, in whichever process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.runtime import crash
from mediasync.sources.base import Connection, FileRead, Pace, ReadStatus, WantedFile
from mediasync.sources.selection import Selection
from services.transfer.entities import StagedFile
from services.transfer.staging import RESUMABLE_BYTES, StagingArea, StagingFile

OnBytes = Callable[[WantedFile, int], None]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a wanted file, and where it is if all of it came."""

    outcome: FileRead
    staged: StagedFile | None = None


class _ReceivingSink:
    """A staging file that says how much came in. A `FileSink`."""

    __slots__ = ("_ahead", "_loop", "_on_bytes", "_wanted", "file", "folder")

    def __init__(self, wanted: WantedFile, file: StagingFile, folder: bytes, on_bytes: OnBytes) -> None:
        self.file = file
        self.folder = folder
        self._ahead = 0
        self._wanted = wanted
        self._on_bytes = on_bytes
        self._loop = asyncio.get_running_loop()
        if file.size_bytes:
            on_bytes(wanted, file.size_bytes)

    def write(self, data: bytes) -> None:
        self.file.write(data)
        crash.point("receiver.mid_file")
        self._tell(len(data))

    def fileno(self) -> int:
        return self.file.fileno()

    def copied(self, count: int) -> None:
        self.file.copied(count)
        self._told(count)

    def coming(self, count: int) -> None:
        self._ahead += count
        self._on_bytes(self._wanted, count)

    def adopt(self, path: bytes) -> None:
        self.file.adopt(path)
        self._told(self.file.size_bytes)

    def _told(self, count: int) -> None:
        # From a thread, where this blocks nobody; who counts lives on the event loop.
        self._loop.call_soon_threadsafe(self._tell, count)

    def _tell(self, count: int) -> None:
        if self._ahead:
            before = min(count, self._ahead)
            self._ahead -= before
            count -= before
        self._on_bytes(self._wanted, count)


async def receive(
    connection: Connection,
    batches: AsyncIterator[Sequence[WantedFile]],
    area: StagingArea,
    *,
    selection: Selection,
    pace: Pace | None,
    on_bytes: OnBytes,
) -> AsyncGenerator[Received]:
    """Reads every file of every batch into `area`, in order, one `Received` each, with the very `WantedFile` that came in.

    Large files go on from what is there of them. One left early, or broken off by an error, leaves nothing but such beginnings. Raises
    MediasyncError for the source, OSError for the staging folder.
    """
    numbers = itertools.count(1)
    sinks: dict[bytes, _ReceivingSink] = {}

    async def prepared() -> AsyncIterator[Sequence[WantedFile]]:
        async for batch in batches:
            if any(wanted.size_bytes >= RESUMABLE_BYTES for wanted in batch):
                yield await asyncio.to_thread(lambda files: [area.prepared(wanted) for wanted in files], batch)
            else:
                yield batch

    def open_sink(wanted: WantedFile, offset: int) -> _ReceivingSink:
        sink = _ReceivingSink(wanted, area.open(wanted, offset, next(numbers)), area.folder, on_bytes)
        sinks[wanted.path] = sink
        return sink

    try:
        async for outcome in connection.read(prepared(), open_sink, selection=selection, pace=pace):
            yield _settled(outcome, sinks.pop(outcome.wanted.path, None))
    finally:
        for sink in sinks.values():
            sink.file.cut_off()


def _settled(outcome: FileRead, sink: _ReceivingSink | None) -> Received:
    if sink is None:
        return Received(outcome)
    if outcome.status is not ReadStatus.OK or outcome.entry is None:
        sink.file.discard()
        return Received(outcome)
    if sink.file.size_bytes != outcome.entry.size_bytes:
        sink.file.discard()
        raise MediasyncError(
            Reason.SOURCE_PROTOCOL,
            f"{display(outcome.wanted.path)} was said to be whole, and {sink.file.size_bytes:,} of {outcome.entry.size_bytes:,} bytes came",
        )
    sha256 = sink.file.finish(outcome.entry.mtime_ns)
    return Received(outcome, StagedFile(outcome.entry, sink.file.path, sha256, outcome.incomplete))
