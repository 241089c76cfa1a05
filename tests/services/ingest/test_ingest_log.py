"""Publishing: dense numbers, one effect, durable, and nothing unusable gets in."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from mediasync.convert import file_path
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.storage.database import Database
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest import tail_cache
from services.ingest.events import (
    DeadLetter,
    EventKind,
    Filter,
    LoggedEvent,
    NewEvent,
    StoredSubscription,
    Subscription,
    SubscriptionPosition,
)
from services.ingest.log import EventLog
from services.ingest.log_rows import of_file, of_sync
from services.ingest.publishing import events_from_request
from services.ingest.schema import MIGRATIONS
from services.ingest.sqlite_log_store import raw_of
from services.ingest.sqlite_store import SqliteEventStore, open_database
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


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    database = open_database(f"sqlite:///{tmp_path}/ingest.db")
    yield SqliteEventStore(database)
    await database.close()


def new_events(*ids: str, kind: EventKind = EventKind.FILE_SYNCED) -> list[NewEvent]:
    return [NewEvent(event_id, kind, b"", "s", b"x" * 100) for event_id in ids]


class Counting(SqliteEventStore):
    """Knows what it was asked for, and fails when told."""

    appended: list[int]
    error: Exception | None = None
    reads = 0

    async def append(self, events: Sequence[NewEvent]) -> tuple[list[int], list[LoggedEvent]]:
        self.appended.append(len(events))
        if self.error is not None:
            raise self.error
        return await super().append(events)

    async def read(self, after: int, kinds: Collection[int], limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        self.reads += 1
        return await super().read(after, kinds, limit, max_bytes)


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Counting]:
    database = open_database(f"sqlite:///{tmp_path}/ingest.db")
    counting = Counting(database)
    counting.appended = []
    yield counting
    await database.close()


async def test_what_is_published_at_once_is_flushed_at_once_and_each_learns_its_own_numbers(counting: Counting) -> None:
    log = await EventLog.open(counting)
    calls = [("a", "b"), ("c",), ("b", "d"), ("e",), ("f",), ("a",)]
    results = await asyncio.gather(*(log.append(new_events(*ids)) for ids in calls))
    numbers = dict(zip((name for ids in calls for name in ids), (number for result in results for number in result), strict=True))
    assert sorted(set(numbers.values())) == [1, 2, 3, 4, 5, 6]
    assert [len(result) for result in results] == [len(ids) for ids in calls]
    # Four are admitted together, then the two that waited.
    assert counting.appended == [6, 2]
    assert log.tail.value == 6


async def test_a_caller_that_goes_away_takes_nobodys_events_along(counting: Counting) -> None:
    log = await EventLog.open(counting)
    leaving, staying = (asyncio.create_task(log.append(new_events(name))) for name in "ab")
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == [2]
    assert [event.event_id for event in (await log.read(0, Filter(), 9, 1 << 20))[0]] == ["a", "b"]


async def test_a_disk_that_fails_is_everybodys_answer_and_the_log_goes_on_after_it(counting: Counting) -> None:
    log = await EventLog.open(counting)
    counting.error = MediasyncError(Reason.DATA_FOLDER_UNUSABLE, "full")
    results = await asyncio.gather(*(log.append(new_events(name)) for name in "ab"), return_exceptions=True)
    assert results == [counting.error] * 2
    counting.error = None
    assert (await log.append(new_events("a")), log.tail.value) == ([1], 1)


@pytest.mark.parametrize("next_ids", ["bc", "d", "bcd"])
async def test_what_was_appended_without_an_answer_is_read_once_there_is_another(store: SqliteEventStore, next_ids: str) -> None:
    log = await EventLog.open(store)
    await log.append(new_events("a"))
    # As when a connection is lost while it commits.
    await store.append(new_events("b", "c"))
    numbers = await log.append(new_events(*next_ids))
    assert log.tail.value == numbers[-1]
    assert await log.append(new_events("e")) == [numbers[-1] + 1]
    for after in range(log.tail.value):
        found, read_to = await log.read(after, Filter(), 9, 1 << 20)
        assert [event.sequence for event in found] == list(range(after + 1, read_to + 1))
        assert read_to == log.tail.value


async def test_an_append_that_did_not_hear_of_its_success_is_seen_when_it_is_repeated(counting: Counting) -> None:
    log = await EventLog.open(counting)
    await log.append(new_events("a"))
    await SqliteEventStore.append(counting, new_events("b", "c"))  # and the answer is lost
    assert (await log.append(new_events("b", "c")), log.tail.value) == ([2, 3], 3)
    assert [event.event_id for event in (await log.read(1, Filter(), 9, 1 << 20))[0]] == ["b", "c"]
    await SqliteEventStore.append(counting, new_events("d"))
    assert (await log.append(new_events("e")), log.tail.value) == ([5], 5)
    assert [event.event_id for event in (await log.read(3, Filter(), 9, 1 << 20))[0]] == ["d", "e"]
    assert await log.append(new_events("f")) == [6]
    counting.reads = 0
    assert [event.event_id for event in (await log.read(5, Filter(), 9, 1 << 20))[0]] == ["f"]
    assert counting.reads == 0


async def test_who_keeps_up_reads_nothing_from_the_database(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    await counting.append(new_events("old"))
    log = await EventLog.open(counting)
    monkeypatch.setattr(tail_cache, "MAX_EVENTS", 8)
    for number in range(6):
        await log.append(new_events(f"{number}a", f"{number}b") + new_events(f"{number}end", kind=EventKind.SYNC_COMPLETE))
    ends = Filter(frozenset({EventKind.SYNC_COMPLETE}))
    for after, wanted, limit, size in itertools.product(range(13, 20), (Filter(), ends), (1, 2, 9), (1, 250, 1 << 20)):
        kept = await log.read(after, wanted, limit, size)
        assert kept == await SqliteEventStore.read(counting, after, wanted.kinds, limit, size)
    assert counting.reads == 0
    assert [event.sequence for event in (await log.read(0, Filter(), 99, 1 << 20))[0]] == list(range(1, 20))
    assert counting.reads == 1
    assert await log.prune(15, 99) == 15
    assert (log.first, await log.by_sequences([15, 16])) == (16, (await log.read(15, Filter(), 1, 1 << 20))[0])


async def test_a_filter_that_looks_into_events_passes_what_is_not_wanted(store: SqliteEventStore) -> None:
    log = await EventLog.open(store)
    events = [file_event(b"a/1.png"), file_event(b"b/2.png"), file_event(b"a/3.png", source="other"), file_event(b"b/4.png")]
    await log.append(events_from_request(events_pb2.EventsPublishRequest(events=events).SerializeToString(), ""))
    wanted = Filter(sources=("forge",), paths=("a/",))
    for source in (log, await EventLog.open(store)):
        found, read_to = await source.read(0, wanted, 9, 1 << 20)
        assert ([event.sequence for event in found], read_to) == ([1], 4)


_FIRST_ROWS = """
INSERT INTO events VALUES (1, 'a', 1, x'00112233445566778899aabbccddeeff', 's1', 't', 5, x'0a0161');
INSERT INTO events VALUES (2, 'b', 4, x'', 's1', '', 7, x'0a0162');
INSERT INTO subscriptions VALUES ('catalog', 'unix:/c', '', 500, 1, 2, '', 9);
INSERT INTO subscriptions VALUES ('gallery', 'host:1', '1,4', 50, 0, 1, 'busy', 0);
INSERT INTO dead_letters VALUES (7, 'gallery', 1, 'no', 3, 11);
INSERT INTO requests VALUES ('r', 'add', '{"name": "gallery", "address": "host:1", "kinds": "1,4", "batch_size": 50, "fixed": false,
 "cursor": 0, "last_error": "", "last_success_ns": 0}', 1);
