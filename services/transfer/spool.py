"""The list of files to take, out of memory: a first sync may want millions."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from mediasync.sources.base import FileEntry

_RECORD = struct.Struct("<qqqQH")
_IN_MEMORY_BYTES = 4 << 20


class WantedSpool:
    """Files in the order in which they were added; kept in a nameless temporary file once they are many.

    Write everything, then read everything, once. `files` and `size_bytes` are totals.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - `close` is ours
        self.files = 0
        self.size_bytes = 0

    def add(self, entry: FileEntry) -> None:
        """Adds a file."""
        record = _RECORD.pack(entry.size_bytes, entry.mtime_ns, entry.ctime_ns, entry.inode, len(entry.path))
        self._file.write(record + entry.path)
        self.files += 1
        self.size_bytes += entry.size_bytes

    def batches(self, max_files: int, max_bytes: int) -> Iterator[Sequence[FileEntry]]:
        """Reads the files back, in batches of at most `max_files` that end once they hold `max_bytes`."""
        self._file.seek(0)
        batch: list[FileEntry] = []
        batch_bytes = 0
        while record := self._file.read(_RECORD.size):
            size_bytes, mtime_ns, ctime_ns, inode, length = _RECORD.unpack(record)
            batch.append(FileEntry(self._file.read(length), size_bytes, mtime_ns, ctime_ns, inode))
            batch_bytes += size_bytes
            if len(batch) >= max_files or batch_bytes >= max_bytes:
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            yield batch

    def close(self) -> None:
        """Gives the space back."""
        self._file.close()
