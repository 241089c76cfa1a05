"""What the parts of a store share that are the same on every database: how they speak to it, and the request ids that were answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from mediasync.errors import MediasyncError, Reason

REQUESTS_KEPT_SECONDS = 7 * 24 * 3600

T = TypeVar("T")


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """The next row; None after the last."""

    def fetchall(self) -> list[Any]:
        """The rest of them."""

    def __iter__(self) -> Iterator[Any]:
        """One after the other."""


class Raw(Protocol):
    """A connection in a transaction, in the driver's own way but for the marks of values, which are `?` on every database."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        """Runs a statement."""

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> object:
        """Runs a statement for each of these."""


class RawDatabase(Protocol):
    """A database whose work is given the driver's connection: SQLAlchemy would take more time than SQLite."""

    async def write(self, work: Callable[[Raw], T], *, durable: bool = True) -> T:
        """Runs `work` in a transaction of the one writer."""

    async def read(self, work: Callable[[Raw], T]) -> T:
        """Runs `work` on one state of the database."""


def earlier_answer(raw: Raw, request_id: str, body: str) -> dict[str, Any] | None:
    """What the same request was answered with; None if it is new, or has no id. Raises REQUEST_ID_REUSED."""
    row = raw.execute("SELECT body, answer FROM requests WHERE request_id = ?", (request_id,)).fetchone() if request_id else None
    if row is None:
        return None
    if row[0] != body:
        raise MediasyncError(Reason.REQUEST_ID_REUSED, f"the request id {request_id!r} was used for another request")
    return cast(dict[str, Any], json.loads(row[1]))


def remember(raw: Raw, request_id: str, body: str, answer: Mapping[str, Any]) -> None:
    """Keeps the answer of a request that has an id, for `REQUESTS_KEPT_SECONDS`."""
    if not request_id:
        return
    now = time.time_ns()
    raw.execute("DELETE FROM requests WHERE time_ns < ?", (now - REQUESTS_KEPT_SECONDS * 1_000_000_000,))
    raw.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (request_id, body, json.dumps(dict(answer)), now))
