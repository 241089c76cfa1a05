"""The catalog as who fills subscribers reads it: every file complete, where it is now, and whether many are on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mediasync.convert import file_path
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.runtime.home import Home
from mediasync.runtime.service import Service
from mediasync.v1 import catalog_pb2, types_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1.catalog_pb2_grpc import CatalogStub
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestStub
from services.ingest.subscribers.catalog import sqlite_store
from services.ingest.subscribers.catalog.__main__ import wire
from tests.fixtures.ingest import BOUND_SECONDS, LIBRARY, file_event, file_events

WORKFLOW = pb.GenerationMetadata(prompt="a cat", workflow_json=b'{"nodes": [NaN]}')


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """The catalog alone, running in this process."""
    home = Home(tmp_path / "home", {})
    home.prepare()
    service = Service("catalog", home)
    await wire(service)
    await service.start()
    async with open_channel(home.socket_address("catalog")) as channel:
        yield channel
    await service.stop(0)


async def take(catalog: grpc.aio.Channel, *events: pb.Event) -> list[int]:
    stub: Any = MediaIngestStub(catalog)
    return [result.verdict for result in (await stub.OnBatchSynced(pb.OnBatchSyncedRequest(events=events), timeout=BOUND_SECONDS)).results]


async def export(catalog: grpc.aio.Channel, **fields: Any) -> list[catalog_pb2.CatalogExportResponse]:
    stub: Any = CatalogStub(catalog)
    call = stub.Export(catalog_pb2.CatalogExportRequest(**fields), timeout=BOUND_SECONDS)
    return [response async for response in call]


def moved(event: pb.Event, path: bytes, second: int) -> pb.Event:
    """The event that a file was found at another path."""
    result = pb.Event()
    result.CopyFrom(event)
    result.event_id = f"moved to {path!r}"[:64]
    result.time.seconds += second
    result.file.moved_from.CopyFrom(event.file.library_path)
    result.file.library_path.CopyFrom(file_path(path))
    result.file.xmp_path.CopyFrom(file_path(path + b".xmp"))
    return result


async def test_a_file_that_moved_is_the_same_file_elsewhere(catalog: grpc.aio.Channel) -> None:
    synced = file_event(b"old/a.png")
    processed = file_event(b"old/a.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=WORKFLOW)
    move = moved(synced, b"new/\xff.png", 60)
    move.sync_id = "verify_1"
    for _ in range(2):
        assert set(await take(catalog, synced, processed, move)) == {pb.EVENT_VERDICT_ACCEPTED}
    ((file,),) = [response.files for response in await export(catalog)]
    expected = pb.FileRecord()
    expected.CopyFrom(processed.file)
    expected.library_path.CopyFrom(move.file.library_path)
    expected.xmp_path.CopyFrom(move.file.xmp_path)
    assert file.file.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert (file.sync_id, file.sync_time, file.processed, file.position) == (synced.sync_id, synced.time, True, 1)


async def test_where_a_file_was_is_news_and_not_kept(catalog: grpc.aio.Channel) -> None:
    await take(catalog, moved(file_event(b"a.png"), b"b.png", 60))
    ((file,),) = [response.files for response in await export(catalog)]
    assert file.file.library_path.raw == b"b.png"
    assert not file.file.HasField("moved_from")


async def test_a_move_from_outside_the_library_is_rejected(catalog: grpc.aio.Channel) -> None:
    outside = moved(file_event(b"a.png"), b"b.png", 60)
    outside.file.moved_from.raw = b"../a.png"
    assert await take(catalog, outside) == [pb.EVENT_VERDICT_REJECTED]


async def test_an_export_is_complete_in_order_and_goes_on_from_a_position(
    catalog: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "MAX_PAGE_BYTES", 1500)
    events = file_events(20)
    elsewhere = file_event(b"z.png")
    elsewhere.file.library_root = "/mnt/nas"
    await take(catalog, *events, elsewhere)
    responses = await export(catalog, library_root=LIBRARY)
    files = [file for response in responses for file in response.files]
    assert [file.file.library_path.raw for file in files] == [event.file.library_path.raw for event in events]
    assert len(responses) > 3
    assert [response.last for response in responses] == [False] * (len(responses) - 1) + [True]
    assert [response.position for response in responses] == [response.files[-1].position for response in responses]
    rest = [file for response in await export(catalog, after=responses[1].position) for file in response.files]
    assert rest[:-1] == [file for response in responses[2:] for file in response.files]
    assert rest[-1].file.library_root == "/mnt/nas"


async def test_an_export_of_nothing_says_that_it_is_complete(catalog: grpc.aio.Channel) -> None:
    assert await export(catalog, after=7) == [catalog_pb2.CatalogExportResponse(position=7, last=True)]


async def test_many_files_are_asked_about_in_one_call(catalog: grpc.aio.Channel) -> None:
    event = file_event(b"a.png")
    await take(catalog, event)
    path, digest = event.file.library_path, event.file.digest
    questions = {
        pb.VerifyFileExistsRequest(library_path=path).SerializeToString(): True,
        pb.VerifyFileExistsRequest(library_path=path, digest=digest, library_root=LIBRARY).SerializeToString(): True,
        pb.VerifyFileExistsRequest(library_path=path, library_root="/mnt/nas").SerializeToString(): False,
        pb.VerifyFileExistsRequest(library_path=path, digest=types_pb2.Digest(value=b"?")).SerializeToString(): False,
        pb.VerifyFileExistsRequest(library_path=file_path(b"b.png")).SerializeToString(): False,
    }
    request = pb.VerifyFilesExistRequest(files=[pb.VerifyFileExistsRequest.FromString(question) for question in questions])
    stub: Any = MediaIngestStub(catalog)
    assert list((await stub.VerifyFilesExist(request, timeout=BOUND_SECONDS)).exists) == list(questions.values())
    with pytest.raises(MediasyncError) as caught, rpc_errors("the catalog"):
        await stub.VerifyFilesExist(pb.VerifyFilesExistRequest(files=[pb.VerifyFileExistsRequest()] * 1001), timeout=BOUND_SECONDS)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
