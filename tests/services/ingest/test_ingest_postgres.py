"""The event log in PostgreSQL: what a server that starts again, or is gone for a while, makes of publishing and delivery."""

from __future__ import annotations

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.storage import postgres as storage
from services.ingest import postgres_store
from tests.fixtures.ingest import RecordingSubscriber, StartIngest, StartSubscriber, file_events
from tests.fixtures.postgres import Postgres


@pytest.fixture
def in_postgres(postgres: Postgres, quick_retries: None, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The service that is started keeps its log there, and its catalog too."""
    monkeypatch.setenv("MEDIASYNC_INGEST__LOG_CONNECTION_STRING", postgres.url)
    monkeypatch.setenv("MEDIASYNC_INGEST__CONNECTION_STRING", postgres.url)
    return postgres


async def test_a_database_that_is_gone_for_a_while_costs_no_event_and_no_number(
    in_postgres: Postgres, start_ingest: StartIngest, start_subscriber: StartSubscriber
) -> None:
    ingest, service = await start_ingest()
    gallery = RecordingSubscriber()
    await ingest.subscribe("gallery", (await start_subscriber(gallery)).address)
    events = file_events(40)
    assert await ingest.publish(events[:10]) == list(range(1, 11))
    in_postgres.go()
    with pytest.raises(MediasyncError) as caught, rpc_errors("the event log"):
        await ingest.publish(events[10:20])
    assert caught.value.reason is Reason.DATABASE_UNREACHABLE
    in_postgres.come_back()
    assert await ingest.publish(events[5:30]) == list(range(6, 31))
    await gallery.until_has(events[:30])
    await ingest.delivered(30)
    await ingest.delivered(30, "gallery")
    await service.stop(5)
    in_postgres.cut()

    ingest, _ = await start_ingest()
    await ingest.publish(events[30:])
    await ingest.delivered(40)
    await gallery.until_has(events)
    # The place that was saved at the stop is where it went on.
    assert sorted(gallery.ids) == sorted(event.event_id for event in events)
    assert in_postgres.query("SELECT count(*) FROM media_files") == [(40,)]
    assert not list(ingest.home.path.glob("*.db"))


async def test_two_processes_do_not_write_one_log(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    database = postgres_store.open_database(postgres.url)
    monkeypatch.setattr(storage, "_LOCK_SECONDS", 0.01)
    with pytest.raises(MediasyncError, match="Another mediasync uses schema mediasync_ingest") as caught:
        postgres_store.open_database(postgres.url)
    assert caught.value.reason is Reason.DATABASE_UNUSABLE
    await database.close()
