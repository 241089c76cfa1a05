"""What every MediaIngest implementation has to do, played against real processes: the built-in catalog and the guide's example.

An implementation may leave calls out (UNIMPLEMENTED); what it does answer has to be right.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mediasync.convert import file_path
from mediasync.runtime.channels import open_channel
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import types_pb2
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestStub
from tests.fixtures.ingest import BOUND_SECONDS, StartProcess, file_event, file_events, sync_event

EXAMPLE = Path(__file__).parents[2] / "examples" / "subscriber_python" / "subscriber.py"
KINDS = {
    "OnFileSynced": (pb.EVENT_TYPE_FILE_SYNCED, pb.OnFileSyncedRequest),
    "OnFileProcessed": (pb.EVENT_TYPE_FILE_PROCESSED, pb.OnFileProcessedRequest),
    "OnFileDeleted": (pb.EVENT_TYPE_FILE_DELETED, pb.OnFileDeletedRequest),
}
ODD_NAMES = [
    b"with blank.png",
    b"quote'\".png",
    b"new\nline.png",
    b"-rf.png",
    b"not-utf8-\xff\xfe.png",
    "umläut-☺-\u202e.png".encode(),
    b"100%_LIKE_.png",
    b"x" * 255,
    b"'; DROP TABLE files; --",
    b"deep/" * 100 + b"a.png",
]


@dataclass
class Implementation:
    """One implementation, running as a process, with its records in a folder that outlives it."""

    stub: Any
    kill: Callable[[], Awaitable[None]]
    start: Callable[[], Awaitable[None]]

    async def call(self, name: str, request: Any) -> Any:
        """The answer; None where the call is not implemented."""
        try:
            return await getattr(self.stub, name)(request, timeout=BOUND_SECONDS, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise

    async def tell(self, events: Sequence[pb.Event]) -> list[pb.EventResult]:
        """Offers file events in a batch, or one by one where batches are not implemented."""
        response = await self.call("OnBatchSynced", pb.OnBatchSyncedRequest(events=events))
        if response is not None:
            return list(response.results)
        results = []
        for event in events:
            name, (_, request) = next((name, kind) for name, kind in KINDS.items() if kind[0] == event.type)
            if answer := await self.call(name, request(event=event)):
                results.append(answer.result)
        return results

    async def take(self, *events: pb.Event) -> None:
        """Offers events that have to be accepted, each by one result."""
        results = await self.tell(events)
        assert sorted(result.event_id for result in results) == sorted(event.event_id for event in events)
        assert {result.verdict for result in results} == {pb.EVENT_VERDICT_ACCEPTED}

    async def has(self, path: bytes, sha256: bytes | None = None) -> bool:
        request = pb.VerifyFileExistsRequest(library_path=file_path(path))
        if sha256 is not None:
            request.digest.CopyFrom(types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=sha256))
        return bool((await self.stub.VerifyFileExists(request, timeout=BOUND_SECONDS, wait_for_ready=True)).exists)


@pytest.fixture(params=["catalog", "example"])
async def subscriber(request: pytest.FixtureRequest, tmp_path: Path, start_process: StartProcess) -> AsyncIterator[Implementation]:
    running: list[Any] = []

    async def start_catalog() -> None:
        running.append(await start_process("services.ingest.subscribers.catalog", tmp_path / "home", {"MEDIASYNC_LISTEN": address}))

    async def start_example() -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDIASYNC_")}
        command = [sys.executable, str(EXAMPLE), address, str(tmp_path / "pictures.db")]
        running.append(await asyncio.create_subprocess_exec(*command, env=environment))

    async def kill() -> None:
        process = getattr(running[-1], "process", running[-1])
        if process.returncode is None:
            process.kill()
        await process.wait()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    start = start_catalog if request.param == "catalog" else start_example
    await start()
    async with open_channel(address) as channel:
        yield Implementation(MediaIngestStub(channel), kill, start)
    await kill()


async def test_every_call_is_answered_for_its_event_or_not_implemented(subscriber: Implementation) -> None:
    answered = 0
    for name, (kind, request) in KINDS.items():
        event = file_event(b"a.png", kind)
        if response := await subscriber.call(name, request(event=event)):
            assert (response.result.event_id, response.result.verdict) == (event.event_id, pb.EVENT_VERDICT_ACCEPTED)
            answered += 1
    if response := await subscriber.call("OnSyncComplete", pb.OnSyncCompleteRequest(event=sync_event())):
        assert (response.result.event_id, response.result.verdict) == (sync_event().event_id, pb.EVENT_VERDICT_ACCEPTED)
    if response := await subscriber.call("OnBatchSynced", pb.OnBatchSyncedRequest(events=file_events(1))):
        assert len(response.results) == 1
        answered += 1
    assert answered


async def test_a_batch_is_answered_event_by_event(subscriber: Implementation) -> None:
    await subscriber.take(*file_events(50))
    assert all([await subscriber.has(event.file.library_path.raw) for event in file_events(50)])
    assert await subscriber.tell([]) == []


async def test_the_life_of_a_file_is_taken_in_one_batch(subscriber: Implementation) -> None:
    await subscriber.take(*(file_event(b"a.png", kind) for kind, _ in KINDS.values()))
    assert await subscriber.has(b"a.png")


async def test_repetitions_are_accepted_and_change_nothing(subscriber: Implementation) -> None:
    events = [file_event(b"a.png", kind) for kind, _ in KINDS.values()]
    for _ in range(3):
        await subscriber.take(*events)
    await subscriber.take(events[0], events[0], events[1])
    assert await subscriber.has(b"a.png", events[0].file.digest.value)


async def test_a_file_is_known_by_its_path_and_its_hash(subscriber: Implementation) -> None:
    event = file_event(b"a.png")
    await subscriber.take(event)
    assert await subscriber.has(b"a.png")
    assert await subscriber.has(b"a.png", event.file.digest.value)
    assert not await subscriber.has(b"a.png", b"\0" * 32)
    assert not await subscriber.has(b"b.png")
    assert not await subscriber.has(b"A.PNG")


async def test_other_content_at_the_same_path_is_known_by_its_new_hash(subscriber: Implementation) -> None:
    first, second = file_event(b"a.png"), file_event(b"a.png", content=b"another picture", second=60)
    await subscriber.take(first, second)
    assert await subscriber.has(b"a.png", second.file.digest.value)
    assert not await subscriber.has(b"a.png", first.file.digest.value)


async def test_names_are_bytes_and_nothing_else(subscriber: Implementation) -> None:
    await subscriber.take(*(file_event(name) for name in ODD_NAMES))
    for name in ODD_NAMES:
        assert await subscriber.has(name), name
    assert not await subscriber.has(b"not-utf8-\xef\xbf\xbd\xef\xbf\xbd.png")
    assert not await subscriber.has(b"100%_LIKEx.png")


async def test_metadata_of_any_kind_and_size_is_taken(subscriber: Implementation) -> None:
    metadata = pb.GenerationMetadata(
        prompt="a \0 cat \u202e \U0010ffff",
        negative_prompt="'; DROP TABLE pictures; --",
        seed=2**64 - 1,
        steps=-(2**31),
        cfg_scale=float("nan"),
        loras=["\0"],
        fields=[pb.MetadataField(name="\n", value="=" * 100_000)] * 20,
        prompt_json=b'{"is_changed": [NaN], "inputs": {"seed": 1e400}}',
        workflow_json=b'{"text": "\\u0000\\ud800", "nodes": "' + b"n" * (10 << 20) + b'"}',
        parameters="p" * (1 << 20),
    )
    event = file_event(b"huge.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)
    await subscriber.take(file_event(b"huge.png"))
    await subscriber.take(event)
    assert await subscriber.has(b"huge.png", event.file.digest.value)


async def test_times_and_sizes_at_the_edge_are_taken(subscriber: Implementation) -> None:
    event = file_event(b"edge.png")
    event.file.size_bytes = 2**63 - 1
    event.file.modify_time.seconds = 253402300799
    event.time.seconds = -62135596800
    await subscriber.take(event)
    assert await subscriber.has(b"edge.png")


async def test_a_type_of_event_from_a_later_version_is_accepted_and_ignored(subscriber: Implementation) -> None:
    unknown = file_event(b"a.png")
    unknown.type = 99  # type: ignore[assignment]
    if response := await subscriber.call("OnBatchSynced", pb.OnBatchSyncedRequest(events=[unknown])):
        assert [result.verdict for result in response.results] == [pb.EVENT_VERDICT_ACCEPTED]
    assert not await subscriber.has(b"a.png")


async def test_what_was_accepted_is_still_there_after_a_kill(subscriber: Implementation) -> None:
    events = file_events(20)
    await subscriber.take(*events)
    await subscriber.kill()
    await subscriber.start()
    assert all([await subscriber.has(event.file.library_path.raw, event.file.digest.value) for event in events])
