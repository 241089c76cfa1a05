"""Which units' files may not be on the disk yet; see `durability`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.diff import directory_of, name_of
from services.transfer.entities import LibraryId, SyncUnit
from services.transfer.sql_store import raw_connection, upsert


@dataclass(frozen=True)
class UnflushedUnit:
    """A unit with files that landed in the boot `boot_id` and may not be on the disk."""

    origin: int
    folder: bytes
    sync_id: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class UnflushedFile:
    """A file that such a unit brought."""

    library_path: bytes
    source_path: bytes
    size_bytes: int
    mtime_ns: int
    sha256: bytes


class FlushStore:
    """Remembers what is unflushed. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, unit: SyncUnit, boot_id: str) -> None:
        """Files of `unit` are about to land unflushed."""
        values = {**_key(unit.origin.library, unit.origin.key, unit.folder, unit.sync_id), "boot_id": boot_id}
        statement = upsert(schema.unflushed, values, ["library", "origin", "folder", "sync_id"])
        await self._database.write(lambda connection: connection.execute(statement, values))

    async def flush_intents(self) -> None:
        """Puts everything that is on record on the disk."""
        await self._database.flush()

    async def end(self, library: LibraryId, unit: UnflushedUnit) -> None:
        """All of a unit's files are on the disk, or forgotten."""
        table = schema.unflushed
        key = _key(library, unit.origin, unit.folder, unit.sync_id)
        statement = sa.delete(table).where(*(table.c[name] == value for name, value in key.items()))
        await self._database.write(lambda connection: connection.execute(statement))

    async def units(self, library: LibraryId) -> list[UnflushedUnit]:
        """What was begun and not ended."""
        table = schema.unflushed
        statement = sa.select(table.c.origin, table.c.folder, table.c.sync_id, table.c.boot_id).where(table.c.library == library.key)
        return await self._database.read(lambda connection: [UnflushedUnit(*row) for row in connection.execute(statement)])

    async def of_run(self, sync_id: str) -> list[tuple[LibraryId, UnflushedUnit]]:
        """What a run began and has not ended."""
        table, libraries = schema.unflushed, schema.libraries
        statement = (
            sa.select(libraries.c.key, libraries.c.uuid, libraries.c.root, table.c.origin, table.c.folder, table.c.sync_id, table.c.boot_id)
            .join(libraries, libraries.c.key == table.c.library)
            .where(table.c.sync_id == sync_id)
        )
        return await self._database.read(
            lambda connection: [(LibraryId(*row[:3]), UnflushedUnit(*row[3:])) for row in connection.execute(statement)]
        )

    async def files(self, library: LibraryId, sync_id: str) -> list[UnflushedFile]:
        """What a run brought. Reads the whole index: it is asked for after a crash of the machine only."""
        statement = (
            "SELECT path, coalesce(wanted_path, path), size_bytes, mtime_ns, sha256 FROM library_files WHERE library = ? AND sync_id = ?"
        )
        return await self._database.read(
            lambda connection: [UnflushedFile(*row) for row in raw_connection(connection).execute(statement, (library.key, sync_id))]
        )

    async def forget(self, library: LibraryId, origin: int, files: Sequence[UnflushedFile]) -> None:
        """Files that are not in the library after all: they are pulled again, and their folders listed in full for that."""

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            paths = [(library.key, file.library_path) for file in files]
            raw.executemany("DELETE FROM library_files WHERE library = ? AND path = ?", paths)
            rows = [(origin, directory_of(file.source_path), name_of(file.source_path), file.library_path) for file in files]
            raw.executemany("DELETE FROM manifest WHERE origin = ? AND directory = ? AND name = ? AND library_path = ?", rows)
            raw.executemany("DELETE FROM processing WHERE origin = ? AND library_path = ?", [(origin, file.library_path) for file in files])
            folders = {(origin, directory_of(file.source_path)) for file in files}
            raw.executemany("DELETE FROM directories WHERE origin = ? AND path = ?", list(folders))

        if files:
            await self._database.write(work)


def _key(library: LibraryId, origin: int, folder: bytes, sync_id: str) -> dict[str, object]:
    return {"library": library.key, "origin": origin, "folder": folder, "sync_id": sync_id}
