"""What goes from the outbox to the event log, as bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediasync.convert import event_bytes
from mediasync.v1 import events_pb2, media_ingest_pb2


@given(st.lists(st.sampled_from((0, 1, 100, 127, 128, 16_383, 16_384, 70_000)), max_size=5))
def test_a_request_put_together_from_bytes_is_the_one_that_protobuf_makes(lengths: list[int]) -> None:
    events = [media_ingest_pb2.Event(event_id="x" * length, source="forge") for length in lengths]
    made = event_bytes.batch([event.SerializeToString() for event in events])
    assert events_pb2.EventsPublishRequest.FromString(made) == events_pb2.EventsPublishRequest(events=events)
