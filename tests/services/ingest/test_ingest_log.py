"""Publishing: dense numbers, one effect, durable, and nothing unusable gets in."""

from __future__ import annotations

import grpc
import pytest

from mediasync.convert import file_path
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from tests.fixtures.ingest import Ingest, StartIngest, file_event, file_events, sync_event


async def test_sequence_numbers_are_dense_and_in_the_order_of_the_request(ingest: Ingest) -> None:
    assert await ingest.publish(file_events(3)) == [1, 2, 3]
    assert await ingest.publish(file_events(2, start=3)) == [4, 5]


async def test_publishing_an_event_twice_has_one_effect_and_the_first_number(ingest: Ingest) -> None:
    events = file_events(3)
    await ingest.publish(events)
    newcomer = file_event(b"new.png")
    assert await ingest.publish([events[2], newcomer, newcomer, events[0]]) == [3, 4, 4, 1]
    assert await ingest.publish([sync_event()]) == [5]


async def test_nothing_published_is_nothing_done(ingest: Ingest) -> None:
    assert await ingest.publish([]) == []


async def test_numbers_go_on_after_a_restart(start_ingest: StartIngest) -> None:
    ingest, service = await start_ingest()
    await ingest.publish(file_events(3))
    await service.stop(0)
    ingest, _ = await start_ingest()
    assert await ingest.publish(file_events(4)) == [1, 2, 3, 4]


async def refusal(ingest: Ingest, events: list[pb.Event]) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the event log"):
        await ingest.publish(events)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    return caught.value


async def test_every_field_that_is_wrong_is_named_and_nothing_of_the_request_is_kept(ingest: Ingest) -> None:
    good, nameless, untyped, unfiled = (file_event(name) for name in (b"a", b"b", b"c", b"d"))
    nameless.event_id = ""
    untyped.type = pb.EVENT_TYPE_UNSPECIFIED
    unfiled.ClearField("file")
    unfinished = sync_event()
    unfinished.ClearField("sync")
    error = await refusal(ingest, [good, nameless, untyped, unfiled, unfinished])
    assert [violation.field for violation in error.fields] == ["events[1].event_id", "events[2].type", "events[3].file", "events[4].sync"]
    assert await ingest.publish([good]) == [1]


@pytest.mark.parametrize("path", [b"", b"/etc/passwd", b"../out", b"a/../../b", b"a\0b", b"x" * 300])
async def test_i7_a_path_that_leads_out_of_the_library_never_reaches_a_subscriber(ingest: Ingest, path: bytes) -> None:
    event = file_event(b"fine.png")
    event.file.library_path.CopyFrom(file_path(path))
    assert [violation.field for violation in (await refusal(ingest, [event])).fields] == ["events[0].file.library_path.raw"]


async def test_i7_nor_does_the_path_of_a_sidecar(ingest: Ingest) -> None:
    event = file_event(b"fine.png")
    event.file.xmp_path.CopyFrom(file_path(b"../fine.png.xmp"))
    assert [violation.field for violation in (await refusal(ingest, [event])).fields] == ["events[0].file.xmp_path.raw"]


async def test_too_many_events_in_one_request_are_refused(ingest: Ingest) -> None:
    await refusal(ingest, file_events(1001))


async def test_an_event_that_no_call_could_carry_is_refused(ingest: Ingest) -> None:
    event = file_event(b"a.png", metadata=pb.GenerationMetadata(workflow_json=b"x" * (17 << 20)))
    assert [violation.field for violation in (await refusal(ingest, [event])).fields] == ["events[0]"]


async def test_a_sequence_number_from_outside_is_not_believed(ingest: Ingest) -> None:
    event = file_event(b"a.png")
    event.sequence = 77
    assert await ingest.publish([event]) == [1]


async def test_waiting_for_a_subscription_ends_with_the_calls_deadline(ingest: Ingest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ingest.events.WaitDelivered(events_pb2.WaitDeliveredRequest(subscription="catalog", sequence=1), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_waiting_for_an_unknown_subscription_says_which_there_are(ingest: Ingest) -> None:
    with pytest.raises(MediasyncError, match="there are: catalog") as caught, rpc_errors("the event log"):
        await ingest.delivered(1, "nobody")
    assert caught.value.reason is Reason.SUBSCRIPTION_NOT_FOUND
