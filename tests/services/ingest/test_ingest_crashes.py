"""SIGKILL at every named point of ingest and catalog, in real processes, and what a restart makes of it."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import pytest

from mediasync.runtime.home import Home
from mediasync.v1 import catalog_pb2, events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from tests.fixtures.ingest import (
    BOUND_SECONDS,
    Ingest,
    RecordingSubscriber,
    StartProcess,
    StartSubscriber,
    file_event,
    file_events,
    sync_event,
)

POINTS = [
    "ingest.before_append",
    "ingest.after_append:2",
    "ingest.before_delivery:1",
    "ingest.after_delivery:2",
    "ingest.before_position",
    "catalog.after_upsert:1",
]


async def publish_until_answered(ingest: Ingest, events: list[pb.Event]) -> list[int]:
    """As an outbox does: again, until there is an answer."""
    while True:
        try:
            return await ingest.publish(events)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error


async def catalog_paths(ingest: Ingest) -> list[bytes]:
    response = await ingest.catalog.List(catalog_pb2.CatalogListRequest(page_size=500), timeout=BOUND_SECONDS, wait_for_ready=True)
    assert not response.next_page_token
    return [found.file.library_path.raw for found in response.files]


@pytest.mark.parametrize("point", POINTS)
async def test_i5_i6_a_kill_at_any_point_and_a_restart_lose_and_double_nothing(
    point: str, tmp_path: Path, start_process: StartProcess, start_subscriber: StartSubscriber
) -> None:
    home = Home(tmp_path / "home")
    subscriber = RecordingSubscriber()
    address = (await start_subscriber(subscriber)).address
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": point})
    ingest = Ingest(home)
    await ingest.subscribe("gallery", address)
    batches = [file_events(60), [*file_events(60, start=60), sync_event()]]
    try:
        for batch in batches:
            await ingest.publish(batch)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert await doomed.ended() == -signal.SIGKILL

    await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": point})
    events = [event for batch in batches for event in batch]
    assert await publish_until_answered(ingest, events) == list(range(1, 122))
    await ingest.delivered(121, "gallery")
    await ingest.delivered(121, "catalog")
    assert sorted(await catalog_paths(ingest)) == sorted(event.file.library_path.raw for event in events[:-1])

    numbers = {event.event_id: number for number, event in enumerate(events, 1)}
    assert {event.event_id: event.sequence for event in subscriber.events} == numbers
    assert all(numbers[event.event_id] == event.sequence for event in subscriber.events)
    assert (await ingest.subscription("gallery")).last_error == ""
    await ingest.close()


async def test_i6_the_order_of_a_files_events_holds_over_a_kill(
    tmp_path: Path, start_process: StartProcess, start_subscriber: StartSubscriber
) -> None:
    home = Home(tmp_path / "home")
    subscriber = RecordingSubscriber()
    address = (await start_subscriber(subscriber)).address
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": "ingest.after_delivery:5"})
    ingest = Ingest(home)
    await ingest.subscribe("gallery", address, batch_size=3)
    kinds = (pb.EVENT_TYPE_FILE_SYNCED, pb.EVENT_TYPE_FILE_PROCESSED, pb.EVENT_TYPE_FILE_DELETED)
    events = [file_event(f"{number}.png".encode(), kind) for number in range(20) for kind in kinds]
    await ingest.publish(events)
    assert await doomed.ended() == -signal.SIGKILL
    await start_process("services.ingest", home.path)
    await ingest.delivered(60, "gallery")
    for number in range(20):
        seen = [event.type for event in subscriber.events if event.file.library_path.raw == f"{number}.png".encode()]
        assert seen == list(kinds) * (len(seen) // 3)
        assert seen
    await ingest.close()


class Rejecting(RecordingSubscriber):
    """Takes no file whose name has a 7 in it."""

    async def answer(self, call: str, event: pb.Event) -> pb.EventResult:
        verdict = pb.EVENT_VERDICT_REJECTED if b"7" in event.file.library_path.raw else pb.EVENT_VERDICT_ACCEPTED
        return pb.EventResult(event_id=event.event_id, verdict=verdict)


async def test_i6_a_kill_between_a_dead_letter_and_its_position_keeps_one_of_each(
    tmp_path: Path, start_process: StartProcess, start_subscriber: StartSubscriber
) -> None:
    home = Home(tmp_path / "home")
    subscriber = Rejecting()
    address = (await start_subscriber(subscriber)).address
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": "ingest.after_bury"})
    ingest = Ingest(home)
    await ingest.subscribe("gallery", address, batch_size=6)
    await ingest.publish(file_events(20))
    assert await doomed.ended() == -signal.SIGKILL
    await start_process("services.ingest", home.path)
    await ingest.delivered(20, "gallery")
    response = await ingest.events.ListDeadLetters(events_pb2.ListDeadLettersRequest(), timeout=BOUND_SECONDS)
    found = [(letter.event.sequence, letter.reason) for letter in response.dead_letters]
    assert found == [(number, "rejected without a reason") for number in (18, 8)]
    await ingest.close()


async def test_i6_a_catalog_of_its_own_process_is_killed_and_misses_nothing(tmp_path: Path, start_process: StartProcess) -> None:
    home = Home(tmp_path / "home")
    catalog = "services.ingest.subscribers.catalog"
    doomed = await start_process(catalog, home.path, {"MEDIASYNC_CRASH_AT": "catalog.after_upsert", "MEDIASYNC_LISTEN": "127.0.0.1:0"})
    socket, address = doomed.addresses
    running = await start_process("services.ingest", home.path, {"MEDIASYNC_CATALOG_ADDRESS": address})
    assert socket == home.socket_address("catalog")
    assert running.addresses == [home.socket_address("ingest")]
    ingest = Ingest(home)
    await ingest.publish(file_events(200))
    assert await doomed.ended() == -signal.SIGKILL
    again = await start_process(catalog, home.path, {"MEDIASYNC_LISTEN": address})
    await ingest.delivered(200)
    assert len(await catalog_paths(ingest)) == 200
    assert await again.stop() == 0
    assert await running.stop() == 0
    await ingest.close()
