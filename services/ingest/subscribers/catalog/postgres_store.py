"""The catalog in PostgreSQL.

Beside its own tables it keeps `media_files`, for programs that know that one. What a table of an installation of before does not take
(a constraint, a trigger that raises) is said of the one event that it is about; what is wrong with the database itself is
DATABASE_UNREACHABLE, so that the event comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mediasync.errors import MediasyncError, Reason
from mediasync.storage.postgres import PostgresDatabase, words
from services.ingest.subscribers.catalog.files import (
    CatalogFile,
    ExportPage,
    FileEvent,
    Filter,
    Key,
    ListedFile,
    Page,
    Wanted,
    after_prefix,
    changes,
)
from services.ingest.subscribers.catalog.media_files_store import MediaFiles, file_path
from services.ingest.subscribers.catalog.metadata import clean_text
from services.ingest.subscribers.catalog.postgres_schema import COLUMNS, DERIVED, MIGRATIONS, SCHEMA, file_of, path_key, row
from services.ingest.subscribers.catalog.store import MAX_PAGE_BYTES

if TYPE_CHECKING:
    import psycopg

_FILES_A_QUERY = 1000
_LISTED = "number, sync_id, source, sync_time_ns, delete_time_ns, processed, record"
_NAMES = f"{COLUMNS}, {DERIVED}".split(", ")
# Binary: bytes are sent as they are, in place of two digits each.
_MARKS = ["%b" if name in ("record", "library_path") else "%s" for name in _NAMES]
_COPY = f"COPY files ({', '.join(_NAMES)}) FROM STDIN"
_SETS = [f"{name} = {mark}" for name, mark in zip(_NAMES[1:-1], _MARKS[1:-1], strict=True)]
_UPDATE = f"UPDATE files SET {', '.join(_SETS)}, metadata = coalesce(%s, metadata) WHERE number = %s"  # noqa: S608 constants
_SAME_PATH = "substring(library_path FOR 500) = substring({0} FOR 500) AND library_path = {0}"
# Of the values in a row: too long, no number of theirs, against a constraint, two for one, raised by a trigger, too large for an index.
_OF_VALUES = ("21", "22", "23", "54", "P0")


class PostgresCatalogStore:
    """See `CatalogStore`."""

    def __init__(self, database: PostgresDatabase, media_files: MediaFiles) -> None:
        self._database = database
        self._media_files = media_files

    @classmethod
    def open(cls, url: str) -> PostgresCatalogStore:
        """Opens the catalog's schema, and finds `media_files` or makes it. See `PostgresDatabase.open`."""
        media_files = MediaFiles(SCHEMA)
        return cls(PostgresDatabase.open(url, SCHEMA, MIGRATIONS, prepare=media_files.prepare), media_files)

    async def close(self) -> None:
        """See `CatalogStore.close`."""
        await self._database.close()

    async def take(self, events: Sequence[FileEvent]) -> Mapping[str, str]:
        """See `CatalogStore.take`."""

        nowhere = {event.event_id: "its library_root holds a NUL" for event in events if "\0" in event.library_root}
        events = [event for event in events if event.event_id not in nowhere]

        def work(connection: psycopg.Connection[Any]) -> Mapping[str, str]:
            if self._try(connection, events) is None:
                return {}
            # Something in there is not taken: which, shows when they come one by one.
            refused = ((event.event_id, self._try(connection, [event])) for event in events)
            return {event_id: reason for event_id, reason in refused if reason is not None}

        return {**nowhere, **await self._database.write(work)} if events else nowhere

    async def exist(self, files: Sequence[Wanted]) -> list[bool]:
        """See `CatalogStore.exist`."""
        query = (
            f"SELECT EXISTS (SELECT FROM files WHERE {_SAME_PATH.format('wanted.path')} AND wanted.digest IN (sha256, '')"  # noqa: S608 constants
            " AND wanted.root IN (library_root, ''))"
            " FROM unnest(%s::bytea[], %s::bytea[], %s::text[]) WITH ORDINALITY AS wanted (path, digest, root, place) ORDER BY place"
        )
        columns = [
            [file.library_path for file in files],
            [file.sha256 for file in files],
            [clean_text(file.library_root) for file in files],
        ]

        def work(connection: psycopg.Connection[Any]) -> list[bool]:
            return [found for (found,) in connection.execute(query, columns)]

        return await self._database.read(work)

    async def get(self, library_path: bytes, library_root: str) -> tuple[ListedFile, bytes] | None:
        """See `CatalogStore.get`."""
        query = (
            f"SELECT {_LISTED}, coalesce(content, '') FROM files LEFT JOIN bulk USING (number)"  # noqa: S608 constants
            f" WHERE {_SAME_PATH.format('%(path)s')} AND %(root)s IN (library_root, '') ORDER BY sync_time_ns DESC, number DESC LIMIT 1"
        )

        def work(connection: psycopg.Connection[Any]) -> tuple[ListedFile, bytes] | None:
            found = connection.execute(query, {"path": library_path, "root": clean_text(library_root)}, binary=True).fetchone()
            return None if found is None else (ListedFile(*found[:-1]), found[-1])

        return await self._database.read(work)

    async def page(self, wanted: Filter, before: tuple[int, int] | None, limit: int) -> Page:
        """See `CatalogStore.page`."""
        conditions, values = ["true"], list[Any]()
        for column, value in (("sync_id", wanted.sync_id), ("source", wanted.source)):
            if value:
                conditions.append(f"{column} = %s")
                values.append(clean_text(value))
        if prefix := wanted.path_prefix:
            # What is in the index says most of it.
            conditions.append("substring(library_path FOR 500) >= %s AND library_path >= %s")
            values += prefix[:500], prefix
            if end := after_prefix(prefix):
                conditions.append("substring(library_path FOR 500) <= %s AND library_path < %s")
                values += end[:500], end
        if before is not None:
            conditions.append("(sync_time_ns, number) < (%s, %s)")
            values += before
        files = f"SELECT {_LISTED} FROM files WHERE {' AND '.join(conditions)}"  # noqa: S608 constants
        query = _bounded(files, "record", "sync_time_ns DESC, number DESC", limit + 1)

        def work(connection: psycopg.Connection[Any]) -> Page:
            rows = connection.execute(query, values, binary=True).fetchall()
            files = [ListedFile(*values[:-1]) for values in rows[:limit]]
            more = bool(rows) and rows[0][-1] > len(files)
            return Page(files, (files[-1].sync_time_ns, files[-1].number) if more else None)

        return await self._database.read(work)

    async def export(self, after: int, library_root: str) -> ExportPage:
        """See `CatalogStore.export`."""
        files = (
            f"SELECT {_LISTED}, coalesce(content, '') AS content FROM files LEFT JOIN bulk USING (number)"  # noqa: S608 constants
            " WHERE number > %s AND %s IN (library_root, '')"
        )
        query = _bounded(files, "record, content", "number", _FILES_A_QUERY)

        def work(connection: psycopg.Connection[Any]) -> ExportPage:
            rows = connection.execute(query, (after, clean_text(library_root)), binary=True).fetchall()
            last = not rows or (rows[0][-1] == len(rows) < _FILES_A_QUERY)
            return ExportPage([(ListedFile(*values[:-2]), values[-2]) for values in rows], last)

        return await self._database.read(work)

    def _try(self, connection: psycopg.Connection[Any], events: Sequence[FileEvent]) -> str | None:
        """Takes events in; if the database takes one of their values for wrong, nothing, and why."""
        import psycopg

        try:
            with connection.transaction():
                self._take(connection, events)
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if connection.closed or not state.startswith((*_OF_VALUES, "42")):
                raise
            if state.startswith("42"):
                # Of the tables, which somebody has changed, or of what was granted: no event is to blame.
                raise MediasyncError(
                    Reason.DATABASE_UNREACHABLE,
                    f"The catalog cannot be written: {words(error)}",
                    "Put the tables and what was granted back as they were; events wait for that.",
                ) from error
            return words(error)
        return None

    def _take(self, connection: psycopg.Connection[Any], events: Sequence[FileEvent]) -> None:
        cursor = connection.cursor()
        known = _known(connection, {key for event in events for key in event.keys})
        result = changes(known, events)
        paths = {file.number: file_path(file.library_root, file.library_path) for file in known}
        there = [*result.moved, *result.changed]
        if result.dropped:
            connection.execute("DELETE FROM files WHERE number = ANY(%s)", (list(result.dropped),))
        # By way of keys that no file has: two files may have changed places.
        connection.execute("UPDATE files SET path_key = int8send(number) WHERE number = ANY(%s)", ([file.number for file in result.moved],))
        cursor.executemany(_UPDATE, [(*values[1:], values[0]) for values in map(row, there)])
        numbers = connection.execute("SELECT nextval('file_number') FROM generate_series(1, %s)", (len(result.added),)).fetchall()
        added = [file._replace(number=number) for file, (number,) in zip(result.added, numbers, strict=True)]
        if added:
            with cursor.copy(_COPY) as copy:
                for file in added:
                    copy.write_row(row(file))
        _put_bulk(connection, there, added)
        gone = {paths[number] for number in result.dropped}
        written = [*there, *added]
        self._media_files.drop(connection, gone.difference(file_path(*file.key) for file in written))
        self._media_files.move(connection, {paths[file.number]: file_path(*file.key) for file in result.moved})
        self._media_files.put(connection, [path_key(file.key) for file in written])


