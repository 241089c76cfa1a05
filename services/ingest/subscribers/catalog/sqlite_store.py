"""The catalog in SQLite.

Opened durable: once an event is accepted nobody sends it again, so that it must survive a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa

from mediasync.storage.database import Database, Migration
from services.ingest.subscribers.catalog.files import (
    CatalogFile,
    ExportPage,
    Facts,
    FileEvent,
    Filter,
    Key,
    ListedFile,
    Page,
    Wanted,
    after_prefix,
    changes,
)
from services.ingest.subscribers.catalog.store import MAX_PAGE_BYTES

_FACTS = (
    "size_bytes, sha256, modify_time_ns, media_type, width, height, incomplete, generator, model, seed, sampler, steps, cfg_scale,"
    " prompt, negative_prompt, record"
)
_COLUMNS = (
    "number, library_root, library_path, sync_id, source, sync_time_ns, processed, delete_time_ns, moved_time_ns, synced_id, processed_id,"
    f" deleted_id, moved_id, {_FACTS}"
)
_WIDTH = _COLUMNS.count(",") + 1
_FACTS_AT = _WIDTH - _FACTS.count(",") - 1
_PROCESSED_AT = 6
_INCOMPLETE_AT = 6  # of the facts
_LISTED = "number, sync_id, source, sync_time_ns, delete_time_ns, processed, record"
_SELECT = f"SELECT {_COLUMNS} FROM files WHERE library_root = ? AND library_path IN "  # noqa: S608 constants
_INSERT = f"INSERT INTO files ({_COLUMNS}) VALUES ({', '.join('?' * _WIDTH)})"  # noqa: S608 constants
_UPDATE = f"UPDATE files SET {', '.join(f'{name} = ?' for name in _COLUMNS.split(', ')[1:])} WHERE number = ?"  # noqa: S608 constants
_KEYS_A_QUERY = 500

MIGRATIONS = (
    Migration(
        1,
        (
            # The columns beside `record` are for people and other programs that query the catalog.
            """CREATE TABLE files (
                number INTEGER NOT NULL PRIMARY KEY,
                library_root TEXT NOT NULL,
                library_path BLOB NOT NULL,
                sync_id TEXT NOT NULL,
                source TEXT NOT NULL,
                sync_time_ns BIGINT NOT NULL,
                processed BOOLEAN NOT NULL,
                delete_time_ns BIGINT,
                synced_id TEXT NOT NULL,
                processed_id TEXT NOT NULL,
                deleted_id TEXT NOT NULL,
                size_bytes BIGINT NOT NULL,
                sha256 BLOB NOT NULL,
                modify_time_ns BIGINT NOT NULL,
                media_type TEXT NOT NULL,
                width INTEGER NOT NULL,
                height INTEGER NOT NULL,
                incomplete BOOLEAN NOT NULL,
                generator TEXT NOT NULL,
                model TEXT NOT NULL,
                seed TEXT NOT NULL,
                sampler TEXT NOT NULL,
                steps INTEGER,
                cfg_scale DOUBLE PRECISION,
                prompt TEXT NOT NULL,
                negative_prompt TEXT NOT NULL,
                record BLOB NOT NULL,
                UNIQUE (library_path, library_root)
            )""",
            "CREATE INDEX files_by_time ON files (sync_time_ns, number)",
            "CREATE INDEX files_by_sync ON files (sync_id, sync_time_ns, number)",
            "CREATE INDEX files_by_source ON files (source, sync_time_ns, number)",
            # Workflows of megabytes, out of the way of every query that lists.
            """CREATE TABLE bulk (
                number INTEGER NOT NULL PRIMARY KEY REFERENCES files (number),
                content BLOB NOT NULL
            )""",
        ),
    ),
    Migration(
        2,
        (
            "ALTER TABLE files ADD COLUMN moved_time_ns BIGINT",
            "ALTER TABLE files ADD COLUMN moved_id TEXT NOT NULL DEFAULT ''",
        ),
    ),
)


class SqliteCatalogStore:
    """See `CatalogStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def close(self) -> None:
        """See `CatalogStore.close`."""
        await self._database.close()

    async def take(self, events: Sequence[FileEvent]) -> Mapping[str, str]:
        """See `CatalogStore.take`: there is nothing that SQLite does not take."""

        def work(connection: sa.Connection) -> None:
            # The bulk path: raw SQL, and one statement for each step of the whole batch.
            raw = _sqlite(connection)
            result = changes(_known(raw, {key for event in events for key in event.keys}), events)
            _drop(raw, result.dropped)
            # By way of names that no file can have: two files may have changed places.
            raw.executemany("UPDATE files SET library_path = x'00' || number WHERE number = ?", [(file.number,) for file in result.moved])
            there = [*result.moved, *result.changed]
            if there:
                raw.executemany(_UPDATE, [(*row[1:], row[0]) for row in map(_row, there)])
                told = [file for file in there if file.facts.bulk is not None]
                raw.executemany("DELETE FROM bulk WHERE number = ?", [(file.number,) for file in told])
                _put_bulk(raw, told)
            if result.added:
                (last,) = raw.execute("SELECT coalesce(max(number), 0) FROM files").fetchone()
                added = [file._replace(number=number) for number, file in enumerate(result.added, last + 1)]
                raw.executemany(_INSERT, map(_row, added))
                _put_bulk(raw, added)

        await self._database.write(work)
        return {}

    async def exist(self, files: Sequence[Wanted]) -> list[bool]:
        """See `CatalogStore.exist`."""
        query = "SELECT 1 FROM files WHERE library_path = ?1 AND (?2 = x'' OR sha256 = ?2) AND (?3 = '' OR library_root = ?3) LIMIT 1"

        def work(connection: sa.Connection) -> list[bool]:
            raw = _sqlite(connection)
            return [raw.execute(query, file).fetchone() is not None for file in files]

        return await self._database.read(work)

    async def get(self, library_path: bytes, library_root: str) -> tuple[ListedFile, bytes] | None:
        """See `CatalogStore.get`."""
        query = (
            f"SELECT {_LISTED}, coalesce(bulk.content, x'') FROM files LEFT JOIN bulk USING (number)"  # noqa: S608 constants
            " WHERE library_path = ? AND (? = '' OR library_root = ?) ORDER BY sync_time_ns DESC, number DESC LIMIT 1"
        )

        def work(connection: sa.Connection) -> tuple[ListedFile, bytes] | None:
            row = _sqlite(connection).execute(query, (library_path, library_root, library_root)).fetchone()
            return None if row is None else (_listed(row[:-1]), row[-1])

        return await self._database.read(work)

    async def page(self, wanted: Filter, before: tuple[int, int] | None, limit: int) -> Page:
        """See `CatalogStore.page`."""
        conditions: list[str] = []
        values: list[Any] = []
        for column, value in (("sync_id", wanted.sync_id), ("source", wanted.source)):
            if value:
                conditions.append(f"{column} = ?")
                values.append(value)
        if wanted.path_prefix:
            conditions.append("library_path >= ?")
            values.append(wanted.path_prefix)
            if end := after_prefix(wanted.path_prefix):
                conditions.append("library_path < ?")
                values.append(end)
        if before is not None:
            conditions.append("(sync_time_ns, number) < (?, ?)")
            values += before
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT {_LISTED} FROM files{where} ORDER BY sync_time_ns DESC, number DESC LIMIT ?"  # noqa: S608 constants

        def work(connection: sa.Connection) -> Page:
            files: list[ListedFile] = []
            room = MAX_PAGE_BYTES
            for row in _sqlite(connection).execute(query, (*values, limit + 1)):
                file = _listed(row)
                room -= len(file.record)
                if files and (len(files) == limit or room < 0):
                    return Page(files, (files[-1].sync_time_ns, files[-1].number))
                files.append(file)
            return Page(files, None)

        return await self._database.read(work)

    async def export(self, after: int, library_root: str) -> ExportPage:
        """See `CatalogStore.export`."""
        of_library = " AND library_root = ?" if library_root else ""
        query = (
            f"SELECT {_LISTED}, coalesce(bulk.content, x'') FROM files LEFT JOIN bulk USING (number)"  # noqa: S608 constants
            f" WHERE number > ?{of_library} ORDER BY number"
        )

        def work(connection: sa.Connection) -> ExportPage:
            files: list[tuple[ListedFile, bytes]] = []
            room = MAX_PAGE_BYTES
            for row in _sqlite(connection).execute(query, (after, library_root) if library_root else (after,)):
                file, bulk = _listed(row[:-1]), row[-1]
                # Beside what is counted a file on a page has its sync, its source and its times.
                room -= len(file.record) + len(bulk) + 200
                if files and room < 0:
                    return ExportPage(files, last=False)
                files.append((file, bulk))
            return ExportPage(files, last=True)

        return await self._database.read(work)


def _sqlite(connection: sa.Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _known(raw: sqlite3.Connection, keys: Iterable[Key]) -> list[CatalogFile]:
    by_root: dict[str, list[bytes]] = {}
    for root, path in keys:
        by_root.setdefault(root, []).append(path)
    found = []
    for root, paths in by_root.items():
        for start in range(0, len(paths), _KEYS_A_QUERY):
            some = paths[start : start + _KEYS_A_QUERY]
            found += [_file(row) for row in raw.execute(f"{_SELECT}({', '.join('?' * len(some))})", (root, *some))]
    return found


def _drop(raw: sqlite3.Connection, numbers: Iterable[int]) -> None:
    rows = [(number,) for number in numbers]
    raw.executemany("DELETE FROM bulk WHERE number = ?", rows)
    raw.executemany("DELETE FROM files WHERE number = ?", rows)


def _put_bulk(raw: sqlite3.Connection, files: Iterable[CatalogFile]) -> None:
    raw.executemany("INSERT INTO bulk VALUES (?, ?)", [(file.number, file.facts.bulk) for file in files if file.facts.bulk])


def _row(file: CatalogFile) -> tuple[Any, ...]:
    return (*file[:-1], *file.facts[:-1])


def _file(row: Sequence[Any]) -> CatalogFile:
    # What SQLite keeps as a number is a truth value again.
    values = list(row)
    for place in (_PROCESSED_AT, _FACTS_AT + _INCOMPLETE_AT):
        values[place] = bool(values[place])
    return CatalogFile._make((*values[:_FACTS_AT], Facts._make((*values[_FACTS_AT:], None))))


def _listed(row: Sequence[Any]) -> ListedFile:
    number, sync_id, source, sync_time_ns, delete_time_ns, processed, record = row
    return ListedFile(number, sync_id, source, sync_time_ns, delete_time_ns, bool(processed), record)
