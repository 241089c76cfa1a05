"""The event log's database in SQLite, opened durable: an event that was answered for is on the disk.

Positions need no such care (an older one only means that events are offered again) and are not flushed by themselves, but live here too:
one writer for all of it.
"""

from __future__ import annotations

from mediasync.storage.database import Database
from services.ingest.schema import MIGRATIONS
from services.ingest.sqlite_letter_store import SqliteLetterStore
from services.ingest.sqlite_log_store import SqliteLogStore
from services.ingest.sqlite_subscription_store import SqliteSubscriptionStore

__all__ = ["MIGRATIONS", "SqliteEventStore", "open_database"]

_CACHE_MIB = 32
_CHECKPOINT_PAGES = 16_000
"""64 MiB of journal: a commit has to copy it into the database only when nobody calls `Database.checkpoint` for that long."""


class SqliteEventStore(SqliteLogStore, SqliteSubscriptionStore, SqliteLetterStore):
    """See `store.EventStore`. Every method is one transaction."""


def open_database(url: str) -> Database:
    """Opens it the way that the store wants it."""
    return Database.open(url, MIGRATIONS, durable=True, cache_mib=_CACHE_MIB, checkpoint_pages=_CHECKPOINT_PAGES)
