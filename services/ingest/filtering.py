"""Whether a subscription wants an event. Kinds are compared; for sources and paths the event is looked into, once for each subscription
that asks for some."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from mediasync.sources.selection import Selection, rules
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest.events import Filter, LoggedEvent


def wanted_of(events: Iterable[LoggedEvent], wanted: Filter) -> list[LoggedEvent]:
    """Those of `events` that are wanted. Raises ValueError for a pattern that is none."""
    kinds = wanted.kinds
    of_kinds = [event for event in events if event.kind in kinds] if kinds else list(events)
    if wanted.plain:
        return of_kinds
    matches = _matcher(wanted.sources, wanted.paths)
    return [event for event in of_kinds if matches(event.payload)]


def check_paths(paths: Iterable[str]) -> None:
    """Raises ValueError that says which of the patterns is none, and why."""
    rules(tuple(paths))


@functools.lru_cache(maxsize=256)
def _matcher(sources: tuple[str, ...], paths: tuple[str, ...]) -> Callable[[bytes], bool]:
    named = frozenset(source.rstrip("/") for source in sources)
    # Of a selection only what the patterns say: hidden and temporary names were no results long before they became events.
    selection = Selection(included=rules(paths), temporary_suffixes=(), hidden_prefixes=(), foreign_names=()) if paths else None

    def matches(payload: bytes) -> bool:
        event = pb.Event.FromString(payload)
        if named and event.source.rstrip("/") not in named:
            return False
        if selection is None or not event.HasField("file"):
            return True
        # A file that was moved concerns who follows its old place as much as who follows its new one.
        places = [event.file.library_path.raw]
        if event.file.HasField("moved_from"):
            places.append(event.file.moved_from.raw)
        return any(selection.file_reason(place, 0, 0.0) is None for place in places)

    return matches