def _known(connection: psycopg.Connection[Any], keys: Iterable[Key]) -> list[CatalogFile]:
    query = f"SELECT {COLUMNS} FROM files WHERE path_key = ANY(%s)"  # noqa: S608 constants
    return [file_of(values) for values in connection.execute(query, ([path_key(key) for key in keys],), binary=True)]


def _put_bulk(connection: psycopg.Connection[Any], there: Sequence[CatalogFile], added: Sequence[CatalogFile]) -> None:
    told = [file.number for file in there if file.facts.bulk is not None]
    if told:
        connection.execute("DELETE FROM bulk WHERE number = ANY(%s)", (told,))
    with connection.cursor().copy("COPY bulk FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(("int8", "bytea"))
        for file in (*there, *added):
            if file.facts.bulk:
                copy.write_row((file.number, file.facts.bulk))


def _bounded(files: str, sized: str, order: str, limit: int) -> str:
    """A query for `files` in `order`: at most `limit`, and as many as have no more than MAX_PAGE_BYTES in the columns `sized`, one at
    least. Behind the columns of each stands how many there would have been but for their size."""
    size = " + ".join(f"octet_length({column})" for column in sized.split(", "))
    names = f"{_LISTED}, content" if "content" in sized else _LISTED
    return (
        f"SELECT {names}, found FROM (SELECT *, sum({size}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes,"  # noqa: S608 constants
        f" row_number() OVER (ORDER BY {order}) AS place, count(*) OVER () AS found"
        f" FROM ({files} ORDER BY {order} LIMIT {limit:d}) AS these) AS measured"
        f" WHERE place = 1 OR bytes <= {MAX_PAGE_BYTES:d} ORDER BY place"
    )
