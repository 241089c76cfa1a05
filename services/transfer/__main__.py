"""Wires the transfer worker."""

from __future__ import annotations

import os

from mediasync.config_file import mentions
from mediasync.runtime.notices import Notice
from mediasync.runtime.outbox import OutboxPublisher, to_event_log
from mediasync.runtime.service import Service, run_service
from mediasync.sources.factory import open_source
from mediasync.storage.database import Database
from mediasync.v1 import transfer_pb2_grpc
from services.transfer.bandwidth import Limits
from services.transfer.cleaning import CleanupRecord
from services.transfer.keeping import LibraryKeeper
from services.transfer.pipeline.worker import PipelineWorker
from services.transfer.processing import Processor
from services.transfer.queue_store import QueueStore
from services.transfer.receiving.receivers import Receivers
from services.transfer.schema import MIGRATIONS
from services.transfer.servicer import TransferServicer
from services.transfer.worker import TransferWorker

# They are nice to the transfer, so that all processors may be theirs once it is done; each holds some 20 MB while it works.
_PIPELINE_PROCESSES = min(4, os.cpu_count() or 1)
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
    settled = Notice()
    processor = Processor(
        queues,
        pipeline,
        committed=worker.committed,
        progressed=settled,
        parallel=_PIPELINE_PROCESSES,
        hold=lambda: 0.0 < receivers.busy_seconds < _PULL_ALONE_SECONDS,
    )
    publish = to_event_log(service.channel("ingest"))
    publisher = OutboxPublisher(queues, publish, (worker.committed, settled), settled, "transfer.after_publish")
    service.spawn(processor.run(), "processing")
    service.spawn(publisher.run(), "outbox")
    service.spawn(queues.forget_old_runs(), "retention")
    keeper = LibraryKeeper(database, service.home.path, worker.library, worker.committed, settled)
    service.on_stop(keeper.close)
    record = CleanupRecord(database, keeper.library)
    servicer = TransferServicer(worker, queues, service.channel("progress"), settled, keeper, record)
    service.add(transfer_pb2_grpc.add_TransferServicer_to_server, servicer, "mediasync.v1.Transfer")


def _limits() -> Limits:
    if not mentions("bandwidth"):
        return Limits()
    from mediasync.config import load

    configuration = load()
    return Limits(configuration.bandwidth_limit_total_mbps, configuration.bandwidth_timetable_total)


if __name__ == "__main__":
    run_service("transfer", wire)
