"""Tables of the event log in PostgreSQL, the same as in SQLite."""

from __future__ import annotations

from mediasync.storage.postgres import PostgresMigration
from services.ingest.log_rows import SEGMENT_OF

SCHEMA = "mediasync_ingest"

_EVENT_COLUMNS = """
    event_id TEXT COLLATE "C" NOT NULL,
    kind INTEGER NOT NULL,
    file_key BYTEA NOT NULL,
    sync_id TEXT COLLATE "C" NOT NULL,
    traceparent TEXT NOT NULL,
    append_time_ns BIGINT NOT NULL,
    payload BYTEA NOT NULL"""

MIGRATIONS = (
    PostgresMigration(
        1,
        (
            # The payload has the sequence number in it, and is not looked into here: squeezing it would only cost time.
            f"CREATE TABLE log (sequence BIGINT PRIMARY KEY, {_EVENT_COLUMNS})",
            "ALTER TABLE log ALTER COLUMN payload SET STORAGE EXTERNAL",
            "CREATE UNIQUE INDEX log_event_id ON log (event_id)",
            "CREATE INDEX log_sync ON log (sync_id, sequence)",
            f"CREATE INDEX log_file ON log ({SEGMENT_OF.format('sequence')}, file_key)",
            """CREATE TABLE segments (
                number BIGINT PRIMARY KEY,
                first_append_ns BIGINT NOT NULL,
                last_append_ns BIGINT NOT NULL,
                bytes BIGINT NOT NULL,
                events BIGINT NOT NULL
            )""",
            # The end outlives the rows: a number is never given twice.
            "CREATE TABLE log_bounds (one INTEGER PRIMARY KEY CHECK (one = 1), last BIGINT NOT NULL, pruned BIGINT NOT NULL)",
            "INSERT INTO log_bounds VALUES (1, 0, 0)",
            "CREATE TABLE log_moves (old_key BYTEA NOT NULL, sequence BIGINT NOT NULL, PRIMARY KEY (old_key, sequence))",
            """CREATE TABLE subscriptions (
                name TEXT COLLATE "C" PRIMARY KEY,
                address TEXT NOT NULL,
                kinds TEXT NOT NULL,
                batch_size INTEGER NOT NULL,
                fixed BOOLEAN NOT NULL,
                options TEXT NOT NULL,
                paused BOOLEAN NOT NULL,
                cursor BIGINT NOT NULL,
                read_to BIGINT NOT NULL,
                waiting BYTEA NOT NULL,
                last_error TEXT NOT NULL,
                last_success_ns BIGINT NOT NULL,
                side TEXT NOT NULL,
                too_far_behind BOOLEAN NOT NULL DEFAULT false,
                events_lost BIGINT NOT NULL DEFAULT 0
            )""",
            f"""CREATE TABLE letters (
                number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                subscription TEXT COLLATE "C" NOT NULL,
                sequence BIGINT NOT NULL, {_EVENT_COLUMNS},
                reason TEXT NOT NULL,
                answer TEXT NOT NULL,
                attempts INTEGER NOT NULL,
                first_attempt_ns BIGINT NOT NULL,
                time_ns BIGINT NOT NULL,
                UNIQUE (subscription, event_id)
            )""",
            "CREATE INDEX letters_sync ON letters (subscription, sync_id)",
            f"""CREATE TABLE side_events (
                number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subscription TEXT COLLATE "C" NOT NULL, {_EVENT_COLUMNS}
            )""",
            "CREATE INDEX side_events_subscription ON side_events (subscription, number)",
            "CREATE TABLE requests (request_id TEXT PRIMARY KEY, body TEXT NOT NULL, answer TEXT NOT NULL, time_ns BIGINT NOT NULL)",
        ),
    ),
)
