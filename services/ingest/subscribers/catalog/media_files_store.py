"""The table `media_files` as existing installations know it: sync_id, file_path, file_size, file_hash, metadata, synced_at.

Where there is none it is a view of the catalog. A table that was there before is kept, with its rows, triggers and further columns, and
gets the catalog's files in the catalog's own transactions. A view that somebody else made is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mediasync.errors import MediasyncError, Reason
from mediasync.storage.postgres import words

if TYPE_CHECKING:
    import psycopg

_COLUMNS = "sync_id, file_path, file_size, file_hash, metadata, synced_at"
_SELECT = "SELECT {} sync_id, file_path, size_bytes AS file_size, encode(sha256, 'hex') AS file_hash, metadata, synced_at FROM {}.files"
_NOTE = "mediasync: the files of the catalog, as programs of before know them"


def file_path(library_root: str, library_path: bytes) -> str:
    """The file's path as text. Reversible: one that is not UTF-8 has two slashes behind the root, which no other has, its bad bytes as
    `\\xff`, and its backslashes doubled."""
    root = library_root.rstrip("/")
    try:
        return f"{root}/{library_path.decode()}"
    except UnicodeDecodeError:
        escaped = library_path.replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")
        return f"{root}//{escaped}"


class MediaFiles:
    """The table, or its stand-in, in the schema that the connection itself names first."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._table: str | None = None

    def prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Finds the table, or makes the view. Raises DATABASE_UNUSABLE where a table could not be filled."""
        found = connection.execute(
            "SELECT format('%I.%I', nspname, relname), relkind::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE pg_class.oid = to_regclass('media_files')"
        ).fetchone()
        self._table = None
        if found is None:
            self._make_view(connection)
        elif found[1] not in ("v", "m"):
            self._check(connection, found[0])
            self._table = found[0]

    def put(self, connection: psycopg.Connection[Any], keys: Iterable[bytes]) -> None:
        """Takes over what the catalog has of the files with these keys."""
        if self._table is not None:
            connection.execute(self._upsert(self._table, "WHERE path_key = ANY(%s)"), (list(keys),))

    def move(self, connection: psycopg.Connection[Any], moved: Mapping[str, str]) -> None:
        """Files are at other paths now: their rows go along, in place of what stood there."""
        if self._table is None or not moved:
            return
        if moved.keys() & set(moved.values()):
            # They have changed places among themselves: no order of single steps would do. `put` writes them at their new ones.
            self.drop(connection, moved.keys() - set(moved.values()))
            return
        connection.execute(f"DELETE FROM {self._table} WHERE file_path = ANY(%s)", (list(moved.values()),))  # noqa: S608 a name of the catalog's
        connection.cursor().executemany(
            f"UPDATE {self._table} SET file_path = %s WHERE file_path = %s",  # noqa: S608 a name of the catalog's
            [(new, old) for old, new in moved.items()],
        )

    def drop(self, connection: psycopg.Connection[Any], paths: Iterable[str]) -> None:
        """Files are no longer at these paths."""
        if self._table is not None:
            connection.execute(f"DELETE FROM {self._table} WHERE file_path = ANY(%s)", (list(paths),))  # noqa: S608 a name of the catalog's

    def _make_view(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(
            "SELECT quote_ident(nspname) FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (nspname, place)"
            " WHERE nspname != %s ORDER BY place LIMIT 1",
            (self._schema,),
        ).fetchone()
        if row is None:
            raise MediasyncError(
                Reason.DATABASE_UNUSABLE,
                "The database has no schema on its search_path to put the view media_files into",
                "CREATE SCHEMA public, or set a search_path for the user that mediasync connects as.",
            )
        connection.execute(f"CREATE VIEW {row[0]}.media_files AS {_SELECT.format('', self._schema)}")
        connection.execute(f"COMMENT ON VIEW {row[0]}.media_files IS '{_NOTE}'")

    def _check(self, connection: psycopg.Connection[Any], table: str) -> None:
        import psycopg

        there = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped", (table,)
        ).fetchall()
        missing = [name for name in _COLUMNS.split(", ") if (name,) not in there]
        if missing:
            raise MediasyncError(
                Reason.DATABASE_UNUSABLE,
                f"The table {table} was there before, and has no column {', '.join(missing)}",
                "Add what is missing, or rename the table: mediasync then makes a view of that name.",
            )
        try:
            # Plans what `put` does, and does nothing: types, the unique path and what was granted have to be right for that.
            with connection.transaction():
                connection.execute(f"EXPLAIN {self._upsert(table)}")
        except psycopg.Error as error:
            if connection.closed:
                raise
            raise MediasyncError(
                Reason.DATABASE_UNUSABLE,
                f"The table {table} was there before, and cannot be filled: {words(error)}",
                "It takes TEXT for sync_id, file_path (which is UNIQUE) and file_hash, BIGINT for file_size, JSONB for metadata and"
                " TIMESTAMPTZ for synced_at. Change that, or rename the table: mediasync then makes a view of that name.",
            ) from error

    def _upsert(self, table: str, where: str = "") -> str:
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ") if name != "file_path")
        # Two libraries of which one lies in the other have the same file: the later record of it counts.
        files = f"{_SELECT.format('DISTINCT ON (file_path)', self._schema)} {where} ORDER BY file_path, number DESC"
        return f"INSERT INTO {table} ({_COLUMNS}) {files} ON CONFLICT (file_path) DO UPDATE SET {updates}"
