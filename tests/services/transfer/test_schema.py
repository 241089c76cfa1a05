from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from mediasync.storage.database import Database, Migration
from services.transfer.schema import MIGRATIONS

# The tables as the first version made them.
_FIRST = """
CREATE TABLE libraries ("key" INTEGER NOT NULL, uuid TEXT NOT NULL, root BLOB NOT NULL, PRIMARY KEY ("key"), UNIQUE (uuid), UNIQUE
    (root) );
CREATE TABLE manifest (origin INTEGER NOT NULL, directory BLOB NOT NULL, name BLOB NOT NULL, size_bytes BIGINT NOT NULL, mtime_ns
    BIGINT NOT NULL, ctime_ns BIGINT NOT NULL, inode BIGINT NOT NULL, sha256 BLOB NOT NULL, library_path BLOB NOT NULL, incomplete
    BOOLEAN NOT NULL, vanished BOOLEAN NOT NULL, sync_id TEXT NOT NULL, PRIMARY KEY (origin, directory, name) ) WITHOUT ROWID;
CREATE TABLE library_files (library INTEGER NOT NULL, path BLOB NOT NULL, size_bytes BIGINT NOT NULL, sha256 BLOB NOT NULL,
    mtime_ns BIGINT NOT NULL, sync_id TEXT NOT NULL, PRIMARY KEY (library, path) ) WITHOUT ROWID;
CREATE TABLE directories (origin INTEGER NOT NULL, path BLOB NOT NULL, inode BIGINT NOT NULL, PRIMARY KEY (origin, path) ) WITHOUT
    ROWID;
CREATE TABLE scans (origin INTEGER NOT NULL, folder BLOB NOT NULL, watermark_ns BIGINT NOT NULL, full_scan_time FLOAT NOT NULL,
    PRIMARY KEY (origin, folder) ) WITHOUT ROWID;
CREATE TABLE units (sync_id TEXT NOT NULL, origin INTEGER NOT NULL, folder BLOB NOT NULL, files BIGINT NOT NULL, bytes BIGINT NOT
    NULL, vanished BIGINT NOT NULL, PRIMARY KEY (sync_id, origin, folder) ) WITHOUT ROWID;
CREATE TABLE runs (sync_id TEXT NOT NULL, trace_parent TEXT NOT NULL, files_processed BIGINT NOT NULL, files_invalid BIGINT NOT
    NULL, update_time FLOAT NOT NULL, PRIMARY KEY (sync_id) ) WITHOUT ROWID;
CREATE TABLE file_problems ("key" INTEGER NOT NULL, sync_id TEXT NOT NULL, path BLOB NOT NULL, reason TEXT NOT NULL, message TEXT
    NOT NULL, PRIMARY KEY ("key") );
CREATE INDEX ix_file_problems_sync_id ON file_problems (sync_id);
CREATE TABLE outbox (sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, sync_id TEXT NOT NULL, event BLOB NOT NULL );
CREATE INDEX ix_outbox_sync_id ON outbox (sync_id);
CREATE TABLE origins ("key" INTEGER NOT NULL, source_key TEXT NOT NULL, library INTEGER NOT NULL, label TEXT NOT NULL, PRIMARY KEY
    ("key"), UNIQUE (source_key, library), FOREIGN KEY(library) REFERENCES libraries ("key") );
CREATE TABLE landings (library INTEGER NOT NULL, path BLOB NOT NULL, sync_id TEXT NOT NULL, origin INTEGER NOT NULL, folder BLOB
    NOT NULL, extract_metadata BOOLEAN NOT NULL, source_path BLOB NOT NULL, size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL,
    ctime_ns BIGINT NOT NULL, inode BIGINT NOT NULL, sha256 BLOB NOT NULL, incomplete BOOLEAN NOT NULL, PRIMARY KEY (library,
    path), FOREIGN KEY(origin) REFERENCES origins ("key") ) WITHOUT ROWID;
CREATE TABLE processing ("key" INTEGER NOT NULL, sync_id TEXT NOT NULL, origin INTEGER NOT NULL, library_path BLOB NOT NULL,
    source_path BLOB NOT NULL, size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL, sha256 BLOB NOT NULL, incomplete BOOLEAN NOT
    NULL, extract_metadata BOOLEAN NOT NULL, attempts INTEGER DEFAULT '0' NOT NULL, PRIMARY KEY ("key"), FOREIGN KEY(origin)
    REFERENCES origins ("key") );
CREATE INDEX ix_processing_sync_id ON processing (sync_id);
INSERT INTO libraries VALUES (1, 'u', CAST('/l' AS BLOB));
INSERT INTO origins VALUES (1, 'name:forge', 1, 'forge');
INSERT INTO manifest VALUES (1, x'64', x'612e706e67', 1, 2, 3, 4, x'01', CAST('d/a~20261121T101112.png' AS BLOB), 0, 0, 's');
INSERT INTO manifest VALUES (1, x'', x'ff2e706e67', 1, 2, 3, 4, x'02', x'ff2e706e67', 0, 0, 's');
INSERT INTO library_files VALUES (1, CAST('d/a~20261121T101112.png' AS BLOB), 1, x'01', 2, 's');
INSERT INTO library_files VALUES (1, x'ff2e706e67', 1, x'02', 2, 's');
INSERT INTO units VALUES ('s', 1, x'', 2, 2, 0);
"""


def _make_first(connection: sa.Connection) -> None:
    for statement in _FIRST.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def schema_of(path: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Columns by table, and the names of indexes."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = {table: sorted(row[1:4] for row in connection.execute(f"PRAGMA table_info({table})")) for table in tables}
        columns["indexes"] = sorted(connection.execute("SELECT name, '', 0 FROM sqlite_schema WHERE type = 'index'"))
        return columns


async def test_a_database_of_the_first_version_becomes_what_a_new_one_is(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    await Database.open(f"sqlite:///{old}", [Migration(1, _make_first)]).close()
    for path in (old, new):
        await Database.open(f"sqlite:///{path}", MIGRATIONS).close()
    migrated, made = schema_of(old), schema_of(new)
    assert migrated == made
    with closing(sqlite3.connect(old)) as connection:
        # The name that a second name was given for is known from now on.
        rows = dict(connection.execute("SELECT path, wanted_path FROM library_files"))
        assert rows == {b"d/a~20261121T101112.png": b"d/a.png", b"\xff.png": None}
        assert connection.execute("SELECT duplicates, culled FROM units").fetchall() == [(0, 0)]
