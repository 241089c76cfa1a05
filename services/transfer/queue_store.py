"""What is still to be done for committed files: media stages, and events to tell."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import sqlalchemy as sa

from mediasync.errors import reason_of
from mediasync.model import MAX_PROBLEMS, Problem
from mediasync.runtime.outbox import UnsentEvent
from mediasync.sources.base import FileEntry
from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.entities import LandedFile, LandingKind, LibraryId, ProcessingTask
from services.transfer.move_store import renumbered
from services.transfer.sql_store import raw_connection, upsert

_KEEP_RUNS_SECONDS = 90 * 86_400

Result = tuple[ProcessingTask, bytes | None, Problem | None]
"""A task, the event to tell, and what was wrong with the file."""


class QueueStore:
    """Remembers runs, the processing queue and the outbox. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_run(self, sync_id: str, trace_parent: str) -> None:
        """Remembers which trace a run belongs to."""

        def work(connection: sa.Connection) -> None:
            values = {
                "sync_id": sync_id,
                "trace_parent": trace_parent,
                "files_processed": 0,
                "files_invalid": 0,
                "update_time": time.time(),
            }
            statement = upsert(schema.runs, values, ["sync_id"], ["files_processed", "files_invalid"])
            connection.execute(statement, values)

        await self._database.write(work)

    async def trace_parent(self, sync_id: str) -> str:
        """The trace that a run belongs to; empty where it is not known."""
        statement = sa.select(schema.runs.c.trace_parent).where(schema.runs.c.sync_id == sync_id)
        return await self._database.read(lambda connection: connection.execute(statement).scalar_one_or_none() or "")

    async def processing_tasks(self, limit: int, after: int) -> list[ProcessingTask]:
        """The oldest tasks with a key above `after`; those of adoptions after all others."""

        def work(connection: sa.Connection) -> list[ProcessingTask]:
            table, origins, libraries = schema.processing, schema.origins, schema.libraries
            rows = connection.execute(
                sa.select(table, origins.c.label, origins.c.library, libraries.c.uuid, libraries.c.root)
                .join(origins, origins.c.key == table.c.origin)
                .join(libraries, libraries.c.key == origins.c.library)
                .where(table.c.key > after)
                .order_by(table.c.background, table.c.key)
                .limit(limit)
            )
            return [
                ProcessingTask(
                    row.key,
                    row.sync_id,
                    LibraryId(row.library, row.uuid, row.root),
                    row.label,
                    LandedFile(
                        FileEntry(row.source_path, row.size_bytes, row.mtime_ns, 0, 0),
                        row.library_path,
                        row.sha256,
                        LandingKind.NEW,
                        row.incomplete,
                    ),
                    row.extract_metadata,
                    row.attempts,
                )
                for row in rows
            ]

        return await self._database.read(work)

    async def finish_processing(self, results: Sequence[Result]) -> None:
        """Takes tasks off the queue, with the event to tell (None for a file that is not where it was) and what was wrong with the file.
        A task whose file a verify found elsewhere meanwhile stays on the queue: what was to be told is of the old place."""

        def work(connection: sa.Connection) -> None:
            raw = raw_connection(connection)
            done = [result for result in results if not _went_elsewhere(raw, result[0])]
            if done:
                _finish(connection, done)

        if results:
            await self._database.write(work)

    async def processing_state(self, sync_id: str) -> tuple[int, int, int, int]:
        """(files done, files left, files invalid, events not yet in the event log) of a run."""

        def work(connection: sa.Connection) -> tuple[int, int, int, int]:
            runs = schema.runs
            done = connection.execute(
                sa.select(runs.c.files_processed, runs.c.files_invalid).where(runs.c.sync_id == sync_id)
            ).one_or_none()
            left = connection.execute(
                sa.select(sa.func.count()).select_from(schema.processing).where(schema.processing.c.sync_id == sync_id)
            ).scalar_one()
            unsent = connection.execute(
                sa.select(sa.func.count()).select_from(schema.outbox).where(schema.outbox.c.sync_id == sync_id)
            ).scalar_one()
            return (done.files_processed if done else 0, left, done.files_invalid if done else 0, unsent)

        return await self._database.read(work)

    async def landed(self, sync_id: str) -> tuple[int, int]:
        """(files, bytes) that a run has brought so far, over all its units."""
        units = schema.units
        total = [sa.func.coalesce(sa.func.sum(column), 0) for column in (units.c.files, units.c.bytes)]
        statement = sa.select(*total).where(units.c.sync_id == sync_id)
        files, size = await self._database.read(lambda connection: connection.execute(statement).one())
        return int(files), int(size)

    async def file_problems(self, sync_id: str) -> list[Problem]:
        """The first things that were wrong with files of a run."""

        def work(connection: sa.Connection) -> list[Problem]:
            table = schema.file_problems
            statement = sa.select(table.c.reason, table.c.message, table.c.path).where(table.c.sync_id == sync_id)
            rows = connection.execute(statement.order_by(table.c.key).limit(MAX_PROBLEMS))
            return [Problem(reason_of(row.reason), row.message, "", row.path) for row in rows]

        return await self._database.read(work)

    async def unsent_events(self, limit: int) -> list[UnsentEvent]:
        """The oldest events that are not in the event log yet."""
        table = schema.outbox
        statement = sa.select(table.c.sequence, table.c.sync_id, table.c.event).order_by(table.c.sequence).limit(limit)
        return await self._database.read(lambda connection: [UnsentEvent(*row) for row in connection.execute(statement)])

    async def events_sent(self, upto: int) -> None:
        """Forgets events that are in the event log."""
        statement = sa.delete(schema.outbox).where(schema.outbox.c.sequence <= upto)
        await self._database.write(lambda connection: connection.execute(statement))

    async def forget_old_runs(self) -> None:
        """Drops the counts of runs that ended long ago."""

        def work(connection: sa.Connection) -> None:
            old = sa.select(schema.runs.c.sync_id).where(schema.runs.c.update_time < time.time() - _KEEP_RUNS_SECONDS)
            for table in (schema.units, schema.file_problems, schema.failed_files, schema.runs):
                connection.execute(sa.delete(table).where(table.c.sync_id.in_(old)))

        await self._database.write(work)


