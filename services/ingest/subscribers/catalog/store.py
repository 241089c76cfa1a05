"""What the catalog's database does. Every method is one transaction.

What was taken is durable when the call returns: once an event is accepted nobody sends it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.ingest.subscribers.catalog.files import ExportPage, FileEvent, Filter, ListedFile, Page, Wanted

MAX_PAGE_BYTES = 4 * 1024 * 1024


class CatalogStore(Protocol):
    """The files that the catalog knows."""

    async def close(self) -> None:
        """Closes the database, after the work that has begun."""

    async def take(self, events: Sequence[FileEvent]) -> Mapping[str, str]:
        """Takes events in, in order; repeating them changes nothing. `files.changes` says what they make of the files. Returns, by event
        id, why the database will never take an event; the others are taken all the same."""

    async def exist(self, files: Sequence[Wanted]) -> list[bool]:
        """Whether each of these files is on record."""

    async def get(self, library_path: bytes, library_root: str) -> tuple[ListedFile, bytes] | None:
        """A file, and the bulky part of its message; the newest one if `library_root` is empty. None if there is none."""

    async def page(self, wanted: Filter, before: tuple[int, int] | None, limit: int) -> Page:
        """At most `limit` files after position `before`, newest first; fewer where their records exceed `MAX_PAGE_BYTES`."""

    async def export(self, after: int, library_root: str) -> ExportPage:
        """Files with a number above `after`, by number, of one library unless `library_root` is empty: as many as stay below
        `MAX_PAGE_BYTES`, one at least."""