"""


async def test_a_log_of_the_first_version_goes_on_as_it_was(tmp_path: Path) -> None:
    def fill(connection: sa.Connection) -> None:
        for statement in _FIRST_ROWS.strip().split(";\n"):
            connection.exec_driver_sql(statement)

    url = f"sqlite:///{tmp_path}/ingest.db"
    first = Database.open(url, MIGRATIONS[:1], durable=True)
    await first.write(fill)
    await first.close()
    database = open_database(url)
    store = SqliteEventStore(database)
    events, _ = await store.read(0, (), 9, 1 << 20)
    assert events == [
        LoggedEvent(1, "a", 1, bytes.fromhex("00112233445566778899aabbccddeeff"), "s1", "t", 5, b"\x0a\x01a\x10\x01"),
        LoggedEvent(2, "b", 4, b"", "s1", "", 7, b"\x0a\x01b\x10\x02"),
    ]
    bounds = await store.bounds()
    assert (bounds.first, bounds.last, bounds.oldest_append_ns, bounds.size_bytes > 10) == (1, 2, 5, True)
    catalog, gallery = await store.subscriptions()
    assert catalog.position == SubscriptionPosition(2, 2, (), "", 9)
    asked = Filter(frozenset({EventKind.FILE_SYNCED, EventKind.SYNC_COMPLETE}))
    assert gallery == StoredSubscription(Subscription("gallery", "host:1", asked), SubscriptionPosition(1, 1, (), "busy"))
    assert await store.dead_letters("", 0, 9) == [DeadLetter(7, "gallery", events[0], "no", 3, "", 11, 11)]
    repeated, new = await store.add_subscription("r", "add", gallery.subscription, cursor=0, side=None, replaces_dormant=False)
    assert (repeated.position.cursor, new) == (0, False)
    assert (await store.append(new_events("b", "c")))[0] == [2, 3]
    await store.bury([DeadLetter(0, "gallery", events[1], "no", 1)])
    assert [letter.number for letter in await store.dead_letters("", 0, 9)] == [8, 7]
    await database.close()


async def test_a_file_is_looked_up_and_not_searched_for(tmp_path: Path) -> None:
    class Explained:
        def __init__(self, raw: sqlite3.Connection) -> None:
            self.raw = raw

        def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
            steps.extend(row[3] for row in self.raw.execute(f"EXPLAIN QUERY PLAN {statement}", values))
            return self.raw.execute(statement, values)

    steps: list[str] = []
    database = open_database(f"sqlite:///{tmp_path}/ingest.db")
    await SqliteEventStore(database).append(new_events("a"))
    await database.read(lambda connection: of_file(Explained(raw_of(connection)), b"k" * 16, 0))  # type: ignore[arg-type]
    await database.read(lambda connection: of_sync(Explained(raw_of(connection)), "s", 0, 1, 9))  # type: ignore[arg-type]
    assert [step for step in steps if step.startswith("SCAN")] == ["SCAN keys"] * 2
    await database.close()


async def test_events_that_cannot_be_held_in_memory_are_in_the_log_all_the_same(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(cache: tail_cache.TailCache, rows: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(tail_cache.TailCache, "add", broken)
        assert await ingest.publish(file_events(2)) == [1, 2]
        assert await ingest.publish(file_events(2, start=2)) == [3, 4]
    assert "cannot be held in memory" in caplog.text
    assert await ingest.publish(file_events(1, start=4)) == [5]
    await ingest.delivered(5)
