"""What verifying and adopting a library remember: how far a verify is, what it found, and what the index says of each file since.

Rows go through the driver itself, as in `landing_store`: a library has millions.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mediasync.library import Finding, FindingCounts, FindingKind, VerifyOptions
from mediasync.storage.database import Database
from services.transfer.entities import LibraryId
from services.transfer.sql_store import raw_connection

_INDEXED = "path, size_bytes, mtime_ns, sha256, own_size_bytes, own_mtime_ns, own_sha256, culled"
_RECORDED = "path, kind, size_bytes, mtime_ns, sha256, moved_from, origin, source_path, message"
_PUT_FINDING = f"INSERT OR REPLACE INTO library_findings (library, {_RECORDED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - fixed text
_PUT_VERIFICATION = """INSERT OR REPLACE INTO verifications (library, below, deep, since_ns, cursor, finish_time, files_intact, files_read,
    files_left_out, others, bytes_read) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file of the index: as it landed, and, where that differs, as its owner or the file system made it."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    sha256: bytes
    own_size_bytes: int | None
    own_mtime_ns: int | None
    own_sha256: bytes | None
    culled: bool

    @property
    def expected(self) -> tuple[int, int, bytes]:
        """Size, mtime and hash that it should have on the disk."""
        if self.own_mtime_ns is None:
            return self.size_bytes, self.mtime_ns, self.sha256
        return (
            self.size_bytes if self.own_size_bytes is None else self.own_size_bytes,
            self.own_mtime_ns,
            self.own_sha256 or self.sha256,
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finding as it is kept. Size, mtime and hash are those on record, of an unknown file those on the disk."""

    path: bytes
    kind: FindingKind
    size_bytes: int = 0
    mtime_ns: int = 0
    sha256: bytes | None = None
    moved_from: bytes | None = None
    origin: int | None = None
    source_path: bytes | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Own:
    """What a file is on the disk now, if that is right: read at that size and time, it had that hash."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    sha256: bytes


@dataclass(frozen=True)
class Verification:
    """A verify, and how far it is: everything up to `cursor` is dealt with."""

    options: VerifyOptions
    cursor: bytes = b""
    finish_time: float = 0.0
    files_intact: int = 0
    files_read: int = 0
    files_left_out: int = 0
    others: int = 0
    bytes_read: int = 0


class LibraryStore:
    """The index and the findings of libraries. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def verification(self, library: LibraryId) -> Verification | None:
        """The last verify; None if there was none."""
        statement = (
            "SELECT below, deep, since_ns, cursor, finish_time, files_intact, files_read, files_left_out, others, bytes_read"
            " FROM verifications WHERE library = ?"
        )

        def work(connection: sa.Connection) -> Verification | None:
            row = raw_connection(connection).execute(statement, (library.key,)).fetchone()
            if row is None:
                return None
            return Verification(VerifyOptions(row[0], bool(row[1]), row[2]), *row[3:])

        return await self._database.read(work)

    async def begin(self, library: LibraryId, verification: Verification) -> None:
        """A verify begins anew: what others found in the same place is forgotten, also by moves that have been followed."""

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            condition, values = _below("path", verification.options.below)
            raw.execute(f"DELETE FROM library_findings WHERE library = ? AND {condition}", (library.key, *values))  # noqa: S608 - fixed text
            raw.execute("DELETE FROM library_findings WHERE library = ? AND kind = ?", (library.key, FindingKind.MOVED.value))
            _put_verification(raw, library, verification)

        await self._database.write(work)

    async def commit(
        self,
        library: LibraryId,
        verification: Verification,
        findings: Sequence[Recorded] = (),
        own: Sequence[Own] = (),
        read: Sequence[bytes] = (),
        back: Sequence[bytes] = (),
    ) -> None:
        """One step of a verify: what it found, files that are right as they are now, files that were read and are right, culled files that
        are there again, and how far it is with that."""
        now = time.time()

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            put_findings(raw, library, findings)
            put_own(raw, library, own)
            marks = [(now, library.key, path) for path in read]
            raw.executemany("UPDATE library_files SET verified_time = ? WHERE library = ? AND path = ?", marks)
            raw.executemany("UPDATE library_files SET culled = 0 WHERE library = ? AND path = ?", [(library.key, path) for path in back])
            _put_verification(raw, library, verification)

        await self._database.write(work)

    async def count(self, library: LibraryId, below: bytes) -> int:
        """Files on record below a path."""
        condition, values = _below("path", below)
        statement = f"SELECT count(*) FROM library_files WHERE library = ? AND {condition}"  # noqa: S608 - fixed text
        row = await self._database.read(lambda connection: raw_connection(connection).execute(statement, (library.key, *values)).fetchone())
        return int(row[0])

    async def indexed(self, library: LibraryId, below: bytes, after: bytes, limit: int) -> list[IndexedFile]:
        """The first `limit` files on record below a path, and behind another, by path."""
        condition, values = _below("path", below)
        statement = f"SELECT {_INDEXED} FROM library_files WHERE library = ? AND path > ? AND {condition} ORDER BY path LIMIT ?"  # noqa: S608 - fixed text

        def work(connection: sa.Connection) -> list[IndexedFile]:
            rows = raw_connection(connection).execute(statement, (library.key, after, *values, limit))
            return [_indexed_file(row) for row in rows]

        return await self._database.read(work)

    async def indexed_of(self, library: LibraryId, paths: Sequence[bytes]) -> dict[bytes, IndexedFile]:
        """Those of `paths` that are on record."""
        statement = f"SELECT {_INDEXED} FROM library_files WHERE library = ? AND path = ?"  # noqa: S608 - fixed text

        def work(connection: sa.Connection) -> dict[bytes, IndexedFile]:
            run = raw_connection(connection).execute
            rows = (run(statement, (library.key, path)).fetchone() for path in paths)
            return {row[0]: _indexed_file(row) for row in rows if row is not None}

        return await self._database.read(work)

    async def landing_now(self, library: LibraryId, paths: Sequence[bytes]) -> set[bytes]:
        """Those of `paths` at which a sync is making a file visible just now."""
        statement = "SELECT path FROM landings WHERE library = ?"

        def work(connection: sa.Connection) -> set[bytes]:
            return {path for (path,) in raw_connection(connection).execute(statement, (library.key,))} & set(paths)

        return await self._database.read(work)

    async def findings(
        self, library: LibraryId, kinds: Sequence[FindingKind], after: bytes, limit: int, below: bytes = b""
    ) -> list[Recorded]:
        """The first `limit` findings of some kinds behind a path, by path."""
        condition, values = _below("path", below)
        marks = ", ".join("?" * len(kinds))
        statement = (
            f"SELECT {_RECORDED} FROM library_findings WHERE library = ? AND path > ? AND {condition} AND kind IN ({marks})"  # noqa: S608 - fixed text
            " ORDER BY path LIMIT ?"
        )
        given = (library.key, after, *values, *(kind.value for kind in kinds), limit)
        return await self._database.read(lambda connection: _recorded(raw_connection(connection).execute(statement, given)))

    async def told(self, library: LibraryId, kinds: Sequence[FindingKind], after: bytes, limit: int, below: bytes = b"") -> list[Finding]:
        """The same for people: with the label of the source that has the file."""
        found = await self.findings(library, kinds, after, limit, below)
        statement = "SELECT key, label FROM origins WHERE library = ?"
        labels = await self._database.read(
            lambda connection: dict(raw_connection(connection).execute(statement, (library.key,)).fetchall())
        )
        return [
            Finding(item.kind, item.path, item.size_bytes, item.moved_from or b"", labels.get(item.origin, ""), item.message)
            for item in found
        ]

    async def counts(self, library: LibraryId, below: bytes = b"") -> FindingCounts:
        """How many findings there are of each kind."""
        condition, values = _below("path", below)
        statement = f"SELECT kind, count(*) FROM library_findings WHERE library = ? AND {condition} GROUP BY kind"  # noqa: S608 - fixed text
        rows = await self._database.read(
            lambda connection: raw_connection(connection).execute(statement, (library.key, *values)).fetchall()
        )
        return {FindingKind(kind): count for kind, count in rows}

    async def replace(
        self, library: LibraryId, settled: Sequence[bytes], findings: Sequence[Recorded] = (), own: Sequence[Own] = ()
    ) -> None:
        """Drops findings that turned out to be none, and keeps others; with files that are right as they are now."""

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            drop_findings(raw, library, settled)
            put_findings(raw, library, findings)
            put_own(raw, library, own)

        await self._database.write(work)

    async def cull(self, library: LibraryId, paths: Sequence[bytes]) -> None:
        """Files that are missing are meant to be."""

        def work(connection: sa.Connection) -> None:
            raw, keys = raw_connection(connection), [(library.key, path) for path in paths]
            raw.executemany("UPDATE library_files SET culled = 1 WHERE library = ? AND path = ?", keys)
            kind = FindingKind.CULLED.value
            raw.executemany(f"UPDATE library_findings SET kind = '{kind}' WHERE library = ? AND path = ?", keys)  # noqa: S608 - fixed text

        await self._database.write(work)

    async def possibly_moved(self, library: LibraryId, after: bytes, limit: int) -> list[Recorded]:
        """The first `limit` unknown files behind a path that are as large as one that is gone."""
        gone = f"('{FindingKind.MISSING.value}', '{FindingKind.CULLED.value}')"
        statement = (
            f"SELECT {_RECORDED} FROM library_findings u WHERE library = ?1 AND path > ?2 AND kind = ?3 AND size_bytes > 0"  # noqa: S608 - fixed text
            f" AND EXISTS (SELECT 1 FROM library_findings g WHERE g.library = ?1 AND g.kind IN {gone} AND g.size_bytes = u.size_bytes)"
            " ORDER BY path LIMIT ?4"
        )
        given = (library.key, after, FindingKind.UNKNOWN.value, limit)
        return await self._database.read(lambda connection: _recorded(raw_connection(connection).execute(statement, given)))

    async def gone_of_size(self, library: LibraryId, size_bytes: int, limit: int) -> list[Recorded]:
        """Files on record of a size that are not there."""
        statement = f"SELECT {_RECORDED} FROM library_findings WHERE library = ? AND kind IN (?, ?) AND size_bytes = ? LIMIT ?"  # noqa: S608 - fixed text
        given = (library.key, FindingKind.MISSING.value, FindingKind.CULLED.value, size_bytes, limit)
        return await self._database.read(lambda connection: _recorded(raw_connection(connection).execute(statement, given)))


def _below(column: str, folder: bytes) -> tuple[str, tuple[bytes, ...]]:
    """A condition for a path and all below it. `0` is the byte after `/`."""
    if not folder:
        return "1", ()
    return f"({column} = ? OR {column} = ? OR ({column} > ? AND {column} < ?))", (folder, folder + b"/", folder + b"/", folder + b"0")


def _indexed_file(row: tuple[bytes, int, int, bytes, int | None, int | None, bytes | None, int]) -> IndexedFile:
    return IndexedFile(*row[:7], bool(row[7]))


def _recorded(rows: sqlite3.Cursor) -> list[Recorded]:
    return [Recorded(path, FindingKind(kind), *rest) for path, kind, *rest in rows]


def _finding_row(library: LibraryId, item: Recorded) -> tuple[object, ...]:
    what = (item.size_bytes, item.mtime_ns, item.sha256, item.moved_from, item.origin, item.source_path, item.message)
    return library.key, item.path, item.kind.value, *what


def put_findings(raw: sqlite3.Connection, library: LibraryId, findings: Sequence[Recorded]) -> None:
    """Keeps findings, in the caller's transaction."""
    raw.executemany(_PUT_FINDING, [_finding_row(library, finding) for finding in findings])


def put_own(raw: sqlite3.Connection, library: LibraryId, own: Sequence[Own]) -> None:
    """What files are now, in the caller's transaction. One that is as it landed needs no second description."""
    raw.executemany(
        "UPDATE library_files SET culled = 0, own_size_bytes = NULLIF(?1, size_bytes), own_sha256 = NULLIF(?3, sha256),"
        " own_mtime_ns = CASE WHEN ?2 = mtime_ns AND ?3 = sha256 THEN NULL ELSE ?2 END WHERE library = ?4 AND path = ?5",
        [(file.size_bytes, file.mtime_ns, file.sha256, library.key, file.path) for file in own],
    )


def _put_verification(raw: sqlite3.Connection, library: LibraryId, item: Verification) -> None:
    options = item.options
    counts = (item.files_intact, item.files_read, item.files_left_out, item.others, item.bytes_read)
    row = (library.key, options.below, options.deep, options.since_ns, item.cursor, item.finish_time, *counts)
    raw.execute(_PUT_VERIFICATION, row)


def drop_findings(raw: sqlite3.Connection, library: LibraryId, paths: Sequence[bytes]) -> None:
    """Forgets findings, in the caller's transaction."""
    raw.executemany("DELETE FROM library_findings WHERE library = ? AND path = ?", [(library.key, path) for path in paths])
