"""What a person wants to know of a source before the first sync: what would count, what is there, and how fast it can be read.

Nothing is taken and nothing remembered: bytes that are read for their rate go nowhere.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, DirectoryScanned, FileEntry, ScanFinished, ScanRequest, WantedFile
from mediasync.sources.selection import Selection

SAMPLE = 10
RATE_SECONDS = 1.0
RATE_BYTES = 32 << 20
_RATE_FILES = 256


@dataclass
class Found:
    """What a scan counted: `names` are some of the files', `readable` some to read, together no more than are read for a rate."""

    files: int = 0
    size_bytes: int = 0
    names: list[bytes] = field(default_factory=list)
    readable: list[FileEntry] = field(default_factory=list)


async def count(connection: Connection, folders: Sequence[bytes], selection: Selection) -> Found:
    """Looks at every file of `folders`. Raises MediasyncError."""
    found = Found()
    room = RATE_BYTES
    for folder in folders:
        async for record in connection.scan(ScanRequest(folder, selection=selection)):
            if isinstance(record, ScanFinished):
                found.files += record.files_seen
                found.size_bytes += record.bytes_seen
            elif isinstance(record, DirectoryScanned):
                found.names += [entry.path for entry in record.files[: SAMPLE - len(found.names)]]
                for entry in record.files:
                    if room <= 0 or len(found.readable) >= _RATE_FILES:
                        break
                    found.readable.append(entry)
                    room -= entry.size_bytes
    return found


class _Nowhere:
    """Counts bytes, and says when there are enough."""

    def __init__(self) -> None:
        self.count = 0
        self.enough = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.count += len(data)
        if self.count >= RATE_BYTES:
            self.enough.set()


async def bytes_per_second(connection: Connection, files: Sequence[FileEntry], selection: Selection) -> int:
    """What reading `files` gives, for a second at most; 0 where nothing came. May close the connection: a read that is left early does.
    Raises MediasyncError."""
    sink = _Nowhere()

    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        # Whether they are complete does not matter here.
        yield [WantedFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode, 0.0, 0.0) for entry in files]

    async def read() -> None:
        async for _ in connection.read(batches(), lambda wanted, offset: sink, selection=selection):
            pass

    began = time.perf_counter()
    reading = asyncio.create_task(read(), name="read for the rate")
    full = asyncio.create_task(sink.enough.wait(), name="enough for the rate")
    try:
        await asyncio.wait({reading, full}, timeout=RATE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        # The first answer needs a round trip, which is told on its own.
        seconds = max(time.perf_counter() - began - connection.probe.round_trip_seconds, 1e-3)
    finally:
        full.cancel()
        reading.cancel()
        await asyncio.wait({reading, full})
    if not reading.cancelled() and (error := reading.exception()) is not None and not _closed_by_us(error, sink):
        raise error
    return int(sink.count / seconds)


def _closed_by_us(error: BaseException, sink: _Nowhere) -> bool:
    return isinstance(error, MediasyncError) and error.reason is Reason.CONNECTION_LOST and sink.enough.is_set()


def free_bytes(path: str) -> int | None:
    """Free space where `path` is, or will be; None where it cannot be told."""
    while True:
        try:
            status = os.statvfs(path)
        except FileNotFoundError:
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above
        except OSError:
            return None
        else:
            return status.f_bavail * status.f_frsize
