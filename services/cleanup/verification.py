"""Whether the library has, on its disk and now, what is to be deleted at a source.

Of each file one of its copies is read from the disk, past the kernel's memory, and has to have the hash that is on record (invariant I3).
Where the first copy is not good the next ones are read. All of a batch is read through one descriptor of the library's root, whose marker
is looked at before, and which has to be what the root's path leads to afterwards: what was read of a share that was unmounted meanwhile,
or of the empty folder below it, counts for nothing (invariant I4). Files that go together are good together, or kept together.

A file of the library with the inode, size and times of the file at the source is taken for that very file: a container that has the library
mounted, or an SSH server on this machine, is a source like any other, and what is deleted there has no second copy. Copies have the size
and the modification time of their file, and two file systems may number theirs alike; what no copy has is its ctime. Where an engine knows
no inodes (SFTP) it cannot be told.

What it does not guarantee: that a copy is still good once it was read, or that a disk gives the same bytes another time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import KeptReason
from mediasync.model.synced import CopyReport
from mediasync.paths import display
from mediasync.storage.library_marker import library_error, read_marker
from mediasync.storage.library_reading import LibraryReader, ReadFile
from services.cleanup.entities import CheckedFile, PlanRow

T = TypeVar("T")

READERS = 2
_SECOND_NS = 10**9
# What was touched since the plan has another ctime than in it. A plan lives for an hour.
_LONGEST_PLAN_NS = 2 * 3600 * _SECOND_NS
# What is said of several bad copies: one that is there and wrong tells more than one that is gone.
_WORST = (KeptReason.COPY_CORRUPT, KeptReason.COPY_UNREADABLE, KeptReason.COPY_MISSING)


class CopyCheck:
    """Reads copies in one library. `executor` has the threads that read (`READERS`).

    With `without_copies` a file that has none on record passes: its owner deleted it in the library and lets it go (`clean_culled`), or
    nothing is compared at all (`verify_synced: false`).
    """

    def __init__(self, root: str, uuid: str, executor: ThreadPoolExecutor, *, without_copies: bool = False) -> None:
        self._root = os.fsencode(root)
        self._uuid = uuid
        self._executor = executor
        self._without_copies = without_copies
        self.bytes_read = 0

    async def check(self, rows: Sequence[PlanRow]) -> list[CheckedFile]:
        """What the library has of a batch of files, one answer each and in order; a group is whole in its batch.

        Raises LIBRARY_MARKER_MISSING, LIBRARY_MARKER_MISMATCH or LIBRARY_IO where the library cannot be believed: nothing of the batch may
        be deleted then.
        """
        read: dict[bytes, ReadFile] = {}
        if wanted := _wanted(rows, read):
            root = await self._in_thread(self._open_root)
            try:
                await self._in_thread(self._check_place, root)
                reader = LibraryReader(root, self._executor, from_disk=True)
                while wanted:
                    read |= {file.path: file for file in await reader.read(sorted(wanted.items()))}
                    wanted = _wanted(rows, read)
                self.bytes_read += reader.bytes_read
                await self._in_thread(self._check_place, root)
            finally:
                os.close(root)
        return _together([self._judged(row, read) for row in rows])

    async def _in_thread(self, work: Callable[..., T], *arguments: int) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def _open_root(self) -> int:
        try:
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._gone("is not there") from error
        except OSError as error:
            raise library_error(error, self._root) from error

    def _check_place(self, root: int) -> None:
        """Raises MediasyncError unless the open folder is the library, and what its path leads to."""
        marker = read_marker(self._root, root)
        if marker is None:
            raise self._gone("has no marker (.mediasync/library.json)")
        if marker.uuid != self._uuid:
            text = f"{display(self._root)} holds another library (marker {marker.uuid}) than before ({self._uuid})"
            raise MediasyncError(Reason.LIBRARY_MARKER_MISMATCH, text)
        try:
            here, there = os.fstat(root), os.stat(self._root)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._gone("is not there any more") from error
        except OSError as error:
            raise library_error(error, self._root) from error
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise self._gone("became another folder while its files were read")

    def _gone(self, what: str) -> MediasyncError:
        return MediasyncError(Reason.LIBRARY_MARKER_MISSING, f"the library {display(self._root)} {what}; was its disk unmounted?")

    def _judged(self, row: PlanRow, read: Mapping[bytes, ReadFile]) -> CheckedFile:
        if not row.copies:
            if self._without_copies:
                return CheckedFile(row)
            return CheckedFile(row, kept=KeptReason.COPY_MISSING, message="no copy is on record")
        reports: list[CopyReport] = []
        bad: list[tuple[KeptReason, str]] = []
        for copy in row.copies:
            file = read[copy]
            if _same_file(row, file, time.time_ns()):
                return CheckedFile(row, kept=KeptReason.COPY_MISSING, message=f"{display(copy)} in the library is this very file")
            if _good(row, file):
                return CheckedFile(row, copy, reports=(*reports, CopyReport(copy, row.path, intact=True)))
            reason, message = _what_is_wrong(row, file)
            bad.append((reason, f"{display(copy)} {message}"))
            if file.settled:
                missing = reason is KeptReason.COPY_MISSING
                reports.append(CopyReport(copy, row.path, missing=missing, message=file.error))
        reason, message = min(bad, key=lambda item: _WORST.index(item[0]))
        return CheckedFile(row, kept=reason, message=message, reports=tuple(reports))


def _same_file(row: PlanRow, file: ReadFile, now_ns: int) -> bool:
    """Whether a file of the library is the one at the source. Some engines tell whole seconds."""
    if not row.inode or (file.inode, file.size_bytes) != (row.inode, row.size_bytes):
        return False
    if file.mtime_ns // _SECOND_NS != row.mtime_ns // _SECOND_NS:
        return False
    changed_since = file.ctime_ns > now_ns - _LONGEST_PLAN_NS
    return not row.ctime_ns or file.ctime_ns // _SECOND_NS == row.ctime_ns // _SECOND_NS or changed_since


def _good(row: PlanRow, file: ReadFile) -> bool:
    return file.sha256 is not None and file.sha256 == row.sha256 and file.settled


def _wanted(rows: Sequence[PlanRow], read: Mapping[bytes, ReadFile]) -> dict[bytes, int]:
    """The copies to read next, with the sizes they should have: of each file that has no good one yet the first that was not read."""
    wanted: dict[bytes, int] = {}
    for row in rows:
        for copy in row.copies:
            file = read.get(copy)
            if file is None:
                wanted[copy] = row.size_bytes
                break
            if _good(row, file):
                break
    return wanted


def _what_is_wrong(row: PlanRow, file: ReadFile) -> tuple[KeptReason, str]:
    if file.error:
        return KeptReason.COPY_UNREADABLE, f"cannot be read: {file.error}"
    if file.sha256 is None:
        return KeptReason.COPY_MISSING, "is not there"
    if not file.settled:
        return KeptReason.COPY_CORRUPT, "changed while it was read"
    if file.size_bytes != row.size_bytes:
        return KeptReason.COPY_CORRUPT, f"has {file.size_bytes} bytes, {row.size_bytes} are on record"
    return KeptReason.COPY_CORRUPT, "has other bytes than on record"


def _together(checked: Sequence[CheckedFile]) -> list[CheckedFile]:
    """Where one of a group is kept, the others are."""
    groups: list[list[CheckedFile]] = []
    for file in checked:
        if file.row.joined and groups:
            groups[-1].append(file)
        else:
            groups.append([file])
    return [file for group in groups for file in _whole(group)]


def _whole(group: Sequence[CheckedFile]) -> Sequence[CheckedFile]:
    kept = next((file for file in group if file.kept is not None), None)
    if kept is None:
        return group
    message = f"it goes together with {display(kept.row.path)} only"
    return [file if file.kept else replace(file, library_path=b"", kept=KeptReason.COMPANION, message=message) for file in group]
