"""The subscriptions and how far they are, in SQL that every database speaks. See `store.SubscriptionStore`."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mediasync.errors import MediasyncError, Reason
from services.ingest.events import (
    EventKind,
    Filter,
    SideFeed,
    SideKind,
    StoredSubscription,
    Subscription,
    SubscriptionPosition,
    Tls,
    Waiting,
)
from services.ingest.requests_store import Raw, RawDatabase, earlier_answer, remember

_SETTINGS = ("name", "address", "kinds", "batch_size", "fixed", "options", "paused")
_POSITION = ("cursor", "read_to", "waiting", "last_error", "last_success_ns")
_COLUMNS = (*_SETTINGS, *_POSITION, "side", "too_far_behind", "events_lost")
_WAITING = struct.Struct("<qii")


class SqlSubscriptionStore:
    """Subscriptions, positions, side feeds."""

    def __init__(self, database: RawDatabase) -> None:
        self._raw_database = database

    async def subscriptions(self) -> list[StoredSubscription]:
        """See `SubscriptionStore`."""

        def work(raw: Raw) -> list[StoredSubscription]:
            rows = raw.execute(f"SELECT {', '.join(_COLUMNS)} FROM subscriptions ORDER BY name")
            return [_stored(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

        return await self._raw_database.read(work)

    async def put_fixed(self, subscriptions: Sequence[tuple[Subscription, int | None, SideFeed | None]]) -> None:
        """See `SubscriptionStore`."""

        def work(raw: Raw) -> None:
            for subscription, cursor, side in subscriptions:
                # Whether it is paused was said by a call, which counts for more than the configuration's silence.
                settings = {name: value for name, value in _settings(subscription).items() if name != "paused"} | {"fixed": True}
                if not _update(raw, subscription.name, settings):
                    _insert(raw, subscription, cursor, side)

        await self._raw_database.write(work)

    async def add_subscription(
        self, request_id: str, body: str, subscription: Subscription, *, cursor: int | None, side: SideFeed | None, replaces_dormant: bool
    ) -> tuple[StoredSubscription, bool]:
        """See `SubscriptionStore`."""

        def work(raw: Raw) -> tuple[StoredSubscription, bool]:
            if (answer := earlier_answer(raw, request_id, body)) is not None:
                return _stored(answer), False
            if replaces_dormant:
                _forget(raw, subscription.name)
            if raw.execute("SELECT 1 FROM subscriptions WHERE name = ?", (subscription.name,)).fetchone():
                raise MediasyncError(Reason.SUBSCRIPTION_EXISTS, f"there is a subscription {subscription.name!r} already")
            first = _insert(raw, subscription, cursor, side)
            remember(raw, request_id, body, {name: value for name, value in first.items() if name != "waiting"})
            return _stored(first), True

        return await self._raw_database.write(work)

    async def remove_subscription(self, request_id: str, body: str, name: str) -> bool:
        """See `SubscriptionStore`."""

        def work(raw: Raw) -> bool:
            if earlier_answer(raw, request_id, body) is not None:
                return False
            if not _forget(raw, name):
                raise unknown(name)
            remember(raw, request_id, body, {})
            return True

        return await self._raw_database.write(work)

    async def was_answered(self, request_id: str, body: str) -> bool:
        """See `SubscriptionStore`."""
        return await self._raw_database.read(lambda raw: earlier_answer(raw, request_id, body) is not None)

    async def set_paused(self, request_id: str, body: str, name: str, paused: bool) -> bool:
        """See `SubscriptionStore`."""
        return await self._raw_database.write(lambda raw: _change(raw, request_id, body, name, {"paused": paused}))

    async def set_side(
        self, name: str, side: SideFeed | None, *, position: SubscriptionPosition | None = None, request_id: str = "", body: str = ""
    ) -> bool:
        """See `SubscriptionStore`."""
        changes: dict[str, Any] = {"side": _side_text(side)}
        if position is not None:
            changes |= _position_values(position) | {"too_far_behind": False}
        return await self._raw_database.write(lambda raw: _change(raw, request_id, body, name, changes), durable=position is not None)

    async def mark_too_far_behind(self, name: str, lost: int) -> None:
        """See `SubscriptionStore`."""

        def work(raw: Raw) -> None:
            raw.execute("UPDATE subscriptions SET too_far_behind = true, events_lost = events_lost + ? WHERE name = ?", (lost, name))

        await self._raw_database.write(work)

    async def save_positions(self, positions: Mapping[str, SubscriptionPosition]) -> None:
        """See `SubscriptionStore`."""

        def work(raw: Raw) -> None:
            for name, position in positions.items():
                _update(raw, name, _position_values(position))

        await self._raw_database.write(work, durable=False)


def unknown(name: str) -> MediasyncError:
    """Nobody has that name."""
    return MediasyncError(Reason.SUBSCRIPTION_NOT_FOUND, f"there is no subscription {name!r}")


def check_known(raw: Raw, name: str) -> None:
    """Raises SUBSCRIPTION_NOT_FOUND."""
    if raw.execute("SELECT 1 FROM subscriptions WHERE name = ?", (name,)).fetchone() is None:
        raise unknown(name)


def _change(raw: Raw, request_id: str, body: str, name: str, changes: Mapping[str, Any]) -> bool:
    if earlier_answer(raw, request_id, body) is not None:
        return False
    if not _update(raw, name, changes):
        raise unknown(name)
    remember(raw, request_id, body, {})
    return True


def _update(raw: Raw, name: str, values: Mapping[str, Any]) -> bool:
    said = ", ".join(f"{column} = ?" for column in values)
    return raw.execute(f"UPDATE subscriptions SET {said} WHERE name = ?", (*values.values(), name)).rowcount > 0


def _insert(raw: Raw, subscription: Subscription, cursor: int | None, side: SideFeed | None) -> dict[str, Any]:
    if cursor is None:
        (cursor,) = raw.execute("SELECT last FROM log_bounds").fetchone()
    values = _settings(subscription) | _position_values(SubscriptionPosition.at(cursor)) | {"side": _side_text(side)}
    columns, places = ", ".join(values), ", ".join("?" * len(values))
    raw.execute(f"INSERT INTO subscriptions ({columns}) VALUES ({places})", tuple(values.values()))
    return values


def _forget(raw: Raw, name: str) -> bool:
    raw.execute("DELETE FROM letters WHERE subscription = ?", (name,))
    raw.execute("DELETE FROM side_events WHERE subscription = ?", (name,))
    return raw.execute("DELETE FROM subscriptions WHERE name = ?", (name,)).rowcount > 0


def _settings(subscription: Subscription) -> dict[str, Any]:
    wanted, tls = subscription.filter, subscription.tls
    options: dict[str, Any] = {"sources": wanted.sources, "paths": wanted.paths}
    if tls is not None:
        options["tls"] = [str(tls.ca_file), *(str(path) if path else "" for path in (tls.cert_file, tls.key_file))]
    if subscription.token_file is not None:
        options["token_file"] = str(subscription.token_file)
    return {
        "name": subscription.name,
        "address": subscription.address,
        "kinds": ",".join(str(int(kind)) for kind in sorted(wanted.kinds)),
        "batch_size": subscription.batch_size,
        "fixed": subscription.fixed,
        "options": json.dumps(options),
        "paused": subscription.paused,
    }


def _position_values(position: SubscriptionPosition) -> dict[str, Any]:
    waiting = b"".join(_WAITING.pack(item.sequence, item.attempts, item.refusals) for item in position.waiting)
    return dict(zip(_POSITION, (position.cursor, position.read_to, waiting, position.last_error, position.last_success_ns), strict=True))


def _stored(row: Mapping[str, Any]) -> StoredSubscription:
    """Of a row, or of the answer to a request, which may have been given by an earlier version and lack what that did not know."""
    options = json.loads(row.get("options", "{}"))
    kinds = frozenset(EventKind(int(kind)) for kind in row["kinds"].split(",") if kind)
    token_file = options.get("token_file")
    subscription = Subscription(
        row["name"],
        row["address"],
        Filter(kinds, tuple(options.get("sources", ())), tuple(options.get("paths", ()))),
        row["batch_size"],
        bool(row["fixed"]),
        bool(row.get("paused", False)),
        _tls(options.get("tls")),
        Path(token_file) if token_file else None,
    )
    waiting = tuple(_waiting(row.get("waiting", b"")))
    cursor = row["cursor"]
    position = SubscriptionPosition(cursor, max(cursor, row.get("read_to", 0)), waiting, row["last_error"], row["last_success_ns"])
    side = row.get("side", "")
    return StoredSubscription(
        subscription, position, _side(side) if side else None, bool(row.get("too_far_behind", False)), row.get("events_lost", 0)
    )


def _waiting(packed: bytes) -> Iterator[Waiting]:
    return (Waiting(*fields) for fields in _WAITING.iter_unpack(packed))


def _tls(paths: Sequence[str] | None) -> Tls | None:
    if not paths:
        return None
    ca, cert, key = paths
    return Tls(Path(ca), Path(cert) if cert else None, Path(key) if key else None)


def _side_text(side: SideFeed | None) -> str:
    if side is None:
        return ""
    return json.dumps({"kind": side.kind, "argument": side.argument, "position": side.position, "until": side.until})


def _side(text: str) -> SideFeed:
    fields = json.loads(text)
    return SideFeed(SideKind(fields["kind"]), fields["argument"], fields["position"], fields["until"])
