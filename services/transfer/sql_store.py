"""What the stores' SQL has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from mediasync.storage.database import raw_connection as raw_connection


def upsert(table: sa.Table, values: Mapping[str, Any], key: Sequence[str], keep: Sequence[str] = ()) -> sa.Insert:
    """Inserts a row, or overwrites all of it but its key and the columns to `keep`. To be executed with rows of the names in `values`."""
    statement = sqlite.insert(table)
    overwritten = {name: statement.excluded[name] for name in values if name not in {*key, *keep}}
    return statement.on_conflict_do_update(index_elements=list(key), set_=overwritten)


def below(column: sa.Column[bytes], folder: bytes) -> sa.ColumnElement[bool]:
    """`column` is `folder` or a path below it. `0` is the byte after `/`."""
    if not folder:
        return sa.true()
    return sa.or_(column == folder, sa.and_(column > folder + b"/", column < folder + b"0"))
