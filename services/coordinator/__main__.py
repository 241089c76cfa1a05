"""Wires the coordinator and runs it."""

from __future__ import annotations

import os

from mediasync.errors import Reason
from mediasync.reporting import ProgressReporter
from mediasync.runtime.service import Service, run_service
from mediasync.storage.database import Database
from mediasync.v1 import coordinator_pb2_grpc
from services.coordinator.cleanup_peer import GrpcCleanupPeer
from services.coordinator.configured import ConfiguredFile, configured_acceptors, configured_sources
from services.coordinator.holding import SupervisorHold
from services.coordinator.jobs import Endings, Jobs
from services.coordinator.patience import Patience
from services.coordinator.peers import GrpcPeers
from services.coordinator.relay import (
    CATALOG_STREAMS,
    EVENT_STREAMS,
    LIBRARY_STREAMS,
    Relay,
    everything,
    of_cleanups,
    of_events,
    of_libraries,
)
from services.coordinator.reporting import REPORTER
from services.coordinator.schedule_store import ScheduleStore
from services.coordinator.schedules import Schedules
from services.coordinator.schema import MIGRATIONS
from services.coordinator.servicer import CoordinatorServicer
from services.coordinator.sources import Sources
from services.coordinator.standing import StandingWatches
from services.coordinator.store import Store
from services.coordinator.watch import Watches
from services.coordinator.workflow import WorkflowEngine

_RELAY_PATIENCE = Patience({Reason.SERVICES_UNREACHABLE: 5.0})


async def wire(service: Service) -> None:
    """Opens what the coordinator keeps, goes on with the jobs it finds there, and serves."""
    # Durable: an accepted job outlives a power cut.
    database = Database.open(service.home.database_url("coordinator"), MIGRATIONS, durable=True)
    service.on_stop(database.close)
    store = Store(database)
    peers = GrpcPeers(service.channel("transfer"), service.channel("ingest"), service.channel("progress"))
    hold = SupervisorHold(service.home.run)
    service.on_stop(hold.close)
    endings = Endings()

    async def cleanup_needed() -> None:
        await hold.need("cleanup")

    cleanup = GrpcCleanupPeer(service.channel("cleanup"), cleanup_needed)

    def reporter(sync_id: str) -> ProgressReporter:
        return ProgressReporter(service.channel("progress"), sync_id, REPORTER)

    engine = WorkflowEngine(
        service.home.path / "coordinator-workflows.db", store, peers, cleanup, reporter, hold, endings, acceptors=configured_acceptors()
    )
    service.on_stop(engine.close)
    # From here on jobs run, so nobody else may run them: the service's lock on the data folder is the lease, and is held when `wire`
    # is called. Several coordinators on one PostgreSQL take a lease in the database here, and wait for it as standby.
    await engine.open()
    service.spawn(engine.maintain(), "maintenance of jobs")

    watches = Watches(store, endings, peers, service.draining)
    jobs = Jobs(store, engine, hold)
    configured = ConfiguredFile()
    schedules = Schedules(ScheduleStore(store), jobs, configured.plans)
    if os.environ.get("MEDIASYNC_LISTEN"):
        # Under `mediasync up`; services that live for the length of a command watch nothing, and begin nothing by themselves.
        service.spawn(StandingWatches(store, jobs, configured.sources).run(), "standing watches")
        service.spawn(schedules.run(), "schedules")
    servicer = CoordinatorServicer(jobs, Sources(store, configured_sources), watches, peers, cleanup, schedules, store)
    service.add(coordinator_pb2_grpc.add_CoordinatorServicer_to_server, servicer, "mediasync.v1.Coordinator")
    for channel, full_name, relayed, who, streamed, needed in (
        ("catalog", "mediasync.v1.Catalog", everything, "the catalog", CATALOG_STREAMS, None),
        ("ingest", "mediasync.v1.Events", of_events, "the event log", EVENT_STREAMS, None),
        ("transfer", "mediasync.v1.Transfer", of_libraries, "the transfer worker", LIBRARY_STREAMS, None),
        ("cleanup", "mediasync.v1.Cleanup", of_cleanups, "the cleanup service", (), cleanup_needed),
    ):
        relay = Relay(service.channel(channel), full_name, relayed, who, _RELAY_PATIENCE, streamed, needed)
        service.add_generic(relay, full_name)


if __name__ == "__main__":
    run_service("coordinator", wire)
