"""Tables of the coordinator's database, and how they came to be."""

from __future__ import annotations

import sqlalchemy as sa

from mediasync.storage.database import Migration

MIGRATIONS = (
    Migration(
        1,
        (
            """
            CREATE TABLE jobs (
                job_id TEXT PRIMARY KEY,
                sync_id TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL,
                spec BLOB NOT NULL,
                trace TEXT NOT NULL,
                create_time REAL NOT NULL,
                start_time REAL NOT NULL DEFAULT 0,
                end_time REAL NOT NULL DEFAULT 0,
                cancel_time REAL NOT NULL DEFAULT 0,
                summary BLOB NOT NULL DEFAULT x'',
                problem BLOB
            )
            """,
            "CREATE INDEX jobs_by_state ON jobs (state, job_id)",
            """
            CREATE TABLE sources (
                name TEXT PRIMARY KEY,
                spec BLOB NOT NULL,
                create_time REAL NOT NULL
            )
            """,
            """
            CREATE TABLE requests (
                request_id TEXT PRIMARY KEY,
                method TEXT NOT NULL,
                digest BLOB NOT NULL,
                answer BLOB NOT NULL,
                create_time REAL NOT NULL
            )
            """,
            "CREATE INDEX requests_by_time ON requests (create_time)",
        ),
    ),
    Migration(
        2,
        (
            "ALTER TABLE jobs ADD COLUMN pause_changes INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE jobs ADD COLUMN retry_of TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE jobs ADD COLUMN limit_mbps REAL",
            "ALTER TABLE jobs ADD COLUMN scope TEXT",
            "ALTER TABLE jobs ADD COLUMN remains TEXT",
            "ALTER TABLE jobs ADD COLUMN activities BLOB NOT NULL DEFAULT x''",
            """
            CREATE TABLE standing_watches (
                name TEXT PRIMARY KEY,
                digest TEXT NOT NULL,
                job_id TEXT NOT NULL
            )
            """,
        ),
    ),
    Migration(
        3,
        (
            "ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'sync'",
            """
            CREATE TABLE schedules (
                name TEXT PRIMARY KEY,
                paused INTEGER NOT NULL DEFAULT 0,
                last_job_id TEXT NOT NULL DEFAULT '',
                last_time REAL NOT NULL DEFAULT 0,
                seen_time REAL NOT NULL DEFAULT 0,
                times TEXT NOT NULL DEFAULT ''
            )
            """,
        ),
    ),
)

metadata = sa.MetaData()
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("sync_id", sa.Text),
    sa.Column("state", sa.Text),
    sa.Column("spec", sa.LargeBinary),
    sa.Column("trace", sa.Text),
    sa.Column("create_time", sa.Float),
    sa.Column("start_time", sa.Float),
    sa.Column("end_time", sa.Float),
    sa.Column("cancel_time", sa.Float),
    sa.Column("summary", sa.LargeBinary),
    sa.Column("problem", sa.LargeBinary),
    sa.Column("pause_changes", sa.Integer),
    sa.Column("retry_of", sa.Text),
    sa.Column("limit_mbps", sa.Float),
    sa.Column("scope", sa.Text),
    sa.Column("remains", sa.Text),
    sa.Column("activities", sa.LargeBinary),
    sa.Column("kind", sa.Text),
)
sources = sa.Table(
    "sources",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("spec", sa.LargeBinary),
    sa.Column("create_time", sa.Float),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("method", sa.Text),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("answer", sa.LargeBinary),
    sa.Column("create_time", sa.Float),
)
standing_watches = sa.Table(
    "standing_watches",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text),
    sa.Column("job_id", sa.Text),
)
schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("paused", sa.Integer),
    sa.Column("last_job_id", sa.Text),
    sa.Column("last_time", sa.Float),
    sa.Column("seen_time", sa.Float),
    sa.Column("times", sa.Text),
)
