"""What became of a file at its source, all the way: journal, outbox, event log, catalog, and what a person is shown."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from mediasync.model import DeletionOutcome, KeptReason
from mediasync.runtime.notices import Notice
from mediasync.runtime.outbox import OutboxPublisher, to_event_log
from mediasync.storage.database import Database
from mediasync.v1 import catalog_pb2, events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.cleanup.entities import Outcome, PlanRow
from services.cleanup.schema import MIGRATIONS
from services.cleanup.store import Journal, NewRun
from tests.fixtures.ingest import BOUND_SECONDS, LIBRARY, Ingest, StartIngest, file_event
from tests.fixtures.peer import Cli

SYNC_ID = "sync_20261121_120000_0000c1ea"
CONTENT = b"picture"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    database = Database.open(f"sqlite:///{tmp_path / 'cleanup.db'}", MIGRATIONS, durable=True)
    journal = Journal(database)
    await journal.begin_run(NewRun(SYNC_ID, "job_1", "name:forge", "forge", LIBRARY, "uuid"))
    yield journal
    await database.close()


async def clean(journal: Journal, path: bytes, copy: bytes, outcome: DeletionOutcome = DeletionOutcome.DELETED) -> None:
    """What a clean-up writes down of a file."""
    row = PlanRow(1, path, len(CONTENT), 5, 6, 5, hashlib.sha256(CONTENT).digest(), (copy,))
    [number] = await journal.add_intents(SYNC_ID, [row])
    await journal.verified([(number, copy)])
    kept = KeptReason.CHANGED_MEANWHILE if outcome is DeletionOutcome.KEPT else None
    await journal.record_outcomes([Outcome(number, outcome, kept)])


async def publish(journal: Journal, ingest: Ingest) -> None:
    """Runs the publisher until the outbox is empty, and waits for the catalog."""
    written, emptied = Notice(), Notice()
    publisher = OutboxPublisher(journal, to_event_log(ingest.channels[0]), (written,), emptied, "cleanup.after_publish")
    running = asyncio.create_task(publisher.run())
    async with asyncio.timeout(BOUND_SECONDS):
        while await journal.unsent_events(1):
            await emptied.wait_past(emptied.count, 0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    # What is published last is known by its number.
    await ingest.delivered(max(await ingest.publish([file_event(b"behind.png", content=b"behind")])))


async def get(ingest: Ingest, path: bytes) -> catalog_pb2.CatalogFile:
    return (await ingest.catalog.Get(catalog_pb2.CatalogGetRequest(library_path=path), timeout=BOUND_SECONDS)).file


async def test_the_catalog_knows_that_a_file_was_deleted_at_its_source_and_keeps_what_it_knows_of_it(
    ingest: Ingest, journal: Journal, cli: Cli
) -> None:
    metadata = pb.GenerationMetadata(prompt="a cat", model="flux")
    await ingest.publish(
        [
            *(file_event(path, content=CONTENT) for path in (b"out/a.png", b"out/kept.png", b"moved here.png")),
            file_event(b"out/a.png", pb.EVENT_TYPE_FILE_PROCESSED, content=CONTENT, metadata=metadata),
        ]
    )
    await clean(journal, b"out/a.png", b"out/a.png")
    await clean(journal, b"out/b.png", b"moved here.png", DeletionOutcome.TRASHED)
    await clean(journal, b"out/kept.png", b"out/kept.png", DeletionOutcome.KEPT)
    await publish(journal, ingest)
    deleted, moved, kept = [await get(ingest, path) for path in (b"out/a.png", b"moved here.png", b"out/kept.png")]
    assert deleted.HasField("source_delete_time") and moved.HasField("source_delete_time")
    assert not kept.HasField("source_delete_time")
    assert (deleted.file.metadata.prompt, deleted.processed) == ("a cat", True)
    assert deleted.sync_id == file_event(b"").sync_id, "it is the sync's that brought it"

    address = ingest.home.socket_address("catalog")
    shown = await cli("files", "show", "out/a.png", "--coordinator", address)
    assert "deleted at source" in shown.stdout and "a cat" in shown.stdout, shown
    told = json.loads((await cli("files", "show", "out/kept.png", "--json", "--coordinator", address)).stdout)
    assert not told["source_delete_time"]


async def test_events_wait_for_the_event_log_and_are_there_once_whatever_is_sent_twice(start_ingest: StartIngest, journal: Journal) -> None:
    ingest, service = await start_ingest()
    await service.stop(0)
    await clean(journal, b"a.png", b"a.png")
    events = await journal.unsent_events(10)
    ingest, _ = await start_ingest()
    await publish(journal, ingest)
    # A crash between the two would send it again.
    await ingest.publish([pb.Event.FromString(event.event) for event in events])
    log = [event for page in await ingest.read(start=events_pb2.EventStart(beginning=Empty())) for event in page.events]
    assert [event.file.library_path.raw for event in log if event.type == pb.EVENT_TYPE_FILE_DELETED] == [b"a.png"]
    assert (log[0].sync_id, log[0].source) == (SYNC_ID, "forge")
