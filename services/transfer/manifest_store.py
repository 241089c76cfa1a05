"""What was taken from where: libraries, origins, scans and the manifest."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from mediasync.sources.base import FileEntry
from mediasync.sources.packed import PackedFiles
from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.diff import VANISHED, RowState, directory_of, name_of
from services.transfer.entities import LibraryId, ManifestRow, Origin, ScanState, SyncUnit
from services.transfer.landing_store import count_unit
from services.transfer.sql_store import below, upsert

_STATE = f"name, CASE WHEN vanished THEN {VANISHED} ELSE size_bytes END, mtime_ns, ctime_ns"
_ROW = "name, size_bytes, mtime_ns, ctime_ns, sha256, library_path, vanished"
# Each comes out of one pass over the same rows, so that equal columns are equal rows in whatever order that pass goes.
_SAME = (
    "CAST(group_concat(name, '/') AS BLOB) = ? AND CAST(group_concat(size_bytes) AS BLOB) = ?"
    " AND CAST(group_concat(mtime_ns) AS BLOB) = ? AND CAST(group_concat(ctime_ns - mtime_ns) AS BLOB) = ?"
)
_SURPLUS_ROWS = 1000
GONE_ROOT = b"gone:"
"""How the root of a library begins that another one took the place of; no path begins so."""
_NOT_KNOWN = -1


class ManifestStore:
    """Remembers libraries, and what a source held when it was last looked at. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def libraries(self) -> list[LibraryId]:
        """Every library that was ever used."""

        def work(connection: sa.Connection) -> list[LibraryId]:
            rows = connection.execute(sa.select(schema.libraries.c.key, schema.libraries.c.uuid, schema.libraries.c.root))
            return [LibraryId(*row) for row in rows]

        return await self._database.read(work)

    async def remember_library(self, uuid: str, root: bytes) -> LibraryId:
        """The library with that id, now at `root`."""

        def work(connection: sa.Connection) -> LibraryId:
            table = schema.libraries
            # Another library that was at this root is not there any more; its rows stay under its id.
            connection.execute(
                sa.update(table)
                .where(table.c.root == root, table.c.uuid != uuid)
                .values(root=GONE_ROOT + os.urandom(8).hex().encode() + b":" + root)
            )
            values = {"uuid": uuid, "root": root}
            connection.execute(upsert(table, values, ["uuid"]), values)
            row = connection.execute(sa.select(table.c.key).where(table.c.uuid == uuid)).one()
            return LibraryId(row.key, uuid, root)

        return await self._database.write(work)

    async def origin(self, source_key: str, label: str, library: LibraryId) -> Origin:
        """The pair of a source and a library, made on first use."""

        def work(connection: sa.Connection) -> Origin:
            table = schema.origins
            values = {"source_key": source_key, "library": library.key, "label": label}
            connection.execute(upsert(table, values, ["source_key", "library"]), values)
            condition = (table.c.source_key == source_key, table.c.library == library.key)
            key = connection.execute(sa.select(table.c.key).where(*condition)).scalar_one()
            return Origin(key, source_key, label, library)

        return await self._database.write(work)

    async def ever_scanned(self, source_key: str, root: bytes) -> bool:
        """Whether any folder of the source was ever synced into the library at `root`."""
        origins, libraries, scans = schema.origins, schema.libraries, schema.scans
        statement = (
            sa.select(scans.c.origin)
            .join(origins, origins.c.key == scans.c.origin)
            .join(libraries, libraries.c.key == origins.c.library)
            .where(origins.c.source_key == source_key, libraries.c.root == root)
            .limit(1)
        )
        return await self._database.read(lambda connection: connection.execute(statement).first() is not None)

    async def scan_state(self, origin: Origin, folder: bytes) -> ScanState:
        """What the last finished scan of `folder` left."""

        def work(connection: sa.Connection) -> ScanState:
            scans, directories = schema.scans, schema.directories
            last = connection.execute(
                sa.select(scans.c.watermark_ns, scans.c.full_scan_time, scans.c.selection).where(
                    scans.c.origin == origin.key, scans.c.folder == folder
                )
            ).one_or_none()
            rows = connection.execute(
                sa.select(directories.c.path, directories.c.inode).where(
                    directories.c.origin == origin.key, below(directories.c.path, folder)
                )
            )
            known = {row.path: row.inode for row in rows}
            return ScanState(last.watermark_ns, known, last.full_scan_time, last.selection) if last else ScanState(None, known)

        return await self._database.read(work)

    async def finish_scan(
        self, origin: Origin, folder: bytes, watermark_ns: int, seen: Mapping[bytes, int], *, full: bool, selection: str
    ) -> None:
        """Remembers which directories are dealt with, and since when changes are unknown."""

        def work(connection: sa.Connection) -> None:
            table = schema.directories
            before = dict(
                connection.execute(
                    sa.select(table.c.path, table.c.inode).where(table.c.origin == origin.key, below(table.c.path, folder))
                ).all()
            )
            gone = [{"p": path} for path in before if path not in seen]
            if gone:
                statement = sa.delete(table).where(table.c.origin == origin.key, table.c.path == sa.bindparam("p"))
                connection.execute(statement, gone)
            moved = [{"origin": origin.key, "path": path, "inode": inode} for path, inode in seen.items() if before.get(path) != inode]
            if moved:
                connection.execute(upsert(table, moved[0], ["origin", "path"]), moved)
            values = {
                "origin": origin.key,
                "folder": folder,
                "watermark_ns": watermark_ns,
                "full_scan_time": time.time() if full else 0.0,
                "selection": selection,
            }
            keep = [] if full else ["full_scan_time"]
            connection.execute(upsert(schema.scans, values, ["origin", "folder"], keep), values)

        await self._database.write(work)

    async def states(self, origin: Origin, directory: bytes, after: bytes | None, upto: bytes | None, limit: int) -> list[RowState]:
        """The first `limit` of a directory's rows with `after` < name <= `upto`, by name, for comparing; None leaves that side open."""
        condition, values = "origin = ? AND directory = ?", [origin.key, directory]
        if after is not None:
            condition, values = condition + " AND name > ?", [*values, after]
        if upto is not None:
            condition, values = condition + " AND name <= ?", [*values, upto]
        # The driver itself, because a row of SQLAlchemy's costs as much again as reading it.
        statement = f"SELECT {_STATE} FROM manifest WHERE {condition} ORDER BY name LIMIT ?"  # noqa: S608 - fixed text
        return await self._database.read(lambda connection: _raw(connection).execute(statement, [*values, limit]).fetchall())

    async def holds(self, origin: Origin, directory: bytes, after: bytes | None, upto: bytes | None, files: PackedFiles) -> bool:
        """Whether what is on record of a directory between `after` and `upto` is just `files`, unchanged; names that have vanished and are
        not among them do not count. SQLite makes one text of each column, and an object of no row: a third of the time of `states`."""
        condition, values = "origin = ? AND directory = ? AND name > ?", [origin.key, directory, after or b""]
        if upto is not None:
            condition, values = condition + " AND name <= ?", [*values, upto]
        names, sizes, mtimes, lags = files.columns[:4]

        def work(connection: sa.Connection) -> bool:
            execute = _raw(connection).execute
            # The texts must not grow with rows that the source has no more, of which a directory may have a million.
            surplus = f"SELECT 1 FROM manifest WHERE {condition} LIMIT 1 OFFSET ?"  # noqa: S608 - fixed text
            if execute(surplus, [*values, _SURPLUS_ROWS + 2 * len(files)]).fetchone():
                return False
            statement = f"SELECT {_SAME} FROM manifest WHERE {condition} AND NOT vanished"  # noqa: S608 - fixed text
            return bool(execute(statement, [names, sizes, mtimes, lags, *values]).fetchone()[0])

        return await self._database.read(work)

    async def states_of(self, origin: Origin, directory: bytes, names: Sequence[bytes]) -> list[RowState]:
        """The rows of some names of a directory, for comparing."""

        def work(connection: sa.Connection) -> list[RowState]:
            rows: list[RowState] = []
            for start in range(0, len(names), 500):
                chunk = names[start : start + 500]
                marks = ", ".join("?" * len(chunk))
                statement = f"SELECT {_STATE} FROM manifest WHERE origin = ? AND directory = ? AND name IN ({marks})"  # noqa: S608 - fixed text
                rows += _raw(connection).execute(statement, [origin.key, directory, *chunk]).fetchall()
            return rows

        return await self._database.read(work)

    async def rows(self, origin: Origin, paths: Sequence[bytes]) -> dict[bytes, ManifestRow]:
        """What is on record of some files, by path."""

        statement = f"SELECT {_ROW} FROM manifest WHERE origin = ? AND directory = ? AND name = ?"  # noqa: S608 - fixed text

        def work(connection: sa.Connection) -> dict[bytes, ManifestRow]:
            execute = _raw(connection).execute
            found = {}
            for path in paths:
                row = execute(statement, (origin.key, directory_of(path), name_of(path))).fetchone()
                if row is not None:
                    name, size, mtime, ctime, sha256, library_path, vanished = row
                    found[path] = ManifestRow(name, size, mtime, ctime, sha256, library_path, bool(vanished))
            return found

        return await self._database.read(work)

    async def files_in(self, origin: Origin, directories: Sequence[bytes]) -> int:
        """How many files are on record of some directories, and had not vanished."""

        def work(connection: sa.Connection) -> int:
            table = schema.manifest
            statement = sa.select(sa.func.count()).where(
                table.c.origin == origin.key, table.c.directory == sa.bindparam("d"), sa.not_(table.c.vanished)
            )
            return sum(connection.execute(statement, {"d": directory}).scalar_one() for directory in directories)

        return await self._database.read(work)

    async def known_origin(self, source_key: str, label: str, library: LibraryId) -> Origin:
        """The pair of a source and a library as far as it is known; one that holds nothing if it is not. Nothing is written."""
        table = schema.origins
        statement = sa.select(table.c.key).where(table.c.source_key == source_key, table.c.library == library.key)
        key = await self._database.read(lambda connection: connection.execute(statement).scalar_one_or_none())
        return Origin(_NOT_KNOWN if key is None else key, source_key, label, library)

    async def refresh(self, origin: Origin, entries: Sequence[FileEntry]) -> None:
        """Files that turned out to hold what is on record: from now on these are their times and inode, and they are there."""
        table = schema.manifest
        statement = (
            sa.update(table)
            .where(table.c.origin == origin.key, table.c.directory == sa.bindparam("d"), table.c.name == sa.bindparam("n"))
            .values(mtime_ns=sa.bindparam("mtime"), ctime_ns=sa.bindparam("ctime"), inode=sa.bindparam("file_number"), vanished=sa.false())
        )
        values = [
            {
                "d": directory_of(entry.path),
                "n": name_of(entry.path),
                "mtime": entry.mtime_ns,
                "ctime": entry.ctime_ns,
                "file_number": entry.inode,
            }
            for entry in entries
        ]
        if values:
            await self._database.write(lambda connection: connection.execute(statement, values))

    async def mark_vanished(self, unit: SyncUnit, gone: Mapping[bytes, Sequence[bytes] | None]) -> int:
        """Marks names (by directory; None for all of it) as gone from the source. Returns how many were not marked before."""

        def work(connection: sa.Connection) -> int:
            table = schema.manifest
            count = 0
            for directory, names in gone.items():
                conditions = [table.c.origin == unit.origin.key, table.c.directory == directory, sa.not_(table.c.vanished)]
                chunks: list[Sequence[bytes] | None] = [None]
                if names is not None:
                    chunks = [names[start : start + 500] for start in range(0, len(names), 500)]
                for chunk in chunks:
                    limited = conditions if chunk is None else [*conditions, table.c.name.in_(chunk)]
                    count += connection.execute(sa.update(table).where(*limited).values(vanished=True)).rowcount
            if count:
                count_unit(connection, unit, vanished=count)
            return count

        return await self._database.write(work)


def _raw(connection: sa.Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw
