"""The event log's database in SQLite, opened durable: an event that was answered for is on the disk.

Positions need no such care (an older one only means that events are offered again) and are not flushed by themselves, but live here too:
one writer for all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mediasync.storage.database import Database
from services.ingest.letter_store import SqlLetterStore
from services.ingest.requests_store import Raw
from services.ingest.schema import MIGRATIONS
from services.ingest.sqlite_log_store import SqliteLogStore, raw_of
from services.ingest.subscription_store import SqlSubscriptionStore

__all__ = ["MIGRATIONS", "SqliteEventStore", "open_database"]

T = TypeVar("T")

_CACHE_MIB = 32
_CHECKPOINT_PAGES = 16_000
"""64 MiB of journal: a commit has to copy it into the database only where `Database.keep_checkpointed` does not keep up."""


class SqliteEventStore(SqliteLogStore, SqlSubscriptionStore, SqlLetterStore):
    """See `store.EventStore`. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        SqliteLogStore.__init__(self, database)
        raw = _RawSqlite(database)
        SqlSubscriptionStore.__init__(self, raw)
        SqlLetterStore.__init__(self, raw)


class _RawSqlite:
    """See `RawDatabase`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, work: Callable[[Raw], T], *, durable: bool = True) -> T:
        return await self._database.write(lambda connection: work(raw_of(connection)), durable=durable)

    async def read(self, work: Callable[[Raw], T]) -> T:
        return await self._database.read(lambda connection: work(raw_of(connection)))


def open_database(url: str) -> Database:
    """Opens it the way that the store wants it."""
    return Database.open(url, MIGRATIONS, durable=True, cache_mib=_CACHE_MIB, checkpoint_pages=_CHECKPOINT_PAGES)