def _went_elsewhere(raw: sqlite3.Connection, task: ProcessingTask) -> bool:
    row = raw.execute("SELECT library_path FROM processing WHERE key = ?", (task.key,)).fetchone()
    return row is not None and row[0] != task.landed.library_path


def _finish(connection: sa.Connection, results: Sequence[Result]) -> None:
    raw = raw_connection(connection)
    raw.executemany("DELETE FROM processing WHERE key = ?", [(task.key,) for task, _, _ in results])
    for task, event, _ in results:
        if event is not None:
            (told,) = renumbered(raw, task.library.key, [(task.landed.library_path, event)])
            raw.execute("INSERT INTO outbox (sync_id, event) VALUES (?, ?)", (task.sync_id, told))
    # Of the content that was looked into: what is on record there by now may be another version.
    validity = [
        (problem is not None, task.library.key, task.landed.library_path, task.landed.sha256)
        for task, event, problem in results
        if event is not None
    ]
    raw.executemany("UPDATE library_files SET invalid = ? WHERE library = ? AND path = ? AND sha256 = ?", validity)
    problems = [
        {"sync_id": task.sync_id, "path": task.landed.library_path, "reason": problem.reason.value, "message": problem.message}
        for task, _, problem in results
        if problem is not None
    ]
    if problems:
        connection.execute(sa.insert(schema.file_problems), problems)
    for sync_id in {task.sync_id for task, _, _ in results}:
        mine = [problem for task, _, problem in results if task.sync_id == sync_id]
        table = schema.runs
        counts = {
            "files_processed": table.c.files_processed + len(mine),
            "files_invalid": table.c.files_invalid + sum(problem is not None for problem in mine),
        }
        connection.execute(sa.update(table).where(table.c.sync_id == sync_id).values(**counts))
