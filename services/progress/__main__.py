"""The process: `python -P -m services.progress`."""

from __future__ import annotations

from mediasync.runtime.service import Service, run_service
from mediasync.storage.database import Database
from services.progress.hub import Hub
from services.progress.servicer import SERVICE_NAME, ProgressServicer, encode_event
from services.progress.store import MIGRATIONS, ProgressStore


async def wire(service: Service) -> None:
    """Puts the service together."""
    database = Database.open(service.home.database_url("progress"), MIGRATIONS)
    service.on_stop(database.close)
    hub = Hub(ProgressStore(database), encode_event, service.spawn)
    service.on_stop(hub.close)
    servicer = ProgressServicer(hub)

    async def drain() -> None:
        await service.draining.wait()
        servicer.drain()

    service.spawn(drain(), "drain")
    service.add_generic(servicer.handler(), SERVICE_NAME)


if __name__ == "__main__":
    run_service("progress", wire)
