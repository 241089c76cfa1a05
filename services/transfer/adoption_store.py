"""What is remembered of adopted files: index row, event and processing task in one transaction, as of files that landed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from mediasync.library import FindingKind
from mediasync.storage.database import Database
from services.transfer.entities import LibraryId
from services.transfer.library_store import Own, drop_findings
from services.transfer.move_store import renumbered
from services.transfer.sql_store import raw_connection


class AdoptionStore:
    """Puts unknown files on record. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def adopt(
        self,
        library: LibraryId,
        run_id: str,
        origin: int,
        files: Sequence[Own],
        event_of: Callable[[Own], bytes],
        *,
        extract_metadata: bool,
    ) -> tuple[int, int]:
        """Takes unknown files into the index, with their events and processing tasks, the latter behind those of syncs. Returns how many
        were not there yet, and their bytes."""
        events = {file.path: event_of(file) for file in files}

        def work(connection: sa.Connection) -> tuple[int, int]:
            raw, count, size = raw_connection(connection), 0, 0
            for file in files:
                row = (library.key, file.path, file.size_bytes, file.sha256, file.mtime_ns, run_id, time.time())
                added = raw.execute(
                    "INSERT INTO library_files (library, path, size_bytes, sha256, mtime_ns, sync_id, verified_time)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    row,
                ).rowcount
                if added:
                    told = renumbered(raw, library.key, [(file.path, events[file.path])])
                    raw.executemany("INSERT INTO outbox (sync_id, event) VALUES (?, ?)", [(run_id, event) for event in told])
                    task = (run_id, origin, file.path, file.path, file.size_bytes, file.mtime_ns, file.sha256, extract_metadata)
                    raw.execute(
                        "INSERT INTO processing (sync_id, origin, library_path, source_path, size_bytes, mtime_ns, sha256, incomplete,"
                        " extract_metadata, background) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, 1)",
                        task,
                    )
                    count, size = count + 1, size + file.size_bytes
            drop_findings(raw, library, [file.path for file in files])
            return count, size

        return await self._database.write(work)

    async def unsent(self, limit: int) -> int:
        """How many events wait for the event log, at most `limit`."""
        statement = "SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT ?)"
        return int(await self._database.read(lambda connection: raw_connection(connection).execute(statement, (limit,)).fetchone()[0]))

    async def unknown_bytes(self, library: LibraryId) -> int:
        """Bytes of the files that a verify found unknown."""
        statement = "SELECT coalesce(sum(size_bytes), 0) FROM library_findings WHERE library = ? AND kind = ?"
        given = (library.key, FindingKind.UNKNOWN.value)
        return int(await self._database.read(lambda connection: raw_connection(connection).execute(statement, given).fetchone()[0]))
