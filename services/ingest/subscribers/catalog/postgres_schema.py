"""The catalog's tables in PostgreSQL, and what is in their columns. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mediasync.storage.postgres import PostgresMigration
from services.ingest.subscribers.catalog.files import CatalogFile, Facts, Key
from services.ingest.subscribers.catalog.media_files_store import file_path
from services.ingest.subscribers.catalog.metadata import clean_text, metadata_json

SCHEMA = "mediasync_catalog"

_FACTS = (
    "size_bytes, sha256, modify_time_ns, media_type, width, height, incomplete, generator, model, seed, sampler, steps, cfg_scale,"
    " prompt, negative_prompt, record"
)
COLUMNS = (
    "number, library_root, library_path, sync_id, source, sync_time_ns, processed, delete_time_ns, moved_time_ns, synced_id, processed_id,"
    f" deleted_id, moved_id, {_FACTS}"
)
"""In the order of `CatalogFile`."""
_FACTS_AT = len(CatalogFile._fields) - 1
DERIVED = "path_key, file_path, synced_at, metadata"
"""What `row` has behind them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MIGRATIONS = (
    PostgresMigration(
        1,
        (
            "CREATE SEQUENCE file_number",
            # A path may be longer than an index takes, so that a digest of root and path is what is unique. The columns beside `record` are
            # for people and other programs that query the catalog.
            """CREATE TABLE files (
                number BIGINT NOT NULL PRIMARY KEY,
                library_root TEXT COLLATE "C" NOT NULL,
                library_path BYTEA NOT NULL,
                sync_id TEXT COLLATE "C" NOT NULL,
                source TEXT COLLATE "C" NOT NULL,
                sync_time_ns BIGINT NOT NULL,
                processed BOOLEAN NOT NULL,
                delete_time_ns BIGINT,
                moved_time_ns BIGINT,
                synced_id TEXT NOT NULL,
                processed_id TEXT NOT NULL,
                deleted_id TEXT NOT NULL,
                moved_id TEXT NOT NULL,
                size_bytes BIGINT NOT NULL,
                sha256 BYTEA NOT NULL,
                modify_time_ns BIGINT NOT NULL,
                media_type TEXT NOT NULL,
                width INTEGER NOT NULL,
                height INTEGER NOT NULL,
                incomplete BOOLEAN NOT NULL,
                generator TEXT NOT NULL,
                model TEXT NOT NULL,
                seed TEXT NOT NULL,
                sampler TEXT NOT NULL,
                steps INTEGER,
                cfg_scale DOUBLE PRECISION,
                prompt TEXT NOT NULL,
                negative_prompt TEXT NOT NULL,
                record BYTEA NOT NULL,
                path_key BYTEA NOT NULL UNIQUE,
                file_path TEXT COLLATE "C" NOT NULL,
                synced_at TIMESTAMPTZ NOT NULL,
                metadata JSONB NOT NULL
            )""",
            "CREATE INDEX files_by_time ON files (sync_time_ns, number)",
            "CREATE INDEX files_by_sync ON files (sync_id, sync_time_ns, number)",
            "CREATE INDEX files_by_source ON files (source, sync_time_ns, number)",
            "CREATE INDEX files_by_path ON files (substring(library_path FOR 500))",
            # Workflows of megabytes, out of the way of every query that lists.
            """CREATE TABLE bulk (
                number BIGINT NOT NULL PRIMARY KEY REFERENCES files (number) ON DELETE CASCADE,
                content BYTEA NOT NULL
            )""",
        ),
    ),
)


def path_key(key: Key) -> bytes:
    """What is unique of a file."""
    root, path = key
    return hashlib.blake2b(root.encode() + b"\0" + path, digest_size=16).digest()


def row(file: CatalogFile) -> tuple[Any, ...]:
    """A file's values, in the order of COLUMNS and DERIVED. `metadata` is None where it is to stay what it is."""
    *place, facts = file
    *told, bulk = facts
    values = [clean_text(value) if isinstance(value, str) else value for value in (*place, *told)]
    synced_at = _EPOCH + timedelta(microseconds=file.sync_time_ns // 1000)
    path = clean_text(file_path(file.library_root, file.library_path))
    return (*values, path_key(file.key), path, synced_at, None if bulk is None else metadata_json(facts.record + bulk))


def file_of(values: Sequence[Any]) -> CatalogFile:
    """The file of a row of COLUMNS."""
    return CatalogFile._make((*values[:_FACTS_AT], Facts._make((*values[_FACTS_AT:], None))))
