"""Wires the transfer worker."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence

from mediasync.config_file import mentions
from mediasync.convert import event_bytes
from mediasync.runtime.channels import rpc_errors
from mediasync.runtime.service import Service, run_service
from mediasync.sources.factory import open_source
from mediasync.storage.database import Database
from mediasync.v1 import events_pb2, transfer_pb2_grpc
from services.transfer.bandwidth import Limits
from services.transfer.keeping import LibraryKeeper
from services.transfer.notices import Notice
from services.transfer.outbox import OutboxPublisher
from services.transfer.pipeline.worker import PipelineWorker
from services.transfer.processing import Processor
from services.transfer.queue_store import QueueStore
from services.transfer.receiving.receivers import Receivers
from services.transfer.schema import MIGRATIONS
from services.transfer.servicer import TransferServicer
from services.transfer.worker import TransferWorker

# They are nice to the transfer, so that all processors may be theirs once it is done; each holds some 20 MB while it works.
_PIPELINE_PROCESSES = min(4, os.cpu_count() or 1)
_PUBLISH_SECONDS = 30.0
# A large pull has the processors for itself at first: most are over by then, and nobody's prompts wait for longer.
_PULL_ALONE_SECONDS = 20.0


async def wire(service: Service) -> None:
    """Store, worker, and the two loops behind it."""
    database = Database.open(service.home.database_url("transfer"), MIGRATIONS)
    service.on_stop(database.close)
    queues = QueueStore(database)
    receivers = Receivers(service.home.path)
    worker = TransferWorker(
        database,
        service.home.path,
        lambda spec: open_source(spec, home=service.home.path),
        receivers=receivers,
        limits=_limits(),
    )
    service.on_stop(worker.close)
    pipeline = PipelineWorker(processes=_PIPELINE_PROCESSES)
    service.on_stop(pipeline.close)
    # Of bytes, as they are in the outbox.
    call: Callable[..., Awaitable[events_pb2.EventsPublishResponse]] = service.channel("ingest").unary_unary(
        "/mediasync.v1.Events/Publish", response_deserializer=events_pb2.EventsPublishResponse.FromString
    )

    async def publish(serialised: Sequence[bytes]) -> None:
        with rpc_errors("the ingest service"):
            await call(event_bytes.batch(serialised), timeout=_PUBLISH_SECONDS)

    settled = Notice()
    processor = Processor(
        queues,
        pipeline,
        committed=worker.committed,
        progressed=settled,
        parallel=_PIPELINE_PROCESSES,
        hold=lambda: 0.0 < receivers.busy_seconds < _PULL_ALONE_SECONDS,
    )
    publisher = OutboxPublisher(queues, publish, written=(worker.committed, settled), emptied=settled)
    service.spawn(processor.run(), "processing")
    service.spawn(publisher.run(), "outbox")
    service.spawn(queues.forget_old_runs(), "retention")
    keeper = LibraryKeeper(database, service.home.path, worker.library, worker.committed, settled)
    service.on_stop(keeper.close)
    servicer = TransferServicer(worker, queues, service.channel("progress"), settled, keeper)
    service.add(transfer_pb2_grpc.add_TransferServicer_to_server, servicer, "mediasync.v1.Transfer")


def _limits() -> Limits:
    if not mentions("bandwidth"):
        return Limits()
    from mediasync.config import load

    configuration = load()
    return Limits(configuration.bandwidth_limit_total_mbps, configuration.bandwidth_timetable_total)


if __name__ == "__main__":
    run_service("transfer", wire)
