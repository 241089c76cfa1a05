"""Tables of the event log's database in SQLite, and how those of earlier versions become these."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, cast

import sqlalchemy as sa

from mediasync.storage.database import Migration
from services.ingest import framing
from services.ingest.log_rows import ROW_BYTES, SEGMENT_EVENTS, SEGMENT_OF

_FIRST = (
    # Sequence numbers are dense: given out inside the one writing transaction, not by the database.
    """CREATE TABLE events (
        sequence BIGINT NOT NULL PRIMARY KEY,
        event_id VARCHAR(64) NOT NULL UNIQUE,
        kind INTEGER NOT NULL,
        file_key BLOB NOT NULL,
        sync_id TEXT NOT NULL,
        traceparent TEXT NOT NULL,
        append_time_ns BIGINT NOT NULL,
        payload BLOB NOT NULL
    )""",
    """CREATE TABLE subscriptions (
        name VARCHAR(64) NOT NULL PRIMARY KEY,
        address TEXT NOT NULL,
        kinds TEXT NOT NULL,
        batch_size INTEGER NOT NULL,
        fixed BOOLEAN NOT NULL,
        cursor BIGINT NOT NULL,
        last_error TEXT NOT NULL,
        last_success_ns BIGINT NOT NULL
    )""",
    """CREATE TABLE dead_letters (
        number INTEGER NOT NULL PRIMARY KEY,
        subscription VARCHAR(64) NOT NULL,
        sequence BIGINT NOT NULL REFERENCES events (sequence),
        reason TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        time_ns BIGINT NOT NULL,
        UNIQUE (subscription, sequence)
    )""",
    """CREATE TABLE requests (
        request_id VARCHAR(128) NOT NULL PRIMARY KEY,
        body TEXT NOT NULL,
        answer TEXT NOT NULL,
        time_ns BIGINT NOT NULL
    )""",
)

_EVENT_COLUMNS = """
    event_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    file_key BLOB NOT NULL,
    sync_id TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    append_time_ns INTEGER NOT NULL,
    payload BLOB NOT NULL"""

_SECOND = (
    # The payload has the sequence number in it. A plain rowid table: appending touches its last page only.
    f"CREATE TABLE log (sequence INTEGER PRIMARY KEY, {_EVENT_COLUMNS})",
    """CREATE TABLE segments (
        number INTEGER PRIMARY KEY,
        first_append_ns INTEGER NOT NULL,
        last_append_ns INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        events INTEGER NOT NULL
    )""",
    # The end outlives the rows: a number is never given twice.
    "CREATE TABLE log_bounds (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL, pruned INTEGER NOT NULL)",
    # Moved files by the place that they left; by the other one the log itself finds them.
    "CREATE TABLE log_moves (old_key BLOB NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (old_key, sequence)) WITHOUT ROWID",
    # With their own copy: the log forgets.
    f"""CREATE TABLE letters (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        subscription TEXT NOT NULL,
        sequence INTEGER NOT NULL, {_EVENT_COLUMNS},
        reason TEXT NOT NULL,
        answer TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        first_attempt_ns INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        UNIQUE (subscription, event_id)
    )""",
    # Numbers are never given twice here either: somebody may be reading behind the last.
    f"CREATE TABLE side_events (number INTEGER PRIMARY KEY AUTOINCREMENT, subscription TEXT NOT NULL, {_EVENT_COLUMNS})",
    "ALTER TABLE subscriptions ADD COLUMN read_to INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE subscriptions ADD COLUMN waiting BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE subscriptions ADD COLUMN options TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE subscriptions ADD COLUMN paused BOOLEAN NOT NULL DEFAULT 0",
    "ALTER TABLE subscriptions ADD COLUMN side TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE subscriptions ADD COLUMN too_far_behind BOOLEAN NOT NULL DEFAULT 0",
    "ALTER TABLE subscriptions ADD COLUMN events_lost INTEGER NOT NULL DEFAULT 0",
    "UPDATE subscriptions SET read_to = cursor",
)

_SECOND_INDEXES = (
    "CREATE UNIQUE INDEX log_event_id ON log (event_id)",
    # With the key, so that the files of a sync are found without their rows.
    "CREATE INDEX log_sync ON log (sync_id, sequence, file_key)",
    f"CREATE INDEX log_file ON log ({SEGMENT_OF.format('sequence')}, file_key)",
    "CREATE INDEX letters_sync ON letters (subscription, sync_id)",
    "CREATE INDEX side_events_subscription ON side_events (subscription, number)",
)


def _to_second(connection: sa.Connection) -> None:
    """Copies what there is: the log in order, each event with its number behind its bytes, and the letters each with a copy."""
    for statement in _SECOND:
        connection.exec_driver_sql(statement)
    raw = cast(sqlite3.Connection, connection.connection.driver_connection)
    columns = "event_id, kind, file_key, sync_id, traceparent, append_time_ns"
    raw.executemany(
        "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        _numbered(raw.execute(f"SELECT sequence, {columns}, payload FROM events ORDER BY sequence")),
    )
    raw.execute("INSERT INTO log_bounds SELECT 1, coalesce(max(sequence), 0), 0 FROM log")
    raw.execute(
        "INSERT INTO segments SELECT (sequence - 1) / ?1, min(append_time_ns), max(append_time_ns), sum(length(payload) + ?2), count(*)"
        " FROM log GROUP BY 1",
        (SEGMENT_EVENTS, ROW_BYTES),
    )
    raw.execute(
        f"INSERT INTO letters SELECT number, subscription, sequence, {columns}, payload, reason, '', attempts, time_ns, time_ns"
        " FROM dead_letters JOIN log USING (sequence)"
    )
    for statement in ("DROP TABLE dead_letters", "DROP TABLE events", *_SECOND_INDEXES):
        connection.exec_driver_sql(statement)


def _numbered(rows: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        yield (*row[:-1], framing.with_sequence(row[-1], row[0]))


MIGRATIONS = (Migration(1, _FIRST), Migration(2, _to_second))
