"""The events of the log in PostgreSQL. See `store.EventLogStore`."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from mediasync.storage.postgres import PostgresDatabase
from services.ingest.events import LogBounds, LoggedEvent, NewEvent
from services.ingest.log_rows import (
    COLUMNS,
    LOOKED_AT,
    ROW_BYTES,
    SEGMENT_EVENTS,
    counted,
    measured,
    measured_page,
    moves_of,
    numbered,
    of_file,
    of_sync,
)
from services.ingest.postgres_raw import PostgresRaw, marked

if TYPE_CHECKING:
    import psycopg

_COPY = f"COPY log ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
_TYPES = ("int8", "text", "int4", "bytea", "text", "text", "int8", "bytea")
_NUL = str.maketrans("\0", "\ufffd")


class PostgresLogStore:
    """Appends, reads, prunes."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def bounds(self) -> LogBounds:
        """See `EventLogStore`."""

        def work(connection: psycopg.Connection[Any]) -> LogBounds:
            last, pruned = _bounds(connection)
            size = _number(connection, "SELECT coalesce(sum(bytes), 0)::int8 FROM segments")
            oldest = connection.execute("SELECT append_time_ns FROM log WHERE sequence = %s", (pruned + 1,)).fetchone()
            return LogBounds(pruned + 1, last, size, oldest[0] if oldest else 0)

        return await self._database.read(work)

    async def segments(self) -> list[tuple[int, int, int]]:
        """See `EventLogStore`."""
        query = f"SELECT (number + 1) * {SEGMENT_EVENTS}, last_append_ns, bytes FROM segments ORDER BY number"
        return await self._database.read(lambda connection: connection.execute(query).fetchall())

    async def append(self, events: Sequence[NewEvent]) -> tuple[list[int], list[LoggedEvent]]:
        """See `EventLogStore`."""
        import psycopg

        events = [_storable(event) for event in events]

        def work(connection: psycopg.Connection[Any]) -> tuple[list[int], list[LoggedEvent]]:
            last, _ = _bounds(connection)
            now = time.time_ns()
            # Nearly always all of them are new, and looking each up first would cost time.
            numbers, rows = numbered(events, last, now, {})
            try:
                with connection.transaction():
                    _copy(connection, rows)
            except psycopg.errors.UniqueViolation:
                numbers, rows = numbered(events, last, now, _known(connection, events))
                _copy(connection, rows)
            if rows:
                connection.execute("UPDATE log_bounds SET last = %s", (rows[-1].sequence,))
                cursor = connection.cursor()
                cursor.executemany("INSERT INTO log_moves VALUES (%s, %s)", moves_of(rows))
                cursor.executemany(
                    "INSERT INTO segments VALUES (%s, %s, %s, %s, %s) ON CONFLICT (number) DO UPDATE SET"
                    " last_append_ns = greatest(segments.last_append_ns, excluded.last_append_ns),"
                    " bytes = segments.bytes + excluded.bytes, events = segments.events + excluded.events",
                    [(number, now, now, size, count) for number, size, count in counted(rows)],
                )
            return numbers, rows

        return await self._database.write(work)

    async def read(self, after: int, kinds: Collection[int], limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """See `EventLogStore`."""
        of_kinds = f" AND kind IN ({','.join(str(int(kind)) for kind in kinds)})" if kinds else ""
        query = f"SELECT {COLUMNS} FROM log WHERE sequence > ? AND sequence <= ?{of_kinds} ORDER BY sequence LIMIT ?"

        def work(connection: psycopg.Connection[Any]) -> tuple[list[LoggedEvent], int]:
            last, pruned = _bounds(connection)
            start = max(after, pruned)
            upto = min(last, start + max(limit, LOOKED_AT))
            return _page(connection, query, (start, upto), max(after, upto), limit, max_bytes)

        return await self._database.read(work)

    async def read_of_sync(self, sync_id: str, after: int, upto: int, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """See `EventLogStore`."""

        def work(connection: psycopg.Connection[Any]) -> tuple[list[LoggedEvent], int]:
            numbers, read_to = of_sync(PostgresRaw(connection), sync_id.translate(_NUL), after, upto, limit)
            query = f"SELECT {COLUMNS} FROM log WHERE sequence = ANY(?) ORDER BY sequence LIMIT ?"
            return _page(connection, query, (numbers,), read_to, limit, max_bytes)

        return await self._database.read(work)

    async def read_of_file(self, keys: Sequence[bytes], after: int, limit: int) -> list[LoggedEvent]:
        """See `EventLogStore`."""

        def work(connection: psycopg.Connection[Any]) -> list[LoggedEvent]:
            raw = PostgresRaw(connection)
            numbers = {number for key in keys for number in of_file(raw, key, after, limit)}
            return _by_sequences(connection, sorted(numbers)[:limit])

        return await self._database.read(work)

    async def by_sequences(self, sequences: Sequence[int]) -> list[LoggedEvent]:
        """See `EventLogStore`."""
        return await self._database.read(lambda connection: _by_sequences(connection, sequences))

    async def sequence_since(self, time_ns: int) -> int:
        """See `EventLogStore`."""

        def work(connection: psycopg.Connection[Any]) -> int:
            # Only the segment where it is has its rows looked at.
            segment = connection.execute("SELECT min(number) FROM segments WHERE last_append_ns >= %s", (time_ns,)).fetchone()
            found = connection.execute(
                "SELECT min(sequence) FROM log WHERE sequence > %s AND sequence <= %s AND append_time_ns >= %s",
                (segment[0] * SEGMENT_EVENTS, (segment[0] + 1) * SEGMENT_EVENTS, time_ns)
                if segment and segment[0] is not None
                else (0, 0, 0),
            ).fetchone()
            return int(found[0]) if found and found[0] is not None else _bounds(connection)[0] + 1

        return await self._database.read(work)

    async def last_of_sync(self, sync_id: str) -> int:
        """See `EventLogStore`."""
        query = "SELECT coalesce(max(sequence), 0) FROM log WHERE sync_id = %s"
        return await self._database.read(lambda connection: _number(connection, query, sync_id.translate(_NUL)))

    async def prune(self, upto: int, limit: int) -> int:
        """See `EventLogStore`."""

        def work(connection: psycopg.Connection[Any]) -> int:
            last, pruned = _bounds(connection)
            until = min(upto, last, pruned + limit)
            if until <= pruned:
                return 0
            connection.execute(
                "UPDATE segments SET bytes = bytes - gone.size, events = events - gone.count FROM"
                f" (SELECT (sequence - 1) / {SEGMENT_EVENTS} AS number, sum(length(payload) + {ROW_BYTES}) AS size, count(*) AS count"
                " FROM log WHERE sequence <= %s GROUP BY 1) AS gone WHERE segments.number = gone.number",
                (until,),
            )
            connection.execute("DELETE FROM log WHERE sequence <= %s", (until,))
            connection.execute("DELETE FROM log_moves WHERE sequence <= %s", (until,))
            connection.execute("DELETE FROM segments WHERE events <= 0")
            connection.execute("UPDATE log_bounds SET pruned = %s", (until,))
            return until - pruned

        return await self._database.write(work, durable=False)


def _storable(event: NewEvent) -> NewEvent:
    """The event as text columns take it; as its bytes say it, it stays."""
    if "\0" not in event.event_id and "\0" not in event.sync_id:
        return event
    return NewEvent(
        event.event_id.translate(_NUL), event.kind, event.file_key, event.sync_id.translate(_NUL), event.payload, event.traceparent
    )


def _bounds(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    row = connection.execute("SELECT last, pruned FROM log_bounds").fetchone()
    assert row is not None
    return row[0], row[1]


def _number(connection: psycopg.Connection[Any], query: str, *values: object) -> int:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return int(row[0])


def _page(
    connection: psycopg.Connection[Any], query: str, values: Sequence[Any], upto: int, limit: int, max_bytes: int
) -> tuple[list[LoggedEvent], int]:
    """A page of the events of a query whose last value is `limit`."""
    rows = connection.execute(marked(measured(query)), (*values, limit, max_bytes), binary=True).fetchall()
    return measured_page(rows, upto, limit)


def _by_sequences(connection: psycopg.Connection[Any], sequences: Sequence[int]) -> list[LoggedEvent]:
    query = f"SELECT {COLUMNS} FROM log WHERE sequence = ANY(%s) ORDER BY sequence"
    return [LoggedEvent._make(row) for row in connection.execute(query, (list(sequences),), binary=True)]


def _known(connection: psycopg.Connection[Any], events: Sequence[NewEvent]) -> dict[str, int]:
    query = "SELECT event_id, sequence FROM log WHERE event_id = ANY(%s)"
    return dict(connection.execute(query, ([event.event_id for event in events],)).fetchall())


def _copy(connection: psycopg.Connection[Any], rows: Sequence[LoggedEvent]) -> None:
    with connection.cursor().copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row(row)
