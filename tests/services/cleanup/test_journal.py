"""The journal of clean-ups: what is written down before, between and after, and how it is found again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mediasync.model import CleanupSummary, DeletionOutcome, Kept, KeptReason
from mediasync.storage.database import Database, raw_connection
from mediasync.v1 import media_ingest_pb2
from services.cleanup.entities import Intent, Outcome, PlanRow
from services.cleanup.history_store import History, Position, Wanted, _query
from services.cleanup.schema import MIGRATIONS
from services.cleanup.store import Journal, NewRun

RUN = NewRun("sync_1", "job_1", "name:forge", "forge", "/media/library", "uuid-1", "00-trace-01")
OTHER = NewRun("sync_2", "job_2", "ssh://host/out", "ssh://host/out", "/media/other")
SHA256 = bytes(range(32))
ALL = Wanted()
NS = 10**9
DAY_NS = 86_400 * NS


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path / 'cleanup.db'}", MIGRATIONS, durable=True)
    yield opened
    await opened.close()


@pytest.fixture
async def journal(database: Database) -> Journal:
    journal = Journal(database)
    await journal.begin_run(RUN)
    await journal.begin_run(OTHER)
    return journal


@pytest.fixture
def history(database: Database) -> History:
    return History(database)


def rows(*names: str, cause: str = "older than 24 h") -> list[PlanRow]:
    return [
        PlanRow(n, name.encode(), 100 + n, 5 * NS + n, 70 + n, 5 * NS, SHA256, (b"lib/a",), cause=cause) for n, name in enumerate(names)
    ]


async def delete(journal: Journal, *names: str, run: NewRun = RUN, outcome: DeletionOutcome = DeletionOutcome.DELETED) -> list[int]:
    numbers = await journal.add_intents(run.sync_id, rows(*names))
    await journal.verified([(number, b"library/" + name.encode()) for number, name in zip(numbers, names, strict=True)])
    kept = KeptReason.REFUSED if outcome is DeletionOutcome.KEPT else None
    await journal.record_outcomes([Outcome(number, outcome, kept) for number in numbers])
    return numbers


async def told(journal: Journal) -> list[media_ingest_pb2.Event]:
    return [media_ingest_pb2.Event.FromString(event.event) for event in await journal.unsent_events(1000)]


async def paths(history: History, wanted: Wanted = ALL) -> list[bytes]:
    return [deletion.path for deletion in (await history.page(wanted, None, 500)).deletions]


def age(database: Database, numbers: Sequence[int], by_ns: int) -> None:
    with sqlite3.connect(database.path) as connection:
        statement = "UPDATE deletions SET intent_ns = intent_ns - ? WHERE number = ?"
        connection.executemany(statement, [(by_ns, number) for number in numbers])
    connection.close()


async def test_an_intent_is_open_until_its_outcome_is_written_down(journal: Journal) -> None:
    numbers = await journal.add_intents("sync_1", [*rows("a.png"), PlanRow(1, b"\xff.png", 7, -5, 2**62, 1, SHA256, joined=True)])
    first = Intent(numbers[0], "sync_1", "name:forge", b"a.png", 100, 5 * NS, 70, SHA256, "/media/library", b"", verified=False)
    second = Intent(
        numbers[1], "sync_1", "name:forge", b"\xff.png", 7, -5, 2**62, SHA256, "/media/library", b"", verified=False, joined=True
    )
    assert await journal.open_intents("name:forge") == [first, second]
    await journal.verified([(numbers[1], b"there.png")])
    after = Intent(*(getattr(second, name) for name in Intent.__slots__[:9]), b"there.png", verified=True, joined=True)
    assert await journal.open_intents("name:forge") == [first, after]
    assert await journal.open_intents("ssh://host/out") == []
    await journal.record_outcomes([Outcome(numbers[0], DeletionOutcome.VANISHED)])
    [left] = await journal.open_intents("name:forge")
    assert (left.number, left.joined) == (numbers[1], False), "it is the first of what is left of its group"


async def test_an_outcome_is_final_and_told_once(journal: Journal, history: History) -> None:
    [number] = await journal.add_intents("sync_1", rows("out/a.png"))
    await journal.verified([(number, b"lib/a.png")])
    assert await journal.record_outcomes([Outcome(number, DeletionOutcome.DELETED, message="found gone after a restart")]) == 1
    assert await journal.record_outcomes([Outcome(number, DeletionOutcome.KEPT, KeptReason.REFUSED)]) == 0
    await journal.verified([(number, b"elsewhere.png")])
    [deletion] = await history.of_file("name:forge", b"out/a.png")
    assert (deletion.outcome, deletion.kept, deletion.library_path) == (DeletionOutcome.DELETED, None, b"lib/a.png")
    assert (deletion.message, deletion.cause, deletion.source) == ("found gone after a restart", "older than 24 h", "forge")
    assert 0 < deletion.intent_time <= deletion.outcome_time
    [event] = await told(journal)
    assert (event.type, event.sync_id, event.source) == (media_ingest_pb2.EVENT_TYPE_FILE_DELETED, "sync_1", "forge")
    assert (event.file.library_path.raw, event.file.library_root) == (b"lib/a.png", "/media/library")
    assert (event.file.source_path.raw, event.file.digest.value, event.file.size_bytes) == (b"out/a.png", SHA256, 100)
    assert (event.file.media_type, event.file.modify_time.seconds) == ("image/png", 5)
    [unsent] = await journal.unsent_events(5)
    assert unsent.sync_id == "sync_1"
    await journal.events_sent(unsent.sequence)
    assert await told(journal) == []


async def test_the_same_deletion_has_the_same_event_and_a_later_one_of_that_name_another(journal: Journal) -> None:
    await delete(journal, "a.png", "b.png")
    await delete(journal, "a.png")
    ids = [event.event_id for event in await told(journal)]
    assert len(set(ids)) == 3
    assert [event.event_id for event in await told(journal)] == ids


async def test_only_what_went_and_was_in_the_library_is_told(journal: Journal) -> None:
    await delete(journal, "kept.png", outcome=DeletionOutcome.KEPT)
    await delete(journal, "vanished.png", outcome=DeletionOutcome.VANISHED)
    await delete(journal, "trashed.png", outcome=DeletionOutcome.TRASHED)
    [number] = await journal.add_intents("sync_1", rows("culled.png"))
    await journal.verified([(number, b"")])
    await journal.record_outcomes([Outcome(number, DeletionOutcome.DELETED)])
    assert [event.file.source_path.raw for event in await told(journal)] == [b"trashed.png"]


async def test_a_run_is_counted_over_all_attempts(journal: Journal) -> None:
    await delete(journal, "a.png", "b.png")
    await delete(journal, "c.png", outcome=DeletionOutcome.TRASHED)
    await delete(journal, "d.png", outcome=DeletionOutcome.VANISHED)
    await delete(journal, "e.png", "f.png", outcome=DeletionOutcome.KEPT)
    await delete(journal, "of another run.png", run=OTHER)
    await journal.add_intents("sync_1", rows("g.png"))
    counts = await journal.counts("sync_1")
    assert (counts.gone, counts.vanished, counts.open) == (Kept(3, 301), Kept(1, 100), Kept(1, 100))
    assert counts.kept == {KeptReason.REFUSED: Kept(2, 201)}
    assert (await journal.counts("unknown")).gone == Kept()


async def test_a_run_that_is_repeated_is_the_same_run(journal: Journal) -> None:
    first = await journal.run("sync_1")
    assert first is not None
    assert (first.ended, first.end_time, first.summary) == (False, 0.0, CleanupSummary())
    summary = CleanupSummary(files_scanned=9, kept={KeptReason.RECENT: Kept(4, 40)}, notes=("a note",), free_bytes_before=0)
    await journal.save_summary("sync_1", summary)
    again = await journal.begin_run(NewRun("sync_1", "job_9", "x", "y", "/z", trace_parent="00-later-01"))
    assert (again.job_id, again.source, again.start_time, again.summary) == ("job_1", "forge", first.start_time, summary)
    assert await journal.trace_parent("sync_1") == "00-later-01"
    assert await journal.trace_parent("unknown") == ""
    await journal.end_run("sync_1", summary)
    await journal.end_run("sync_1", CleanupSummary())
    ended = await journal.run("job_1")
    assert ended is not None
    assert (ended.sync_id, ended.ended, ended.summary) == ("sync_1", True, summary)
    assert ended.end_time >= ended.start_time
    assert await journal.run("unknown") is None
    with pytest.raises(ValueError, match="no run that was begun"):
        await journal.add_intents("unknown", rows("a.png"))


async def test_what_is_moved_aside_is_on_record_with_its_place(journal: Journal, history: History) -> None:
    await journal.add_intents("sync_1", rows("a.png"), [b".mediasync/trash/2026-11-21/sync_1/a.png"])
    [intent] = await journal.open_intents("name:forge")
    [deletion] = await history.of_file("name:forge", b"a.png")
    assert intent.trash_path == deletion.trash_path == b".mediasync/trash/2026-11-21/sync_1/a.png"


async def test_the_history_is_told_newest_first_page_by_page_and_by_what_is_asked(journal: Journal, history: History) -> None:
    await delete(journal, *(f"day1/{n:02}.png" for n in range(7)))
    await delete(journal, "day2/x.png", "day2/.hidden.tmp", run=OTHER)
    await delete(journal, "day2/late.mp4")
    seen: list[bytes] = []
    position: Position | None = None
    while True:
        page = await history.page(Wanted(), position, 3)
        seen += [deletion.path for deletion in page.deletions]
        position = page.next_position
        if position is None:
            break
    newest_first = [b"day2/late.mp4", b"day2/.hidden.tmp", b"day2/x.png", *(b"day1/%02d.png" % n for n in reversed(range(7)))]
    assert seen == newest_first == await paths(history)
    assert await paths(history, Wanted(source="ssh://host/out/")) == newest_first[1:3]
    assert await paths(history, Wanted(source="forge", path="/day2")) == newest_first[:1]
    assert await paths(history, Wanted(path="*.tmp")) == [b"day2/.hidden.tmp"]
    assert await paths(history, Wanted(sync_id="sync_2")) == newest_first[1:3]
    assert await paths(history, Wanted(sync_id="unknown")) == []
    since = (await history.of_file("ssh://host/out", b"day2/x.png"))[0].intent_time
    assert await paths(history, Wanted(since=since - 1e-5)) == newest_first[:3]
    assert await paths(history, Wanted(since=time.time() + 60)) == []
    with pytest.raises(ValueError, match="no pattern"):
        await history.page(Wanted(path="/"), None, 5)


async def test_a_pattern_that_matches_little_gives_short_pages(journal: Journal, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cleanup.history_store._MOST_LOOKED_AT", 4)
    await delete(journal, "wanted.png", *(f"{n}.png" for n in range(9)))
    pages: list[list[bytes]] = []
    position: Position | None = None
    while not pages or position is not None:
        page = await history.page(Wanted(path="wanted.png"), position, 10)
        pages.append([deletion.path for deletion in page.deletions])
        position = page.next_position
    assert pages == [[], [], [b"wanted.png"]]


async def test_each_question_to_the_journal_is_answered_by_an_index_in_its_order(database: Database, journal: Journal) -> None:
    asked = (Wanted(), Wanted(since=5.0), Wanted("forge", 5.0), Wanted(sync_id="sync_1"), Wanted("forge", sync_id="sync_1"))

    def plans(raw: sqlite3.Connection) -> list[str]:
        queries = [_query(raw, wanted, before) for wanted in asked for before in (None, (7, 5))]
        queries.append(("SELECT * FROM deletions WHERE source_key = ? AND path = ? ORDER BY number DESC", ["a", b"b"]))
        queries.append(("SELECT * FROM deletions WHERE source_key = ? AND outcome = 'open' ORDER BY number", ["a"]))
        return [row[3] for query, values in queries for row in raw.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    steps = await database.read(lambda connection: plans(raw_connection(connection)))
    assert steps
    assert not [step for step in steps if "TEMP B-TREE" in step or (step.startswith("SCAN") and "USING INDEX" not in step)]


async def test_what_was_kept_is_forgotten_after_a_month_and_the_rest_after_more_than_a_year(
    database: Database, journal: Journal, history: History
) -> None:
    gone = await delete(journal, "gone a month ago.png")
    kept = await delete(journal, "kept a month ago.png", outcome=DeletionOutcome.KEPT)
    long_gone = await delete(journal, "gone long ago.png")
    still_open = await journal.add_intents("sync_1", rows("open for ever.png"))
    await delete(journal, "kept today.png", outcome=DeletionOutcome.KEPT)
    age(database, [*gone, *kept], 31 * DAY_NS)
    age(database, [*long_gone, *still_open], 401 * DAY_NS)
    assert await journal.forget_old() == 2
    assert set(await paths(history)) == {b"gone a month ago.png", b"open for ever.png", b"kept today.png"}
    assert await journal.run("sync_1") is not None
    [number] = await delete(journal, "next.png")
    assert number > max(still_open), "a number is never given out twice"


async def test_what_is_written_down_survives_a_power_cut(database: Database, journal: Journal, tmp_path: Path) -> None:
    """A copy of the files as they are after each commit, without what is in memory only, is what a restart finds."""
    flushed: list[str] = []

    def synchronous(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    level = await database.write(lambda connection: synchronous(raw_connection(connection)))
    assert level == 2, "each commit is flushed"
    [number] = await journal.add_intents("sync_1", rows("a.png"))
    for step in ("intent", "verified", "outcome"):
        if step == "verified":
            await journal.verified([(number, b"lib/a.png")])
        elif step == "outcome":
            await journal.record_outcomes([Outcome(number, DeletionOutcome.DELETED)])
        for suffix in ("", "-wal"):
            (tmp_path / f"{step}.db{suffix}").write_bytes(Path(f"{database.path}{suffix}").read_bytes())
        found = Database.open(f"sqlite:///{tmp_path / step}.db", MIGRATIONS, durable=True)
        intents = await Journal(found).open_intents("name:forge")
        flushed.append(f"{[intent.verified for intent in intents]} {len(await told(Journal(found)))}")
        await found.close()
    assert flushed == ["[False] 0", "[True] 0", "[] 1"]
