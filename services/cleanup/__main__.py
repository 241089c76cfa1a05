"""Wires the clean-up service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mediasync.errors import MediasyncError
from mediasync.model import CleanupPolicy, SyncSpec
from mediasync.runtime.notices import Notice
from mediasync.runtime.outbox import OutboxPublisher, to_event_log
from mediasync.runtime.service import Service, run_service
from mediasync.storage.database import Database
from mediasync.v1 import cleanup_pb2_grpc
from services.cleanup.attempt import Tools
from services.cleanup.entities import OriginLibrary
from services.cleanup.explaining import Explainer
from services.cleanup.history_store import History
from services.cleanup.peers import GrpcTransfer
from services.cleanup.plan_store import PlanStore
from services.cleanup.previews import Previews
from services.cleanup.runs import Runs
from services.cleanup.schema import MIGRATIONS
from services.cleanup.servicer import CleanupServicer
from services.cleanup.store import Journal
from services.cleanup.verification import READERS, CopyCheck

if TYPE_CHECKING:
    from mediasync.sources.base import Source

_logger = logging.getLogger(__name__)

# How long a run that is over waits for the event log, which tells others of it; it is told all the same, later.
_PUBLISHED_SECONDS = 5.0
_RETENTION_SECONDS = 3600.0


async def wire(service: Service) -> None:
    """The journal, what reads libraries, and the loops behind them."""
    # Durable: an intent outlives a power cut, or a file might go that nobody knows of.
    database = Database.open(service.home.database_url("cleanup"), MIGRATIONS, durable=True)
    service.on_stop(database.close)
    journal, plans = Journal(database), PlanStore(database)
    transfer = GrpcTransfer(service.channel("transfer"))
    readers = ThreadPoolExecutor(READERS, thread_name_prefix="copies")

    def opened(spec: SyncSpec) -> Source:
        # Not before it is needed: what talks to sources is most of what there is to load.
        from services.cleanup.sources import source_of

        return source_of(spec, service.home.path)

    def checker(library: OriginLibrary, policy: CleanupPolicy) -> CopyCheck:
        return CopyCheck(library.root, library.uuid, readers, without_copies=policy.clean_culled or not policy.verify_synced)

    written, emptied = Notice(), Notice()

    async def published() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PUBLISHED_SECONDS):
                while True:
                    seen = emptied.count
                    if not await journal.unsent_events(1):
                        return
                    await emptied.wait_past(seen)

    tools = Tools(journal, plans, transfer, checker, written.announce)
    runs = Runs(tools, opened, published)
    service.on_stop(_closing(readers))
    service.on_stop(runs.close)
    publish = to_event_log(service.channel("ingest"))
    service.spawn(OutboxPublisher(journal, publish, (written,), emptied, "cleanup.after_publish").run(), "outbox")
    service.spawn(_forget(journal, plans), "retention")
    service.spawn(_stop_when(service.draining, runs), "stop")
    previews = Previews(plans, transfer, opened)
    explainer = Explainer(History(database), transfer, opened)
    servicer = CleanupServicer(runs, previews, explainer, journal, History(database))
    service.add(cleanup_pb2_grpc.add_CleanupServicer_to_server, servicer, "mediasync.v1.Cleanup")


def _closing(executor: ThreadPoolExecutor) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        # A thread that hangs in a share that is gone is not waited for.
        executor.shutdown(wait=False, cancel_futures=True)

    return close


async def _stop_when(draining: asyncio.Event, runs: Runs) -> None:
    # What is under way at the sources has the time of the drain to end.
    await draining.wait()
    runs.stop()


async def _forget(journal: Journal, plans: PlanStore) -> None:
    while True:
        try:
            await plans.forget_old()
            await journal.forget_old()
        except MediasyncError as error:
            # A full disk, say: who writes is told.
            _logger.warning("what is old was not forgotten: %s", error)
        await asyncio.sleep(_RETENTION_SECONDS)


if __name__ == "__main__":
    run_service("cleanup", wire)
