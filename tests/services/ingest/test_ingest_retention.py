"""What the log forgets, and that nobody who needs it is moved on silently."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ingest.events import EventKind, Filter, NewEvent, Subscription, SubscriptionPosition, Waiting
from services.ingest.log import EventLog
from services.ingest.log_rows import SEGMENT_EVENTS
from services.ingest.retention import Limits, Retention, expired, missed
from services.ingest.sqlite_store import SqliteEventStore, open_database

DAY = 86_400.0
NONE = Limits(0, 0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    database = open_database(f"sqlite:///{tmp_path}/ingest.db")
    yield SqliteEventStore(database)
    await database.close()


def days(*ages: float) -> list[tuple[int, int, int]]:
    """Segments of 100 bytes whose newest events came so many days before day 100."""
    return [((number + 1) * 10, int((100 - age) * DAY * 1e9), 100) for number, age in enumerate(ages)]


@pytest.mark.parametrize(
    ("ages", "limits", "upto"),
    [
        ((), Limits(DAY, 1), 0),
        ((50,), Limits(DAY, 1), 0),  # never the newest
        ((50, 40, 20, 0), Limits(30 * DAY, 0), 20),
        ((50, 40, 20, 0), Limits(0, 250), 20),
        ((50, 40, 20, 0), Limits(45 * DAY, 250), 20),
        ((50, 40, 20, 0), Limits(10 * DAY, 1000), 30),
        ((50, 40, 20, 0), NONE, 0),
        ((1, 50, 0), Limits(30 * DAY, 0), 0),  # a clock that went back: the oldest first
    ],
)
def test_whole_pieces_go_that_are_too_old_or_too_much(ages: tuple[float, ...], limits: Limits, upto: int) -> None:
    assert expired(days(*ages), limits, int(100 * DAY * 1e9)) == upto


@pytest.mark.parametrize(
    ("position", "lost"),
    [
        (SubscriptionPosition.at(20), 0),
        (SubscriptionPosition.at(0), 15),
        (SubscriptionPosition.at(12), 8),
        (SubscriptionPosition(6, 30, (Waiting(7), Waiting(20), Waiting(21))), 2),
        (SubscriptionPosition(0, 18, (Waiting(1), Waiting(18))), 3),
    ],
)
def test_what_a_subscription_misses_is_what_it_has_not_dealt_with(position: SubscriptionPosition, lost: int) -> None:
    assert missed(position, 6, 20) == lost


async def fill(log: EventLog, segments: float) -> None:
    for first in range(0, int(segments * SEGMENT_EVENTS), 2500):
        await log.append([NewEvent(f"{number}", EventKind.FILE_SYNCED, b"", "s", b"") for number in range(first, first + 2500)])


async def test_who_needs_what_goes_is_marked_before_and_a_kill_in_between_changes_nothing(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = await EventLog.open(store)
    await fill(log, 2.25)
    ahead, behind = SubscriptionPosition.at(15_000), SubscriptionPosition(99, 9_998, (Waiting(100),))
    for name, position in {"ahead": ahead, "behind": behind}.items():
        await store.add_subscription("", "", Subscription(name, ""), cursor=0, side=None, replaces_dormant=False)
        await store.save_positions({name: position})
    marked: list[tuple[str, int, int]] = []

    async def mark(name: str, lost: int) -> None:
        marked.append((name, lost, (await store.bounds()).first))
        await store.mark_too_far_behind(name, lost)

    def cut_off(point: str) -> None:
        if point == "ingest.mid_prune":
            raise ConnectionAbortedError

    retention = Retention(store, log, Limits(0, (await store.bounds()).size_bytes * 2 // 3), mark)
    with monkeypatch.context() as patched:
        patched.setattr("services.ingest.retention.crash.point", cut_off)
        with pytest.raises(ConnectionAbortedError):
            await retention.sweep(0)
    assert marked == [("behind", 3, 1)]
    assert (await store.bounds()).first == log.first == 2001

    log = await EventLog.open(store)
    assert await Retention(store, log, Limits(0, 1), mark).sweep(0) == 18_000
    # What was counted before the kill and did not go is counted again: rather too many than too few.
    assert marked[1:] == [("ahead", 5_000, 2001), ("behind", 10_002, 2001)]
    assert [(stored.too_far_behind, stored.events_lost) for stored in await store.subscriptions()] == [(True, 5_000), (True, 10_005)]
    assert (await store.bounds()).first == log.first == 20_001
    assert "--from snapshot" in caplog.text
    assert [event.sequence for event in (await log.read(0, Filter(), 2, 1 << 20))[0]] == [20_001, 20_002]


async def test_who_comes_near_is_warned_once_and_the_log_is_pruned_when_a_piece_is_full(
    store: SqliteEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    log = await EventLog.open(store)
    await store.add_subscription("", "", Subscription("slow", ""), cursor=0, side=None, replaces_dormant=False)
    marked = asyncio.Event()

    async def mark(name: str, lost: int) -> None:
        assert (name, lost) == ("slow", SEGMENT_EVENTS)
        marked.set()

    await fill(log, 0.75)
    retention = Retention(store, log, Limits(0, 1), mark)
    running = asyncio.create_task(retention.run())
    await fill(log, 1)
    assert await retention.sweep(0) == 0
    await log.append([NewEvent("next", EventKind.FILE_SYNCED, b"", "s", b"")])
    careful = Retention(store, log, Limits(0, (await store.bounds()).size_bytes + 1000), mark)
    for _ in range(2):
        assert await careful.sweep(0) == 0
    assert caplog.text.count("will miss events soon") == 1
    async with asyncio.timeout(30):
        await marked.wait()
    running.cancel()
    await asyncio.wait([running])
