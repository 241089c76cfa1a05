"""The ingest process: the event log, its deliveries, and the catalog unless that runs elsewhere."""

from __future__ import annotations

import os

from mediasync.runtime.service import Service, run_service
from services.ingest.configured import configured
from services.ingest.events import Subscription
from services.ingest.log import EventLog
from services.ingest.registration import FULL_NAME, events_handler
from services.ingest.replaying import Content, Start, StartKind
from services.ingest.retention import Retention
from services.ingest.servicer import EventsServicer
from services.ingest.sqlite_store import SqliteEventStore, open_database
from services.ingest.subscriber_client import GrpcSubscriber
from services.ingest.subscribers.catalog import wiring as catalog
from services.ingest.subscriptions import CATALOG, Subscriptions

CATALOG_BATCH = 500
"""Each batch costs the catalog one flush to the disk. Nothing waits for a batch to fill, so that a large one delays no event."""


# Who follows the library can wait while it fills: a busy machine's processors are for the transfer first.
_NICENESS = 10


async def wire(service: Service) -> None:
    """Opens the log, hosts the catalog, takes up the subscriptions, serves."""
    os.nice(_NICENESS)
    said = configured()
    catalog_address = service.home.address_of("catalog")
    if catalog_address == service.home.socket_address("catalog"):
        await _host_catalog(service)
    database = open_database(service.home.database_url("ingest"))
    service.on_stop(database.close)
    store = SqliteEventStore(database)
    log = await EventLog.open(store)
    subscriptions = Subscriptions(
        store,
        log,
        lambda one: GrpcSubscriber(one.address, tls=one.tls, token_file=one.token_file),
        lambda name: _snapshot(service, name),
        said.linger_seconds,
    )
    own = Subscription(CATALOG, catalog_address, batch_size=CATALOG_BATCH, fixed=True)
    await subscriptions.load([(own, Start(StartKind.BEGINNING)), *said.subscribers])
    service.on_stop(subscriptions.close)
    service.spawn(subscriptions.run(), "deliveries")
    service.spawn(Retention(store, log, said.limits, subscriptions.fall_behind).run(), "retention")
    service.add_generic(events_handler(EventsServicer(store, log, subscriptions, service.draining)), FULL_NAME)


def _snapshot(service: Service, name: str) -> Content:
    from services.ingest.snapshot import SnapshotFeed

    return SnapshotFeed(service.channel("catalog"), name)


async def _host_catalog(service: Service) -> None:
    store = catalog.open_store(service.home)
    service.on_stop(store.close)
    await service.listen_also("catalog", catalog.registrations(store))


if __name__ == "__main__":
    run_service("ingest", wire)
