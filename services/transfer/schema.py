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
        connection.exec_driver_sql("UPDATE library_files SET wanted_path = ? WHERE library = ? AND path = ?", [tuple(row) for row in second_names])


MIGRATIONS = (
    Migration(1, metadata.create_all),
    Migration(2, lambda connection: _add_column(connection, scans.c.selection)),
    Migration(3, lambda connection: failed_files.create(connection, checkfirst=True)),
    Migration(4, _add_landing_kinds),
)
