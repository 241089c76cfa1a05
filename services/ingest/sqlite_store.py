"""The event log's database in SQLite: events, subscriptions with cursors, dead letters, request ids.

Opened durable: an event that was answered for is on the disk. Cursors need no such care (an older one only means that events are
offered again), but live here too, because one writer with one fsync for many of them costs next to nothing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa

from mediasync.errors import MediasyncError, Reason
from mediasync.storage.database import Database, Migration
from services.ingest.events import DeadLetter, EventKind, Filter, LoggedEvent, NewEvent, Subscription, SubscriptionPosition

REQUESTS_KEPT_SECONDS = 7 * 24 * 3600

MIGRATIONS = (
    Migration(
        1,
        (
            # Sequence numbers are dense: given out inside the one writing transaction, not by the database.
            """CREATE TABLE events (
                sequence BIGINT NOT NULL PRIMARY KEY,
                event_id VARCHAR(64) NOT NULL UNIQUE,
                kind INTEGER NOT NULL,
                file_key BLOB NOT NULL,
                sync_id TEXT NOT NULL,
                traceparent TEXT NOT NULL,
                append_time_ns BIGINT NOT NULL,
                payload BLOB NOT NULL
            )""",
            """CREATE TABLE subscriptions (
                name VARCHAR(64) NOT NULL PRIMARY KEY,
                address TEXT NOT NULL,
                kinds TEXT NOT NULL,
                batch_size INTEGER NOT NULL,
                fixed BOOLEAN NOT NULL,
                cursor BIGINT NOT NULL,
                last_error TEXT NOT NULL,
                last_success_ns BIGINT NOT NULL
            )""",
            """CREATE TABLE dead_letters (
                number INTEGER NOT NULL PRIMARY KEY,
                subscription VARCHAR(64) NOT NULL,
                sequence BIGINT NOT NULL REFERENCES events (sequence),
                reason TEXT NOT NULL,
                attempts INTEGER NOT NULL,
                time_ns BIGINT NOT NULL,
                UNIQUE (subscription, sequence)
            )""",
            """CREATE TABLE requests (
                request_id VARCHAR(128) NOT NULL PRIMARY KEY,
                body TEXT NOT NULL,
                answer TEXT NOT NULL,
                time_ns BIGINT NOT NULL
            )""",
        ),
    ),
)

_METADATA = sa.MetaData()
_EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("event_id", sa.String),
    sa.Column("kind", sa.Integer),
    sa.Column("file_key", sa.LargeBinary),
    sa.Column("sync_id", sa.Text),
    sa.Column("traceparent", sa.Text),
    sa.Column("append_time_ns", sa.BigInteger),
    sa.Column("payload", sa.LargeBinary),
)
_SUBSCRIPTIONS = sa.Table(
    "subscriptions",
    _METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("address", sa.Text),
    sa.Column("kinds", sa.Text),
    sa.Column("batch_size", sa.Integer),
    sa.Column("fixed", sa.Boolean),
    sa.Column("cursor", sa.BigInteger),
    sa.Column("last_error", sa.Text),
    sa.Column("last_success_ns", sa.BigInteger),
)
_DEAD_LETTERS = sa.Table(
    "dead_letters",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("subscription", sa.String),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer),
    sa.Column("time_ns", sa.BigInteger),
)
_REQUESTS = sa.Table(
    "requests",
    _METADATA,
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("body", sa.Text),
    sa.Column("answer", sa.Text),
    sa.Column("time_ns", sa.BigInteger),
)


class SqliteEventStore:
    """See `store.EventStore`. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end(self) -> int:
        """The last sequence number; 0 for an empty log."""
        return await self._database.read(_end)

    async def append(self, events: Sequence[NewEvent]) -> tuple[list[int], int]:
        """Appends those of `events` whose id is not in the log yet. Returns the sequence number of each, and the log's end."""

        def work(connection: sa.Connection) -> tuple[list[int], int]:
            # The bulk path: SQLAlchemy would take more time than SQLite.
            raw = _sqlite(connection)
            ids = json.dumps([event.event_id for event in events])
            rows = raw.execute("SELECT event_id, sequence FROM events WHERE event_id IN (SELECT value FROM json_each(?))", (ids,))
            known: dict[str, int] = dict(rows)
            end = int(raw.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0])
            now = time.time_ns()
            fresh = []
            for event in events:
                if event.event_id not in known:
                    end += 1
                    known[event.event_id] = end
                    key, trace = event.file_key, event.traceparent
                    fresh.append((end, event.event_id, int(event.kind), key, event.sync_id, trace, now, event.payload))
            raw.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", fresh)
            return [known[event.event_id] for event in events], end

        return await self._database.write(work)

    async def read(self, after: int, kinds: Collection[int], limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """At most `limit` events of `kinds` (empty: all) after sequence number `after`, in order, and up to where the log was read.

        Stops before `max_bytes` of payload, but gives one event at least if there is one.
        """

        def work(connection: sa.Connection) -> tuple[list[LoggedEvent], int]:
            raw = _sqlite(connection)
            end = _end(connection)
            wanted = sorted(int(kind) for kind in kinds or EventKind)
            rows = raw.execute(
                "SELECT sequence, event_id, kind, file_key, sync_id, traceparent, append_time_ns, payload FROM events"
                " WHERE sequence > ? AND sequence <= ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY sequence LIMIT ?",
                (after, end, json.dumps(wanted), limit),
            )
            events: list[LoggedEvent] = []
            size = 0
            for event in map(LoggedEvent._make, rows):
                size += len(event.payload)
                if events and size > max_bytes:
                    return events, events[-1].sequence
                events.append(event)
            return events, events[-1].sequence if len(events) >= limit else end

        return await self._database.read(work)

    async def subscriptions(self) -> list[tuple[Subscription, SubscriptionPosition]]:
        """Every subscription, by name."""

        def work(connection: sa.Connection) -> list[tuple[Subscription, SubscriptionPosition]]:
            rows = connection.execute(sa.select(_SUBSCRIPTIONS).order_by(_SUBSCRIPTIONS.c.name)).mappings()
            return [(_subscription(row), _position(row)) for row in rows]

        return await self._database.read(work)

    async def put_fixed(self, subscriptions: Sequence[Subscription]) -> None:
        """Stores the subscriptions of the configuration. One that is known keeps its cursor; a new one starts with the oldest event."""

        def work(connection: sa.Connection) -> None:
            for subscription in subscriptions:
                values = _subscription_values(subscription)
                changed = connection.execute(sa.update(_SUBSCRIPTIONS).where(_SUBSCRIPTIONS.c.name == subscription.name).values(values))
                if not changed.rowcount:
                    values |= {"name": subscription.name} | _position_values(SubscriptionPosition.at(0))
                    connection.execute(sa.insert(_SUBSCRIPTIONS).values(values))

        await self._database.write(work)

    async def add_subscription(
        self, request_id: str, body: str, subscription: Subscription, *, from_beginning: bool, replaces_dormant: bool
    ) -> tuple[Subscription, int, bool]:
        """Stores a subscription; returns it with its first cursor, and whether it is new: a repeated request returns what the first did.

        `replaces_dormant`: one of that name that the configuration held earlier is forgotten. Raises SUBSCRIPTION_EXISTS,
        REQUEST_ID_REUSED.
        """

        def work(connection: sa.Connection) -> tuple[Subscription, int, bool]:
            if answer := _earlier_answer(connection, request_id, body):
                return _subscription(answer), int(answer["cursor"]), False
            if replaces_dormant:
                _forget(connection, subscription.name)
            row = connection.execute(sa.select(_SUBSCRIPTIONS.c.name).where(_SUBSCRIPTIONS.c.name == subscription.name)).first()
            if row is not None:
                raise MediasyncError(Reason.SUBSCRIPTION_EXISTS, f"there is a subscription {subscription.name!r} already")
            position = SubscriptionPosition.at(0 if from_beginning else _end(connection))
            values = {"name": subscription.name} | _subscription_values(subscription) | _position_values(position)
            connection.execute(sa.insert(_SUBSCRIPTIONS).values(values))
            _remember(connection, request_id, body, values)
            return subscription, position.cursor, True

        return await self._database.write(work)

    async def remove_subscription(self, request_id: str, body: str, name: str) -> bool:
        """Forgets a subscription and its dead letters; False for a repeated request. Raises SUBSCRIPTION_NOT_FOUND, REQUEST_ID_REUSED."""

        def work(connection: sa.Connection) -> bool:
            if _earlier_answer(connection, request_id, body) is not None:
                return False
            if not _forget(connection, name):
                raise MediasyncError(Reason.SUBSCRIPTION_NOT_FOUND, f"there is no subscription {name!r}")
            _remember(connection, request_id, body, {})
            return True

        return await self._database.write(work)

    async def was_answered(self, request_id: str, body: str) -> bool:
        """Whether the request is a repetition. Raises REQUEST_ID_REUSED for another request with its id."""
        return await self._database.read(lambda connection: _earlier_answer(connection, request_id, body) is not None)

    async def save_positions(self, positions: Mapping[str, SubscriptionPosition]) -> None:
        """Stores how far subscriptions are; unknown names are passed over."""

        def work(connection: sa.Connection) -> None:
            for name, position in positions.items():
                connection.execute(sa.update(_SUBSCRIPTIONS).where(_SUBSCRIPTIONS.c.name == name).values(_position_values(position)))

        await self._database.write(work)

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps events as dead letters. A second time changes nothing."""

        def work(connection: sa.Connection) -> None:
            for letter in letters:
                values = {"subscription": letter.subscription, "sequence": letter.event.sequence}
                there = sa.select(_DEAD_LETTERS.c.number).filter_by(**values)
                if connection.execute(there).first() is None:
                    said = {"reason": letter.reason, "attempts": letter.attempts, "time_ns": time.time_ns()}
                    connection.execute(sa.insert(_DEAD_LETTERS).values(values | said))

        await self._database.write(work)

    async def dead_letters(self, subscription: str, before: int, limit: int) -> list[DeadLetter]:
        """Dead letters of a subscription (empty: of all) with a number below `before` (0: from the newest), newest first."""

        def work(connection: sa.Connection) -> list[DeadLetter]:
            query = sa.select(_DEAD_LETTERS, _EVENTS).join(_EVENTS, _EVENTS.c.sequence == _DEAD_LETTERS.c.sequence)
            if subscription:
                query = query.where(_DEAD_LETTERS.c.subscription == subscription)
            if before:
                query = query.where(_DEAD_LETTERS.c.number < before)
            rows = connection.execute(query.order_by(_DEAD_LETTERS.c.number.desc()).limit(limit)).mappings()
            return [_dead_letter(row) for row in rows]

        return await self._database.read(work)


def _sqlite(connection: sa.Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _end(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(_EVENTS.c.sequence), 0))).scalar_one())


def _earlier_answer(connection: sa.Connection, request_id: str, body: str) -> dict[str, Any] | None:
    row = connection.execute(sa.select(_REQUESTS).where(_REQUESTS.c.request_id == request_id)).first()
    if row is None:
        return None
    if row.body != body:
        raise MediasyncError(Reason.REQUEST_ID_REUSED, f"the request id {request_id!r} was used for another request")
    return cast(dict[str, Any], json.loads(row.answer))


def _remember(connection: sa.Connection, request_id: str, body: str, answer: Mapping[str, Any]) -> None:
    now = time.time_ns()
    connection.execute(sa.delete(_REQUESTS).where(_REQUESTS.c.time_ns < now - REQUESTS_KEPT_SECONDS * 1_000_000_000))
    connection.execute(sa.insert(_REQUESTS).values(request_id=request_id, body=body, answer=json.dumps(dict(answer)), time_ns=now))


def _forget(connection: sa.Connection, name: str) -> bool:
    connection.execute(sa.delete(_DEAD_LETTERS).where(_DEAD_LETTERS.c.subscription == name))
    return connection.execute(sa.delete(_SUBSCRIPTIONS).where(_SUBSCRIPTIONS.c.name == name)).rowcount > 0


def _subscription_values(subscription: Subscription) -> dict[str, Any]:
    kinds = ",".join(str(int(kind)) for kind in sorted(subscription.filter.kinds))
    return {"address": subscription.address, "kinds": kinds, "batch_size": subscription.batch_size, "fixed": subscription.fixed}


def _subscription(row: Mapping[Any, Any]) -> Subscription:
    kinds = frozenset(EventKind(int(kind)) for kind in row["kinds"].split(",") if kind)
    return Subscription(row["name"], row["address"], Filter(kinds), row["batch_size"], bool(row["fixed"]))


def _position_values(position: SubscriptionPosition) -> dict[str, Any]:
    return {"cursor": position.cursor, "last_error": position.last_error, "last_success_ns": position.last_success_ns}


def _position(row: Mapping[Any, Any]) -> SubscriptionPosition:
    return SubscriptionPosition(row["cursor"], row["cursor"], (), row["last_error"], row["last_success_ns"])


def _dead_letter(row: Mapping[Any, Any]) -> DeadLetter:
    event = LoggedEvent(
        row[_EVENTS.c.sequence],
        row[_EVENTS.c.event_id],
        row[_EVENTS.c.kind],
        row[_EVENTS.c.file_key],
        row[_EVENTS.c.sync_id],
        row[_EVENTS.c.traceparent],
        row[_EVENTS.c.append_time_ns],
        row[_EVENTS.c.payload],
    )
    values = _DEAD_LETTERS.c
    return DeadLetter(
        row[values.number], row[values.subscription], event, row[values.reason], row[values.attempts], time_ns=row[values.time_ns]
    )
