"""The list of files to take, out of memory: a first sync may want millions.

The order in which it gives them back starves no folder: as many files of each directory as make a batch, then the next directory's, and
round again. Or newest first, over all directories.
"""

from __future__ import annotations

import heapq
import itertools
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from mediasync.sources.base import FileEntry

_RECORD = struct.Struct("<qqqQH")
_IN_MEMORY_BYTES = 4 << 20
_RUN_FILES = 20_000
_READ_FILES = 64
SLICE_FILES = 128
SLICE_BYTES = 8 << 20


class WantedSpool:
    """Files, kept in a nameless temporary file once they are many.

    Write everything, then read everything, once. `files` and `size_bytes` are totals. What stays in memory is a note for each slice of
    a directory (`SLICE_FILES` or `SLICE_BYTES` of it), or for each run of `_RUN_FILES` files that were sorted together.
    """

    def __init__(self, folder: Path, *, newest_first: bool = False) -> None:
        # The class is not a subclass of any file type, but has the methods of one.
        spooled = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - `close` is ours
        self._file = cast("BinaryIO", spooled)
        self._newest_first = newest_first
        self._run: list[FileEntry] = []
        self._segments: list[tuple[int, int, int]] = []
        """(turn, offset, files): slices, whose turn is the number within their directory, or sorted runs."""
        self._directory: bytes | None = None
        self._turn = 0
        self._run_bytes = 0
        self.files = 0
        self.size_bytes = 0

    def add(self, entry: FileEntry) -> None:
        """Adds a file. Those of one directory come one after the other."""
        if self._newest_first:
            if len(self._run) >= _RUN_FILES:
                self._write_run()
        else:
            directory = entry.path.rpartition(b"/")[0]
            if directory != self._directory:
                self._write_run()
                self._directory, self._turn = directory, 0
            elif len(self._run) >= SLICE_FILES or self._run_bytes >= SLICE_BYTES:
                self._write_run()
                self._turn += 1
        self._run.append(entry)
        self._run_bytes += entry.size_bytes
        self.files += 1
        self.size_bytes += entry.size_bytes

    def _write_run(self) -> None:
        if not self._run:
            return
        if self._newest_first:
            self._run.sort(key=_newest)
        self._segments.append((self._turn, self._file.tell(), len(self._run)))
        self._file.write(
            b"".join(
                _RECORD.pack(entry.size_bytes, entry.mtime_ns, entry.ctime_ns, entry.inode, len(entry.path)) + entry.path
                for entry in self._run
            )
        )
        self._run, self._run_bytes = [], 0

    def entries(self) -> Iterator[FileEntry]:
        """Reads the files back."""
        self._write_run()
        runs = [self._read(offset, files) for _, offset, files in sorted(self._segments)]
        return heapq.merge(*runs, key=_newest) if self._newest_first else itertools.chain.from_iterable(runs)

    def batches(self, max_files: int, max_bytes: int) -> Iterator[Sequence[FileEntry]]:
        """Reads the files back, in batches of at most `max_files` that end once they hold `max_bytes`."""
        batch: list[FileEntry] = []
        batch_bytes = 0
        for entry in self.entries():
            batch.append(entry)
            batch_bytes += entry.size_bytes
            if len(batch) >= max_files or batch_bytes >= max_bytes:
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            yield batch

    def _read(self, offset: int, files: int) -> Iterator[FileEntry]:
        """The files of one segment, a few at a time: several segments are read in turn."""
        while files:
            self._file.seek(offset)
            some = []
            for _ in range(min(files, _READ_FILES if self._newest_first else files)):
                size_bytes, mtime_ns, ctime_ns, inode, length = _RECORD.unpack(self._file.read(_RECORD.size))
                some.append(FileEntry(self._file.read(length), size_bytes, mtime_ns, ctime_ns, inode))
            offset = self._file.tell()
            files -= len(some)
            yield from some

    def close(self) -> None:
        """Gives the space back."""
        self._file.close()


def _newest(entry: FileEntry) -> tuple[int, bytes]:
    return (-entry.mtime_ns, entry.path)
