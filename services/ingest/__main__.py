"""The ingest process: the event log, its deliveries, and the catalog unless that runs elsewhere."""

from __future__ import annotations

import gc
import os

from mediasync.runtime.service import Service, run_service
from mediasync.storage import postgres
from services.ingest.configured import configured
from services.ingest.events import Subscription
from services.ingest.library_client import LibraryClient
from services.ingest.log import EventLog
from services.ingest.registration import FULL_NAME, events_handler
from services.ingest.replaying import Start, StartKind
from services.ingest.retention import Retention
from services.ingest.servicer import EventsServicer
from services.ingest.snapshot import SnapshotFeed
from services.ingest.sqlite_store import SqliteEventStore, open_database
from services.ingest.store import EventStore
from services.ingest.subscriber_client import GrpcSubscriber
from services.ingest.subscribers.catalog import wiring as catalog
from services.ingest.subscriptions import CATALOG, Subscriptions
from services.ingest.verifying import Verifier

CATALOG_BATCH = 500
"""Each batch costs the catalog one flush to the disk. Nothing waits for a batch to fill, so that a large one delays no event."""


# Who follows the library can wait while it fills: a busy machine's processors are for the transfer first.
_NICENESS = 10
_COLLECT_AFTER = 20_000
"""New objects. Every event is some tuples in no cycle, of which the newest stay: to look for cycles among them every 700 took a tenth of
the processor time."""


async def wire(service: Service) -> None:
    """Opens the log, hosts the catalog, takes up the subscriptions, serves."""
    os.nice(_NICENESS)
    said = configured()
    catalog_address = service.home.address_of("catalog")
    if catalog_address == service.home.socket_address("catalog"):
        await _host_catalog(service)
    store = _open_store(service, said.log_url or service.home.database_url("ingest"))
    log = await EventLog.open(store)
    library = LibraryClient(service.channel)
    subscriptions = Subscriptions(store, log, _connect, lambda name: SnapshotFeed(library.page, name), said.linger_seconds)
    own = Subscription(CATALOG, catalog_address, batch_size=CATALOG_BATCH, fixed=True)
    await subscriptions.load([(own, Start(StartKind.BEGINNING)), *said.subscribers])
    service.on_stop(subscriptions.close)
    service.spawn(subscriptions.run(), "deliveries")
    service.spawn(Retention(store, log, said.limits, subscriptions.fall_behind).run(), "retention")
    verifier = Verifier(store, log, _connect, subscriptions.side_events_added)
    servicer = EventsServicer(store, log, subscriptions, verifier, library, service.draining)
    service.add_generic(events_handler(servicer), FULL_NAME)


def _open_store(service: Service, url: str) -> EventStore:
    if url.startswith(postgres.PREFIX):
        # Not loaded where nobody needs it.
        from services.ingest import postgres_store

        shared = postgres_store.open_database(url)
        service.on_stop(shared.close)
        return postgres_store.PostgresEventStore(shared)
    database = open_database(url)
    service.on_stop(database.close)
    service.spawn(database.keep_checkpointed(), "checkpoints")
    return SqliteEventStore(database)


def _connect(subscription: Subscription) -> GrpcSubscriber:
    return GrpcSubscriber(subscription.address, tls=subscription.tls, token_file=subscription.token_file)


async def _host_catalog(service: Service) -> None:
    store = catalog.open_store(service.home)
    service.on_stop(store.close)
    await service.listen_also("catalog", catalog.registrations(store))


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    run_service("ingest", wire)
