"""What a clean-up has to know of sources and libraries, and what it makes known. It deletes nothing, and is no judge of what may go: it
says what is on record, and a record may be wrong. Whoever deletes reads the copies themselves first.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.library import FindingKind
from mediasync.model import SourceSpec
from mediasync.model.synced import CopyReport, SourceFile, SyncedFile
from mediasync.paths import display
from mediasync.storage.database import Database
from mediasync.storage.library_marker import read_marker
from services.transfer.cleaned_store import CleanedStore
from services.transfer.entities import LibraryId, OriginShare
from services.transfer.judging import finding
from services.transfer.library_store import IndexedFile, LibraryStore, Recorded
from services.transfer.manifest_store import GONE_ROOT, ManifestStore

MOST_FILES = 1000
_LOST = (FindingKind.MISSING, FindingKind.CORRUPT)

OpenKnownLibrary = Callable[[str], AbstractAsyncContextManager[LibraryId]]


class CleanupRecord:
    """`open_library` gives a library for one use, and none for a folder that is no library."""

    def __init__(self, database: Database, open_library: OpenKnownLibrary) -> None:
        self._store = CleanedStore(database)
        self._libraries = LibraryStore(database)
        self._manifest = ManifestStore(database)
        self._open_library = open_library

    async def libraries(self, source: SourceSpec | None) -> list[OriginShare]:
        """The libraries that a source was synced into, and how much of it they have; of none, all that are on record. Nobody looks whether
        they are there."""
        if source is not None:
            shares = await self._store.shares(source.key)
        else:
            shares = [OriginShare(library, 0) for library in await self._manifest.libraries()]
        return [share for share in shares if not share.library.root.startswith(GONE_ROOT)]

    async def synced(self, source: SourceSpec, dest_path: str, files: Sequence[SourceFile]) -> list[SyncedFile]:
        """What is on record of files of a source, one answer each and in order. Raises LIBRARY_*, INVALID_ARGUMENT."""
        _check_count(files, "files")
        # What a process that died had landed is put on record by that.
        async with self._open_library(dest_path) as library:
            return await self._store.synced(source.key, library, files)

    async def note_cleaned(self, source: SourceSpec, dest_path: str, files: Sequence[SourceFile]) -> None:
        """Files were deleted at the source, as they were. Raises LIBRARY_*, INVALID_ARGUMENT."""
        _check_count(files, "files")
        async with self._open_library(dest_path) as library:
            await self._store.note_cleaned(source.key, library, files)

    async def report_copies(self, source: SourceSpec, dest_path: str, copies: Sequence[CopyReport]) -> None:
        """Notes what was seen of copies; those that are not on record are nothing to us. Raises LIBRARY_*, INVALID_ARGUMENT."""
        _check_count(copies, "copies")
        async with self._open_library(dest_path) as library:
            rows = await self._libraries.indexed_of(library, [copy.library_path for copy in copies])
            bad = [copy for copy in copies if not copy.intact and copy.library_path in rows]
            findings = await asyncio.to_thread(_judge, library, bad, rows) if bad else []
            findings = await self._named(source, library, bad, findings)
            intact = [copy.library_path for copy in copies if copy.intact and copy.library_path in rows]
            await self._store.note_copies(library, intact, findings)

    async def _named(
        self, source: SourceSpec, library: LibraryId, copies: Sequence[CopyReport], findings: Sequence[Recorded]
    ) -> list[Recorded]:
        """Findings with the source that has what is lost: it was just seen there."""
        paths = {copy.library_path: copy.source_path for copy in copies}
        lost = [item for item in findings if item.kind in _LOST and item.sha256 is not None]
        had = await self._store.has_taken(source.key, library, [(paths[item.path], item.path) for item in lost])
        origins = {item.path: origin for item, origin in zip(lost, had, strict=True)}
        return [
            replace(item, origin=origin, source_path=paths[item.path]) if (origin := origins.get(item.path)) is not None else item
            for item in findings
        ]


def _judge(library: LibraryId, copies: Sequence[CopyReport], rows: dict[bytes, IndexedFile]) -> list[Recorded]:
    """Findings of copies that were found to be other than they should: nobody edited one that has the size and time on record. What is as
    reported no more is left to the next one who looks. Raises LIBRARY_MARKER_MISSING."""
    findings = []
    for copy in copies:
        row = rows[copy.library_path]
        try:
            status = os.lstat(os.path.join(library.root, copy.library_path))
        except (FileNotFoundError, NotADirectoryError):
            if copy.missing:
                findings.append(finding(row, FindingKind.CULLED if row.culled else FindingKind.MISSING))
            continue
        except OSError as error:
            findings.append(finding(row, FindingKind.UNREADABLE, copy.message or error.strerror or str(error)))
            continue
        if copy.missing:
            continue
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != row.expected[:2]:
            findings.append(finding(row, FindingKind.CHANGED, copy.message))
        elif copy.message:
            findings.append(finding(row, FindingKind.UNREADABLE, copy.message))
        else:
            # As in `judging`: an owner's own version, no source has.
            sha256 = row.sha256 if row.own_sha256 is None else None
            findings.append(Recorded(row.path, FindingKind.CORRUPT, status.st_size, status.st_mtime_ns, sha256))
    marker = read_marker(library.root)
    if marker is None or marker.uuid != library.uuid:
        text = f"the library {display(library.root)} lost its marker while it was looked at; was its disk unmounted?"
        raise MediasyncError(Reason.LIBRARY_MARKER_MISSING, text, "Mount it again and run the same command again.")
    return findings


def _check_count(items: Sequence[object], field: str) -> None:
    if len(items) > MOST_FILES:
        text = f"{len(items)} {field} are too many for one call, which takes {MOST_FILES}"
        raise MediasyncError(Reason.INVALID_ARGUMENT, text, fields=[FieldViolation(field, f"at most {MOST_FILES}")])
