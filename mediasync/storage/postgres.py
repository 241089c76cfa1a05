"""One service's schema in a PostgreSQL database: a single writer, several readers, ordered migrations.

The counterpart of `database.Database` for `postgresql://` URLs, in raw psycopg, which is loaded when the first one is opened and not
before. What a store writes is one transaction; writers of several processes wait for each other. Everything blocking runs in threads of
its own.

A connection that was lost is made again, and the work with it where nothing was committed yet; where nobody answers, or a commit was cut
off so that its end is not known, it is DATABASE_UNREACHABLE: whoever asks again must be able to do the same twice. The schema's tables
are made once the database answers for the first time, which need not be when it is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mediasync.errors import MediasyncError, Reason

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[["psycopg.Connection[Any]"], T]

PREFIX = "postgresql://"

_READERS = 3
_OLDEST_SERVER = 130000
_SESSION = {
    "connect_timeout": 10,
    "client_encoding": "UTF8",
    # A host that is gone is noticed within half a minute, also while nothing is sent.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_LOCK_SECONDS = 10
_STATEMENT_SECONDS = 60
# What passes without anybody changing a statement: lost connections, rolled back for others' sake, no room, shut down, of the system.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_LOCKED = "55P03"
# Of a server that follows another one, which is what the old one is after a switch.
_ONLY_READS = "25006"
# What an administrator has not granted, or what is not as we made it.
_SETUP_CLASSES = ("0A", "3D", "3F", "42")


class PostgresMigration(NamedTuple):
    """One step of the schema; it runs in one transaction, once. Names without a schema are in the service's own."""

    version: int
    statements: tuple[str, ...]


