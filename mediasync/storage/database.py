"""One service's database: a single writer, several readers, ordered migrations.

SQLite in WAL mode. Readers never wait for the writer, and the writer never for readers; two processes on one file wait for each other
for a bounded time. Everything blocking runs in the database's own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from mediasync.errors import MediasyncError, Reason

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlalchemy.Connection], T]

_PREFIX = "sqlite:///"
_BUSY_SECONDS = 10.0
_READERS = 3
# How a transaction starts: a writer takes the lock at once, because upgrading a read lock later fails without waiting.
_WRITING = {"mediasync_begin": "BEGIN IMMEDIATE"}
_CACHE_MIB = 2  # SQLite's own default
_CHECKPOINT_PAGES = 1000  # too
_CHECKPOINT_SECONDS = 2.0
# What the file or its disk does wrong, as opposed to what a statement does wrong.
_FILE_ERRORS = (
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_CORRUPT",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_NOTADB",
    "SQLITE_PERM",
    "SQLITE_READONLY",
)


class Migration(NamedTuple):
    """One step of the schema; it runs in one transaction, once. `statements` is SQL, or a function that does more."""

    version: int
    statements: tuple[str, ...] | Callable[[sqlalchemy.Connection], None]


class Database:
    """An open database. Work is a function of a connection, run in a transaction in one of the database's threads.

    Bulk work takes the raw `sqlite3.Connection` from `raw_connection`, inside the same transaction.
    """

    def __init__(self, path: Path, engine: sqlalchemy.Engine, *, durable: bool, cache_mib: int) -> None:
        self.path = path
        self._engine = engine
        self._durable = durable
        self._cache_mib = cache_mib
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-write")
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix=f"{path.stem}-read")
        self._local = threading.local()
        self._connections: list[sqlalchemy.Connection] = []
        self._closed = False

    @classmethod
    def open(
        cls,
        url: str,
        migrations: Sequence[Migration],
        *,
        durable: bool = False,
        cache_mib: int = _CACHE_MIB,
        checkpoint_pages: int = _CHECKPOINT_PAGES,
    ) -> Database:
        """Open the database at `url` (`sqlite:///<path>`), creating it and bringing its schema up to date.

        `durable` makes every commit survive a power cut; otherwise the newest commits may be lost in one, and nothing else. `cache_mib`
        is how much of it the writer keeps in memory at most. A commit that brings the journal to `checkpoint_pages` pages copies it
        into the file itself; with a large number, run `keep_checkpointed`, so that no commit has to.
        Raises DATA_FOLDER_NEWER when a newer version wrote it, DATA_FOLDER_UNUSABLE when it is damaged, locked or not writable.
        """
        if not url.startswith(_PREFIX):
            raise MediasyncError(
                Reason.CONFIGURATION_INVALID, f"{url!r} is no database that can be opened", "Use a URL that starts with sqlite:///."
            )
        path = Path(url.removeprefix(_PREFIX))
        engine = _engine(path, durable, checkpoint_pages)
        with _file_errors(path):
            try:
                # Of the user alone, whatever the umask: it tells where files come from and how to get there.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                with engine.connect().execution_options(**_WRITING) as connection:
                    _migrate(connection, migrations, path)
            except BaseException:
                engine.dispose()
                raise
        return cls(path, engine, durable=durable, cache_mib=cache_mib)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction of the one writer, committed when it returns and rolled back when it raises.

        With `durable=False` a database that was opened durable does not flush this commit; the next one that is flushed takes it along.
        Cancelling the wait does not undo work that has begun.
        """
        return await self._run(self._writing, work, _WRITING, unflushed=self._durable and not durable)

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent state of the database; it cannot write."""
        return await self._run(self._reading, work, {})

    async def checkpoint(self) -> None:
        """Copy what the journal holds into the database itself, as far as no reader is in the way. Commits do not wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._reading, self._checkpoint)

    async def keep_checkpointed(self) -> NoReturn:
        """Does that every other second, until cancelled."""
        while True:
            await asyncio.sleep(_CHECKPOINT_SECONDS)
            try:
                await self.checkpoint()
            except MediasyncError as error:
                # A full disk, say. Commits do it themselves then, and who writes is told.
                logger.warning("the journal of %s was not copied into it: %s", self.path.name, error)

    async def flush(self) -> None:
        """Make what is committed so far survive a power cut, where `durable` does not do that for every commit."""
        await asyncio.get_running_loop().run_in_executor(self._writing, self._flush)

    async def close(self) -> None:
        """Wait for the work that has begun, and close. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    async def _run(self, executor: ThreadPoolExecutor, work: Work[T], options: dict[str, Any], *, unflushed: bool = False) -> T:
        # The context goes along, so that what is logged in there knows its sync and span.
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(executor, context.run, self._transact, work, options, unflushed)

    def _transact(self, work: Work[T], options: dict[str, Any], unflushed: bool) -> T:
        with _file_errors(self.path, reading=not options):
            connection = self._connection(options)
            if not unflushed:
                with connection.begin():
                    return work(connection)
            # Between transactions; inside of one it would be ignored. The next durable commit flushes the journal up to its own end.
            raw = raw_connection(connection)
            raw.execute("PRAGMA synchronous = NORMAL")
            try:
                with connection.begin():
                    return work(connection)
            finally:
                raw.execute("PRAGMA synchronous = FULL")

    def _checkpoint(self) -> None:
        with _file_errors(self.path):
            # A transaction of its own would hold it up.
            raw_connection(self._connection({})).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _connection(self, options: dict[str, Any]) -> sqlalchemy.Connection:
        """This thread's own connection; it lives as long as the database, because opening one costs more than most reads."""
        existing: sqlalchemy.Connection | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        connection = self._engine.connect().execution_options(**options)
        raw_connection(connection).execute(f"PRAGMA cache_size = {-1024 * self._cache_mib}" if options else "PRAGMA query_only = 1")
        self._connections.append(connection)
        self._local.connection = connection
        return connection

    def _flush(self) -> None:
        with _file_errors(self.path):
            try:
                descriptor = os.open(f"{self.path}-wal", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return  # nothing was written since it was opened
            try:
                # Commits are frames of this file; a checkpoint flushes the database before it takes any away.
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def _close(self) -> None:
        self._reading.shutdown()
        self._writing.shutdown()
        for connection in reversed(self._connections):
            connection.close()
        self._engine.dispose()


def _engine(path: Path, durable: bool, checkpoint_pages: int) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(path)),
        # Each thread keeps a connection of its own for good, so a pool would only hold a second one.
        poolclass=NullPool,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # WAL: readers and the writer do not wait for each other. FULL: each commit is flushed; NORMAL: each checkpoint is.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")

    @event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        # The driver starts transactions of its own only before some statements; here each has a clear beginning.
        connection.exec_driver_sql(connection.get_execution_options().get("mediasync_begin", "BEGIN"))

    return engine


