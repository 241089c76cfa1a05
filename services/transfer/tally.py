"""Counting what a unit has to bring and has brought, folder by folder, for the progress display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mediasync.model import FolderProgress, ProgressStatus, UnitProgress
from mediasync.sources.base import FileEntry


@dataclass
class _Row:
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    files_failed: int = 0
    files_found: int = 0
    bytes_found: int = 0
    """What a scan that is not complete has found and nobody has asked for yet: not in the totals above."""


class UnitTally:
    """The counts of one unit, cumulative over all attempts of the run.

    A unit that is one folder has one row; a unit that is everything below the root has one for each folder directly below it.
    """

    def __init__(self, folder: bytes) -> None:
        self._folder = folder
        self._rows: dict[bytes, _Row] = {}
        self._current_file = b""
        self._stage = ""
        self._status = ProgressStatus.SCANNING
        self.done = False
        self.vanished_meanwhile = 0

    def _row(self, path: bytes) -> _Row:
        folder = self._folder or (path.partition(b"/")[0] if b"/" in path else b"")
        row = self._rows.get(folder)
        if row is None:
            row = self._rows[folder] = _Row()
        return row

    def restart(self, committed: Mapping[bytes, tuple[int, int]]) -> None:
        """Counts anew. `committed` is what earlier attempts of the same run brought: (files, bytes) by directory."""
        self._rows.clear()
        for directory, (files, bytes_) in committed.items():
            row = self._row(directory + b"/" if directory else b"")
            row.files_total += files
            row.files_done += files
            row.bytes_total += bytes_
            row.bytes_done += bytes_

    def found(self, entry: FileEntry) -> None:
        """A scan that is not complete has found a file that has to come."""
        row = self._row(entry.path)
        row.files_found += 1
        row.bytes_found += entry.size_bytes

    def asked_for(self, entry: FileEntry) -> None:
        """A file that was found is asked for before the scan is complete: it counts, whatever becomes of the scan."""
        row = self._row(entry.path)
        row.files_found -= 1
        row.bytes_found -= entry.size_bytes
        self.expect(entry)

    def go_back(self) -> None:
        """What was found and not asked for does not count: the scan starts over."""
        for row in self._rows.values():
            row.files_found = row.bytes_found = 0

    def expect(self, entry: FileEntry) -> None:
        """A file has to come."""
        row = self._row(entry.path)
        row.files_total += 1
        row.bytes_total += entry.size_bytes

    def grew(self, path: bytes, count: int) -> None:
        """A file that has to come has so many bytes more than expected; less where that is negative."""
        self._row(path).bytes_total += count

    def received(self, path: bytes, count: int) -> None:
        """Bytes of a file came in."""
        self._row(path).bytes_done += count
        self._current_file = path

    def landed(self, entry: FileEntry) -> None:
        """A file is in the library."""
        self._row(entry.path).files_done += 1
        self._current_file = entry.path

    def failed(self, path: bytes) -> None:
        """A file will not come."""
        self._row(path).files_failed += 1

    def stage(self, text: str) -> None:
        """What is being done, in words."""
        self._stage = text

    def scanned(self) -> None:
        """The totals are known."""
        for row in self._rows.values():
            row.files_total += row.files_found
            row.bytes_total += row.bytes_found
        self.go_back()
        self._status = ProgressStatus.TRANSFERRING

    def finished(self) -> None:
        """Nothing is to come any more."""
        self.done = True

    def progress(self) -> UnitProgress:
        """The counts as they are reported."""
        rows = tuple(_progress(folder, row) for folder, row in self._rows.items())
        return UnitProgress(self._status, rows, self._current_file, self._stage, 0, self.done)


def _progress(folder: bytes, row: _Row) -> FolderProgress:
    files_total, bytes_total = row.files_total + row.files_found, row.bytes_total + row.bytes_found
    # A file that changed is pulled twice, and must not look like more than all.
    return FolderProgress(folder, files_total, row.files_done, bytes_total, min(row.bytes_done, bytes_total), row.files_failed)
