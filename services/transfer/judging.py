"""What the bytes of a file on record say about it. Pure."""

from __future__ import annotations

from mediasync.library import FindingKind
from mediasync.storage.library_reading import ReadFile
from services.transfer.library_store import IndexedFile, Own, Recorded


def finding(row: IndexedFile, kind: FindingKind, message: str = "") -> Recorded:
    """Something about a file on record."""
    return Recorded(row.path, kind, row.size_bytes, row.mtime_ns, row.sha256, message=message)


def judge_read(row: IndexedFile, read: ReadFile, *, same_time: bool) -> Recorded | Own | None:
    """What is wrong with a file on record that was read; or what it is, if nothing is; None for one that went away meanwhile.

    `same_time` says that it has the size and time that it should have, so that nobody has edited it.
    """
    if read.sha256 is None:
        return finding(row, FindingKind.UNREADABLE, read.error) if read.error else None
    if read.sha256 in (row.expected[2], row.sha256):
        return Own(row.path, read.size_bytes, read.mtime_ns, read.sha256)
    if not (same_time and read.settled):
        return finding(row, FindingKind.CHANGED)
    # As it is on the disk: whoever puts it right makes sure that it is still this file. An owner's own version, no source has.
    sha256 = row.sha256 if row.own_sha256 is None else None
    return Recorded(row.path, FindingKind.CORRUPT, read.size_bytes, read.mtime_ns, sha256)
