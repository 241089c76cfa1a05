"""Puts the catalog together, for its own process and for the ingest service that hosts it."""

from __future__ import annotations

from mediasync.runtime.home import Home
from mediasync.runtime.service import Registration
from mediasync.storage.database import Database
from mediasync.v1.catalog_pb2_grpc import add_CatalogServicer_to_server
from mediasync.v1.media_ingest_pb2_grpc import add_MediaIngestServicer_to_server
from services.ingest.subscribers.catalog.servicer import CatalogIngestServicer, CatalogServicer
from services.ingest.subscribers.catalog.store import MIGRATIONS, CatalogStore


def open_database(home: Home) -> Database:
    """The catalog's database in the data folder."""
    return Database.open(home.database_url("catalog"), MIGRATIONS, durable=True)


def registrations(database: Database) -> list[Registration]:
    """What the catalog serves."""
    store = CatalogStore(database)
    return [
        (add_MediaIngestServicer_to_server, CatalogIngestServicer(store), "mediasync.v1.MediaIngest"),
        (add_CatalogServicer_to_server, CatalogServicer(store), "mediasync.v1.Catalog"),
    ]
