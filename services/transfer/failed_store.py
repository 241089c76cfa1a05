"""Which files of a run failed, all of them: a retry takes only those."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from mediasync.errors import Reason
from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.entities import Origin, SyncUnit
from services.transfer.sql_store import below, upsert

_ROWS_AT_ONCE = 1000


class FailedStore:
    """Remembers the failed files of runs for as long as runs are remembered (see `QueueStore.forget_old_runs`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def replace(self, unit: SyncUnit, failed: Iterable[tuple[bytes, Reason]]) -> None:
        """From now on these are the files of the unit that failed: (path, reason), in place of those of an earlier attempt."""
        rows = [{"sync_id": unit.sync_id, "origin": unit.origin.key, "path": path, "reason": reason.value} for path, reason in failed]

        def work(connection: sa.Connection) -> None:
            table = schema.failed_files
            mine = sa.and_(table.c.sync_id == unit.sync_id, table.c.origin == unit.origin.key, below(table.c.path, unit.folder))
            connection.execute(sa.delete(table).where(mine))
            for first in range(0, len(rows), _ROWS_AT_ONCE):
                some = rows[first : first + _ROWS_AT_ONCE]
                connection.execute(upsert(table, some[0], ["sync_id", "origin", "path"]), some)

        await self._database.write(work)

    async def paths(self, sync_id: str, origin: Origin, folder: bytes) -> Sequence[bytes]:
        """The files below `folder` that failed in a run, sorted. A path may be that of a folder that could not be listed."""
        table = schema.failed_files
        statement = (
            sa.select(table.c.path)
            .where(table.c.sync_id == sync_id, table.c.origin == origin.key, below(table.c.path, folder))
            .order_by(table.c.path)
        )
        return await self._database.read(lambda connection: list(connection.execute(statement).scalars()))