def _migrate(connection: sqlalchemy.Connection, migrations: Sequence[Migration], path: Path) -> None:
    versions = [migration.version for migration in migrations]
    if versions != sorted(set(versions)) or any(version < 1 for version in versions):
        raise ValueError(f"migrations of {path.name} are not in order: {versions}")
    newest = versions[-1] if versions else 0
    with connection.begin():
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS schema_version"
            " (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT"
        )
    for migration in migrations:
        with connection.begin():
            # Asked inside the transaction: another process may be doing the same.
            current = _schema_version(connection)
            if current >= migration.version:
                continue
            logger.info("Bringing %s to version %d", path.name, migration.version)
            if callable(migration.statements):
                migration.statements(connection)
            else:
                for statement in migration.statements:
                    connection.exec_driver_sql(statement)
            connection.exec_driver_sql("INSERT INTO schema_version (version) VALUES (?)", (migration.version,))
    with connection.begin():
        current = _schema_version(connection)
    if current > newest:
        raise MediasyncError(
            Reason.DATA_FOLDER_NEWER,
            f"The database {path} was written by a newer mediasync (version {current}; this one knows up to {newest})",
        )


def _schema_version(connection: sqlalchemy.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT coalesce(max(version), 0) FROM schema_version").scalar_one())


def raw_connection(connection: sqlalchemy.Connection) -> sqlite3.Connection:
    """The driver's own connection, inside the same transaction: for rows that come in thousands."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


@contextlib.contextmanager
def _file_errors(path: Path, *, reading: bool = False) -> Iterator[None]:
    """What is wrong with the file or the disk becomes DATA_FOLDER_UNUSABLE; mistakes of a statement pass as they are."""
    try:
        yield
    except (sqlalchemy.exc.DBAPIError, sqlite3.Error) as error:
        original = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
        name = getattr(original, "sqlite_errorname", None) or ""
        if not name.startswith(_FILE_ERRORS) or (reading and name == "SQLITE_READONLY"):
            # The latter is work given to `read` that writes: a mistake of ours.
            raise
        raise MediasyncError(Reason.DATA_FOLDER_UNUSABLE, f"The database {path} cannot be used: {original}", _cure(name, path)) from error
    except OSError as error:
        if error.filename != str(path):
            raise
        raise MediasyncError(Reason.DATA_FOLDER_UNUSABLE, f"The database {path} cannot be used: {error.strerror}") from error


def _cure(name: str, path: Path) -> str:
    if name.startswith("SQLITE_BUSY"):
        return "Another program holds it: stop that one, and try again."
    if name.startswith("SQLITE_FULL"):
        return "The disk is full: free some space, and try again."
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"It is damaged: check the disk, then put back a copy of it, or move {path.name}* out of the way to start it afresh."
    if name.startswith("SQLITE_IOERR"):
        return "Check the disk it is on."
    return ""
