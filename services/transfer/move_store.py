"""Files that their owner moved within a library: index, manifest, findings and processing tasks go along, and the event log is told, in
one transaction.

An event's id says where a file is and what is in it. A file that comes back to where it once was would therefore be told under an id that
the log has, and passes over: it is remembered how often files were moved away from a path, and that goes into the ids of later events
there (`renumbered`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from mediasync.library import FindingKind
from mediasync.sources.base import FileEntry
from mediasync.storage.database import Database
from services.transfer import messages
from services.transfer.entities import LandedFile, LandingKind, LibraryId
from services.transfer.library_store import Own, Recorded, drop_findings, put_findings, put_own
from services.transfer.sql_store import raw_connection

MOVED_LABEL = "moved"
"""The source of a file that no source has on record."""

_VARIABLES = 10_000
_INDEX = """UPDATE library_files SET path = ?1, culled = 0, verified_time = ?2,
    wanted_path = CASE WHEN coalesce(wanted_path, path) = ?1 THEN NULL ELSE coalesce(wanted_path, path) END
    WHERE library = ?3 AND path = ?4"""
_MANIFEST = "UPDATE manifest SET library_path = ? WHERE origin = ? AND directory = ? AND name = ? AND library_path = ?"
_COUNT = """INSERT INTO moved_paths (library, path, moves) VALUES (?, ?, 1)
    ON CONFLICT (library, path) DO UPDATE SET moves = moves + 1"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A file of the manifest whose copy is at a library path, and its source's label."""

    origin: int
    directory: bytes
    name: bytes
    incomplete: bool
    label: str

    @property
    def source_path(self) -> bytes:
        return self.directory + b"/" + self.name if self.directory else self.name


class MoveStore:
    """Follows moves. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def follow(self, library: LibraryId, run_id: str, moves: Sequence[tuple[Recorded, Own]]) -> None:
        """Files that are on record at one path and were found at another. What a sync landed at the other path meanwhile stays."""
        rows = await self._rows_at(library, [gone.path for gone, _ in moves])

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            now_ns = time.time_ns()
            followed: dict[bytes, bytes] = {}
            for gone, now in moves:
                if raw.execute("SELECT 1 FROM library_files WHERE library = ? AND path = ?", (library.key, now.path)).fetchone():
                    continue
                landed = raw.execute(
                    "SELECT size_bytes, mtime_ns, sha256 FROM library_files WHERE library = ? AND path = ?", (library.key, gone.path)
                ).fetchone()
                if landed is None:
                    continue
                here = rows.get(gone.path, [])
                raw.execute(_INDEX, (now.path, now_ns / 1e9, library.key, gone.path))
                put_own(raw, library, [now])
                raw.executemany(_MANIFEST, [(now.path, row.origin, row.directory, row.name, gone.path) for row in here])
                drop_findings(raw, library, [gone.path])
                put_findings(raw, library, [replace(gone, path=now.path, kind=FindingKind.MOVED, moved_from=gone.path)])
                raw.execute(_COUNT, (library.key, gone.path))
                event = _event(run_id, library, gone.path, now.path, landed, here, now_ns)
                raw.execute("INSERT INTO outbox (sync_id, event) VALUES (?, ?)", (run_id, event))
                followed[gone.path] = now.path
            _follow_tasks(raw, library, followed)

        await self._database.write(work)

    async def _rows_at(self, library: LibraryId, paths: Sequence[bytes]) -> dict[bytes, list[_Row]]:
        """The manifest's rows whose copies are at library paths. Reads the library's manifest once for every few thousand."""

        def work(connection: sa.Connection) -> dict[bytes, list[_Row]]:
            found: dict[bytes, list[_Row]] = {}
            for start in range(0, len(paths), _VARIABLES):
                some = paths[start : start + _VARIABLES]
                statement = (
                    "SELECT m.library_path, m.origin, m.directory, m.name, m.incomplete, o.label FROM manifest m"  # noqa: S608 - fixed text
                    " JOIN origins o ON o.key = m.origin WHERE m.origin IN (SELECT key FROM origins WHERE library = ?)"
                    f" AND m.library_path IN ({', '.join('?' * len(some))})"
                )
                for path, origin, directory, name, incomplete, label in raw_connection(connection).execute(statement, (library.key, *some)):
                    found.setdefault(path, []).append(_Row(origin, directory, name, bool(incomplete), label))
            return found

        return await self._database.read(work)


def renumbered(raw: sqlite3.Connection, library: int, events: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Events about the files at these library paths, with ids of their own where files were moved away from there. In the caller's
    transaction."""
    events = list(events)
    if not raw.execute("SELECT 1 FROM moved_paths WHERE library = ? LIMIT 1", (library,)).fetchone():
        return [event for _, event in events]
    statement = "SELECT moves FROM moved_paths WHERE library = ? AND path = ?"
    result = []
    for path, event in events:
        row = raw.execute(statement, (library, path)).fetchone()
        result.append(messages.again(event, row[0]) if row else event)
    return result


def _event(
    run_id: str, library: LibraryId, old: bytes, new: bytes, landed: tuple[int, int, bytes], rows: Sequence[_Row], now_ns: int
) -> bytes:
    size_bytes, mtime_ns, sha256 = landed
    row = rows[0] if rows else None
    entry = FileEntry(row.source_path if row else new, size_bytes, mtime_ns, 0, 0)
    file = LandedFile(entry, new, sha256, LandingKind.KNOWN, bool(row and row.incomplete))
    return messages.file_moved(run_id, library, row.label if row else MOVED_LABEL, file, old, now_ns)


def _follow_tasks(raw: sqlite3.Connection, library: LibraryId, followed: dict[bytes, bytes]) -> None:
    """What is still to be looked into is looked for where it is now."""
    if not followed:
        return
    tasks = raw.execute(
        "SELECT key, library_path FROM processing WHERE origin IN (SELECT key FROM origins WHERE library = ?)", (library.key,)
    ).fetchall()
    moved = [(followed[path], key) for key, path in tasks if path in followed]
    raw.executemany("UPDATE processing SET library_path = ? WHERE key = ?", moved)
