"""What a scanned directory means, held against what was taken before. Pure.

A file is unchanged when its size, mtime and ctime are those on record. One that has the size on record and moved otherwise may still be the
same picture: a `chmod`, a volume that was restored, a name that vanished and came back. It is *doubtful*: its hash decides, and only that
crosses the line. A ctime that moved alone may just as well hide an in-place change whose mtime was put back, so it is never believed.

The inode is not looked at: file systems in user space number their files anew with every mount.

A piece of a directory that is on record exactly as it was scanned never comes here: `ManifestStore.holds` finds that out by whole columns.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from mediasync.sources.base import FileEntry

VANISHED = -1
RowState = tuple[bytes, int, int, int]
"""What the manifest has of a file for comparing: name, size (VANISHED for one that is gone), mtime and ctime in nanoseconds. A tuple as the
database hands it over, and no column more than needed: a million are read in a full scan, and each costs a tenth of a second."""


@dataclass(slots=True)
class DirectoryDiff:
    """`wanted` and `doubtful` in scan order; `vanished` are rows of names that are gone; `unchanged` are files as they are on record."""

    wanted: list[FileEntry]
    doubtful: list[FileEntry]
    vanished: list[RowState]
    unchanged: Sequence[FileEntry]


def name_of(path: bytes) -> bytes:
    """The last part of a path."""
    return path.rpartition(b"/")[2]


def directory_of(path: bytes) -> bytes:
    """The path without its last part; empty for a file in the root."""
    return path.rpartition(b"/")[0]


def diff_directory(
    directory: bytes, files: Sequence[FileEntry], rows: Sequence[RowState], *, complete: bool, names: Container[bytes] | None = None
) -> DirectoryDiff:
    """Compares `files`, all of `directory`, with `rows`: what the manifest has under their names, and under others of the directory.

    `complete` says that there are no other files among the names of `rows`; `names` are all that are there, where only these are known.
    """
    left = {row[0]: row for row in rows}
    skip = len(directory) + 1 if directory else 0
    wanted, doubtful, unchanged = [], [], []
    for entry in files:
        row = left.pop(entry.path[skip:], None)
        if row is None:
            wanted.append(entry)
        elif row[3] == entry.ctime_ns and row[2] == entry.mtime_ns and row[1] == entry.size_bytes:
            unchanged.append(entry)
        elif row[1] in (entry.size_bytes, VANISHED):
            doubtful.append(entry)
        else:
            wanted.append(entry)
    vanished = []
    if left and (complete or names is not None):
        vanished = [row for row in left.values() if row[1] != VANISHED and (names is None or row[0] not in names)]
    return DirectoryDiff(wanted, doubtful, vanished, unchanged)
