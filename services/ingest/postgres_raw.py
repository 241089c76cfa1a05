"""A connection to PostgreSQL as `requests_store.Raw` has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mediasync.storage.postgres import PostgresDatabase
from services.ingest.requests_store import Raw, Rows

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")


class PostgresRaw:
    """Marks of values are `?`, and a NUL in a text is a U+FFFD: what subscribers answer may hold one."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        """See `Raw`."""
        return self._connection.execute(marked(statement), _clean(values))

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> None:
        """See `Raw`."""
        self._connection.cursor().executemany(marked(statement), [_clean(row) for row in values])


class RawPostgres:
    """See `RawDatabase`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def write(self, work: Callable[[Raw], T], *, durable: bool = True) -> T:
        """See `RawDatabase`."""
        return await self._database.write(lambda connection: work(PostgresRaw(connection)), durable=durable)

    async def read(self, work: Callable[[Raw], T]) -> T:
        """See `RawDatabase`."""
        return await self._database.read(lambda connection: work(PostgresRaw(connection)))


def marked(statement: str) -> str:
    """The statement with the marks of this driver."""
    return statement.replace("?", "%s")


def _clean(values: Sequence[Any]) -> list[Any]:
    return [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