class PostgresDatabase:
    """An open schema. Work is a function of a `psycopg.Connection`, run in a transaction in one of the database's threads.

    The connection's `transaction()` is a savepoint in there. Work may be run a second time when the connection was lost below the first.
    """

    def __init__(self, url: str, schema: str, migrations: Sequence[PostgresMigration], prepare: Work[None] | None, alone: bool) -> None:
        self.name, self._settings = _parsed(url, schema)
        self._schema = schema
        self._migrations = migrations
        self._prepare = prepare
        self._alone = alone
        self._write_lock, self._process_lock = (_lock_number(f"mediasync {schema} {what}") for what in ("write", "process"))
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=f"{schema}-write")
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix=f"{schema}-read")
        self._local = threading.local()
        self._connections: set[psycopg.Connection[Any]] = set()
        self._preparing = threading.Lock()
        self._prepared = False
        self._closed = False

    @classmethod
    def open(
        cls, url: str, schema: str, migrations: Sequence[PostgresMigration], *, prepare: Work[None] | None = None, alone: bool = False
    ) -> PostgresDatabase:
        """Open `schema` of the database at `url`, creating it and bringing it up to date.

        `prepare` runs in a transaction after the migrations, each time. `alone` holds the schema for this process: another one that
        opens it so gets DATABASE_UNUSABLE. A database that does not answer is opened all the same, and waited for.
        Raises CONFIGURATION_INVALID, DATABASE_UNUSABLE, and DATA_FOLDER_NEWER when a newer version wrote it.
        """
        database = cls(url, schema, migrations, prepare, alone)
        try:
            database._writing.submit(database._connection, True).result()
        except MediasyncError as error:
            if error.reason is not Reason.DATABASE_UNREACHABLE:
                database._close()
                raise
            logger.warning("%s What needs it waits", error.message)
        return database

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction of the one writer, committed when it returns and rolled back when it raises.

        Cancelling the wait does not undo work that has begun. One that is not `durable` may be lost when the server's machine dies.
        """
        begin = f"BEGIN; SET LOCAL synchronous_commit = {'on' if durable else 'off'}"
        if not self._alone:
            begin += f"; SELECT pg_advisory_xact_lock({self._write_lock})"
        return await self._run(self._writing, work, begin)

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent state of the database; it cannot write."""
        return await self._run(self._reading, work, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    async def close(self) -> None:
        """Wait for the work that has begun, and close. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    async def _run(self, executor: ThreadPoolExecutor, work: Work[T], begin: str) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            executor, context.run, self._transact, work, begin, executor is self._writing
        )

    def _transact(self, work: Work[T], begin: str, writing: bool) -> T:
        import psycopg

        known = getattr(self._local, "connection", None)
        connection = self._connection(writing)
        committing = False
        try:
            connection.execute(begin)
            result = work(connection)
            committing = True
            connection.execute("COMMIT")
        except BaseException as error:
            if not connection.closed:
                # If it is lost here, the next work finds that out.
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                if isinstance(error, psycopg.Error):
                    raise self._said(error, writing) from error
                raise
            self._forget(connection)
            if not isinstance(error, psycopg.Error):
                raise
            if committing or connection is not known:
                raise self._unreachable(error) from error
            # It was lost since it was last used, as all are when a server starts again: nothing of this work is there.
            return self._transact(work, begin, writing)
        return result

    def _connection(self, writing: bool) -> psycopg.Connection[Any]:
        """This thread's own connection, to a schema that is as it should be."""
        existing: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        import psycopg

        try:
            connection = psycopg.connect(autocommit=True, **self._settings)
        except psycopg.Error as error:
            raise self._unreachable(error) from error
        try:
            connection.execute(f"SET TimeZone = 'UTC'; SET lock_timeout = '{_LOCK_SECONDS}s'")
            with self._preparing:
                if not self._prepared:
                    self._set_up(connection)
                    self._prepared = True
            if writing and self._alone:
                self._hold(connection)
            # Theirs comes after ours: a trigger of theirs may name things by it.
            connection.execute("SELECT set_config('search_path', %s || current_setting('search_path'), false)", (f"{self._schema}, ",))
            connection.execute(f"SET statement_timeout = '{_STATEMENT_SECONDS}s'")
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise self._said(error, writing) from error
            raise
        self._connections.add(connection)
        self._local.connection = connection
        return connection

    def _hold(self, connection: psycopg.Connection[Any]) -> None:
        import psycopg

        try:
            # Waits: the connection of a process that was killed takes a moment to end.
            connection.execute("SELECT pg_advisory_lock(%s)", (self._process_lock,))
        except psycopg.errors.LockNotAvailable as error:
            raise MediasyncError(
                Reason.DATABASE_UNUSABLE,
                f"Another mediasync uses schema {self._schema} of {self.name}",
                "Stop that one, or use another database.",
            ) from error

    def _set_up(self, connection: psycopg.Connection[Any]) -> None:
        if connection.info.server_version < _OLDEST_SERVER:
            raise MediasyncError(
                Reason.DATABASE_UNUSABLE,
                f"{self.name} is older than PostgreSQL {_OLDEST_SERVER // 10000}",
                "Upgrade it, or use another one.",
            )
        if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
            raise MediasyncError(
                Reason.DATABASE_UNUSABLE,
                f"{self.name} keeps text as {encoding}, which cannot hold every name",
                "Create one with ENCODING 'UTF8'.",
            )
        with connection.transaction():
            # First, because several processes may be doing the same.
            connection.execute(f"SELECT pg_advisory_xact_lock({self._write_lock})")
            found = connection.execute("SELECT current_setting('search_path'), to_regnamespace(%s) IS NOT NULL", (self._schema,)).fetchone()
            assert found is not None
            if not found[1]:
                connection.execute(f"CREATE SCHEMA {self._schema}")
            connection.execute("SELECT set_config('search_path', %s, true)", (f"{self._schema}, {found[0]}",))
            self._migrate(connection)
            if self._prepare is not None:
                self._prepare(connection)

    def _migrate(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._schema}.schema_version"
            " (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
        row = connection.execute(f"SELECT coalesce(max(version), 0) FROM {self._schema}.schema_version").fetchone()  # noqa: S608 our own name
        current, newest = row[0] if row else 0, self._migrations[-1].version
        if current > newest:
            raise MediasyncError(
                Reason.DATA_FOLDER_NEWER,
                f"Schema {self._schema} of {self.name} was written by a newer mediasync (version {current}; this one knows up to {newest})",
                "Upgrade mediasync, or use another database.",
            )
        for migration in self._migrations:
            if migration.version <= current:
                continue
            logger.info("Bringing schema %s of %s to version %d", self._schema, self.name, migration.version)
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(f"INSERT INTO {self._schema}.schema_version (version) VALUES (%s)", (migration.version,))  # noqa: S608 our own name

    def _said(self, error: psycopg.Error, writing: bool) -> Exception:
        """What the database said, as one of our errors; a mistake of a statement or of its values stays what it is."""
        state = error.sqlstate or ""
        if state.startswith(_PASSING_CLASSES) or state == _LOCKED or (state == _ONLY_READS and writing):
            return self._unreachable(error)
        if not self._prepared and state.startswith(_SETUP_CLASSES):
            return MediasyncError(
                Reason.DATABASE_UNUSABLE,
                f"Schema {self._schema} of {self.name} cannot be made: {words(error)}",
                "Grant that, or make it by hand.",
            )
        return error

    def _unreachable(self, error: psycopg.Error) -> MediasyncError:
        return MediasyncError(Reason.DATABASE_UNREACHABLE, f"{self.name} does not answer: {words(error)}")

    def _forget(self, connection: psycopg.Connection[Any]) -> None:
        self._local.connection = None
        self._connections.discard(connection)

    def _close(self) -> None:
        self._reading.shutdown()
        self._writing.shutdown()
        for connection in self._connections:
            connection.close()


def words(error: psycopg.Error) -> str:
    """What the database said, in one line."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split()) or type(error).__name__


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def _parsed(url: str, schema: str) -> tuple[str, dict[str, Any]]:
    """How the database is called where people read it, which is without its password, and how it is connected to."""
    try:
        import psycopg
    except ImportError as error:
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID,
            "A PostgreSQL database is configured, and what speaks to one is not installed",
            "pip install 'forge-media-sync[postgres]'",
        ) from error
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # What it says may hold the password.
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID,
            "The connection string names no PostgreSQL database",
            "Write postgresql://user:password@host/database; signs such as @ and / in a password are written %40 and %2F.",
        ) from None
    name = f"PostgreSQL database {given.get('dbname') or given.get('user') or 'of the user'}"
    if host := given.get("host") or given.get("hostaddr"):
        name += f" at {host}"
    return name, {**_SESSION, "application_name": f"mediasync ({schema})", **given}
