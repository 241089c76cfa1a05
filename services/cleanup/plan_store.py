"""Plans: what a clean-up would delete and what it would leave, file by file; kept for an hour, and for as long as a run holds one.

A plan is written as it is made and can be read once it is whole. None of it has to survive a power cut.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from mediasync.convert.deletions import plan_from_pb, plan_to_pb
from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPlan, KeptReason
from mediasync.storage.database import Database, raw_connection
from mediasync.v1 import cleanup_pb2
from services.cleanup.entities import PlanRow

KEEP_SECONDS = 3600.0
STAYS_FROM = 1 << 40
"""Files that stay are numbered from here on, behind all that would go."""

_PAGE_ROWS = 1000
_COLUMNS = "position, path, size_bytes, mtime_ns, inode, age_ns, sha256, copies, kept, joined, message, cause, ctime_ns"
_ADD = f"INSERT INTO plan_files (plan, {_COLUMNS}) VALUES ({', '.join('?' * 14)})"  # noqa: S608 - fixed text
_PAGE = f"SELECT {_COLUMNS} FROM plan_files WHERE plan = ? AND position > ? AND position < ? ORDER BY position LIMIT ?"  # noqa: S608
_ALL = 1 << 62


@dataclass(frozen=True)
class NewPlan:
    """A plan that is being made. `asked` tells apart what plans are made of."""

    plan_id: str
    source_key: str
    source: str
    library_root: str
    asked: bytes


class PlanStore:
    """Keeps plans."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: Counter[str] = Counter()

    @property
    def folder(self) -> Path:
        """Where files can be made that lie beside the plans."""
        return self._database.path.parent

    async def begin(self, new: NewPlan) -> int:
        """Begins to write a plan; returns its key."""
        row = (new.plan_id, new.source_key, new.source, new.library_root, new.asked, b"", time.time_ns())
        names = "plan_id, source_key, source, library_root, asked, plan, create_ns"

        def work(connection: sa.Connection) -> int:
            inserted = raw_connection(connection).execute(f"INSERT INTO plans ({names}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
            return inserted.lastrowid or 0

        return await self._database.write(work, durable=False)

    async def add(self, key: int, rows: Iterable[PlanRow]) -> None:
        """Writes some more files of a plan."""
        values = [
            (
                key,
                row.number,
                row.path,
                row.size_bytes,
                row.mtime_ns,
                row.inode,
                row.age_ns,
                row.sha256,
                b"\0".join(row.copies),
                row.kept or "",
                row.joined,
                row.message,
                row.cause,
                row.ctime_ns,
            )
            for row in rows
        ]
        await self._database.write(lambda connection: raw_connection(connection).executemany(_ADD, values), durable=False)

    async def end(self, key: int, plan: CleanupPlan, empty_folders: Sequence[bytes] = ()) -> None:
        """The plan is whole. `empty_folders` are some that were found empty."""
        values = (plan_to_pb(plan).SerializeToString(), b"\0".join(empty_folders), time.time_ns(), key)
        statement = "UPDATE plans SET plan = ?, empty_folders = ?, create_ns = ? WHERE key = ?"
        await self._database.write(lambda connection: raw_connection(connection).execute(statement, values), durable=False)

    async def drop(self, key: int) -> None:
        """A plan that came to nothing."""
        await self._database.write(lambda connection: _drop(raw_connection(connection), [key]), durable=False)

    async def get(self, plan_id: str, asked: bytes | None = None) -> CleanupPlan:
        """A whole plan. Raises CLEANUP_PLAN_EXPIRED when there is none, and INVALID_ARGUMENT where it was not made of `asked`."""
        _, made_of, plan, _ = await self._row(plan_id)
        if asked is not None and made_of != asked:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                "the plan was made of another source, library or policy than the clean-up is to go by",
                "Clean up by what the plan was made of, or make a new plan.",
            )
        return plan_from_pb(cleanup_pb2.CleanupPlan.FromString(plan))

    async def empty_folders(self, plan_id: str) -> list[bytes]:
        """Folders that were empty when the plan was made, as far as they are noted. Raises CLEANUP_PLAN_EXPIRED."""
        folders = (await self._row(plan_id))[3]
        return folders.split(b"\0") if folders else []

    async def page(self, plan_id: str, after: int, limit: int) -> list[PlanRow]:
        """The next files after the one with that number, 0 for the first. Raises CLEANUP_PLAN_EXPIRED."""
        return await self._rows((await self._row(plan_id))[0], after, _ALL, limit)

    async def batches(self, plan_id: str, size: int) -> AsyncGenerator[list[PlanRow]]:
        """The files that would go, about `size` at a time and whole groups: a group that is larger comes whole. Raises
        CLEANUP_PLAN_EXPIRED."""
        key = (await self._row(plan_id))[0]
        after, waiting, ended = 0, list[PlanRow](), False
        while not ended:
            rows = await self._rows(key, after, STAYS_FROM, _PAGE_ROWS)
            ended = len(rows) < _PAGE_ROWS
            if rows:
                after = rows[-1].number
            waiting += rows
            while len(waiting) > size and (cut := _first_groups(waiting, size)) < len(waiting):
                yield waiting[:cut]
                del waiting[:cut]
        while waiting:
            cut = _first_groups(waiting, size)
            yield waiting[:cut]
            del waiting[:cut]

    @asynccontextmanager
    async def held(self, plan_id: str) -> AsyncIterator[None]:
        """Keeps a plan for as long as it is needed."""
        self._held[plan_id] += 1
        try:
            yield
        finally:
            self._held[plan_id] -= 1

    async def forget_old(self) -> None:
        """Drops plans that are over."""
        before_ns = time.time_ns() - int(KEEP_SECONDS * 1e9)
        held = {plan_id for plan_id, holders in self._held.items() if holders}

        def work(connection: sa.Connection) -> None:
            rows = raw_connection(connection).execute("SELECT key, plan_id FROM plans WHERE create_ns < ?", (before_ns,)).fetchall()
            _drop(raw_connection(connection), [key for key, plan_id in rows if plan_id not in held])

        await self._database.write(work, durable=False)

    async def _row(self, plan_id: str) -> tuple[int, bytes, bytes, bytes]:
        statement = "SELECT key, asked, plan, empty_folders, create_ns FROM plans WHERE plan_id = ? AND plan != x''"
        row = await self._database.read(lambda connection: raw_connection(connection).execute(statement, (plan_id,)).fetchone())
        over = row is None or (row[4] < time.time_ns() - int(KEEP_SECONDS * 1e9) and not self._held[plan_id])
        if over:
            raise MediasyncError(Reason.CLEANUP_PLAN_EXPIRED, "the plan of the clean-up is not kept any more")
        return row[0], row[1], row[2], row[3]

    async def _rows(self, key: int, after: int, before: int, limit: int) -> list[PlanRow]:
        values = (key, after, before, limit)
        rows = await self._database.read(lambda connection: raw_connection(connection).execute(_PAGE, values).fetchall())
        return [_plan_row(row) for row in rows]


def _first_groups(rows: Sequence[PlanRow], size: int) -> int:
    """How many of `rows` are whole groups of about `size` together; at least the first one. The last group may not be all there, and counts
    as whole only where there is nothing else."""
    cut = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or not rows[place].joined:
            if place > size and cut:
                break
            cut = place
            if place >= size:
                break
    return cut


def _plan_row(row: sqlite3.Row) -> PlanRow:
    number, path, size, mtime_ns, inode, age_ns, sha256, copies, kept, joined, message, cause, ctime_ns = row
    return PlanRow(
        number,
        path,
        size,
        mtime_ns,
        inode,
        age_ns,
        sha256,
        tuple(copies.split(b"\0")) if copies else (),
        KeptReason(kept) if kept else None,
        bool(joined),
        message,
        cause,
        ctime_ns,
    )


def _drop(driver: sqlite3.Connection, keys: Sequence[int]) -> None:
    for key in keys:
        driver.execute("DELETE FROM plan_files WHERE plan = ?", (key,))
        driver.execute("DELETE FROM plans WHERE key = ?", (key,))
