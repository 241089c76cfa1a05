"""Looking things up in the journal: pages of it, newest first, and all that it has of one file. By index, however long it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mediasync.model import Deletion, DeletionOutcome, KeptReason
from mediasync.sources.selection import Selection, rules
from mediasync.storage.database import Database, raw_connection

Position = tuple[int, int]
"""Where a page ended: time of the last entry in nanoseconds, and its number."""

_COLUMNS = """d.number, r.sync_id, d.source, d.path, d.size_bytes, d.mtime_ns, d.sha256, r.library_root, d.library_path, d.outcome, d.kept,
    d.message, d.intent_ns, d.outcome_ns, d.cause, d.trash_path"""
_BY_FILE = f"SELECT {_COLUMNS} FROM deletions d JOIN runs r ON r.key = d.run WHERE d.source_key = ? AND d.path = ?"  # noqa: S608 fixed texts
# So many entries are held against a pattern for one page at most. One that matches little gives short pages, and keeps nobody waiting.
_MOST_LOOKED_AT = 20_000
_OF_A_FILE = 20


@dataclass(frozen=True)
class Wanted:
    """Which entries; what is empty or 0 lets everything through. `source` is a name or a URL, `since` Unix seconds, `path` a pattern as in
    .gitignore."""

    source: str = ""
    since: float = 0.0
    path: str = ""
    sync_id: str = ""


@dataclass(frozen=True)
class HistoryPage:
    """Entries, newest first. `next_position` is set when there may be more."""

    deletions: tuple[Deletion, ...]
    next_position: Position | None


class History:
    """Reads the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Wanted, before: Position | None, limit: int) -> HistoryPage:
        """At most `limit` entries after `before`; fewer, and perhaps none, where few of many match the pattern. Raises ValueError for a
        pattern that is none."""
        matches = _matcher(wanted.path)

        def work(connection: sa.Connection) -> HistoryPage:
            raw = raw_connection(connection)
            query, values = _query(raw, wanted, before)
            found: list[Deletion] = []
            last: Position | None = None
            for looked_at, row in enumerate(raw.execute(query, values)):
                if len(found) == limit or looked_at == _MOST_LOOKED_AT:
                    return HistoryPage(tuple(found), last)
                last = (row[12], row[0])
                if matches is None or matches(row[3]):
                    found.append(_deletion(row))
            return HistoryPage(tuple(found), None)

        return await self._database.read(work)

    async def of_file(self, source_key: str, path: bytes) -> tuple[Deletion, ...]:
        """What there is of one file of a source, newest first, at most 20."""
        query = f"{_BY_FILE} ORDER BY d.number DESC LIMIT {_OF_A_FILE}"

        def work(connection: sa.Connection) -> tuple[Deletion, ...]:
            return tuple(map(_deletion, raw_connection(connection).execute(query, (source_key, path))))

        return await self._database.read(work)


def _query(raw: sqlite3.Connection, wanted: Wanted, before: Position | None) -> tuple[str, list[Any]]:
    """The statement for a page. It names the index, of which each has the order: SQLite would guess by numbers that it does not have."""
    index, conditions = "deletions_time", ["TRUE"]
    values: list[Any] = []
    if wanted.source:
        index = "deletions_source"
        conditions.append("d.source = ?")
        values.append(_label(raw, wanted.source))
    if wanted.sync_id:
        index = "deletions_run"
        conditions.append("d.run = (SELECT key FROM runs WHERE sync_id = ?)")
        values.append(wanted.sync_id)
    if wanted.since:
        conditions.append("d.intent_ns >= ?")
        values.append(int(wanted.since * 1e9))
    if before is not None:
        conditions.append("(d.intent_ns, d.number) < (?, ?)")
        values += before
    query = (
        f"SELECT {_COLUMNS} FROM deletions d INDEXED BY {index} CROSS JOIN runs r ON r.key = d.run"  # noqa: S608 fixed texts
        f" WHERE {' AND '.join(conditions)} ORDER BY d.intent_ns DESC, d.number DESC"
    )
    return query, values


def _label(raw: sqlite3.Connection, source: str) -> str:
    """The source as the journal has it: people write a slash at the end of a URL, or leave it out."""
    known = raw.execute("SELECT 1 FROM deletions WHERE source = ? LIMIT 1", (source,)).fetchone()
    return source if known else source.rstrip("/")


def _matcher(pattern: str) -> Callable[[bytes], bool] | None:
    """What says whether a path matches; None where all do."""
    if not pattern:
        return None
    # Of a selection only what the pattern says: hidden and temporary names are never deleted, and are not hidden here if they were.
    selection = Selection(included=rules((pattern,)), temporary_suffixes=(), hidden_prefixes=(), foreign_names=())
    return lambda path: selection.file_reason(path, 0, 0.0) is None


def _deletion(row: tuple[Any, ...]) -> Deletion:
    (
        number,
        sync_id,
        source,
        path,
        size_bytes,
        mtime_ns,
        sha256,
        root,
        library_path,
        outcome,
        kept,
        message,
        intent_ns,
        outcome_ns,
        *rest,
    ) = row
    cause, trash_path = rest
    return Deletion(
        number=number,
        sync_id=sync_id,
        source=source,
        path=path,
        size_bytes=size_bytes,
        modify_time=mtime_ns / 1e9,
        sha256=sha256,
        library_root=root,
        library_path=library_path,
        outcome=DeletionOutcome(outcome),
        kept=KeptReason(kept) if kept else None,
        message=message,
        intent_time=intent_ns / 1e9,
        outcome_time=outcome_ns / 1e9,
        cause=cause,
        trash_path=trash_path,
    )
