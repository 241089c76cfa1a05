"""The library as it is, as a side feed: what the catalog knows of each file, as events.

Its places are the catalog's own, four to a file, so that it goes on after a restart where it was. Files that come meanwhile are in it or
in the log behind it, or in both; a file that moves meanwhile keeps its place. What the catalog does not know is not in it, and a catalog
that cannot be reached, or stops in the middle, is an error and not the end: `read` raises, and is called again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from mediasync.runtime import crash
from mediasync.v1 import catalog_pb2
from services.ingest.events import Filter, LoggedEvent
from services.ingest.filtering import wanted_of
from services.ingest.replaying import END
from services.ingest.synthetic import KINDS, events_of

_PLACES = len(KINDS) + 1


class ExportPage(NamedTuple):
    """Files of the catalog, complete, and whether there are no more."""

    files: Sequence[catalog_pb2.CatalogFile]
    last: bool


ReadExport = Callable[[int], Awaitable[ExportPage]]
"""The catalog's files behind a position. Raises MediasyncError."""


class SnapshotFeed:
    """See `replaying.Content`. Holds a page of the catalog at a time."""

    def __init__(self, read_export: ReadExport, subscription: str) -> None:
        self._read_export = read_export
        self._subscription = subscription
        # What of the page in hand is still to be given, which comes behind `_after`; it reaches to `_page_to`.
        self._rest: deque[LoggedEvent] = deque()
        self._after = -1
        self._page_to = 0

    async def read(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[Sequence[LoggedEvent], int]:
        """See `feeds.Feed`. Raises MediasyncError when the catalog cannot be read."""
        if after >= END:
            return [], END
        if after != self._after:
            self._rest.clear()
        if not self._rest:
            await self._turn(after, wanted)
        events: list[LoggedEvent] = []
        size = 0
        while self._rest and len(events) < limit:
            size += len(self._rest[0].payload)
            if events and size > max_bytes:
                break
            events.append(self._rest.popleft())
        self._after = events[-1].sequence if self._rest else self._page_to
        return events, self._after

    def ended(self, read_to: int) -> bool:
        """Whether nothing comes behind `read_to`."""
        return read_to >= END

    async def _turn(self, after: int, wanted: Filter) -> None:
        """Takes the next page in hand."""
        number, place = divmod(after, _PLACES)
        # The last place of a file is no event's: there all of it has been read.
        page = await self._read_export(number if place == _PLACES - 1 else max(0, number - 1))
        crash.point("ingest.snapshot_page")
        for file in page.files:
            events = [event._replace(sequence=file.position * _PLACES + event.sequence) for event in self._events_of(file)]
            self._rest.extend(wanted_of([event for event in events if event.sequence > after], wanted))
        if page.last:
            self._page_to = END
        elif page.files:
            self._page_to = page.files[-1].position * _PLACES + _PLACES - 1
        else:
            self._page_to = after

    def _events_of(self, file: catalog_pb2.CatalogFile) -> list[LoggedEvent]:
        return events_of(file, "snapshot", self._subscription)
