"""What the parts of the SQLite store share: the raw connection, and the request ids that were answered."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any, cast

import sqlalchemy as sa

from mediasync.errors import MediasyncError, Reason

REQUESTS_KEPT_SECONDS = 7 * 24 * 3600


def raw_of(connection: sa.Connection) -> sqlite3.Connection:
    """The driver's connection: SQLAlchemy would take more time than SQLite."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def earlier_answer(raw: sqlite3.Connection, request_id: str, body: str) -> dict[str, Any] | None:
    """What the same request was answered with; None if it is new, or has no id. Raises REQUEST_ID_REUSED."""
    row = raw.execute("SELECT body, answer FROM requests WHERE request_id = ?", (request_id,)).fetchone() if request_id else None
    if row is None:
        return None
    if row[0] != body:
        raise MediasyncError(Reason.REQUEST_ID_REUSED, f"the request id {request_id!r} was used for another request")
    return cast(dict[str, Any], json.loads(row[1]))


def remember(raw: sqlite3.Connection, request_id: str, body: str, answer: Mapping[str, Any]) -> None:
    """Keeps the answer of a request that has an id, for `REQUESTS_KEPT_SECONDS`."""
    if not request_id:
        return
    now = time.time_ns()
    raw.execute("DELETE FROM requests WHERE time_ns < ?", (now - REQUESTS_KEPT_SECONDS * 1_000_000_000,))
    raw.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (request_id, body, json.dumps(dict(answer)), now))
