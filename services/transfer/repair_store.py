"""Which lost files can be had again, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from mediasync.library import FindingKind
from mediasync.storage.database import Database
from services.transfer.diff import directory_of, name_of
from services.transfer.entities import LibraryId
from services.transfer.library_store import Recorded, put_findings
from services.transfer.sql_store import raw_connection


class RepairStore:
    """Findings of files that are missing or corrupt. Every method but the first is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def name_sources(self, library: LibraryId, findings: Sequence[Recorded]) -> None:
        """Notes for lost files which source brought them and had them when it was last looked at."""
        wanted = "SELECT coalesce(wanted_path, path) FROM library_files WHERE library = ? AND path = ?"
        had = (
            "SELECT origin FROM manifest WHERE origin IN (SELECT key FROM origins WHERE library = ?) AND directory = ? AND name = ?"
            " AND library_path = ? AND sha256 = ? AND NOT vanished LIMIT 1"
        )

        def look(connection: sa.Connection) -> list[Recorded]:
            run = raw_connection(connection).execute
            named = []
            for finding in findings:
                (path,) = run(wanted, (library.key, finding.path)).fetchone() or (finding.path,)
                given = (library.key, directory_of(path), name_of(path), finding.path, finding.sha256)
                row = run(had, given).fetchone()
                if row is not None:
                    named.append(replace(finding, origin=row[0], source_path=path))
            return named

        named = await self._database.read(look)
        if named:
            await self._database.write(lambda connection: put_findings(raw_connection(connection), library, named))

    async def corrupt(self, library: LibraryId, paths: Sequence[bytes]) -> set[bytes]:
        """Those of `paths` whose files a verify found corrupt."""
        statement = "SELECT 1 FROM library_findings WHERE library = ? AND path = ? AND kind = ?"

        def work(connection: sa.Connection) -> set[bytes]:
            run = raw_connection(connection).execute
            return {path for path in paths if run(statement, (library.key, path, FindingKind.CORRUPT.value)).fetchone()}

        return await self._database.read(work)

    async def prepare_repair(self, library: LibraryId, repair_id: str) -> tuple[list[tuple[str, str, int]], int]:
        """Puts lost files on record as those of their sources that failed in the run `repair_id`. Returns (key, label, files) of each
        source, and how many files have none."""
        lost = (FindingKind.MISSING.value, FindingKind.CORRUPT.value)

        def work(connection: sa.Connection) -> tuple[list[tuple[str, str, int]], int]:
            raw = raw_connection(connection)
            raw.execute(
                "INSERT OR REPLACE INTO failed_files (sync_id, origin, path, reason) SELECT ?, origin, source_path, 'FILE_VERIFY_FAILED'"
                " FROM library_findings WHERE library = ? AND kind IN (?, ?) AND origin IS NOT NULL",
                (repair_id, library.key, *lost),
            )
            sources = raw.execute(
                "SELECT o.source_key, o.label, count(*) FROM library_findings f JOIN origins o ON o.key = f.origin"
                " WHERE f.library = ? AND f.kind IN (?, ?) GROUP BY o.key ORDER BY o.label",
                (library.key, *lost),
            ).fetchall()
            (without,) = raw.execute(
                "SELECT count(*) FROM library_findings WHERE library = ? AND kind IN (?, ?) AND origin IS NULL", (library.key, *lost)
            ).fetchone()
            return sources, without

        return await self._database.write(work)
