"""What is kept of schedules: whether they are held, and what they began last. The only place with their SQL."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from services.coordinator.schema import schedules as _schedules
from services.coordinator.store import Request, Store


@dataclass(frozen=True)
class StoredSchedule:
    """What is known of a schedule. `times` are those that it had when it was looked at last; `seen_time` is up to when its times were dealt
    with; moments are Unix seconds, 0 where there is none."""

    name: str
    times: str = ""
    paused: bool = False
    last_job_id: str = ""
    last_time: float = 0.0
    seen_time: float = 0.0


class ScheduleStore:
    """The schedules' table, in the coordinator's database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> dict[str, StoredSchedule]:
        """Everything that is known, by name."""
        rows = await self._store.database.read(lambda connection: connection.execute(_schedules.select()).all())
        return {row.name: _schedule(row) for row in rows}

    async def put(self, schedule: StoredSchedule) -> None:
        """Keeps what is known of a schedule, but for whether it is held."""
        await self._store.database.write(lambda connection: _put(connection, schedule))

    async def drop(self, name: str) -> None:
        """Forgets a schedule."""
        change = _schedules.delete().where(_schedules.c.name == name)
        await self._store.database.write(lambda connection: connection.execute(change).rowcount)

    async def pause(self, request: Request, new: StoredSchedule, *, paused: bool) -> StoredSchedule:
        """Holds a schedule, or lets it go on from `new.seen_time`, once for each request id. Returns it as it is with that."""

        def effect(connection: sa.Connection) -> bytes:
            row = connection.execute(_schedules.select().where(_schedules.c.name == new.name)).first()
            found = _schedule(row) if row else new
            if found.paused != paused:
                found = replace(found, paused=paused, seen_time=new.seen_time)
            _put(connection, found)
            connection.execute(_schedules.update().where(_schedules.c.name == new.name).values(paused=int(paused)))
            return json.dumps(asdict(found)).encode()

        answer, _ = await self._store.once(request, effect)
        return StoredSchedule(**json.loads(answer))


def _schedule(row: sa.Row[tuple[object, ...]]) -> StoredSchedule:
    return StoredSchedule(row.name, row.times, bool(row.paused), row.last_job_id, row.last_time, row.seen_time)


def _put(connection: sa.Connection, schedule: StoredSchedule) -> int:
    values = {name: value for name, value in asdict(schedule).items() if name not in ("name", "paused")}
    changed = connection.execute(_schedules.update().where(_schedules.c.name == schedule.name).values(values)).rowcount
    if not changed:
        connection.execute(_schedules.insert().values({**values, "name": schedule.name, "paused": 0}))
    return changed
