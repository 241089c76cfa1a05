"""The journal: which file was to be deleted, whether its copy was read back, and what became of it; the runs, and the events to tell.

An intent is here before anything is asked of the source, `verified` before the source is told to delete it, and the outcome together with
the event that tells of it. Each of these commits survives a power cut, because the database is opened durable. What is not verified was
therefore never sent, and what is open has to be looked at.

Rows go through the driver itself: SQLAlchemy's own handling of a row costs several times what SQLite's does, and every file that is
deleted passes here three times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mediasync.convert.cleaning import cleanup_summary_from_pb, cleanup_summary_to_pb
from mediasync.model import CleanupRun, CleanupSummary, DeletionOutcome, Kept, KeptReason
from mediasync.runtime.outbox import UnsentEvent
from mediasync.storage.database import Database, raw_connection
from mediasync.v1 import types_pb2
from services.cleanup.entities import Intent, Outcome, PlanRow
from services.cleanup.publishing import Gone, file_deleted

_ADD = """INSERT INTO deletions (run, source, source_key, path, size_bytes, mtime_ns, inode, sha256, library_path, joined, verified,
    outcome, kept, message, cause, trash_path, intent_ns, outcome_ns)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'', ?, 0, 'open', '', '', ?, ?, ?, 0)"""
_BEGIN = """INSERT INTO runs (sync_id, job_id, source_key, source, library_root, library_uuid, summary, trace_parent, start_ns, end_ns)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sync_id) DO UPDATE SET trace_parent = excluded.trace_parent"""
_VERIFIED = "UPDATE deletions SET verified = 1, library_path = ? WHERE number = ? AND outcome = 'open'"
_OUTCOME = "UPDATE deletions SET outcome = ?, kept = ?, message = ?, outcome_ns = ? WHERE number = ? AND outcome = 'open'"
_OPEN = """SELECT d.number, r.sync_id, d.source_key, d.path, d.size_bytes, d.mtime_ns, d.inode, d.sha256, r.library_root, d.library_path,
    d.verified, d.joined, d.trash_path FROM deletions d JOIN runs r ON r.key = d.run
    WHERE d.source_key = ? AND d.outcome = 'open' ORDER BY d.number"""
_GONE = """SELECT d.number, r.sync_id, d.source, d.path, d.size_bytes, d.mtime_ns, d.sha256, r.library_root, d.library_path
    FROM deletions d JOIN runs r ON r.key = d.run
    WHERE d.number IN (SELECT value FROM json_each(?)) AND d.outcome = 'open' AND d.library_path != x'' ORDER BY d.number"""
_COUNTS = """SELECT outcome, kept, count(*), sum(size_bytes) FROM deletions WHERE run = (SELECT key FROM runs WHERE sync_id = ?)
    GROUP BY outcome, kept"""
_RUN = "SELECT sync_id, job_id, source, library_root, end_ns, start_ns, summary FROM runs"
_DAY_NS = 86_400 * 10**9
_KEEP_KEPT_NS = 30 * _DAY_NS
_KEEP_NS = 400 * _DAY_NS
_FORGET_AT_ONCE = 10_000
_GOES = (DeletionOutcome.DELETED, DeletionOutcome.TRASHED)
_COUNTED = (_GOES, (DeletionOutcome.VANISHED,), (DeletionOutcome.OPEN,))


@dataclass(frozen=True)
class NewRun:
    """A clean-up that begins. `source_key` and `source` are what the manifest and what people call it."""

    sync_id: str
    job_id: str
    source_key: str
    source: str
    library_root: str
    library_uuid: str = ""
    trace_parent: str = ""


@dataclass(frozen=True)
class RunCounts:
    """What the journal has of a run, over all attempts at it. `gone` went by it, to a trash folder or to nothing; `open` is what is not
    dealt with."""

    gone: Kept
    vanished: Kept
    open: Kept
    kept: Mapping[KeptReason, Kept]


class Journal:
    """Remembers clean-ups. Every method is one transaction; those of the journal are durable when they return."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_run(self, new: NewRun) -> CleanupRun:
        """Remembers a run. One that is known already stays as it is, but for its trace; it is returned as it is."""
        row = (
            *(new.sync_id, new.job_id, new.source_key, new.source, new.library_root, new.library_uuid),
            *(_summary_bytes(CleanupSummary()), new.trace_parent, time.time_ns(), 0),
        )

        def work(connection: sa.Connection) -> CleanupRun:
            raw = raw_connection(connection)
            raw.execute(_BEGIN, row)
            return _run_of(raw.execute(f"{_RUN} WHERE sync_id = ?", (new.sync_id,)).fetchone())

        return await self._database.write(work)

    async def run(self, sync_or_job_id: str) -> CleanupRun | None:
        """A run, by itself or by its job; the newest if the job has several. None if there is none."""
        query = f"{_RUN} WHERE sync_id = ?1 OR job_id = ?1 ORDER BY key DESC LIMIT 1"

        def work(connection: sa.Connection) -> CleanupRun | None:
            row = raw_connection(connection).execute(query, (sync_or_job_id,)).fetchone()
            return None if row is None else _run_of(row)

        return await self._database.read(work)

    async def save_summary(self, sync_id: str, summary: CleanupSummary) -> None:
        """What a run did so far, for who asks meanwhile. It may be lost in a power cut, as it can be counted again."""
        values = (_summary_bytes(summary), sync_id)
        statement = "UPDATE runs SET summary = ? WHERE sync_id = ?"
        await self._database.write(lambda connection: raw_connection(connection).execute(statement, values), durable=False)

    async def end_run(self, sync_id: str, summary: CleanupSummary) -> None:
        """A run is over. Harmless to repeat."""
        values = (_summary_bytes(summary), time.time_ns(), sync_id)
        statement = "UPDATE runs SET summary = ?, end_ns = ? WHERE sync_id = ? AND end_ns = 0"
        await self._database.write(lambda connection: raw_connection(connection).execute(statement, values))

    async def counts(self, sync_id: str) -> RunCounts:
        """What the journal has of a run."""

        def work(connection: sa.Connection) -> RunCounts:
            raw = raw_connection(connection)
            counts: dict[str, Kept] = {}
            kept: dict[KeptReason, Kept] = {}
            for outcome, reason, files, size_bytes in raw.execute(_COUNTS, (sync_id,)):
                if outcome == DeletionOutcome.KEPT:
                    kept[KeptReason(reason)] = Kept(files, size_bytes)
                else:
                    counts[outcome] = Kept(files, size_bytes)
            gone, vanished, left = (sum((counts.get(outcome, Kept()) for outcome in some), Kept()) for some in _COUNTED)
            return RunCounts(gone, vanished, left, kept)

        return await self._database.read(work)

    async def gone(self, sync_id: str) -> set[bytes]:
        """Paths of what a run has dealt with and that is not there any more."""
        query = """SELECT d.path FROM deletions d JOIN runs r ON r.key = d.run
            WHERE r.sync_id = ? AND d.outcome IN ('deleted', 'trashed', 'vanished')"""
        return await self._database.read(lambda connection: {path for (path,) in raw_connection(connection).execute(query, (sync_id,))})

    async def add_intents(self, sync_id: str, rows: Sequence[PlanRow], trash_paths: Sequence[bytes] = ()) -> list[int]:
        """Writes down which files are about to be deleted; returns their numbers, in order and without a gap. `trash_paths`, one for each
        file, are where they are moved to instead. ValueError for a run that was not begun."""
        now_ns = time.time_ns()
        trash = trash_paths or (b"",) * len(rows)

        def work(connection: sa.Connection) -> list[int]:
            raw = raw_connection(connection)
            found = raw.execute("SELECT key, source, source_key FROM runs WHERE sync_id = ?", (sync_id,)).fetchone()
            if found is None:
                raise ValueError(f"{sync_id} is no run that was begun")
            raw.executemany(
                _ADD,
                [
                    (
                        *(*found, row.path, row.size_bytes, row.mtime_ns, row.inode, row.sha256, row.joined),
                        *(row.cause, trash_path, now_ns),
                    )
                    for row, trash_path in zip(rows, trash, strict=True)
                ],
            )
            # Autoincrement gives consecutive numbers within a transaction: the writer is the only one.
            (last,) = raw.execute("SELECT max(number) FROM deletions").fetchone()
            return list(range(last - len(rows) + 1, last + 1))

        return await self._database.write(work) if rows else []

    async def verified(self, copies: Sequence[tuple[int, bytes]]) -> None:
        """Files, by their numbers, whose library copies were read from the disk and are good, with the path of the copy (empty where none
        is asked for). From now on they may be sent to the source."""
        rows = [(library_path, number) for number, library_path in copies]
        if rows:
            await self._database.write(lambda connection: raw_connection(connection).executemany(_VERIFIED, rows))

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Writes down what became of intents, with the events that tell of those that went; returns how many of these there are. One that
        has its outcome already keeps it. A file without a copy in the library has no event: it is none of the library's."""
        now_ns = time.time_ns()
        goes = json.dumps([outcome.number for outcome in outcomes if outcome.outcome in _GOES])

        def work(connection: sa.Connection) -> int:
            raw = raw_connection(connection)
            events = [(row[1], file_deleted(Gone(*row), now_ns)) for row in raw.execute(_GONE, (goes,))]
            raw.executemany(
                _OUTCOME,
                [(item.outcome.value, item.kept.value if item.kept else "", item.message, now_ns, item.number) for item in outcomes],
            )
            raw.executemany("INSERT INTO outbox (sync_id, event) VALUES (?, ?)", events)
            return len(events)

        return await self._database.write(work) if outcomes else 0

    async def open_intents(self, source_key: str) -> list[Intent]:
        """Intents of a source whose outcome was never written down, in the order in which they were. One that is joined to one that is not
        open any more begins a group."""

        def work(connection: sa.Connection) -> list[Intent]:
            intents: list[Intent] = []
            for row in raw_connection(connection).execute(_OPEN, (source_key,)):
                follows = bool(intents) and intents[-1].number == row[0] - 1
                intents.append(Intent(*(*row[:10], bool(row[10]), bool(row[11]) and follows, row[12])))
            return intents

        return await self._database.read(work)

    async def unsent_events(self, limit: int) -> list[UnsentEvent]:
        """The oldest events that are not in the event log yet."""
        query = "SELECT sequence, sync_id, event FROM outbox ORDER BY sequence LIMIT ?"
        return await self._database.read(
            lambda connection: [UnsentEvent(*row) for row in raw_connection(connection).execute(query, (limit,))]
        )

    async def events_sent(self, upto: int) -> None:
        """Forgets events that are in the event log. That may be lost in a power cut: the log knows them by their ids."""
        statement = "DELETE FROM outbox WHERE sequence <= ?"
        await self._database.write(lambda connection: raw_connection(connection).execute(statement, (upto,)), durable=False)

    async def trace_parent(self, sync_id: str) -> str:
        """The trace that a run belongs to; empty where it is not known."""

        def work(connection: sa.Connection) -> str:
            row = raw_connection(connection).execute("SELECT trace_parent FROM runs WHERE sync_id = ?", (sync_id,)).fetchone()
            return row[0] if row else ""

        return await self._database.read(work)

    async def forget_old(self) -> int:
        """Drops what was kept a month ago, and everything of more than a year; returns how many entries. What is open stays."""
        now_ns = time.time_ns()
        forgotten = 0
        for condition, before_ns in (("outcome = 'kept'", now_ns - _KEEP_KEPT_NS), ("outcome != 'open'", now_ns - _KEEP_NS)):
            # Some at a time: a clean-up that writes meanwhile waits for no more than these.
            while dropped := await self._forget(condition, before_ns):
                forgotten += dropped
        statement = "DELETE FROM runs WHERE start_ns < ? AND NOT EXISTS (SELECT 1 FROM deletions WHERE run = runs.key)"
        await self._database.write(lambda connection: raw_connection(connection).execute(statement, (now_ns - _KEEP_NS,)), durable=False)
        return forgotten

    async def _forget(self, condition: str, before_ns: int) -> int:
        which = f"SELECT number FROM deletions WHERE {condition} AND intent_ns < ? LIMIT {_FORGET_AT_ONCE}"  # noqa: S608 fixed texts
        statement = f"DELETE FROM deletions WHERE number IN ({which})"  # noqa: S608
        return await self._database.write(
            lambda connection: raw_connection(connection).execute(statement, (before_ns,)).rowcount, durable=False
        )


def _run_of(row: tuple[Any, ...]) -> CleanupRun:
    sync_id, job_id, source, library_root, end_ns, start_ns, summary = row
    told = cleanup_summary_from_pb(types_pb2.CleanupSummary.FromString(summary))
    return CleanupRun(sync_id, job_id, source, library_root, bool(end_ns), start_ns / 1e9, end_ns / 1e9, told)


def _summary_bytes(summary: CleanupSummary) -> bytes:
    return cleanup_summary_to_pb(summary).SerializeToString()
