"""The catalog as a process of its own."""

from __future__ import annotations

from mediasync.runtime.service import Service, run_service
from services.ingest.subscribers.catalog.wiring import open_store, registrations


async def wire(service: Service) -> None:
    """Opens the database and serves."""
    store = open_store(service.home)
    service.on_stop(store.close)
    for registration in registrations(store):
        service.add(*registration)


if __name__ == "__main__":
    run_service("catalog", wire)
