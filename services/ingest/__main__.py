"""The ingest process: the event log, its deliveries, and the catalog unless that runs elsewhere."""

from __future__ import annotations

import os

from mediasync.config_file import mentions
from mediasync.runtime.service import Service, run_service
from services.ingest.events import EventKind, Filter, Subscription
from services.ingest.log import EventLog
from services.ingest.registration import FULL_NAME, events_handler
from services.ingest.servicer import EventsServicer
from services.ingest.sqlite_store import SqliteEventStore, open_database
from services.ingest.subscriber_client import GrpcSubscriber
from services.ingest.subscribers.catalog import wiring as catalog
from services.ingest.subscriptions import Subscriptions

CATALOG_BATCH = 500
"""Each batch costs the catalog one flush to the disk. Nothing waits for a batch to fill, so that a large one delays no event."""


# Who follows the library can wait while it fills: a busy machine's processors are for the transfer first.
_NICENESS = 10


async def wire(service: Service) -> None:
    """Opens the log, hosts the catalog, takes up the subscriptions, serves."""
    os.nice(_NICENESS)
    catalog_address = service.home.address_of("catalog")
    if catalog_address == service.home.socket_address("catalog"):
        await _host_catalog(service)
    database = open_database(service.home.database_url("ingest"))
    service.on_stop(database.close)
    store = SqliteEventStore(database)
    log = await EventLog.open(store)
    subscriptions = Subscriptions(store, log, GrpcSubscriber)
    await subscriptions.load([Subscription("catalog", catalog_address, batch_size=CATALOG_BATCH, fixed=True), *_configured()])
    service.on_stop(subscriptions.close)
    service.spawn(subscriptions.run(), "deliveries")
    service.add_generic(events_handler(EventsServicer(subscriptions), log), FULL_NAME)


async def _host_catalog(service: Service) -> None:
    database = catalog.open_database(service.home)
    service.on_stop(database.close)
    await service.listen_also("catalog", catalog.registrations(database))


def _configured() -> list[Subscription]:
    if not mentions("subscriber"):
        return []
    from mediasync.config import load

    return [
        Subscription(
            entry.name, entry.address, Filter(frozenset(EventKind[name.upper()] for name in entry.events)), entry.batch_size, fixed=True
        )
        for entry in load().ingest.subscribers
    ]


if __name__ == "__main__":
    run_service("ingest", wire)
