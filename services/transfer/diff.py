"""What a scanned directory means, held against what was taken before. Pure.

A file is unchanged when its size, mtime and ctime are those on record. A ctime that moved alone may hide an in-place change whose
mtime was put back, so such a file is taken again and compared by its hash; it is counted as unchanged if the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mediasync.sources.base import DirectoryScanned, FileEntry
from services.transfer.entities import ManifestRow


@dataclass(frozen=True)
class DirectoryDiff:
    """`wanted` in scan order; `vanished` are names on record that are gone; `unchanged` counts only files that were reported."""

    wanted: tuple[FileEntry, ...]
    vanished: tuple[bytes, ...]
    unchanged: int


def name_of(path: bytes) -> bytes:
    """The last part of a path."""
    return path.rpartition(b"/")[2]


def directory_of(path: bytes) -> bytes:
    """The path without its last part; empty for a file in the root."""
    return path.rpartition(b"/")[0]


def diff_directory(scanned: DirectoryScanned, rows: Sequence[ManifestRow]) -> DirectoryDiff:
    """Compares one directory, or a chunk of one.

    `rows` are the manifest's: for a complete report all that fall into the chunk's range of names; else those of the reported
    files, and of the whole directory when `names` is given.
    """
    on_record = {row.name: row for row in rows}
    wanted = []
    unchanged = 0
    for entry in scanned.files:
        row = on_record.get(name_of(entry.path))
        if (
            row is not None
            and not row.vanished
            and row.size_bytes == entry.size_bytes
            and row.mtime_ns == entry.mtime_ns
            and row.ctime_ns == entry.ctime_ns
        ):
            unchanged += 1
        else:
            wanted.append(entry)
    present: set[bytes] | None = None
    if scanned.complete:
        present = {name_of(entry.path) for entry in scanned.files}
    elif scanned.names is not None:
        present = set(scanned.names)
    vanished = () if present is None else tuple(row.name for row in rows if not row.vanished and row.name not in present)
    return DirectoryDiff(tuple(wanted), vanished, unchanged)
