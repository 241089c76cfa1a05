"""What must outlive the process: each run's picture, and while it is under way what it is made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, text

from mediasync.model import FolderProgress, JobProgress, JobProgressReport, ProgressStatus, UnitProgress
from mediasync.storage.database import Database, Migration

KEPT_SYNCS = 1000

MIGRATIONS = (
    Migration(
        1,
        (
            # `version` is time-based, so it also says which runs changed last. `progress` and `job` are JSON.
            "CREATE TABLE sync (sync_id TEXT PRIMARY KEY, version BIGINT NOT NULL, progress TEXT NOT NULL, job TEXT NOT NULL)",
            # What each reporter has said, joined; gone once the run has ended.
            """CREATE TABLE unit (
                sync_id TEXT NOT NULL REFERENCES sync (sync_id) ON DELETE CASCADE,
                reporter TEXT NOT NULL,
                unit TEXT NOT NULL,
                PRIMARY KEY (sync_id, reporter)
            )""",
        ),
    ),
)

_SAVE_SYNC = text(
    "INSERT INTO sync (sync_id, version, progress, job) VALUES (:sync_id, :version, :progress, :job)"
    " ON CONFLICT (sync_id) DO UPDATE SET version = excluded.version, progress = excluded.progress, job = excluded.job"
)
_SAVE_UNIT = text(
    "INSERT INTO unit (sync_id, reporter, unit) VALUES (:sync_id, :reporter, :unit)"
    " ON CONFLICT (sync_id, reporter) DO UPDATE SET unit = excluded.unit"
)
_DROP_UNITS = text("DELETE FROM unit WHERE sync_id = :sync_id")
_LOAD_SYNC = text("SELECT version, progress, job FROM sync WHERE sync_id = :sync_id")
_LOAD_UNITS = text("SELECT reporter, unit FROM unit WHERE sync_id = :sync_id ORDER BY reporter")
_OLDEST = text("SELECT sync_id FROM sync ORDER BY version DESC LIMIT :many OFFSET :kept")
_DROP_SYNCS = text("DELETE FROM sync WHERE sync_id IN :sync_ids").bindparams(bindparam("sync_ids", expanding=True))
_DROPPED_AT_ONCE = 500


@dataclass(frozen=True)
class StoredSync:
    """One run as it was saved last. `version` grows with every save, across restarts."""

    version: int
    progress: JobProgress
    job: JobProgressReport
    units: Mapping[str, UnitProgress]


class ProgressStore:
    """The runs in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, sync_id: str) -> StoredSync | None:
        """The run, or None for one that was never saved, or too long ago."""

        def work(connection: Connection) -> StoredSync | None:
            row = connection.execute(_LOAD_SYNC, {"sync_id": sync_id}).one_or_none()
            if row is None:
                return None
            units = connection.execute(_LOAD_UNITS, {"sync_id": sync_id}).all()
            return StoredSync(
                row.version,
                _progress_from_json(json.loads(row.progress)),
                _job_from_json(json.loads(row.job)),
                {reporter: _unit_from_json(json.loads(unit)) for reporter, unit in units},
            )

        return await self._database.read(work)

    async def save(self, version: int, progress: JobProgress, job: JobProgressReport, units: Mapping[str, UnitProgress]) -> None:
        """Saves a run with those of its units that changed, all or nothing. A terminal picture replaces the units."""
        sync_id, ended = progress.sync_id, progress.status.terminal
        # Rows of a run under way are made from its units again; those of one that has ended are all there will be.
        kept = progress if ended else dataclasses.replace(progress, folders=())
        sync_row = {"sync_id": sync_id, "version": version, "progress": _to_json(kept), "job": _to_json(job)}
        unit_rows = [{"sync_id": sync_id, "reporter": reporter, "unit": _to_json(unit)} for reporter, unit in units.items()]

        def work(connection: Connection) -> None:
            connection.execute(_SAVE_SYNC, sync_row)
            if ended:
                connection.execute(_DROP_UNITS, {"sync_id": sync_id})
            elif unit_rows:
                connection.execute(_SAVE_UNIT, unit_rows)

        await self._database.write(work)

    async def prune(self, live: Collection[str], kept: int = KEPT_SYNCS) -> None:
        """Drops all but the `kept` runs that changed last; never one of `live`."""

        def work(connection: Connection) -> None:
            old = set(connection.execute(_OLDEST, {"kept": kept, "many": _DROPPED_AT_ONCE}).scalars()) - set(live)
            if old:
                connection.execute(_DROP_SYNCS, {"sync_ids": sorted(old)})

        await self._database.write(work)


def _to_json(value: JobProgress | JobProgressReport | UnitProgress) -> str:
    # Names are bytes: surrogates carry those that are not UTF-8, and JSON escapes them. Rows are lists, by far the most of it.
    fields: dict[str, Any] = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return json.dumps(fields, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, tuple):
        return [_row_to_json(row) for row in value]
    return value


def _row_to_json(row: FolderProgress) -> list[object]:
    return [_plain(row.folder), row.files_total, row.files_done, row.bytes_total, row.bytes_done, row.files_failed]


def _row_from_json(row: list[Any]) -> FolderProgress:
    return FolderProgress(_name(row[0]), *row[1:])


def _name(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _progress_from_json(fields: dict[str, Any]) -> JobProgress:
    return JobProgress(
        **{
            **fields,
            "status": ProgressStatus(fields["status"]),
            "current_folder": _name(fields["current_folder"]),
            "current_file": _name(fields["current_file"]),
            "folders": tuple(map(_row_from_json, fields["folders"])),
        }
    )


def _job_from_json(fields: dict[str, Any]) -> JobProgressReport:
    return JobProgressReport(**{**fields, "status": ProgressStatus(fields["status"])})


def _unit_from_json(fields: dict[str, Any]) -> UnitProgress:
    return UnitProgress(
        **{
            **fields,
            "status": ProgressStatus(fields["status"]),
            "current_file": _name(fields["current_file"]),
            "folders": tuple(map(_row_from_json, fields["folders"])),
        }
    )
