"""The library as it is, as events: complete, in order, from any place on, and whatever becomes of the catalog meanwhile."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.home import Home
from mediasync.v1 import catalog_pb2, events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest.events import EventKind, Filter
from services.ingest.replaying import END
from services.ingest.snapshot import ExportPage, SnapshotFeed
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, RecordingSubscriber, StartProcess, StartSubscriber, file_event, file_events

WORKFLOW = pb.GenerationMetadata(prompt="a cat", workflow_json=b'{"nodes": [NaN]}')


def catalog_file(position: int, *, processed: bool = False, gone: bool = False) -> catalog_pb2.CatalogFile:
    event = file_event(b"%d.png" % position, metadata=WORKFLOW if processed else None)
    file = catalog_pb2.CatalogFile(
        file=event.file, sync_id=event.sync_id, source="forge", sync_time=event.time, processed=processed, position=position
    )
    if gone:
        file.source_delete_time.CopyFrom(event.time)
    return file


FILES = [
    catalog_file(1, processed=True, gone=True),
    catalog_file(2),
    catalog_file(5, gone=True),
    catalog_file(6, processed=True),
    catalog_file(9),
]
TOLD = ["1 S", "1 P", "1 D", "2 S", "5 S", "5 D", "6 S", "6 P", "9 S"]


class Catalog:
    """Pages of two files; fails when it is told to."""

    def __init__(self, files: Sequence[catalog_pb2.CatalogFile] = FILES) -> None:
        self.files = files
        self.fails = False

    async def page(self, after: int) -> ExportPage:
        if self.fails:
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the catalog is away")
        rest = [file for file in self.files if file.position > after]
        return ExportPage(rest[:2], len(rest) <= 2)


async def from_snapshot(ingest: Ingest, address: str) -> None:
    """Adds a subscriber that is filled from a snapshot; harmless when it is there."""
    subscription = events_pb2.Subscription(name="gallery", address=address)
    request = events_pb2.AddSubscriptionRequest(request_id="add", subscription=subscription)
    request.start.snapshot.SetInParent()
    await ingest.events.AddSubscription(request, timeout=BOUND_SECONDS, wait_for_ready=True)


async def told(feed: SnapshotFeed, after: int = 0, limit: int = 100, wanted: Filter | None = None) -> tuple[list[str], list[int]]:
    """What it tells from a place on, and the places."""
    said: list[str] = []
    places: list[int] = []
    while not feed.ended(after):
        events, read_to = await feed.read(after, wanted or Filter(), limit, 1 << 20)
        assert len(events) <= limit
        for event in events:
            message = pb.Event.FromString(event.payload)
            assert (message.synthetic, message.sequence, message.event_id) == (True, 0, event.event_id)
            said.append(f"{message.file.library_path.raw.decode().removesuffix('.png')} {EventKind(event.kind).name[5]}")
            places.append(event.sequence)
        assert read_to > after
        after = read_to
    assert places == sorted(set(places))
    return said, places


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_it_tells_of_each_file_what_its_events_told(limit: int) -> None:
    feed = SnapshotFeed(Catalog().page, "gallery")
    said, _ = await told(feed, limit=limit)
    assert said == TOLD


async def test_it_goes_on_from_any_place() -> None:
    _, places = await told(SnapshotFeed(Catalog().page, "gallery"))
    for index, place in enumerate(places):
        said, _ = await told(SnapshotFeed(Catalog().page, "gallery"), place)
        assert said == TOLD[index + 1 :]
    # The end itself is a place that may have been kept.
    assert await told(SnapshotFeed(Catalog().page, "gallery"), END) == ([], [])


async def test_what_is_not_wanted_is_left_out_and_passed() -> None:
    feed = SnapshotFeed(Catalog().page, "gallery")
    said, _ = await told(feed, wanted=Filter(frozenset({EventKind.FILE_DELETED})))
    assert said == ["1 D", "5 D"]


async def test_a_catalog_that_is_away_is_no_end() -> None:
    catalog = Catalog()
    feed = SnapshotFeed(catalog.page, "gallery")
    _, place = await feed.read(0, Filter(), 4, 1 << 20)
    catalog.fails = True
    with pytest.raises(MediasyncError, match="away"):
        await feed.read(place, Filter(), 4, 1 << 20)
    catalog.fails = False
    assert (await told(feed, place))[0] == TOLD[4:]


async def test_a_large_event_comes_alone() -> None:
    feed = SnapshotFeed(Catalog().page, "gallery")
    assert len((await feed.read(0, Filter(), 100, 1))[0]) == 1


async def test_the_ids_are_the_same_for_the_same_subscriber() -> None:
    async def ids(name: str) -> list[str]:
        return [event.event_id for event in (await SnapshotFeed(Catalog().page, name).read(0, Filter(), 100, 1 << 20))[0]]

    assert await ids("gallery") == await ids("gallery")
    assert not set(await ids("gallery")) & set(await ids("other"))


async def test_an_empty_catalog_is_a_snapshot_of_nothing() -> None:
    assert await told(SnapshotFeed(Catalog([]).page, "gallery")) == ([], [])


async def test_a_new_subscriber_is_filled_with_the_library_and_then_follows_it(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    synced = file_event(b"a.png")
    processed = file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=WORKFLOW)
    deleted = file_event(b"b.png", pb.EVENT_TYPE_FILE_DELETED, second=9)
    await ingest.publish([synced, processed, file_event(b"b.png"), deleted])
    subscriber = RecordingSubscriber()
    server = await start_subscriber(subscriber)
    await from_snapshot(ingest, server.address)
    later = file_events(2)
    await ingest.publish(later)
    await subscriber.until_has(later)
    made = [event for event in subscriber.events if event.synthetic]
    assert [(event.file.library_path.raw, event.type) for event in made] == [
        (b"a.png", pb.EVENT_TYPE_FILE_SYNCED),
        (b"a.png", pb.EVENT_TYPE_FILE_PROCESSED),
        (b"b.png", pb.EVENT_TYPE_FILE_SYNCED),
        (b"b.png", pb.EVENT_TYPE_FILE_DELETED),
    ]
    assert made[1].file.SerializeToString(deterministic=True) == processed.file.SerializeToString(deterministic=True)
    assert (made[0].sync_id, made[0].source, made[0].time) == (synced.sync_id, "forge", synced.time)
    assert made[3].time == deleted.time
    assert [event.event_id for event in subscriber.events if not event.synthetic] == [event.event_id for event in later]


async def test_i5_i6_a_kill_in_the_middle_of_a_snapshot_loses_nothing_of_it(
    tmp_path: Path, start_process: StartProcess, start_subscriber: StartSubscriber
) -> None:
    home = Home(tmp_path / "home")
    subscriber = RecordingSubscriber()
    address = (await start_subscriber(subscriber)).address
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": "ingest.snapshot_page"})
    ingest = Ingest(home)
    events = file_events(60)
    await ingest.publish(events)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await from_snapshot(ingest, address)
    assert await doomed.ended() == -signal.SIGKILL
    await start_process("services.ingest", home.path, {})
    # An outbox sends again; and so does whoever asked for the snapshot, and was not answered.
    await ingest.publish(events)
    await from_snapshot(ingest, address)
    await subscriber.until(lambda: len({event.file.library_path.raw for event in subscriber.events if event.synthetic}) == 60)
    made = {event.file.library_path.raw: event.event_id for event in subscriber.events if event.synthetic}
    assert {event.event_id for event in subscriber.events if event.synthetic} == set(made.values())
    await ingest.close()
