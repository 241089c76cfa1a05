"""From intent to commit: what is in the library, and what is about to be.

Rows go through the driver itself: SQLAlchemy's own handling of a row costs several times what SQLite's does, and every file that comes
passes here.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from mediasync.sources.base import FileEntry
from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.diff import directory_of, name_of
from services.transfer.entities import (
    LandedFile,
    LandingKind,
    LibraryId,
    Memory,
    Origin,
    Remembered,
    StagedFile,
    SyncUnit,
    UnitCounts,
)
from services.transfer.flush_store import FlushStore
from services.transfer.move_store import renumbered
from services.transfer.sidecars import series_of
from services.transfer.sql_store import below, raw_connection

Intent = tuple[StagedFile, bytes, LandingKind]
"""A staged file, the library path at which it is about to become visible, and as what."""

# Names of one stem are few. Where they are not, as below `v1` of `v1.0001.png`, they do not belong together.
_MOST_COMPANIONS = 16
_MOST_COPIES = 32

_ROW = "directory, name, size_bytes, mtime_ns, ctime_ns, inode, sha256, library_path, incomplete"
_ADD_LANDING = """INSERT OR REPLACE INTO landings (library, path, sync_id, origin, folder, extract_metadata, source_path, size_bytes,
    mtime_ns, ctime_ns, inode, sha256, incomplete, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_PUT_MANIFEST = """INSERT OR REPLACE INTO manifest (origin, directory, name, size_bytes, mtime_ns, ctime_ns, inode, sha256, library_path,
    incomplete, vanished, sync_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"""
_PUT_INDEX = """INSERT OR REPLACE INTO library_files (library, path, size_bytes, sha256, mtime_ns, sync_id, wanted_path)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_PUT_EVENT = "INSERT INTO outbox (sync_id, event) VALUES (?, ?)"
_PUT_TASK = """INSERT INTO processing (sync_id, origin, library_path, source_path, size_bytes, mtime_ns, sha256, incomplete,
    extract_metadata) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class LandingStore:
    """Remembers landed files, with their events and processing tasks, in the transaction that makes them ours. Every method is
    one transaction. `flushes` remembers which of them are not on the disk yet."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.flushes = FlushStore(database)

    async def memories(self, unit: SyncUnit, paths: Sequence[bytes]) -> list[Memory]:
        """What is on record of each of `paths`, which are the source's."""

        def work(connection: sa.Connection) -> list[Memory]:
            raw = raw_connection(connection)
            return [_memory(raw, unit.origin, path) for path in paths]

        return await self._database.read(work)

    async def copies(self, library: LibraryId, sha256s: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """Library paths at which content of these hashes was landed, some of each. Whether it is there still has to be looked at."""

        def work(connection: sa.Connection) -> dict[bytes, list[bytes]]:
            statement = "SELECT path FROM library_files WHERE library = ? AND sha256 = ? LIMIT ?"
            run = raw_connection(connection).execute
            return {sha256: [path for (path,) in run(statement, (library.key, sha256, _MOST_COPIES))] for sha256 in set(sha256s)}

        return await self._database.read(work)

    async def add_landings(self, unit: SyncUnit, intents: Sequence[Intent]) -> None:
        """Writes down which file is about to become visible where."""
        library, origin = unit.origin.library.key, unit.origin.key
        rows = [
            (
                *(library, path, unit.sync_id, origin, unit.folder, unit.extract_metadata),
                *_columns(staged.entry),
                *(staged.sha256, staged.incomplete, kind.value),
            )
            for staged, path, kind in intents
        ]
        if rows:
            await self._database.write(lambda connection: raw_connection(connection).executemany(_ADD_LANDING, rows))

    async def pending_landings(self, library: LibraryId) -> list[tuple[SyncUnit, LandedFile]]:
        """Intents whose outcome was never written down, because a process died."""

        def work(connection: sa.Connection) -> list[tuple[SyncUnit, LandedFile]]:
            table, origins = schema.landings, schema.origins
            rows = connection.execute(
                sa.select(table, origins.c.source_key, origins.c.label)
                .join(origins, origins.c.key == table.c.origin)
                .where(table.c.library == library.key)
            )
            return [
                (
                    SyncUnit(row.sync_id, Origin(row.origin, row.source_key, row.label, library), row.folder, row.extract_metadata),
                    LandedFile(
                        FileEntry(row.source_path, row.size_bytes, row.mtime_ns, row.ctime_ns, row.inode),
                        row.path,
                        row.sha256,
                        LandingKind(row.kind),
                        row.incomplete,
                    ),
                )
                for row in rows
            ]

        return await self._database.read(work)

    async def forget_landing(self, library: LibraryId, path: bytes) -> None:
        """Drops an intent that came to nothing."""
        await self._database.write(lambda connection: _forget_landings(raw_connection(connection), library, [path]))

    async def commit_landed(
        self, unit: SyncUnit, landed: Sequence[LandedFile], event_of: Callable[[LandedFile], bytes], tried: Sequence[bytes] = ()
    ) -> None:
        """Everything that is to be remembered of landed files, in one transaction. `tried` are intents that came to nothing."""
        if not landed and not tried:
            return
        library = unit.origin.library
        # Made out of the transaction, which others wait for.
        events = {id(file): event_of(file) for file in landed if file.kind.visible}

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            # A known file that the index lacks was put there by somebody else: from now on it is one of ours to tell about.
            fresh = [
                file
                for file in landed
                if file.kind.visible or (file.kind is LandingKind.KNOWN and _indexed(raw, library, file.library_path) != file.sha256)
            ]
            raw.executemany(_PUT_MANIFEST, [_manifest_row(unit, file) for file in landed])
            raw.executemany(_PUT_INDEX, [_index_row(unit, file) for file in fresh])
            told = renumbered(raw, library.key, [(file.library_path, events.get(id(file)) or event_of(file)) for file in fresh])
            raw.executemany(_PUT_EVENT, [(unit.sync_id, event) for event in told])
            raw.executemany(_PUT_TASK, [_task_row(unit, file) for file in fresh])
            _forget_landings(raw, library, [*tried, *(file.library_path for file in landed if file.kind.visible)])
            culled = [(library.key, file.library_path) for file in landed if file.kind is LandingKind.CULLED]
            raw.executemany("UPDATE library_files SET culled = 1 WHERE library = ? AND path = ?", culled)
            _count_landed(connection, unit, landed)

        await self._database.write(work)

    async def tell(self, unit: SyncUnit, event: bytes) -> None:
        """Puts an event that is about no file into the outbox."""
        await self._database.write(lambda connection: raw_connection(connection).execute(_PUT_EVENT, (unit.sync_id, event)))

    async def corrupt(self, library: LibraryId, paths: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
        """Those of some library paths at which a verify found a corrupt file that a source has: size and mtime of the corrupt one."""
        asked = set(paths)
        statement = (
            "SELECT size_bytes, mtime_ns FROM library_findings WHERE library = ? AND path = ? AND kind = 'corrupt' AND origin IS NOT NULL"
        )

        def work(connection: sa.Connection) -> dict[bytes, tuple[int, int]]:
            run = raw_connection(connection).execute
            return {path: row for path in asked if (row := run(statement, (library.key, path)).fetchone()) is not None}

        return await self._database.read(work)

    async def indexed(self, library: LibraryId, paths: Sequence[bytes]) -> dict[bytes, tuple[int, int, bytes]]:
        """Size, mtime and hash that are on record for library paths; paths of which there is none are left out."""

        def work(connection: sa.Connection) -> dict[bytes, tuple[int, int, bytes]]:
            statement = "SELECT size_bytes, mtime_ns, sha256 FROM library_files WHERE library = ? AND path = ?"
            run = raw_connection(connection).execute
            return {path: row for path in paths if (row := run(statement, (library.key, path)).fetchone()) is not None}

        return await self._database.read(work)

    async def indexed_sha256(self, library: LibraryId, path: bytes) -> bytes | None:
        """The hash on record for a library path; None if there is none."""
        return await self._database.read(lambda connection: _indexed(raw_connection(connection), library, path))

    async def unit_counts(self, unit: SyncUnit) -> UnitCounts:
        """What was committed for a unit so far."""

        def work(connection: sa.Connection) -> UnitCounts:
            table = schema.units
            columns = (table.c.files, table.c.bytes, table.c.vanished, table.c.duplicates, table.c.culled)
            condition = (table.c.sync_id == unit.sync_id, table.c.origin == unit.origin.key, table.c.folder == unit.folder)
            row = connection.execute(sa.select(*columns).where(*condition)).one_or_none()
            return UnitCounts(*row) if row else UnitCounts()

        return await self._database.read(work)

    async def committed_by_directory(self, unit: SyncUnit) -> dict[bytes, tuple[int, int]]:
        """What earlier attempts of the same run brought: (files, bytes) by directory. Reads the folder's manifest, but only if
        there was one."""

        def work(connection: sa.Connection) -> dict[bytes, tuple[int, int]]:
            table = schema.manifest
            rows = connection.execute(
                sa.select(table.c.directory, sa.func.count(), sa.func.sum(table.c.size_bytes))
                .where(table.c.origin == unit.origin.key, table.c.sync_id == unit.sync_id, below(table.c.directory, unit.folder))
                .group_by(table.c.directory)
            )
            return {directory: (files, int(size)) for directory, files, size in rows}

        if not (await self.unit_counts(unit)).files:
            return {}
        return await self._database.read(work)


def count_unit(
    connection: sa.Connection, unit: SyncUnit, files: int = 0, bytes_: int = 0, vanished: int = 0, duplicates: int = 0, culled: int = 0
) -> None:
    """Adds to what was committed for a unit, in the transaction that commits it."""
    key = {"sync_id": unit.sync_id, "origin": unit.origin.key, "folder": unit.folder}
    increments = {"files": files, "bytes": bytes_, "vanished": vanished, "duplicates": duplicates, "culled": culled}
    statement = sqlite.insert(schema.units).values(**key, **increments)
    sums = {name: schema.units.c[name] + statement.excluded[name] for name in increments}
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=sums))


def _count_landed(connection: sa.Connection, unit: SyncUnit, landed: Sequence[LandedFile]) -> None:
    kinds = Counter(file.kind for file in landed)
    brought = (LandingKind.NEW, LandingKind.REPLACED, LandingKind.REPAIRED)
    counts = {
        "files": sum(kinds[kind] for kind in brought),
        "bytes_": sum(file.entry.size_bytes for file in landed if file.kind in brought),
        "duplicates": kinds[LandingKind.DUPLICATE] + kinds[LandingKind.LINKED],
        "culled": kinds[LandingKind.CULLED],
    }
    if any(counts.values()):
        count_unit(connection, unit, **counts)


def _columns(entry: FileEntry) -> tuple[bytes, int, int, int, int]:
    return entry.path, entry.size_bytes, entry.mtime_ns, entry.ctime_ns, entry.inode


def _manifest_row(unit: SyncUnit, file: LandedFile) -> tuple[object, ...]:
    path, *numbers = _columns(file.entry)
    return unit.origin.key, directory_of(path), name_of(path), *numbers, file.sha256, file.library_path, file.incomplete, unit.sync_id


def _index_row(unit: SyncUnit, file: LandedFile) -> tuple[object, ...]:
    entry = file.entry
    wanted = None if entry.path == file.library_path else entry.path
    return unit.origin.library.key, file.library_path, entry.size_bytes, file.sha256, entry.mtime_ns, unit.sync_id, wanted


def _task_row(unit: SyncUnit, file: LandedFile) -> tuple[object, ...]:
    entry = file.entry
    what = (file.library_path, entry.path, entry.size_bytes, entry.mtime_ns, file.sha256, file.incomplete)
    return unit.sync_id, unit.origin.key, *what, unit.extract_metadata


def _forget_landings(raw: sqlite3.Connection, library: LibraryId, paths: Sequence[bytes]) -> None:
    raw.executemany("DELETE FROM landings WHERE library = ? AND path = ?", [(library.key, path) for path in paths])


def _indexed(raw: sqlite3.Connection, library: LibraryId, path: bytes) -> bytes | None:
    row = raw.execute("SELECT sha256 FROM library_files WHERE library = ? AND path = ?", (library.key, path)).fetchone()
    return row[0] if row else None


def _memory(raw: sqlite3.Connection, origin: Origin, path: bytes) -> Memory:
    directory, name = directory_of(path), name_of(path)
    # What the file is called, and everything else that goes on with a dot after its stem.
    stem = name_of(series_of(path))
    rows = raw.execute(
        f"SELECT {_ROW} FROM manifest WHERE origin = ?1 AND directory = ?2 AND name = ?3 UNION ALL SELECT * FROM ("  # noqa: S608 - fixed text
        f"SELECT {_ROW} FROM manifest WHERE origin = ?1 AND directory = ?2 AND name >= ?4 AND name < ?5 AND name != ?3 LIMIT ?6)",
        (origin.key, directory, name, stem + b".", stem + b"/", _MOST_COMPANIONS),
    )
    own: Remembered | None = None
    companions = []
    for row in rows:
        remembered = _remembered(row)
        if row[1] == name:
            own = remembered
        elif series_of(row[1]) == stem:
            companions.append(remembered)
    library = origin.library
    landed = dict(
        raw.execute(
            "SELECT path, sha256 FROM library_files WHERE library = ?1 AND path IN (?2, ?3) UNION ALL"
            # Left to itself, the planner reads the whole library.
            " SELECT path, sha256 FROM library_files INDEXED BY library_files_wanted_path WHERE library = ?1 AND wanted_path = ?2",
            (library.key, path, own.library_path if own else path),
        ).fetchall()
    )
    return Memory(own, tuple(companions), landed)


def _remembered(row: tuple[bytes, bytes, int, int, int, int, bytes, bytes, int]) -> Remembered:
    directory, name, size_bytes, mtime_ns, ctime_ns, inode, sha256, library_path, incomplete = row
    path = directory + b"/" + name if directory else name
    return Remembered(FileEntry(path, size_bytes, mtime_ns, ctime_ns, inode), sha256, library_path, bool(incomplete))
