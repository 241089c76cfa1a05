"""Puts the catalog together, for its own process and for the ingest service that hosts it."""

from __future__ import annotations

from mediasync.config_file import mentions
from mediasync.runtime.home import Home
from mediasync.runtime.service import Registration
from mediasync.storage import postgres
from mediasync.storage.database import Database
from mediasync.v1.catalog_pb2_grpc import add_CatalogServicer_to_server
from mediasync.v1.media_ingest_pb2_grpc import add_MediaIngestServicer_to_server
from services.ingest.subscribers.catalog.servicer import CatalogIngestServicer, CatalogServicer
from services.ingest.subscribers.catalog.sqlite_store import MIGRATIONS, SqliteCatalogStore
from services.ingest.subscribers.catalog.store import CatalogStore


def open_store(home: Home) -> CatalogStore:
    """The catalog in the database that the configuration names, else in the data folder."""
    url = ""
    if mentions("connection_string"):
        from mediasync.config import load

        url = load().ingest.connection_string
    return open_at(url or home.database_url("catalog"))


def open_at(url: str) -> CatalogStore:
    """The catalog in the database at `url`: `sqlite:///path` or `postgresql://...`."""
    if url.startswith(postgres.PREFIX):
        # Not loaded where nobody needs it.
        from services.ingest.subscribers.catalog.postgres_store import PostgresCatalogStore

        return PostgresCatalogStore.open(url)
    return SqliteCatalogStore(Database.open(url, MIGRATIONS, durable=True))


def registrations(store: CatalogStore) -> list[Registration]:
    """What the catalog serves."""
    return [
        (add_MediaIngestServicer_to_server, CatalogIngestServicer(store), "mediasync.v1.MediaIngest"),
        (add_CatalogServicer_to_server, CatalogServicer(store), "mediasync.v1.Catalog"),
    ]
