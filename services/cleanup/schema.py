"""Tables of the clean-up's database. Paths and names are bytes everywhere: a source's names need not be UTF-8.

Times of the journal are nanoseconds since 1970 by this machine's clock; those of files are by the clock of their source.
"""

from __future__ import annotations

import sqlalchemy as sa

from mediasync.storage.database import Migration

metadata = sa.MetaData()

# One row a clean-up. `end_ns` is 0 until it is over. With `trace_parent` its events belong to its trace.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("sync_id", sa.Text, nullable=False, unique=True),
    sa.Column("job_id", sa.Text, nullable=False, index=True),
    # What the manifest knows the source by, and what people call it.
    sa.Column("source_key", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("library_root", sa.Text, nullable=False),
    sa.Column("library_uuid", sa.Text, nullable=False),
    sa.Column("summary", sa.LargeBinary, nullable=False),
    sa.Column("trace_parent", sa.Text, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Index("runs_start", "start_ns"),
    sqlite_autoincrement=True,
)

# The journal: one row for each file whose deletion was intended, written before anything is asked of the source.
deletions = sa.Table(
    "deletions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("source_key", sa.Text, nullable=False),
    sa.Column("path", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    # Empty where no hash is asked for.
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    # Empty until a copy was read and found good.
    sa.Column("library_path", sa.LargeBinary, nullable=False),
    # Goes together with the row before it, or not at all.
    sa.Column("joined", sa.Boolean, nullable=False),
    # Its copy was read and is good, or none is asked for: from now on the source may be told to delete it.
    sa.Column("verified", sa.Boolean, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    # The reason; empty unless it was kept.
    sa.Column("kept", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("trash_path", sa.LargeBinary, nullable=False),
    sa.Column("intent_ns", sa.BigInteger, nullable=False),
    # 0 while it is open.
    sa.Column("outcome_ns", sa.BigInteger, nullable=False),
    sa.Index("deletions_time", "intent_ns"),
    sa.Index("deletions_source", "source", "intent_ns"),
    sa.Index("deletions_file", "source_key", "path"),
    sa.Index("deletions_run", "run", "intent_ns"),
    sa.Index("deletions_open", "source_key", sqlite_where=sa.text("outcome = 'open'")),
    sa.Index("deletions_kept", "intent_ns", sqlite_where=sa.text("outcome = 'kept'")),
    # A number is never given out twice: page tokens and the ids of events are made of it.
    sqlite_autoincrement=True,
)

# Events that are not in the event log yet.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("sync_id", sa.Text, nullable=False),
    sa.Column("event", sa.LargeBinary, nullable=False),
    # A sequence number is never given out twice, also when the newest row was deleted.
    sqlite_autoincrement=True,
)

# What would be deleted, and what it comes to; kept for an hour.
plans = sa.Table(
    "plans",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("plan_id", sa.Text, nullable=False, unique=True),
    sa.Column("source_key", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("library_root", sa.Text, nullable=False),
    # A digest of what was asked: a run takes only a plan that was made of the same.
    sa.Column("asked", sa.LargeBinary, nullable=False),
    # What it comes to; empty until it is whole.
    sa.Column("plan", sa.LargeBinary, nullable=False),
    # Folders that were found empty, divided by NUL.
    sa.Column("empty_folders", sa.LargeBinary, nullable=False, server_default=sa.text("x''")),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
)

# Files of a plan in its order: those that would go, oldest first, then those that are old enough and stay for another reason.
plan_files = sa.Table(
    "plan_files",
    metadata,
    sa.Column("plan", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("age_ns", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    # Where the library should have it, divided by NUL; empty for none.
    sa.Column("copies", sa.LargeBinary, nullable=False),
    sa.Column("joined", sa.Boolean, nullable=False),
    # The reason; empty for a file that would go.
    sa.Column("kept", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

MIGRATIONS = (Migration(1, metadata.create_all),)
