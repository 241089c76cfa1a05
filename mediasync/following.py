"""Progress that never goes backwards (invariant I9), also over a service's restart, which may answer with an older snapshot."""

from __future__ import annotations

from dataclasses import replace

from mediasync.model import FolderProgress, JobProgress

_COUNTS = (
    "percent",
    "folders_total",
    "folders_done",
    "files_total",
    "files_done",
    "bytes_total",
    "bytes_done",
    "errors",
    "warnings",
    "files_processed",
    "files_to_clean",
    "files_cleaned",
    "bytes_to_clean",
    "bytes_cleaned",
    "update_time",
)
_FOLDER_COUNTS = ("files_total", "files_done", "bytes_total", "bytes_done", "files_failed")


class Forward:
    """Lifts each snapshot to what was shown before it."""

    def __init__(self) -> None:
        self._last: JobProgress | None = None
        self._folders: dict[bytes, FolderProgress] = {}

    def step(self, progress: JobProgress) -> JobProgress:
        """`progress`, with no number below the last snapshot's."""
        folders = tuple(self._folder(row) for row in progress.folders)
        last = self._last
        counts = {name: max(getattr(progress, name), getattr(last, name)) for name in _COUNTS} if last else {}
        self._last = replace(progress, folders=folders, **counts)
        return self._last

    def _folder(self, row: FolderProgress) -> FolderProgress:
        last = self._folders.get(row.folder)
        if last:
            row = replace(row, **{name: max(getattr(row, name), getattr(last, name)) for name in _FOLDER_COUNTS})
        self._folders[row.folder] = row
        return row
