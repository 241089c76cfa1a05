"""One suite for the event log's databases: what `EventStore` promises, of each implementation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediasync.convert import event_bytes
from mediasync.errors import MediasyncError, Reason
from services.ingest import framing, postgres_store
from services.ingest.events import (
    DeadLetter,
    EventKind,
    Filter,
    LoggedEvent,
    NewEvent,
    SideFeed,
    SideKind,
    StoredSubscription,
    Subscription,
    SubscriptionPosition,
    Tls,
    Waiting,
)
from services.ingest.log_rows import SEGMENT_EVENTS
from services.ingest.sqlite_store import SqliteEventStore, open_database
from services.ingest.store import EventStore

ROOM = 1 << 20


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    if request.param == "sqlite":
        database = open_database(f"sqlite:///{tmp_path}/ingest.db")
        yield SqliteEventStore(database)
        await database.close()
    else:
        postgres = postgres_store.open_database(request.getfixturevalue("postgres").url)
        yield postgres_store.PostgresEventStore(postgres)
        await postgres.close()


def key(name: str) -> bytes:
    # A NUL and a high byte: keys are hashes, not text.
    return (b"\0\xff" + name.encode()).ljust(16, b"\xff")


def event(name: str, file: str | bytes = "", *, kind: EventKind = EventKind.FILE_SYNCED, sync: str = "s1", size: int = 10) -> NewEvent:
    file_key = file if isinstance(file, bytes) else key(file) if file else b""
    return NewEvent(name, kind, file_key, sync, b"\x32" + event_bytes.varint(size) + b"x" * size, "00-trace")


def ids(events: list[LoggedEvent]) -> list[str]:
    return [logged.event_id for logged in events]


async def letter(store: EventStore, subscription: str, sequence: int, reason: str = "no") -> DeadLetter:
    (logged,) = await store.by_sequences([sequence])
    return DeadLetter(0, subscription, logged, reason, 1, "REJECTED")


async def subscribed(store: EventStore, name: str, **more: object) -> StoredSubscription:
    values = {"cursor": 0, "side": None, "replaces_dormant": False} | more
    return (await store.add_subscription("", "", Subscription(name, "unix:/s"), **values))[0]  # type: ignore[arg-type]


async def test_numbers_are_dense_and_an_id_that_is_there_keeps_its_own(store: EventStore) -> None:
    numbers, rows = await store.append([event("a"), event("b"), event("a")])
    assert (numbers, ids(rows)) == ([1, 2, 1], ["a", "b"])
    numbers, rows = await store.append([event("c"), event("b"), event("d"), event("c")])
    assert (numbers, ids(rows)) == ([3, 2, 4, 3], ["c", "d"])
    assert await store.append([event("d")]) == ([4], [])
    assert rows == await store.by_sequences([4, 99, 3])
    assert rows[0].payload == framing.with_sequence(event("c").payload, 3)
    bounds = await store.bounds()
    assert (bounds.first, bounds.last, bounds.oldest_append_ns > 0) == (1, 4, True)
    assert bounds.size_bytes >= sum(len(row.payload) for row in (await store.read(0, (), 9, ROOM))[0])


async def test_reading_stops_at_a_number_of_events_and_before_a_number_of_bytes(store: EventStore) -> None:
    assert await store.read(0, (), 10, ROOM) == ([], 0)
    await store.append([event(f"e{number}", size=100) for number in range(1, 6)] + [event("end", kind=EventKind.SYNC_COMPLETE)])
    for after, limit, size, found, read_to in [
        (0, 2, ROOM, ["e1", "e2"], 2),
        (0, 9, 1, ["e1"], 1),
        (2, 9, 250, ["e3", "e4"], 4),
        (4, 9, ROOM, ["e5", "end"], 6),
        (6, 9, ROOM, [], 6),
        (9, 9, ROOM, [], 9),
    ]:
        events, upto = await store.read(after, (), limit, size)
        assert (ids(events), upto) == (found, read_to)
    events, upto = await store.read(0, {EventKind.SYNC_COMPLETE}, 1, ROOM)
    assert (ids(events), upto) == (["end"], 6)
    assert await store.read(0, {EventKind.FILE_DELETED}, 1, ROOM) == ([], 6)


async def test_a_file_is_found_by_either_of_its_places_and_a_sync_with_what_came_later_of_its_files(store: EventStore) -> None:
    moved = event("moved", key("new") + key("a"), sync="s2")
    # "other" shares the first bytes of its key with none; "late" is of another sync and a file that s1 knows.
    events = [event("other", "b", sync="s0"), event("a1", "a"), event("b1", "b"), event("end", kind=EventKind.SYNC_COMPLETE)]
    await store.append([*events, event("c2", "c", sync="s2"), moved, event("b2", "b", sync="s2"), event("new2", "new", sync="s2")])
    assert ids(await store.read_of_file([key("a")], 0, 9)) == ["a1", "moved"]
    assert ids(await store.read_of_file([key("new"), key("b")], 1, 9)) == ["b1", "moved", "b2", "new2"]
    assert ids(await store.read_of_file([key("b")], 0, 2)) == ["other", "b1"]
    found, upto = await store.read_of_sync("s1", 0, 8, 9, ROOM)
    assert (ids(found), upto) == (["a1", "b1", "end", "moved", "b2"], 8)
    found, upto = await store.read_of_sync("s1", 0, 8, 2, ROOM)
    assert (ids(found), upto) == (["a1", "b1"], 3)
    assert ids((await store.read_of_sync("s1", 3, 6, 9, ROOM))[0]) == ["end", "moved"]
    # A sync that moved a file brings what came later at both places.
    assert ids((await store.read_of_sync("s2", 0, 8, 9, ROOM))[0]) == ["c2", "moved", "b2", "new2"]
    assert (await store.last_of_sync("s1"), await store.last_of_sync("never")) == (4, 0)


async def test_files_and_syncs_are_found_over_all_pieces_of_a_long_log(store: EventStore) -> None:
    await store.append([event("a1", "a"), event("m1", key("b") + key("a"))])
    await store.append([event(f"{number}", sync="s0") for number in range(SEGMENT_EVENTS * 2)])
    await store.append([event("a2", "a", sync="s2"), event("b2", "b", sync="s2"), event("end", sync="s1")])
    assert ids(await store.read_of_file([key("a")], 0, 9)) == ["a1", "m1", "a2"]
    assert ids(await store.read_of_file([key("b"), key("a")], 1, 9)) == ["m1", "a2", "b2"]
    last = (await store.bounds()).last
    found, upto = await store.read_of_sync("s1", 0, last, 9, ROOM)
    assert (ids(found), upto) == (["a1", "m1"], SEGMENT_EVENTS)
    found, upto = await store.read_of_sync("s1", upto, last, 9, ROOM)
    assert (ids(found), upto) == (["a2", "b2", "end"], last)
    assert await store.prune(SEGMENT_EVENTS * 2, SEGMENT_EVENTS * 2) == SEGMENT_EVENTS * 2
    found, upto = await store.read_of_sync("s1", 0, last, 9, ROOM)
    assert (ids(found), upto) == (["end"], last)
    # The log begins far behind the place that is asked for.
    assert ids((await store.read(0, (), 1, ROOM))[0]) == [f"{SEGMENT_EVENTS * 2 - 2}"]


async def test_events_are_found_by_when_they_came(store: EventStore) -> None:
    await store.append([event("a")])
    between = time.time_ns()
    await store.append([event("b"), event("c")])
    assert [await store.sequence_since(when) for when in (0, between, time.time_ns())] == [1, 2, 4]


async def test_what_is_pruned_is_gone_and_its_numbers_are_not_given_again(store: EventStore) -> None:
    await store.append([event("a", key("new") + key("old")), event("b", "old"), event("c", "old")])
    before = await store.bounds()
    assert [await store.prune(2, 1), await store.prune(2, 9), await store.prune(2, 9)] == [1, 1, 0]
    assert ids(await store.read_of_file([key("old")], 0, 9)) == ids((await store.read(0, (), 9, ROOM))[0]) == ["c"]
    bounds = await store.bounds()
    assert (bounds.first, bounds.last) == (3, 3)
    assert 0 < bounds.size_bytes < before.size_bytes
    assert await store.prune(99, 99) == 1
    emptied = await store.bounds()
    assert (emptied.first, emptied.last, emptied.size_bytes, emptied.oldest_append_ns, await store.segments()) == (4, 3, 0, 0, [])
    # Idempotent as far back as the log reaches, and no farther.
    assert (await store.append([event("a")]))[0] == [4]


async def test_a_subscription_is_kept_with_all_that_was_said_of_it(store: EventStore) -> None:
    asked = Filter(frozenset({EventKind.FILE_SYNCED, EventKind.BATCH_SYNCED}), ("forge",), ("a/**", "!b\udcff"))
    tls = Tls(Path("/ca"), None, Path("/key"))
    subscription = Subscription("gallery", "host:1", asked, 7, paused=True, tls=tls, token_file=Path("/token"))
    await store.append([event("a"), event("b")])
    side = SideFeed(SideKind.SYNC, "s1", 0, 2)
    arguments = {"cursor": None, "side": side, "replaces_dormant": False}
    stored, new = await store.add_subscription("r1", "body", subscription, **arguments)  # type: ignore[arg-type]
    assert (stored, new) == (StoredSubscription(subscription, SubscriptionPosition.at(2), side), True)
    assert await store.subscriptions() == [stored]
    await store.append([event("c")])
    assert await store.add_subscription("r1", "body", subscription, **arguments) == (stored, False)  # type: ignore[arg-type]
    for request_id, body, reason in [("r1", "other", Reason.REQUEST_ID_REUSED), ("r2", "body", Reason.SUBSCRIPTION_EXISTS)]:
        with pytest.raises(MediasyncError) as caught:
            await store.add_subscription(request_id, body, subscription, **arguments)  # type: ignore[arg-type]
        assert caught.value.reason is reason
    position = SubscriptionPosition(3, 9, (Waiting(4, 2, 1), Waiting(7)), "busy", 5)
    await store.save_positions({"gallery": position, "nobody": position})
    assert await store.subscriptions() == [StoredSubscription(subscription, position, side)]


async def test_a_subscription_that_is_gone_leaves_nothing_to_the_next_of_its_name(store: EventStore) -> None:
    await store.append([event("a")])
    await subscribed(store, "gallery")
    await store.bury([await letter(store, "gallery", 1)])
    await store.put_side_events("gallery", await store.by_sequences([1]))
    assert [await store.remove_subscription("r", "b", "gallery") for _ in range(2)] == [True, False]
    assert (await store.was_answered("r", "b"), await store.was_answered("q", "b")) == (True, False)
    with pytest.raises(MediasyncError) as caught:
        await store.remove_subscription("r2", "b", "gallery")
    assert caught.value.reason is Reason.SUBSCRIPTION_NOT_FOUND
    await subscribed(store, "gallery")
    assert await store.dead_letters("", 0, 9) == []
    assert await store.side_events("gallery", 0, 9, ROOM) == ([], 0)
    assert (await subscribed(store, "gallery", cursor=1, replaces_dormant=True)).position == SubscriptionPosition.at(1)


async def test_the_configuration_changes_what_a_subscription_is_and_not_how_far_it_is(store: EventStore) -> None:
    await store.append([event("a"), event("b")])
    side = SideFeed(SideKind.SNAPSHOT)
    await store.put_fixed([(Subscription("new", "unix:/n"), None, side), (Subscription("old", "unix:/o"), 0, None)])
    await store.save_positions({"old": SubscriptionPosition(1, 2, (Waiting(2, 1, 1),))})
    assert await store.set_paused("r", "b", "old", True)
    changed = Subscription("old", "unix:/other", Filter(paths=("x",)), 5)
    await store.put_fixed([(Subscription("new", "unix:/n"), 0, None), (changed, None, side)])
    new, old = await store.subscriptions()
    assert (new.position, new.side, new.subscription.fixed) == (SubscriptionPosition.at(2), side, True)
    assert old.position == SubscriptionPosition(1, 2, (Waiting(2, 1, 1),))
    assert (old.subscription.address, old.subscription.paused, old.side) == ("unix:/other", True, None)


async def test_holding_replaying_and_losing_are_kept_with_the_subscription(store: EventStore) -> None:
    await subscribed(store, "gallery", cursor=5)
    assert [await store.set_paused("r1", "b", "gallery", True) for _ in range(2)] == [True, False]
    await store.mark_too_far_behind("gallery", 3)
    await store.mark_too_far_behind("gallery", 4)
    await store.mark_too_far_behind("nobody", 4)
    (stored,) = await store.subscriptions()
    assert (stored.subscription.paused, stored.too_far_behind, stored.events_lost) == (True, True, 7)
    side = SideFeed(SideKind.SNAPSHOT, "x", 3, 9)
    assert await store.set_side("gallery", side)
    assert (await store.subscriptions())[0].too_far_behind
    back = SubscriptionPosition.at(2)
    assert [await store.set_side("gallery", None, position=back, request_id="r2", body="b") for _ in range(2)] == [True, False]
    (stored,) = await store.subscriptions()
    assert (stored.side, stored.position, stored.too_far_behind, stored.events_lost) == (None, back, False, 7)
    for call in (store.set_paused("", "", "nobody", True), store.set_side("nobody", side)):
        with pytest.raises(MediasyncError) as caught:
            await call
        assert caught.value.reason is Reason.SUBSCRIPTION_NOT_FOUND


async def test_a_dead_letter_has_its_own_copy_and_is_one_however_often_it_is_buried(store: EventStore) -> None:
    await store.append([event("a"), event("b", sync="s2"), event("c")])
    await subscribed(store, "gallery")
    await subscribed(store, "other")
    letters = [await letter(store, "gallery", number) for number in (1, 2, 3)]
    await store.bury([*letters, await letter(store, "other", 1)])
    # As it comes from a side feed: with its place there.
    again = letters[0].event._replace(sequence=77)
    await store.bury([DeadLetter(0, "gallery", again, "still no", 5, "INTERNAL")])
    await store.prune(3, 9)
    found = await store.dead_letters("gallery", 0, 9)
    assert [(one.event.event_id, one.reason, one.attempts) for one in found] == [
        ("c", "no", 1),
        ("b", "no", 1),
        ("a", "still no", 5),
    ]
    assert found[2].event == letters[0].event
    assert found[2].time_ns >= found[2].first_attempt_ns > 0
    assert await store.dead_letters("gallery", found[1].number, 9) == [found[2]]
    assert await store.dead_letter(found[0].number) == found[0]
    assert await store.dead_letter(99) is None
    assert await store.count_dead_letters() == {"gallery": 3, "other": 1}
    assert [await store.rejected_of_sync("gallery", sync) for sync in ("s1", "s2", "s3")] == [2, 1, 0]
    await store.forgive("gallery", ["a", "never"])
    assert [await store.drop_dead_letters("r", "b", "gallery", [found[0].number, 99]) for _ in range(2)] == [1, 1]
    assert await store.drop_dead_letters("r2", "b", "gallery", []) == 1
    assert await store.count_dead_letters() == {"other": 1}


async def test_a_retried_letter_is_queued_with_what_came_later_of_its_file_in_order(store: EventStore) -> None:
    later = [event("x1", "x", sync="s2"), event("a2", "a", sync="s2"), event("m", key("n") + key("b"), sync="s2")]
    await store.append([event("b1", "b"), event("a1", "a"), *later])
    await subscribed(store, "gallery")
    made_up = LoggedEvent(4, "made-up", 1, key("x"), "s", "", 0, event("made-up").payload)
    await store.bury([await letter(store, "gallery", 2), await letter(store, "gallery", 1), DeadLetter(0, "gallery", made_up, "no", 1)])
    await store.prune(1, 9)
    assert [await store.retry_dead_letters("r", "b", "gallery", []) for _ in range(2)] == [3, 3]
    queued, upto = await store.side_events("gallery", 0, 9, ROOM)
    assert ids(queued) == ["made-up", "b1", "a1", "x1", "a2", "m"]
    assert [framing.sequence_of(found.payload) for found in queued] == [0, 1, 2, 3, 4, 5]
    assert upto == queued[-1].sequence
    assert await store.count_dead_letters() == {"gallery": 3}
    some, upto = await store.side_events("gallery", queued[0].sequence, 2, ROOM)
    assert (some, upto) == (queued[1:3], queued[2].sequence)
    await store.drop_side_events("gallery", queued[-1].sequence)
    assert await store.side_events("gallery", 0, 9, ROOM) == ([], 0)
    # A reader behind the last one misses nothing that comes when the queue was empty.
    await store.put_side_events("gallery", queued[:1])
    assert ids((await store.side_events("gallery", queued[-1].sequence, 9, ROOM))[0]) == ["made-up"]
    with pytest.raises(MediasyncError) as caught:
        await store.retry_dead_letters("r2", "b", "nobody", [])
    assert caught.value.reason is Reason.SUBSCRIPTION_NOT_FOUND
