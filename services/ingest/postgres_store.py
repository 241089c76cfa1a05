"""The event log's database in PostgreSQL. One process holds it: the log's end is in its memory."""

from __future__ import annotations

from mediasync.storage.postgres import PostgresDatabase
from services.ingest.letter_store import SqlLetterStore
from services.ingest.postgres_log_store import PostgresLogStore
from services.ingest.postgres_raw import RawPostgres
from services.ingest.postgres_schema import MIGRATIONS, SCHEMA
from services.ingest.subscription_store import SqlSubscriptionStore

__all__ = ["PostgresEventStore", "open_database"]


class PostgresEventStore(PostgresLogStore, SqlSubscriptionStore, SqlLetterStore):
    """See `store.EventStore`. Every method is one transaction."""

    def __init__(self, database: PostgresDatabase) -> None:
        PostgresLogStore.__init__(self, database)
        raw = RawPostgres(database)
        SqlSubscriptionStore.__init__(self, raw)
        SqlLetterStore.__init__(self, raw)


def open_database(url: str) -> PostgresDatabase:
    """Opens it the way that the store wants it."""
    return PostgresDatabase.open(url, SCHEMA, MIGRATIONS, alone=True)
