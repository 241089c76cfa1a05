"""Events as bytes against protobuf itself, and what the log asks of those that are published."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediasync.convert import event_bytes, file_path
from mediasync.errors import MediasyncError, Reason
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest import framing
from services.ingest.events import EventKind, Filter, LoggedEvent
from services.ingest.filtering import check_paths, wanted_of
from services.ingest.publishing import events_from_request, file_key
from tests.fixtures.ingest import LIBRARY, file_event, file_events, sync_event

NUMBERS = st.integers(min_value=1, max_value=2**63 - 1)
EVENTS = st.builds(
    pb.Event,
    event_id=st.text(min_size=1, max_size=64),
    sync_id=st.text(max_size=200),
    source=st.text(max_size=20),
    type=st.sampled_from([1, 2, 3, 4, 5]),
    synthetic=st.booleans(),
    file=st.builds(pb.FileRecord, library_root=st.text(max_size=300), size_bytes=NUMBERS) | st.none(),
)


def logged(event: pb.Event, sequence: int = 1) -> LoggedEvent:
    payload = framing.with_sequence(event.SerializeToString(), sequence)
    return LoggedEvent(sequence, event.event_id, event.type, b"", event.sync_id, "", 0, payload)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(EVENTS, NUMBERS), max_size=4))
def test_what_is_cut_and_joined_is_what_protobuf_reads(numbered: list[tuple[pb.Event, int]]) -> None:
    events = [event for event, _ in numbered]
    payloads = [event.SerializeToString() for event in events]
    assert framing.split_events(events_pb2.EventsPublishRequest(events=events).SerializeToString()) == payloads
    logs = [logged(event, number) for event, number in numbered]
    assert [framing.sequence_of(log.payload) for log in logs] == [number for _, number in numbered]
    assert [framing.sequence_of(payload) for payload in payloads] == [0] * len(payloads)
    read = pb.OnBatchSyncedRequest.FromString(event_bytes.batch(log.payload for log in logs)).events
    for event, number in numbered:
        event.sequence = number
    assert list(read) == events
    results = [pb.EventResult(event_id=event.event_id, verdict=pb.EVENT_VERDICT_ACCEPTED) for event in events]
    assert framing.accepted(logs) == pb.OnBatchSyncedResponse(results=results).SerializeToString()


def published(*events: pb.Event, extra: bytes = b"") -> bytes:
    return events_pb2.EventsPublishRequest(events=events).SerializeToString() + extra


def test_the_bytes_of_an_event_are_kept_as_they_came_also_fields_of_a_later_version() -> None:
    payload = file_event(b"a.png").SerializeToString() + b"\xa2\x06\x03new"  # field 100
    (event,) = events_from_request(b"\x0a" + event_bytes.varint(len(payload)) + payload, "")
    assert (event.payload, event.kind, len(event.file_key)) == (payload, EventKind.FILE_SYNCED, 16)


def test_a_request_of_a_later_version_is_taken_apart_by_protobuf() -> None:
    events = events_from_request(published(*file_events(2), extra=b"\x12\x02hi"), "")
    assert [pb.Event.FromString(event.payload) for event in events] == file_events(2)


def test_a_number_from_outside_is_taken_out() -> None:
    event = file_event(b"a.png")
    event.sequence = 77
    assert framing.sequence_of(events_from_request(published(event), "")[0].payload) == 0


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(MediasyncError) as caught:
        events_from_request(b"\x0a\xff", "")
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_a_moved_file_has_the_keys_of_both_its_places_and_neither_may_lead_out() -> None:
    event = file_event(b"new.png")
    event.file.moved_from.CopyFrom(file_path(b"old.png"))
    assert events_from_request(published(event), "")[0].file_key == file_key(LIBRARY, b"new.png") + file_key(LIBRARY, b"old.png")
    event.file.moved_from.CopyFrom(file_path(b"../old.png"))
    with pytest.raises(MediasyncError) as caught:
        events_from_request(published(event), "")
    assert [violation.field for violation in caught.value.fields] == ["events[0].file.moved_from.raw"]


def test_a_folder_that_landed_is_about_no_file_and_has_to_say_what_landed() -> None:
    event = pb.Event(event_id="b", type=pb.EVENT_TYPE_BATCH_SYNCED, sync_id="s", batch=pb.BatchRecord(files=3))
    assert events_from_request(published(event), "")[0].file_key == b""
    event.ClearField("batch")
    with pytest.raises(MediasyncError, match="BATCH_SYNCED"):
        events_from_request(published(event), "")


def wanted(events: list[pb.Event], **of: object) -> list[str]:
    rows = [logged(event, number) for number, event in enumerate(events, 1)]
    return [pb.Event.FromString(row.payload).file.library_path.display for row in wanted_of(rows, Filter(**of))]  # type: ignore[arg-type]


def test_a_filter_asks_for_kinds_sources_and_paths_and_lets_pass_what_is_about_no_file() -> None:
    moved = file_event(b"kept/b.png", source="other")
    moved.file.moved_from.CopyFrom(file_path(b"txt2img-images/b.png"))
    events = [file_event(b"txt2img-images/a.png"), file_event(b"img2img-images/.hidden.tmp"), moved, sync_event()]
    everything = ["txt2img-images/a.png", "img2img-images/.hidden.tmp", "kept/b.png", ""]
    assert wanted(events) == everything
    assert wanted(events, kinds=frozenset({EventKind.SYNC_COMPLETE})) == [""]
    assert wanted(events, sources=("forge/",)) == [everything[0], everything[1], ""]
    assert wanted(events, sources=("forge",), paths=("txt2img-images/**",)) == [everything[0], ""]
    assert wanted(events, paths=("txt2img-images/**",)) == [everything[0], everything[2], ""]
    assert wanted(events, paths=("**", "!kept/", "!txt2img-images/")) == [everything[1], ""]
    with pytest.raises(ValueError, match="no pattern"):
        check_paths(["a/../b"])
