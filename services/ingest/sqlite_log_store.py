"""The events of the log in SQLite. See `store.EventLogStore`."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from typing import cast

import sqlalchemy as sa

from mediasync.storage.database import Database
from services.ingest.events import LogBounds, LoggedEvent, NewEvent
from services.ingest.log_rows import (
    COLUMNS,
    LOOKED_AT,
    ROW_BYTES,
    SEGMENT_EVENTS,
    counted,
    moves_of,
    numbered,
    of_file,
    of_sync,
    page,
)


class SqliteLogStore:
    """Appends, reads, prunes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def bounds(self) -> LogBounds:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> LogBounds:
            raw = raw_of(connection)
            last, pruned = _bounds(raw)
            (size,) = raw.execute("SELECT coalesce(sum(bytes), 0) FROM segments").fetchone()
            oldest = raw.execute("SELECT append_time_ns FROM log WHERE sequence = ?", (pruned + 1,)).fetchone()
            return LogBounds(pruned + 1, last, size, oldest[0] if oldest else 0)

        return await self._database.read(work)

    async def segments(self) -> list[tuple[int, int, int]]:
        """Of each segment that has any events, from the oldest on: its last possible number, when its newest event came, and its bytes."""

        def work(connection: sa.Connection) -> list[tuple[int, int, int]]:
            rows = raw_of(connection).execute(
                "SELECT (number + 1) * ?, last_append_ns, bytes FROM segments ORDER BY number", (SEGMENT_EVENTS,)
            )
            return rows.fetchall()

        return await self._database.read(work)

    async def append(self, events: Sequence[NewEvent]) -> tuple[list[int], list[LoggedEvent]]:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> tuple[list[int], list[LoggedEvent]]:
            raw = raw_of(connection)
            last, _ = _bounds(raw)
            now = time.time_ns()
            # Nearly always all of them are new, and looking each up first would cost a third of the time.
            numbers, rows = numbered(events, last, now, {})
            raw.execute("SAVEPOINT appending")
            try:
                _insert(raw, rows)
            except sqlite3.IntegrityError:
                raw.execute("ROLLBACK TO appending")
                numbers, rows = numbered(events, last, now, _known(raw, events))
                _insert(raw, rows)
            raw.execute("RELEASE appending")
            if rows:
                raw.execute("UPDATE log_bounds SET last = ?", (rows[-1].sequence,))
                raw.executemany("INSERT INTO log_moves VALUES (?, ?)", moves_of(rows))
                _count(raw, rows, now)
            return numbers, rows

        return await self._database.write(work)

    async def read(self, after: int, kinds: Collection[int], limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> tuple[list[LoggedEvent], int]:
            raw = raw_of(connection)
            last, pruned = _bounds(raw)
            start = max(after, pruned)
            upto = min(last, start + max(limit, LOOKED_AT))
            of_kinds = f" AND kind IN ({','.join(str(int(kind)) for kind in kinds)})" if kinds else ""
            rows = raw.execute(
                f"SELECT {COLUMNS} FROM log WHERE sequence > ? AND sequence <= ?{of_kinds} ORDER BY sequence LIMIT ?", (start, upto, limit)
            )
            return page(rows, max(after, upto), limit, max_bytes)

        return await self._database.read(work)

    async def read_of_sync(self, sync_id: str, after: int, upto: int, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> tuple[list[LoggedEvent], int]:
            raw = raw_of(connection)
            numbers, read_to = of_sync(raw, sync_id, after, upto, limit)
            return page(_by_sequences(raw, numbers), read_to, limit, max_bytes)

        return await self._database.read(work)

    async def read_of_file(self, keys: Sequence[bytes], after: int, limit: int) -> list[LoggedEvent]:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> list[LoggedEvent]:
            raw = raw_of(connection)
            numbers = {number for key in keys for number in of_file(raw, key, after, limit)}
            return _by_sequences(raw, sorted(numbers)[:limit])

        return await self._database.read(work)

    async def by_sequences(self, sequences: Sequence[int]) -> list[LoggedEvent]:
        """See `EventLogStore`."""
        return await self._database.read(lambda connection: _by_sequences(raw_of(connection), sequences))

    async def sequence_since(self, time_ns: int) -> int:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> int:
            raw = raw_of(connection)
            # Only the segment where it is has its rows looked at.
            segments = raw.execute("SELECT number FROM segments WHERE last_append_ns >= ? ORDER BY number LIMIT 1", (time_ns,)).fetchone()
            if segments is None:
                return _bounds(raw)[0] + 1
            found = raw.execute(
                "SELECT sequence FROM log WHERE sequence > ? AND append_time_ns >= ? ORDER BY sequence LIMIT 1",
                (segments[0] * SEGMENT_EVENTS, time_ns),
            ).fetchone()
            return int(found[0]) if found else _bounds(raw)[0] + 1

        return await self._database.read(work)

    async def last_of_sync(self, sync_id: str) -> int:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> int:
            return int(raw_of(connection).execute("SELECT coalesce(max(sequence), 0) FROM log WHERE sync_id = ?", (sync_id,)).fetchone()[0])

        return await self._database.read(work)

    async def prune(self, upto: int, limit: int) -> int:
        """See `EventLogStore`."""

        def work(connection: sa.Connection) -> int:
            raw = raw_of(connection)
            last, pruned = _bounds(raw)
            until = min(upto, last, pruned + limit)
            if until <= pruned:
                return 0
            gone = raw.execute(
                "SELECT (sequence - 1) / ?1, sum(length(payload) + ?2), count(*) FROM log WHERE sequence <= ?3 GROUP BY 1",
                (SEGMENT_EVENTS, ROW_BYTES, until),
            ).fetchall()
            raw.execute("DELETE FROM log WHERE sequence <= ?", (until,))
            raw.execute("DELETE FROM log_moves WHERE sequence <= ?", (until,))
            raw.executemany("UPDATE segments SET bytes = bytes - ?2, events = events - ?3 WHERE number = ?1", gone)
            raw.execute("DELETE FROM segments WHERE events <= 0")
            raw.execute("UPDATE log_bounds SET pruned = ?", (until,))
            return until - pruned

        return await self._database.write(work, durable=False)


def raw_of(connection: sa.Connection) -> sqlite3.Connection:
    """The driver's connection: SQLAlchemy would take more time than SQLite."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _bounds(raw: sqlite3.Connection) -> tuple[int, int]:
    last, pruned = raw.execute("SELECT last, pruned FROM log_bounds").fetchone()
    return last, pruned


def _by_sequences(raw: sqlite3.Connection, sequences: Sequence[int]) -> list[LoggedEvent]:
    rows = raw.execute(
        f"SELECT {COLUMNS} FROM log WHERE sequence IN (SELECT value FROM json_each(?)) ORDER BY sequence", (json.dumps(list(sequences)),)
    )
    return [LoggedEvent._make(row) for row in rows]


def _known(raw: sqlite3.Connection, events: Sequence[NewEvent]) -> dict[str, int]:
    ids = json.dumps([event.event_id for event in events])
    return dict(raw.execute("SELECT event_id, sequence FROM log WHERE event_id IN (SELECT value FROM json_each(?))", (ids,)).fetchall())


def _insert(raw: sqlite3.Connection, rows: Sequence[LoggedEvent]) -> None:
    raw.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _count(raw: sqlite3.Connection, rows: Sequence[LoggedEvent], now: int) -> None:
    raw.executemany(
        "INSERT INTO segments VALUES (?1, ?4, ?4, ?2, ?3) ON CONFLICT (number) DO UPDATE SET"
        " last_append_ns = max(last_append_ns, ?4), bytes = bytes + ?2, events = events + ?3",
        [(*segment, now) for segment in counted(rows)],
    )
