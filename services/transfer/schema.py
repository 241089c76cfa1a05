"""Tables of the transfer database. Paths and names are bytes everywhere: a source's names need not be UTF-8."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mediasync.storage.database import Migration

metadata = sa.MetaData()

libraries = sa.Table(
    "libraries",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.Text, nullable=False, unique=True),
    sa.Column("root", sa.LargeBinary, nullable=False, unique=True),
)

origins = sa.Table(
    "origins",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("source_key", sa.Text, nullable=False),
    sa.Column("library", sa.ForeignKey("libraries.key"), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.UniqueConstraint("source_key", "library"),
)

# Clustered on (origin, directory, name): a directory's rows are read in the order in which a scan reports its files.
manifest = sa.Table(
    "manifest",
    metadata,
    sa.Column("origin", sa.Integer, primary_key=True),
    sa.Column("directory", sa.LargeBinary, primary_key=True),
    sa.Column("name", sa.LargeBinary, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("library_path", sa.LargeBinary, nullable=False),
    sa.Column("incomplete", sa.Boolean, nullable=False),
    sa.Column("vanished", sa.Boolean, nullable=False),
    sa.Column("sync_id", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

library_files = sa.Table(
    "library_files",
    metadata,
    sa.Column("library", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("sync_id", sa.Text, nullable=False),
    # The name it came under, where that is not its path: it was taken, or the file system refused it.
    sa.Column("wanted_path", sa.LargeBinary),
    # What its owner made of it, or what the file system made of its time; empty while it is as it landed.
    sa.Column("own_size_bytes", sa.BigInteger),
    sa.Column("own_mtime_ns", sa.BigInteger),
    sa.Column("own_sha256", sa.LargeBinary),
    # Its owner removed it, which was seen and is meant to be.
    sa.Column("culled", sa.Boolean, nullable=False, server_default="0"),
    # When its bytes were last read back and found right, in Unix seconds; 0 for never.
    sa.Column("verified_time", sa.Float, nullable=False, server_default="0"),
    # Its content did not validate when it was last looked into.
    sa.Column("invalid", sa.Boolean, nullable=False, server_default="0"),
    sa.Index("library_files_sha256", "library", "sha256"),
    sa.Index("library_files_wanted_path", "library", "wanted_path", sqlite_where=sa.text("wanted_path IS NOT NULL")),
    sqlite_with_rowid=False,
)

# A directory is here once everything in it was dealt with: only then may a scan leave its unmoved files out.
directories = sa.Table(
    "directories",
    metadata,
    sa.Column("origin", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, primary_key=True),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

scans = sa.Table(
    "scans",
    metadata,
    sa.Column("origin", sa.Integer, primary_key=True),
    sa.Column("folder", sa.LargeBinary, primary_key=True),
    sa.Column("watermark_ns", sa.BigInteger, nullable=False),
    sa.Column("full_scan_time", sa.Float, nullable=False),
    # A digest of what counted as a result: under another selection, files that have not moved may be results.
    sa.Column("selection", sa.Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

# Written before a file becomes visible and removed with its manifest row, so that a visible file's hash is always on record.
landings = sa.Table(
    "landings",
    metadata,
    sa.Column("library", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, primary_key=True),
    sa.Column("sync_id", sa.Text, nullable=False),
    sa.Column("origin", sa.ForeignKey("origins.key"), nullable=False),
    sa.Column("folder", sa.LargeBinary, nullable=False),
    sa.Column("extract_metadata", sa.Boolean, nullable=False),
    sa.Column("source_path", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("incomplete", sa.Boolean, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, server_default="new"),
    sqlite_with_rowid=False,
)

# Units whose files may not be on the disk yet, with the boot of the machine in which they landed.
unflushed = sa.Table(
    "unflushed",
    metadata,
    sa.Column("library", sa.Integer, primary_key=True),
    sa.Column("origin", sa.Integer, primary_key=True),
    sa.Column("folder", sa.LargeBinary, primary_key=True),
    sa.Column("sync_id", sa.Text, primary_key=True),
    sa.Column("boot_id", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

# What a run committed for a folder, counted in the committing transaction: a repeated attempt goes on counting here.
units = sa.Table(
    "units",
    metadata,
    sa.Column("sync_id", sa.Text, primary_key=True),
    sa.Column("origin", sa.Integer, primary_key=True),
    sa.Column("folder", sa.LargeBinary, primary_key=True),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("vanished", sa.BigInteger, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("culled", sa.BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

processing = sa.Table(
    "processing",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("sync_id", sa.Text, nullable=False, index=True),
    sa.Column("origin", sa.ForeignKey("origins.key"), nullable=False),
    sa.Column("library_path", sa.LargeBinary, nullable=False),
    sa.Column("source_path", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("incomplete", sa.Boolean, nullable=False),
    sa.Column("extract_metadata", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # Of an adoption: done when nothing that was just brought is waiting.
    sa.Column("background", sa.Boolean, nullable=False, server_default="0"),
    sa.Index("processing_order", "background", "key"),
)

# The last verify of each library, and how far it is: everything up to `cursor` is dealt with. `finish_time` is 0 until it has ended.
verifications = sa.Table(
    "verifications",
    metadata,
    sa.Column("library", sa.Integer, primary_key=True),
    sa.Column("below", sa.LargeBinary, nullable=False),
    sa.Column("deep", sa.Boolean, nullable=False),
    sa.Column("since_ns", sa.BigInteger, nullable=False),
    sa.Column("cursor", sa.LargeBinary, nullable=False),
    sa.Column("finish_time", sa.Float, nullable=False),
    sa.Column("files_intact", sa.BigInteger, nullable=False),
    sa.Column("files_read", sa.BigInteger, nullable=False),
    sa.Column("files_left_out", sa.BigInteger, nullable=False),
    sa.Column("others", sa.BigInteger, nullable=False),
    sa.Column("bytes_read", sa.BigInteger, nullable=False),
)

# What it found and what has not been set right since.
library_findings = sa.Table(
    "library_findings",
    metadata,
    sa.Column("library", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    # On record, or on the disk for an unknown file.
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary),
    sa.Column("moved_from", sa.LargeBinary),
    # Who brought a file that was lost, and what it is called there.
    sa.Column("origin", sa.Integer),
    sa.Column("source_path", sa.LargeBinary),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    sa.Index("library_findings_kind", "library", "kind", "size_bytes"),
    sqlite_with_rowid=False,
)

# How often a file was moved away from a path. What comes there later is told under another id.
moved_paths = sa.Table(
    "moved_paths",
    metadata,
    sa.Column("library", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, primary_key=True),
    sa.Column("moves", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

# One row a run. `trace_parent` lets what happens later, off the transfer's path, belong to the run's trace.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("sync_id", sa.Text, primary_key=True),
    sa.Column("trace_parent", sa.Text, nullable=False),
    sa.Column("files_processed", sa.BigInteger, nullable=False),
    sa.Column("files_invalid", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)

file_problems = sa.Table(
    "file_problems",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("sync_id", sa.Text, nullable=False, index=True),
    sa.Column("path", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)

# Every file of a run that failed, for a retry that takes only those. A run's summary holds the first hundred.
failed_files = sa.Table(
    "failed_files",
    metadata,
    sa.Column("sync_id", sa.Text, primary_key=True),
    sa.Column("origin", sa.Integer, primary_key=True),
    sa.Column("path", sa.LargeBinary, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("sync_id", sa.Text, nullable=False, index=True),
    sa.Column("event", sa.LargeBinary, nullable=False),
    # A sequence number is never given out twice, also when the newest row was deleted.
    sqlite_autoincrement=True,
)


def _add_column(connection: sa.Connection, column: sa.Column[Any]) -> None:
    """Adds a column to a table that an older version made. A new database has it already."""
    table = column.table
    if column.name not in {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}:
        definition = str(sa.schema.CreateColumn(column).compile(connection))
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")


def _add_landing_kinds(connection: sa.Connection) -> None:
    """For second names, duplicates, owners' deletions and files that are not on the disk yet."""
    for column in (library_files.c.wanted_path, landings.c.kind, units.c.duplicates, units.c.culled):
        _add_column(connection, column)
    unflushed.create(connection, checkfirst=True)
    for index in library_files.indexes:
        index.create(connection, checkfirst=True)
    # `||` makes text, which never equals bytes.
    source_path = "CAST(CASE WHEN length(m.directory) THEN m.directory || '/' ELSE '' END || m.name AS BLOB)"
    second_names = connection.exec_driver_sql(
        f"SELECT {source_path}, o.library, m.library_path FROM manifest m JOIN origins o ON o.key = m.origin"  # noqa: S608 - fixed text
        f" WHERE m.library_path != {source_path}"
    ).all()
    if second_names:
        statement = "UPDATE library_files SET wanted_path = ? WHERE library = ? AND path = ?"
        connection.exec_driver_sql(statement, [tuple(row) for row in second_names])


def _add_verification(connection: sa.Connection) -> None:
    """For verifying and adopting libraries."""
    kept = library_files.c
    for column in (kept.own_size_bytes, kept.own_mtime_ns, kept.own_sha256, kept.culled, kept.verified_time, processing.c.background):
        _add_column(connection, column)
    for index in processing.indexes:
        index.create(connection, checkfirst=True)
    for table in (verifications, library_findings):
        table.create(connection, checkfirst=True)


MIGRATIONS = (
    Migration(1, metadata.create_all),
    Migration(2, lambda connection: _add_column(connection, scans.c.selection)),
    Migration(3, lambda connection: failed_files.create(connection, checkfirst=True)),
    Migration(4, _add_landing_kinds),
    Migration(5, _add_verification),
    Migration(6, lambda connection: moved_paths.create(connection, checkfirst=True)),
    Migration(7, lambda connection: _add_column(connection, library_files.c.invalid)),
)
