"""From intent to commit: what is in the library, and what is about to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from mediasync.sources.base import FileEntry
from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.diff import directory_of, name_of
from services.transfer.entities import LandedFile, LandingKind, LibraryId, Origin, StagedFile, SyncUnit, UnitCounts
from services.transfer.sql_store import below, upsert


class LandingStore:
    """Remembers landed files, with their events and processing tasks, in the transaction that makes them ours. Every method is
    one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_landings(self, unit: SyncUnit, targets: Sequence[tuple[StagedFile, bytes]]) -> None:
        """Writes down which file is about to become visible where."""
        rows = [
            {
                "library": unit.origin.library.key,
                "path": path,
                "sync_id": unit.sync_id,
                "origin": unit.origin.key,
                "folder": unit.folder,
                "extract_metadata": unit.extract_metadata,
                "source_path": staged.entry.path,
                "size_bytes": staged.entry.size_bytes,
                "mtime_ns": staged.entry.mtime_ns,
                "ctime_ns": staged.entry.ctime_ns,
                "inode": staged.entry.inode,
                "sha256": staged.sha256,
                "incomplete": staged.incomplete,
            }
            for staged, path in targets
        ]

        def work(connection: sa.Connection) -> None:
            connection.execute(upsert(schema.landings, rows[0], ["library", "path"]), rows)

        if rows:
            await self._database.write(work)

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
                        LandingKind.NEW,
                        row.incomplete,
                    ),
                )
                for row in rows
            ]

        return await self._database.read(work)

    async def forget_landing(self, library: LibraryId, path: bytes) -> None:
        """Drops an intent that came to nothing."""
        await self._database.write(lambda connection: _forget_landings(connection, library, [path]))

    async def commit_landed(self, unit: SyncUnit, landed: Sequence[LandedFile], event_of: Callable[[LandedFile], bytes]) -> None:
        """Everything that is to be remembered of landed files, in one transaction."""
        library = unit.origin.library

        def work(connection: sa.Connection) -> None:
            indexed = _indexed_paths(connection, library, [file for file in landed if file.kind is LandingKind.KNOWN])
            # A known file that the index lacks was put there by somebody else: from now on it is one of ours to tell about.
            fresh = [file for file in landed if file.kind is LandingKind.NEW or file.library_path not in indexed]
            counted = [file for file in landed if file.kind is LandingKind.NEW]
            manifest = [
                {
                    "origin": unit.origin.key,
                    "directory": directory_of(file.entry.path),
                    "name": name_of(file.entry.path),
                    "size_bytes": file.entry.size_bytes,
                    "mtime_ns": file.entry.mtime_ns,
                    "ctime_ns": file.entry.ctime_ns,
                    "inode": file.entry.inode,
                    "sha256": file.sha256,
                    "library_path": file.library_path,
                    "incomplete": file.incomplete,
                    "vanished": False,
                    "sync_id": unit.sync_id,
                }
                for file in landed
            ]
            connection.execute(upsert(schema.manifest, manifest[0], ["origin", "directory", "name"]), manifest)
            if fresh:
                index = [
                    {
                        "library": library.key,
                        "path": file.library_path,
                        "size_bytes": file.entry.size_bytes,
                        "sha256": file.sha256,
                        "mtime_ns": file.entry.mtime_ns,
                        "sync_id": unit.sync_id,
                    }
                    for file in fresh
                ]
                connection.execute(upsert(schema.library_files, index[0], ["library", "path"]), index)
                events = [{"sync_id": unit.sync_id, "event": event_of(file)} for file in fresh]
                connection.execute(sa.insert(schema.outbox), events)
                tasks = [
                    {
                        "sync_id": unit.sync_id,
                        "origin": unit.origin.key,
                        "library_path": file.library_path,
                        "source_path": file.entry.path,
                        "size_bytes": file.entry.size_bytes,
                        "mtime_ns": file.entry.mtime_ns,
                        "sha256": file.sha256,
                        "incomplete": file.incomplete,
                        "extract_metadata": unit.extract_metadata,
                    }
                    for file in fresh
                ]
                connection.execute(sa.insert(schema.processing), tasks)
            _forget_landings(connection, library, [file.library_path for file in counted])
            if counted:
                count_unit(connection, unit, files=len(counted), bytes_=sum(file.entry.size_bytes for file in counted))

        if landed:
            await self._database.write(work)

    async def indexed_sha256(self, library: LibraryId, path: bytes) -> bytes | None:
        """The hash on record for a library path; None if there is none."""
        table = schema.library_files
        statement = sa.select(table.c.sha256).where(table.c.library == library.key, table.c.path == path)
        return await self._database.read(lambda connection: connection.execute(statement).scalar_one_or_none())

    async def unit_counts(self, unit: SyncUnit) -> UnitCounts:
        """What was committed for a unit so far."""

        def work(connection: sa.Connection) -> UnitCounts:
            table = schema.units
            row = connection.execute(
                sa.select(table.c.files, table.c.bytes, table.c.vanished).where(
                    table.c.sync_id == unit.sync_id, table.c.origin == unit.origin.key, table.c.folder == unit.folder
                )
            ).one_or_none()
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


def count_unit(connection: sa.Connection, unit: SyncUnit, files: int = 0, bytes_: int = 0, vanished: int = 0) -> None:
    """Adds to what was committed for a unit, in the transaction that commits it."""
    key = {"sync_id": unit.sync_id, "origin": unit.origin.key, "folder": unit.folder}
    increments = {"files": files, "bytes": bytes_, "vanished": vanished}
    statement = sqlite.insert(schema.units).values(**key, **increments)
    sums = {name: schema.units.c[name] + statement.excluded[name] for name in increments}
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=sums))


def _forget_landings(connection: sa.Connection, library: LibraryId, paths: Sequence[bytes]) -> None:
    if paths:
        table = schema.landings
        statement = sa.delete(table).where(table.c.library == library.key, table.c.path == sa.bindparam("p"))
        connection.execute(statement, [{"p": path} for path in paths])


def _indexed_paths(connection: sa.Connection, library: LibraryId, files: Sequence[LandedFile]) -> set[bytes]:
    """Paths of `files` that the index holds with the same hash."""
    table = schema.library_files
    statement = sa.select(table.c.sha256).where(table.c.library == library.key, table.c.path == sa.bindparam("p"))
    return {
        file.library_path for file in files if connection.execute(statement, {"p": file.library_path}).scalar_one_or_none() == file.sha256
    }
