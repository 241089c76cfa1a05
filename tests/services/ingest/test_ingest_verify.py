"""A subscriber is asked about every file, and sent what it lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from mediasync.convert import file_path
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import catalog_pb2, events_pb2, transfer_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1.transfer_pb2_grpc import TransferServicer, add_TransferServicer_to_server
from services.ingest import verifying
from tests.fixtures.ingest import BOUND_SECONDS, LIBRARY, Ingest, RecordingSubscriber, StartSubscriber, file_event, file_events


class Forgetful(RecordingSubscriber):
    """Answers from what it was told, but for what it forgot; asked one by one."""

    def __init__(self, *forgot: bytes) -> None:
        super().__init__()
        self.forgot = set(forgot)
        self.asked: list[tuple[bytes, bytes, str]] = []

    async def hear(self, call: str, events: Any) -> list[pb.EventResult]:
        events = list(events)
        self.forgot -= {event.file.library_path.raw for event in events if event.synthetic}
        return await super().hear(call, events)

    def has(self, request: pb.VerifyFileExistsRequest) -> bool:
        path = request.library_path.raw
        self.asked.append((path, request.digest.value, request.library_root))
        return path not in self.forgot and path in {event.file.library_path.raw for event in self.events}

    async def VerifyFileExists(self, request: Any, context: Any) -> pb.VerifyFileExistsResponse:
        return pb.VerifyFileExistsResponse(exists=self.has(request))


class ByTheHundred(Forgetful):
    """Is asked about many at once."""

    def __init__(self, *forgot: bytes) -> None:
        super().__init__(*forgot)
        self.sizes: list[int] = []

    async def VerifyFilesExist(self, request: Any, context: Any) -> pb.VerifyFilesExistResponse:
        self.sizes.append(len(request.files))
        return pb.VerifyFilesExistResponse(exists=[self.has(one) for one in request.files])

    async def VerifyFileExists(self, request: Any, context: Any) -> Any:
        raise AssertionError("it is asked about many at once")


class CannotCount(Forgetful):
    """Answers once too often."""

    async def VerifyFilesExist(self, request: Any, context: Any) -> pb.VerifyFilesExistResponse:
        return pb.VerifyFilesExistResponse(exists=[True] * (len(request.files) + 1))


class Silent(RecordingSubscriber):
    """Knows neither call."""

    async def VerifyFileExists(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


async def verify(ingest: Ingest, name: str, **fields: Any) -> tuple[list[bytes], events_pb2.VerifyDone]:
    """The files that are lacking, and what it came to."""
    lacking: list[bytes] = []
    with rpc_errors("the ingest service"):
        request = events_pb2.VerifySubscriptionRequest(name=name, **fields)
        async for said in ingest.events.VerifySubscription(request, timeout=BOUND_SECONDS):
            if said.HasField("lacking"):
                lacking.append(said.lacking.library_path.raw)
            elif said.HasField("done"):
                return lacking, said.done
    raise AssertionError("it ended before its end")


async def follow(ingest: Ingest, start_subscriber: StartSubscriber, subscriber: RecordingSubscriber, **fields: Any) -> None:
    await ingest.subscribe("gallery", (await start_subscriber(subscriber)).address, from_beginning=True, **fields)


@pytest.mark.parametrize("kind", [Forgetful, ByTheHundred])
async def test_a_subscriber_is_sent_what_it_lacks(
    ingest: Ingest, start_subscriber: StartSubscriber, monkeypatch: pytest.MonkeyPatch, kind: type[Forgetful]
) -> None:
    monkeypatch.setattr(verifying, "FILES_A_CALL", 20)
    events = [*file_events(50), file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED)]
    subscriber = kind(b"a.png", b"txt2img-images/00031.png")
    await follow(ingest, start_subscriber, subscriber)
    sequences = await ingest.publish(events)
    await ingest.delivered(sequences[-1], "gallery")
    await ingest.delivered(sequences[-1])

    lacking, done = await verify(ingest, "gallery")
    assert lacking == [b"txt2img-images/00031.png", b"a.png"]
    assert (done.files_asked, done.files_lacking, done.files_sent) == (51, 2, 0)
    assert (b"a.png", events[-1].file.digest.value, LIBRARY) in subscriber.asked
    if isinstance(subscriber, ByTheHundred):
        # Those that were lacking once more, in case they came meanwhile.
        assert subscriber.sizes == [20, 20, 1, 11, 1]

    lacking, done = await verify(ingest, "gallery", repair=True)
    assert (len(lacking), done.files_sent) == (2, 2)
    await subscriber.until(lambda: not subscriber.forgot)
    await subscriber.until(lambda: sum(event.synthetic for event in subscriber.events) == 3)
    assert await verify(ingest, "gallery", repair=True) == ([], events_pb2.VerifyDone(files_asked=51))


async def test_what_is_repaired_twice_comes_under_new_ids(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    class Stubborn(Forgetful):
        def has(self, request: pb.VerifyFileExistsRequest) -> bool:
            return False

    subscriber = Stubborn()
    await follow(ingest, start_subscriber, subscriber)
    (last,) = await ingest.publish([file_event(b"a.png")])
    await ingest.delivered(last, "gallery")
    await ingest.delivered(last)
    for _ in range(2):
        assert (await verify(ingest, "gallery", repair=True))[1].files_sent == 1
    await subscriber.until(lambda: len(subscriber.events) == 3)
    assert len(set(subscriber.ids)) == 3


async def test_what_is_on_its_way_is_not_lacking(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    await follow(ingest, start_subscriber, Forgetful())
    request = events_pb2.PauseSubscriptionRequest(request_id="pause", name="gallery")
    await ingest.events.PauseSubscription(request, timeout=BOUND_SECONDS)
    await ingest.delivered((await ingest.publish(file_events(3)))[-1])
    assert await verify(ingest, "gallery") == ([], events_pb2.VerifyDone(files_asked=3))


async def test_only_files_that_it_wants_and_of_the_library_that_is_named_are_asked_about(
    ingest: Ingest, start_subscriber: StartSubscriber
) -> None:
    subscriber = Forgetful()
    await follow(ingest, start_subscriber, subscriber, filter=events_pb2.EventFilter(paths=["b/**"]))
    elsewhere = file_event(b"b/2.png")
    elsewhere.file.library_root = "/mnt/nas"
    await ingest.delivered((await ingest.publish([file_event(b"a/1.png"), file_event(b"b/1.png"), elsewhere]))[-1])
    await verify(ingest, "gallery")
    assert {path for path, *_ in subscriber.asked} == {b"b/1.png", b"b/2.png"}
    assert (await verify(ingest, "gallery", library_root="/mnt/nas"))[1].files_asked == 1


@pytest.mark.parametrize(
    ("kind", "said"), [(Silent, "does not answer VerifyFileExists"), (CannotCount, "answered 2 times when it was asked about 1 files")]
)
async def test_a_subscriber_that_cannot_be_asked_is_named(
    ingest: Ingest, start_subscriber: StartSubscriber, kind: type[RecordingSubscriber], said: str
) -> None:
    await follow(ingest, start_subscriber, kind())
    await ingest.delivered((await ingest.publish(file_events(1)))[-1])
    with pytest.raises(MediasyncError, match=f"'gallery' {said}") as caught:
        await verify(ingest, "gallery")
    assert caught.value.reason is Reason.SUBSCRIBER_MISBEHAVES


async def test_nobody_is_there_to_be_asked(ingest: Ingest, start_subscriber: StartSubscriber) -> None:
    server = await start_subscriber(Forgetful())
    await ingest.subscribe("gallery", server.address)
    await ingest.subscribe("notebook", "", pull=True)
    await ingest.delivered((await ingest.publish(file_events(1)))[-1])
    await server.stop()
    for name, reason in (
        ("gallery", Reason.SUBSCRIBER_UNREACHABLE),
        ("notebook", Reason.SUBSCRIPTION_WRONG_KIND),
        ("nobody", Reason.SUBSCRIPTION_NOT_FOUND),
    ):
        with pytest.raises(MediasyncError) as caught:
            await verify(ingest, name)
        assert caught.value.reason is reason


class Index(TransferServicer):
    """A transfer service that has a library's index."""

    def __init__(self, events: list[pb.Event]) -> None:
        self.events = events

    async def ListIndex(self, request: Any, context: Any) -> AsyncIterator[transfer_pb2.ListIndexResponse]:
        for event in self.events:
            record = event.file
            file = transfer_pb2.IndexedFile(
                library_path=record.library_path, size_bytes=record.size_bytes, digest=record.digest, modify_time=record.modify_time
            )
            yield transfer_pb2.ListIndexResponse(files=[file], library_root=LIBRARY)


async def test_the_catalog_is_asked_about_what_the_libraries_have(ingest: Ingest) -> None:
    events = file_events(3)
    await ingest.delivered((await ingest.publish(events[:2]))[-1])
    server = grpc.aio.server()
    add_TransferServicer_to_server(Index(events), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(ingest.home.socket_address("transfer"))
    await server.start()
    lacking, done = await verify(ingest, "catalog", repair=True)
    path = events[2].file.library_path.raw
    assert (lacking, done.files_asked, done.files_sent) == ([path], 3, 1)
    # The queue is dealt with before the log goes on.
    await ingest.delivered((await ingest.publish(file_events(1, start=9)))[-1])
    found = await ingest.catalog.Get(catalog_pb2.CatalogGetRequest(library_path=path), timeout=BOUND_SECONDS)
    assert found.file.file.digest == events[2].file.digest
    assert file_path(path) == found.file.file.library_path
    await server.stop(0)
