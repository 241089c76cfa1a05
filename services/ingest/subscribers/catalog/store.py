"""The catalog's database.

Opened durable: once an event is accepted nobody sends it again, so that it must survive a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, cast

import sqlalchemy as sa

from mediasync.storage.database import Database, Migration
from services.ingest.subscribers.catalog.files import CatalogFile, Facts, FileEvent, Filter, ListedFile, Page, apply

MAX_PAGE_BYTES = 4 * 1024 * 1024

_FACTS = (
    "size_bytes, sha256, modify_time_ns, media_type, width, height, incomplete, generator, model, seed, sampler, steps, cfg_scale,"
    " prompt, negative_prompt, record"
)
_COLUMNS = (
    "library_root, library_path, sync_id, source, sync_time_ns, processed, delete_time_ns, synced_id, processed_id, deleted_id, " + _FACTS
)
_LISTED = "number, sync_id, source, sync_time_ns, delete_time_ns, processed, record"

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
)


class CatalogStore:
    """Reads and writes the database. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, events: Sequence[FileEvent]) -> None:
        """Takes events in, in order. Repeating them changes nothing."""

        def work(connection: sa.Connection) -> None:
            # The bulk path: raw SQL, and one statement for each step of the whole batch.
            raw = _sqlite(connection)
            known: dict[tuple[str, bytes], CatalogFile] = {}
            for key in {event.key for event in events}:
                row = raw.execute(
                    f"SELECT {_COLUMNS} FROM files WHERE library_path = ? AND library_root = ?",  # noqa: S608 constants
                    (key[1], key[0]),
                ).fetchone()
                if row is not None:
                    known[key] = _file(row)
            changed: dict[tuple[str, bytes], CatalogFile] = {}
            for event in events:
                before = changed.get(event.key) or known.get(event.key)
                after = apply(before, event)
                if after is not before:
                    changed[event.key] = after
            _put(raw, changed.values())

        await self._database.write(work)

    async def exists(self, library_path: bytes, sha256: bytes) -> bool:
        """Whether a file is on record, with that hash if it is not empty."""
        query = "SELECT 1 FROM files WHERE library_path = ? AND (? = x'' OR sha256 = ?) LIMIT 1"

        def work(connection: sa.Connection) -> bool:
            return _sqlite(connection).execute(query, (library_path, sha256, sha256)).fetchone() is not None

        return await self._database.read(work)

    async def get(self, library_path: bytes, library_root: str) -> tuple[ListedFile, bytes] | None:
        """A file, and the bulky part of its message; the newest one if `library_root` is empty. None if there is none."""
        query = (
            f"SELECT {_LISTED}, coalesce(bulk.content, x'') FROM files LEFT JOIN bulk USING (number)"  # noqa: S608 constants
            " WHERE library_path = ? AND (? = '' OR library_root = ?) ORDER BY sync_time_ns DESC, number DESC LIMIT 1"
        )

        def work(connection: sa.Connection) -> tuple[ListedFile, bytes] | None:
            row = _sqlite(connection).execute(query, (library_path, library_root, library_root)).fetchone()
            return None if row is None else (_listed(row[:-1]), row[-1])

        return await self._database.read(work)

    async def page(self, wanted: Filter, before: tuple[int, int] | None, limit: int) -> Page:
        """At most `limit` files after position `before`, newest first; fewer where their records are large."""
        conditions: list[str] = []
        values: list[Any] = []
        for column, value in (("sync_id", wanted.sync_id), ("source", wanted.source)):
            if value:
                conditions.append(f"{column} = ?")
                values.append(value)
        if wanted.path_prefix:
            conditions.append("library_path >= ?")
            values.append(wanted.path_prefix)
            if end := _after_prefix(wanted.path_prefix):
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


def _sqlite(connection: sa.Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _put(raw: sqlite3.Connection, files: Iterable[CatalogFile]) -> None:
    files = list(files)
    marks = ", ".join("?" * (_COLUMNS.count(",") + 1))
    updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[2:])
    raw.executemany(
        f"INSERT INTO files ({_COLUMNS}) VALUES ({marks})"  # noqa: S608 constants
        f" ON CONFLICT (library_path, library_root) DO UPDATE SET {updates}",
        [_row(file) for file in files],
    )
    told = [file for file in files if file.facts.bulk is not None]
    number = "(SELECT number FROM files WHERE library_path = ? AND library_root = ?)"
    raw.executemany(f"DELETE FROM bulk WHERE number = {number}", [_key(file) for file in told])  # noqa: S608 constants
    raw.executemany(
        f"INSERT INTO bulk VALUES ({number}, ?)",  # noqa: S608 constants
        [(*_key(file), file.facts.bulk) for file in told if file.facts.bulk],
    )


def _key(file: CatalogFile) -> tuple[bytes, str]:
    return file.library_path, file.library_root


def _row(file: CatalogFile) -> tuple[Any, ...]:
    facts = file.facts
    return (
        file.library_root,
        file.library_path,
        file.sync_id,
        file.source,
        file.sync_time_ns,
        file.processed,
        file.delete_time_ns,
        file.synced_id,
        file.processed_id,
        file.deleted_id,
        facts.size_bytes,
        facts.sha256,
        facts.modify_time_ns,
        facts.media_type,
        facts.width,
        facts.height,
        facts.incomplete,
        facts.generator,
        facts.model,
        facts.seed,
        facts.sampler,
        facts.steps,
        facts.cfg_scale,
        facts.prompt,
        facts.negative_prompt,
        facts.record,
    )


def _file(row: Sequence[Any]) -> CatalogFile:
    root, path, sync_id, source, sync_time_ns, processed, delete_time_ns, synced_id, processed_id, deleted_id, *facts = row
    facts[6] = bool(facts[6])  # incomplete
    facts.append(None)  # bulk
    return CatalogFile(
        root,
        path,
        sync_id,
        source,
        sync_time_ns,
        Facts(*facts),
        bool(processed),
        delete_time_ns,
        synced_id,
        processed_id,
        deleted_id,
    )


def _after_prefix(prefix: bytes) -> bytes:
    """The smallest name after all that start with `prefix`; empty when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""


def _listed(row: Sequence[Any]) -> ListedFile:
    number, sync_id, source, sync_time_ns, delete_time_ns, processed, record = row
    return ListedFile(number, sync_id, source, sync_time_ns, delete_time_ns, bool(processed), record)
