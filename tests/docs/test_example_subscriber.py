"""The example subscriber's blocking servicer, call by call, without a server around it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import grpc_testing
import pytest

from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import types_pb2

SOURCE = Path(__file__).parents[2] / "examples" / "subscriber_python" / "subscriber.py"
SERVICE = pb.DESCRIPTOR.services_by_name["MediaIngest"]


@pytest.fixture
def call(tmp_path: Path) -> Any:
    """Calls a method of the example; its last lines, which start a server, are left off."""
    namespace: dict[str, Any] = {}
    exec(SOURCE.read_text().partition("\nserver = ")[0], namespace)
    servicer = namespace["Pictures"](str(tmp_path / "pictures.db"))
    server = grpc_testing.server_from_dictionary({SERVICE: servicer}, grpc_testing.strict_real_time())

    def invoke(method: str, request: Any) -> Any:
        running = server.invoke_unary_unary(SERVICE.methods_by_name[method], {}, request, None)
        response, _, code, _ = running.termination()
        assert code is grpc.StatusCode.OK
        return response

    with closing(servicer.db):
        yield invoke


def event(kind: pb.EventType.ValueType, number: int = 1, **metadata: Any) -> pb.Event:
    record = pb.FileRecord(
        library_path=types_pb2.FilePath(raw=b"a/\xff%d.png" % number), digest=types_pb2.Digest(value=bytes([number] * 32))
    )
    if metadata:
        record.metadata.CopyFrom(pb.GenerationMetadata(**metadata))
    return pb.Event(event_id=f"{kind}-{number}", type=kind, file=record)


def rows(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "pictures.db")) as database:
        return database.execute("SELECT path, prompt, seed, at_source FROM pictures ORDER BY path").fetchall()


def test_a_batch_is_accepted_event_by_event_and_a_repetition_changes_nothing(call: Any, tmp_path: Path) -> None:
    batch = pb.OnBatchSyncedRequest(
        events=[event(pb.EVENT_TYPE_FILE_SYNCED), event(pb.EVENT_TYPE_FILE_PROCESSED, prompt="a cat", seed=2**64 - 1)]
    )
    for _ in range(2):
        response = call("OnBatchSynced", batch)
        assert [result.event_id for result in response.results] == [each.event_id for each in batch.events]
        assert {result.verdict for result in response.results} == {pb.EVENT_VERDICT_ACCEPTED}
    assert rows(tmp_path) == [(b"a/\xff1.png", "a cat", str(2**64 - 1), 1)]


def test_a_file_deleted_at_its_source_stays_on_record(call: Any, tmp_path: Path) -> None:
    call("OnBatchSynced", pb.OnBatchSyncedRequest(events=[event(pb.EVENT_TYPE_FILE_SYNCED), event(pb.EVENT_TYPE_FILE_DELETED)]))
    assert rows(tmp_path) == [(b"a/\xff1.png", None, None, 0)]


def test_a_file_that_moved_keeps_what_is_known_of_it(call: Any, tmp_path: Path) -> None:
    there = event(pb.EVENT_TYPE_FILE_SYNCED, 2)
    moved = event(pb.EVENT_TYPE_FILE_SYNCED, 2)
    moved.file.digest.value = bytes([1] * 32)
    moved.file.moved_from.raw = b"a/\xff1.png"
    batch = [event(pb.EVENT_TYPE_FILE_PROCESSED, prompt="a cat"), there, moved]
    for _ in range(2):
        call("OnBatchSynced", pb.OnBatchSyncedRequest(events=batch))
        assert rows(tmp_path) == [(b"a/\xff2.png", "a cat", None, 1)]


@pytest.mark.parametrize(("digest", "exists"), [(b"", True), (bytes([1] * 32), True), (bytes([2] * 32), False)])
def test_it_answers_from_its_own_records_whether_a_file_exists(call: Any, digest: bytes, exists: bool) -> None:
    call("OnBatchSynced", pb.OnBatchSyncedRequest(events=[event(pb.EVENT_TYPE_FILE_SYNCED)]))
    request = pb.VerifyFileExistsRequest(library_path=types_pb2.FilePath(raw=b"a/\xff1.png"), digest=types_pb2.Digest(value=digest))
    assert call("VerifyFileExists", request).exists is exists
