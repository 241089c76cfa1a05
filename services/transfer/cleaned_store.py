"""What a clean-up asks of the record, and what it tells: whether files of a source are in the library, which of them are gone, what their
copies were found to be.

Rows go through the driver itself, as in `landing_store`: a source has a hundred thousand files that are old enough.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import sqlalchemy as sa

from mediasync.library import FindingKind
from mediasync.model.synced import SourceFile, SyncedFile, SyncedState
from mediasync.storage.database import Database
from services.transfer.diff import directory_of, name_of
from services.transfer.entities import LibraryId, OriginShare
from services.transfer.library_store import Recorded, put_findings
from services.transfer.sql_store import raw_connection

MOST_COPIES = 4
_ROWS_OF_COPIES = 32
_SECOND_NS = 1_000_000_000
_IndexRow = tuple[bytes, int, int, int, str]
_FILE = "origin = ? AND directory = ? AND name = ?"
_ROW = f"SELECT size_bytes, mtime_ns, inode, sha256, library_path, incomplete, sync_id FROM manifest WHERE {_FILE}"  # noqa: S608 - fixed text
_COPY = "path, own_sha256 IS NOT NULL, culled, invalid, sync_id"
# Left to itself, the planner reads the whole library.
_COPIES = f"SELECT {_COPY} FROM library_files INDEXED BY library_files_sha256 WHERE library = ? AND sha256 = ? LIMIT {_ROWS_OF_COPIES}"  # noqa: S608 - fixed text
_LANDED = f"SELECT {_COPY} FROM library_files WHERE library = ? AND sha256 = ? AND path = ?"  # noqa: S608 - fixed text


class CleanedStore:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def shares(self, source_key: str) -> list[OriginShare]:
        """The libraries that a source was synced into, with how many of its files are on record and had not vanished. Reads its whole
        manifest."""

        def work(connection: sa.Connection) -> list[OriginShare]:
            run = raw_connection(connection).execute
            origins = run(
                "SELECT o.key, l.key, l.uuid, l.root FROM origins o JOIN libraries l ON l.key = o.library WHERE o.source_key = ?"
                " ORDER BY o.key",
                (source_key,),
            ).fetchall()
            count = "SELECT count(*) FROM manifest WHERE origin = ? AND NOT vanished"
            return [OriginShare(LibraryId(*library), run(count, (origin,)).fetchone()[0]) for origin, *library in origins]

        return await self._database.read(work)

    async def synced(self, source_key: str, library: LibraryId, files: Sequence[SourceFile]) -> list[SyncedFile]:
        """What is on record of files of a source, one answer each and in order."""

        def work(connection: sa.Connection) -> list[SyncedFile]:
            raw = raw_connection(connection)
            origin = _origin(raw, source_key, library)
            lookup = _Lookup(raw, library, origin) if origin is not None else None
            return [lookup.of(file) if lookup else SyncedFile(SyncedState.UNKNOWN) for file in files]

        return await self._database.read(work)

    async def note_cleaned(self, source_key: str, library: LibraryId, files: Sequence[SourceFile]) -> None:
        """Files were deleted at the source, as they were: they have vanished, and nobody is to count them for it. What was synced under
        such a name since stays."""

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            origin = _origin(raw, source_key, library)
            if origin is None:
                return
            gone = []
            for file in files:
                key = (origin, directory_of(file.path), name_of(file.path))
                row = raw.execute(_ROW, key).fetchone()
                if row is not None and _is(file, *row[:3]):
                    gone.append(key)
            raw.executemany(f"UPDATE manifest SET vanished = 1 WHERE {_FILE}", gone)  # noqa: S608 - fixed text
            _forget_as_source(raw, library, origin, {file.path for file in files})

        await self._database.write(work)

    async def note_copies(self, library: LibraryId, intact: Sequence[bytes], findings: Sequence[Recorded]) -> None:
        """Files of the library that were read and are right, and findings of those that are not."""
        now = time.time()

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            marks = [(now, library.key, path) for path in intact]
            raw.executemany("UPDATE library_files SET verified_time = ? WHERE library = ? AND path = ?", marks)
            settled = [(library.key, path, FindingKind.MOVED.value) for path in intact]
            raw.executemany("DELETE FROM library_findings WHERE library = ? AND path = ? AND kind != ?", settled)
            put_findings(raw, library, findings)

        await self._database.write(work)

    async def has_taken(self, source_key: str, library: LibraryId, copies: Sequence[tuple[bytes, bytes]]) -> list[int | None]:
        """For pairs of a source's path and a library's: the source's key if the one was brought as the other and was there when the source
        was last looked at; else None."""
        statement = (
            "SELECT m.origin FROM manifest m JOIN library_files f ON f.library = ? AND f.path = m.library_path AND f.sha256 = m.sha256"
            " WHERE m.origin = ? AND m.directory = ? AND m.name = ? AND m.library_path = ? AND NOT m.vanished"
        )

        def work(connection: sa.Connection) -> list[int | None]:
            raw = raw_connection(connection)
            origin = _origin(raw, source_key, library)
            given = ((library.key, origin, directory_of(path), name_of(path), copy) for path, copy in copies)
            rows = (raw.execute(statement, values).fetchone() for values in given)
            return [row[0] if row else None for row in rows]

        return await self._database.read(work)


class _Lookup:
    """Looks files of one source up, on one state of the record."""

    def __init__(self, raw: sqlite3.Connection, library: LibraryId, origin: int) -> None:
        self._raw = raw
        self._library = library.key
        self._origin = origin
        unflushed = raw.execute("SELECT DISTINCT sync_id FROM unflushed WHERE library = ?", (library.key,))
        self._unflushed = {sync_id for (sync_id,) in unflushed}
        self._waiting: dict[str, set[bytes]] = {}

    def of(self, file: SourceFile) -> SyncedFile:
        """What is on record of a file."""
        row = self._raw.execute(_ROW, (self._origin, directory_of(file.path), name_of(file.path))).fetchone()
        if row is None:
            return SyncedFile(SyncedState.UNKNOWN)
        size, mtime, inode, sha256, library_path, incomplete, sync_id = row
        if not _is(file, size, mtime, inode):
            return SyncedFile(SyncedState.CHANGED)
        state, copies = (SyncedState.INCOMPLETE, ()) if incomplete else self._judge(self._rows(sha256, library_path))
        return SyncedFile(state, sha256, copies, sync_id)

    def _rows(self, sha256: bytes, library_path: bytes) -> list[_IndexRow]:
        """Index rows of some content, the one of `library_path` first; of very many only some."""
        rows: list[_IndexRow] = self._raw.execute(_COPIES, (self._library, sha256)).fetchall()
        if rows and rows[0][0] == library_path:
            return rows
        landed: list[_IndexRow] = self._raw.execute(_LANDED, (self._library, sha256, library_path)).fetchall()
        return landed + [row for row in rows if row[0] != library_path]

    def _judge(self, rows: Sequence[_IndexRow]) -> tuple[SyncedState, tuple[bytes, ...]]:
        """What the library has of some content, by the index rows of it."""
        edited = culled = unflushed = False
        copies: list[bytes] = []
        for path, is_edited, is_culled, invalid, sync_id in rows:
            if invalid:
                return SyncedState.INVALID, ()
            if is_edited:
                edited = True
            elif is_culled:
                culled = True
            elif sync_id in self._unflushed or path in self._unprocessed(sync_id):
                unflushed = True
            else:
                copies.append(path)
        if copies:
            return SyncedState.SYNCED, tuple(copies[:MOST_COPIES])
        if unflushed:
            return SyncedState.NOT_FLUSHED, ()
        if culled and not edited:
            return SyncedState.CULLED, ()
        # Also where it landed and something else is on record there by now: one that is rewritten took its place.
        return SyncedState.EDITED, ()

    def _unprocessed(self, sync_id: str) -> set[bytes]:
        """Library paths of a run whose files were not looked into yet: they may turn out to be invalid."""
        paths = self._waiting.get(sync_id)
        if paths is None:
            rows = self._raw.execute("SELECT library_path FROM processing WHERE sync_id = ?", (sync_id,))
            paths = self._waiting[sync_id] = {path for (path,) in rows}
        return paths


def _is(file: SourceFile, size_bytes: int, mtime_ns: int, inode: int) -> bool:
    """Whether a file is the one on record, as far as its size and times tell: its hash decides in the end.

    The inode is no part of that, as in `diff`. Engines that know none have mtimes in whole seconds: another engine sees more of the same.
    """
    if file.size_bytes != size_bytes:
        return False
    if file.mtime_ns == mtime_ns:
        return True
    coarse = (not inode and not mtime_ns % _SECOND_NS) or (not file.inode and not file.mtime_ns % _SECOND_NS)
    return coarse and file.mtime_ns // _SECOND_NS == mtime_ns // _SECOND_NS


def _origin(raw: sqlite3.Connection, source_key: str, library: LibraryId) -> int | None:
    row = raw.execute("SELECT key FROM origins WHERE source_key = ? AND library = ?", (source_key, library.key)).fetchone()
    return row[0] if row else None


def _forget_as_source(raw: sqlite3.Connection, library: LibraryId, origin: int, paths: set[bytes]) -> None:
    """Lost files of the library cannot be had again from a source that they were deleted at."""
    lost = raw.execute(
        "SELECT path, source_path FROM library_findings WHERE library = ? AND kind IN (?, ?) AND origin = ?",
        (library.key, FindingKind.MISSING.value, FindingKind.CORRUPT.value, origin),
    ).fetchall()
    keys = [(library.key, path) for path, source_path in lost if source_path in paths]
    raw.executemany("UPDATE library_findings SET origin = NULL, source_path = NULL WHERE library = ? AND path = ?", keys)
