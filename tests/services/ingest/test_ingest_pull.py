"""Readers that come to the log: streams, named cursors, acknowledging."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from mediasync.convert import timestamp_ns
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.runtime.home import Home
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest import pulling, servicer
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, StartIngest, StartProcess, file_event, file_events, sync_event

BEGINNING = events_pb2.EventStart(beginning={})


async def refused(awaitable: Any) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the event log"):
        await awaitable
    return caught.value


def numbers(pages: list[events_pb2.EventsSubscribeResponse]) -> list[int]:
    return [event.sequence for page in pages for event in page.events]


async def test_a_stream_without_a_name_reads_from_where_it_says_and_keeps_nothing(ingest: Ingest) -> None:
    await ingest.publish([*file_events(4), sync_event()])
    pages = await ingest.read(start=BEGINNING, batch_size=2)
    assert [[event.sequence for event in page.events] for page in pages] == [[1, 2], [3, 4], [5]]
    assert [page.sequence for page in pages] == [2, 4, 5]
    assert numbers(await ingest.read(start={"sequence": 4})) == [4, 5]
    assert numbers(await ingest.read(start={"last": 2})) == [4, 5]
    assert numbers(await ingest.read(start={"last": 99})) == [1, 2, 3, 4, 5]
    assert numbers(await ingest.read(start={"since": timestamp_ns(0)})) == [1, 2, 3, 4, 5]
    assert numbers(await ingest.read(start={"since": timestamp_ns(1 << 62)})) == []
    assert await ingest.read() == []
    found = await ingest.events.ListSubscriptions(events_pb2.ListSubscriptionsRequest(), timeout=BOUND_SECONDS)
    assert [one.name for one in found.subscriptions] == ["catalog"]


async def test_a_stream_has_what_it_asks_for(ingest: Ingest) -> None:
    await ingest.publish(
        [
            file_event(b"txt2img-images/a.png"),
            file_event(b"img2img-images/b.png"),
            file_event(b"txt2img-images/c.png", source="comfy"),
            file_event(b"txt2img-images/a.png", pb.EVENT_TYPE_FILE_PROCESSED),
            sync_event(),
        ]
    )

    async def read(**fields: Any) -> list[int]:
        return numbers(await ingest.read(start=BEGINNING, filter=events_pb2.EventFilter(**fields)))

    assert await read(types=[pb.EVENT_TYPE_FILE_SYNCED]) == [1, 2, 3]
    assert await read(sources=["comfy"]) == [3]
    assert await read(paths=["txt2img-images/**"]) == [1, 3, 4, 5]
    assert await read(types=[pb.EVENT_TYPE_FILE_SYNCED], sources=["forge"], paths=["/txt2img-images"]) == [1]


async def test_a_cursor_moves_by_acknowledging_alone(start_ingest: StartIngest) -> None:
    ingest, service = await start_ingest()
    await ingest.publish(file_events(5))
    pages = await ingest.read("notebook", start=BEGINNING, batch_size=2)
    assert numbers(pages) == [1, 2, 3, 4, 5]
    # Nothing was acknowledged: all of it comes again. The start counts for a new cursor only.
    assert numbers(await ingest.read("notebook")) == [1, 2, 3, 4, 5]
    answer = await ingest.ack("notebook", pages[0].token)
    assert (answer.cursor, answer.lag) == (2, 3)
    assert (await ingest.ack("notebook", 1)).cursor == 2
    assert numbers(await ingest.read("notebook")) == [3, 4, 5]
    found = await ingest.subscription("notebook")
    assert (found.pull, found.address, found.cursor, found.lag) == (True, "", 2, 3)
    assert found.state == events_pb2.SUBSCRIPTION_STATE_IDLE
    assert found.lag_time.ToNanoseconds() > 0
    await service.stop(0)
    ingest, _ = await start_ingest()
    assert numbers(await ingest.read("notebook")) == [3, 4, 5]
    assert (await ingest.ack("notebook", 5)).lag == 0


async def test_a_reader_that_follows_is_told_what_comes(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "HEARTBEAT_SECONDS", 0.01)
    stream = ingest.stream("notebook", follow=True)
    assert (await stream.read()).HasField("heartbeat")
    assert (await ingest.subscription("notebook")).state == events_pb2.SUBSCRIPTION_STATE_ACTIVE
    await ingest.publish(file_events(1))
    page = await next_events(stream)
    assert [event.sequence for event in page.events] == [1]
    await ingest.ack("notebook", page.token)
    assert (await ingest.subscription("notebook")).events_per_second > 0
    stream.cancel()


async def next_events(stream: Any) -> events_pb2.EventsSubscribeResponse:
    while True:
        page = await stream.read()
        if page.events:
            return page


async def test_the_newest_reader_of_a_cursor_has_it(ingest: Ingest) -> None:
    await ingest.publish(file_events(1))
    first = ingest.stream("notebook", start=BEGINNING, follow=True)
    await next_events(first)
    second = ingest.stream("notebook", follow=True)
    assert numbers([await next_events(second)]) == [1]
    error = await refused(first.read())
    assert error.reason is Reason.SUBSCRIPTION_BUSY
    assert "another reader" in error.message
    assert (await ingest.subscription("notebook")).state == events_pb2.SUBSCRIPTION_STATE_ACTIVE
    second.cancel()


async def test_streams_end_with_the_service_and_go_on_with_the_next(start_ingest: StartIngest) -> None:
    ingest, service = await start_ingest()
    stream = ingest.stream("notebook", follow=True)
    reading = asyncio.ensure_future(refused(stream.read()))
    while (await ingest.subscription("notebook") if await has(ingest, "notebook") else None) is None:
        await asyncio.sleep(0)
    await service.stop(BOUND_SECONDS)
    assert (await reading).reason is Reason.SERVICES_UNREACHABLE


async def has(ingest: Ingest, name: str) -> bool:
    found = await ingest.events.ListSubscriptions(events_pb2.ListSubscriptionsRequest(), timeout=BOUND_SECONDS)
    return any(one.name == name for one in found.subscriptions)


async def test_what_a_reader_rejects_is_a_dead_letter_before_the_cursor_moves(ingest: Ingest) -> None:
    await ingest.publish(file_events(4))
    pages = await ingest.read("notebook", start=BEGINNING)
    ids = [event.event_id for event in pages[0].events]
    error = await refused(ingest.ack("notebook", 2, {ids[3]: "too late"}))
    assert (error.reason, [one.field for one in error.fields]) == (Reason.INVALID_ARGUMENT, ["rejected"])
    assert (await ingest.subscription("notebook")).cursor == 0
    assert (await ingest.ack("notebook", 3, {ids[1]: "no\x1bt mine"})).cursor == 3
    # Its answer may have been lost: the same again changes nothing.
    assert (await ingest.ack("notebook", 3, {ids[1]: "not mine"})).cursor == 3
    (letter,) = await ingest.dead_letters("notebook")
    assert (letter.event.sequence, letter.answer, letter.attempts, "\x1b" in letter.reason) == (2, "REJECTED", 1, False)
    assert (await ingest.subscription("notebook")).dead_letters == 1


async def test_an_acknowledgement_that_cannot_be_is_refused(ingest: Ingest) -> None:
    await ingest.publish(file_events(2))
    await ingest.read("notebook", start=BEGINNING)
    wrong: list[dict[str, Any]] = [
        {"token": "nonsense"},
        {"token": "m:99999999999999999999"},
        {"sequence": 7},
        {"sequence": -1},
        {},
        {"sequence": 1, "rejected": [pb.EventResult(reason="which?")]},
        {"sequence": 1, "rejected": [pb.EventResult(event_id="x", verdict=pb.EVENT_VERDICT_RETRY)]},
    ]
    for fields in wrong:
        error = await refused(ingest.events.Ack(events_pb2.EventsAckRequest(name="notebook", **fields), timeout=BOUND_SECONDS))
        assert error.reason is Reason.INVALID_ARGUMENT, fields
    assert (await ingest.subscription("notebook")).cursor == 0


async def test_a_subscription_that_is_called_is_no_cursor_and_a_cursor_is_not_called(ingest: Ingest) -> None:
    await ingest.subscribe("gallery", "127.0.0.1:1")
    assert (await refused(ingest.read("gallery"))).reason is Reason.SUBSCRIPTION_WRONG_KIND
    assert (await refused(ingest.ack("catalog", 1))).reason is Reason.SUBSCRIPTION_WRONG_KIND
    assert (await refused(ingest.ack("nobody", 1))).reason is Reason.SUBSCRIPTION_NOT_FOUND
    await ingest.publish(file_events(2))
    added = await ingest.subscribe("notebook", "", pull=True, from_beginning=True, types=[pb.EVENT_TYPE_FILE_SYNCED])
    assert (added.pull, added.state) == (True, events_pb2.SUBSCRIPTION_STATE_IDLE)
    # The cursor's own filter counts.
    await ingest.publish([sync_event()])
    assert numbers(await ingest.read("notebook", filter=events_pb2.EventFilter(types=[pb.EVENT_TYPE_SYNC_COMPLETE]))) == [1, 2]


async def test_a_stream_that_cannot_be_is_refused(ingest: Ingest) -> None:
    wrong: list[dict[str, Any]] = [
        {"name": "with blank"},
        {"batch_size": -1},
        {"batch_size": 1001},
        {"start": {"sequence": 9}},
        {"start": {"sequence": -3}},
        {"filter": {"types": [99]}},
        {"filter": {"paths": [""]}},
        {"filter": {"paths": ["[z-a]"]}},
        {"filter": {"sources": ["x"] * 101}},
    ]
    for fields in wrong:
        assert (await refused(ingest.read(**fields))).reason is Reason.INVALID_ARGUMENT, fields


async def test_a_reader_that_does_not_read_makes_nothing_grow_and_may_leave(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reads = ended = 0
    read, open_stream = pulling.Reading.next, servicer.open_stream

    async def counted(self: pulling.Reading) -> pulling.Page | None:
        nonlocal reads
        reads += 1
        return await read(self)

    async def opened(*arguments: Any, **options: Any) -> AsyncGenerator[pulling.Page]:
        nonlocal ended
        try:
            async for page in open_stream(*arguments, **options):
                yield page
        finally:
            ended += 1

    monkeypatch.setattr(pulling.Reading, "next", counted)
    monkeypatch.setattr(servicer, "open_stream", opened)
    large = pb.GenerationMetadata(prompt="x" * 500_000)
    await ingest.publish([file_event(f"{number}.png".encode(), metadata=large) for number in range(40)])
    stream = ingest.stream(start=BEGINNING, batch_size=1)
    await stream.read()
    await ingest.delivered(40)
    assert reads < 30
    stream.cancel()
    while ended == 0:
        await asyncio.sleep(0)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_i6_a_kill_between_what_was_rejected_and_the_cursor_keeps_both_in_step(tmp_path: Path, start_process: StartProcess) -> None:
    home = Home(tmp_path / "home")
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": "ingest.after_ack"})
    ingest = Ingest(home)
    await ingest.publish(file_events(3))
    (page,) = await ingest.read("notebook", start=BEGINNING)
    rejected = {page.events[1].event_id: "not mine"}
    assert (await refused(ingest.ack("notebook", page.token, rejected))).reason is Reason.SERVICES_UNREACHABLE
    assert await doomed.ended() == -signal.SIGKILL
    await start_process("services.ingest", home.path)
    await ingest.publish(file_events(3))
    (again,) = await ingest.read("notebook")
    assert [event.event_id for event in again.events] == [event.event_id for event in page.events]
    assert (await ingest.ack("notebook", again.token, rejected)).lag == 0
    assert len(await ingest.dead_letters("notebook")) == 1
    await ingest.close()
