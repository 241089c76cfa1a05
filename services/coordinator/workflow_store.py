"""The database that DBOS keeps its records in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

# DBOS has no call for it. dbos is pinned exactly, which is what makes this safe.
_FORGET_RECOVERIES = sa.text(
    "UPDATE workflow_status SET recovery_attempts = 1 WHERE workflow_uuid = :workflow_id AND recovery_attempts > 1"
)


def wal_engine(path: Path) -> sa.Engine:
    """DBOS's database. A power cut may lose the newest steps, which then run again; our own store has the jobs."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(f"sqlite:///{path}")

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA foreign_keys=ON")
        # Writers take the lock when they begin: upgrading a read lock later fails without waiting.
        connection.isolation_level = "IMMEDIATE"

    return engine


def forget_recoveries(engine: sa.Engine, workflow_id: str) -> None:
    """As if the workflow had never been recovered."""
    with engine.begin() as connection:
        connection.execute(_FORGET_RECOVERIES, {"workflow_id": workflow_id})
