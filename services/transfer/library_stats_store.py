"""Summing up a library."""

from __future__ import annotations

import mimetypes
import sqlite3
from collections import Counter
from typing import Any

from mediasync.library import FindingKind, LibraryShare, LibraryStats
from mediasync.paths import display
from mediasync.storage.database import Database
from services.transfer.diff import name_of
from services.transfer.entities import LibraryId
from services.transfer.sql_store import raw_connection

_OTHER = "other"


class LibraryStatsStore:
    """Reads the whole index of a library, once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stats(self, library: LibraryId, adopted_label: str) -> LibraryStats:
        """Everything that is on record; nothing of the file system."""
        return await self._database.read(lambda connection: _stats(raw_connection(connection), library, adopted_label))


def _stats(raw: sqlite3.Connection, library: LibraryId, adopted_label: str) -> LibraryStats:
    files = size = culled = read = 0
    types: Counter[str] = Counter()
    type_bytes: Counter[str] = Counter()
    rows = raw.execute("SELECT path, size_bytes, culled, verified_time FROM library_files WHERE library = ?", (library.key,))
    for path, size_bytes, is_culled, verified_time in rows:
        if is_culled:
            culled += 1
            continue
        files, size, read = files + 1, size + size_bytes, read + (verified_time > 0)
        extension = name_of(path).rpartition(b".")[2].lower() if b"." in name_of(path) else b""
        types[display(extension)] += 1
        type_bytes[display(extension)] += size_bytes

    def one(statement: str) -> tuple[Any, ...]:
        return raw.execute(statement, (library.key,)).fetchone() or (None,)

    duplicates = one(
        "SELECT coalesce(sum(n - 1), 0), coalesce(sum((n - 1) * size), 0) FROM (SELECT count(*) AS n, max(size_bytes) AS size"
        " FROM library_files WHERE library = ? AND NOT culled AND size_bytes > 0 GROUP BY sha256 HAVING n > 1)"
    )
    origins = "SELECT key FROM origins WHERE library = ?"
    incomplete = one(f"SELECT count(*) FROM manifest WHERE incomplete AND origin IN ({origins})")  # noqa: S608 - fixed text
    last_sync = one(
        f"SELECT max(r.update_time) FROM units u JOIN runs r ON r.sync_id = u.sync_id WHERE u.files > 0 AND u.origin IN ({origins})"  # noqa: S608 - fixed text
    )
    last_verify = one("SELECT finish_time FROM verifications WHERE library = ?")
    findings = raw.execute("SELECT kind, count(*) FROM library_findings WHERE library = ? GROUP BY kind", (library.key,))
    return LibraryStats(
        files=files,
        size_bytes=size,
        sources=tuple(_sources(raw, library, adopted_label)),
        types=_shares_by_type(types, type_bytes),
        duplicate_files=duplicates[0],
        duplicate_bytes=duplicates[1],
        incomplete_files=incomplete[0],
        culled_files=culled,
        last_sync_time=last_sync[0] or 0.0,
        last_verify_time=last_verify[0] or 0.0,
        findings={FindingKind(kind): count for kind, count in findings},
        files_read=read,
    )


def _sources(raw: sqlite3.Connection, library: LibraryId, adopted_label: str) -> list[LibraryShare]:
    rows = raw.execute(
        "SELECT o.label, count(*), sum(f.size_bytes) FROM origins o CROSS JOIN manifest m ON m.origin = o.key"
        " CROSS JOIN library_files f ON f.library = o.library AND f.path = m.library_path AND NOT f.culled"
        " WHERE o.library = ? GROUP BY o.key ORDER BY 3 DESC",
        (library.key,),
    )
    shares = [LibraryShare(label, files, size) for label, files, size in rows]
    adopted = raw.execute(
        "SELECT count(*), sum(size_bytes) FROM library_files WHERE library = ? AND NOT culled AND sync_id LIKE 'adopt\\_%' ESCAPE '\\'",
        (library.key,),
    ).fetchone()
    return [*shares, LibraryShare(adopted_label, adopted[0], adopted[1])] if adopted[0] else shares


def _shares_by_type(files: Counter[str], size_bytes: Counter[str]) -> tuple[LibraryShare, ...]:
    """By media type, not by extension: `.jpg` and `.jpeg` are one. Most bytes first."""
    by_type: Counter[str] = Counter()
    bytes_by_type: Counter[str] = Counter()
    for extension, count in files.items():
        name = mimetypes.guess_type(f"x.{extension}")[0] or _OTHER
        by_type[name] += count
        bytes_by_type[name] += size_bytes[extension]
    return tuple(LibraryShare(name, by_type[name], bytes_by_type[name]) for name, _ in bytes_by_type.most_common())
