"""What the catalog keeps of a file, and how an event changes that. Pure: no database, no gRPC."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace


class Change(enum.Enum):
    """What an event says of a file."""

    SYNCED = "synced"
    PROCESSED = "processed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file is, as an event tells it. Times are Unix nanoseconds, 0 where unknown.

    `seed` is decimal text, because it is unsigned and 64 bits wide; empty where unknown. `record` is the message without its bulky
    parts, and `bulk` a message with just these, so that lists need not read them; `record + bulk` is the message again. A `bulk` of
    None is whatever the database holds.
    """

    size_bytes: int
    sha256: bytes
    modify_time_ns: int
    media_type: str
    width: int
    height: int
    incomplete: bool
    generator: str
    model: str
    seed: str
    sampler: str
    steps: int | None
    cfg_scale: float | None
    prompt: str
    negative_prompt: str
    record: bytes
    bulk: bytes | None


@dataclass(frozen=True, slots=True)
class FileEvent:
    """One event about a file. `library_path` is bytes relative to `library_root`."""

    event_id: str
    change: Change
    time_ns: int
    sync_id: str
    source: str
    library_root: str
    library_path: bytes
    facts: Facts

    @property
    def key(self) -> tuple[str, bytes]:
        """Which file."""
        return self.library_root, self.library_path


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A file in the catalog. `sync_time_ns` is when it came into the library; until that event has come, when it was first heard of.

    The ids are of the last event of each kind that was taken in, empty for none, so that a repetition changes nothing.
    """

    library_root: str
    library_path: bytes
    sync_id: str
    source: str
    sync_time_ns: int
    facts: Facts
    processed: bool = False
    delete_time_ns: int | None = None
    synced_id: str = ""
    processed_id: str = ""
    deleted_id: str = ""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file on a page: what of `CatalogFile` a message needs. `number` breaks ties of `sync_time_ns`."""

    number: int
    sync_id: str
    source: str
    sync_time_ns: int
    delete_time_ns: int | None
    processed: bool
    record: bytes


@dataclass(frozen=True)
class Filter:
    """Which files to list; empty fields let everything through."""

    sync_id: str = ""
    source: str = ""
    path_prefix: bytes = b""


@dataclass(frozen=True)
class Page:
    """Files, newest first. `next_position` (time and number of the last one) is set when there are more."""

    files: Sequence[ListedFile]
    next_position: tuple[int, int] | None


def apply(file: CatalogFile | None, event: FileEvent) -> CatalogFile:
    """The file after `event`. `file` is None, or the one at the event's path; unchanged when the event was taken in before.

    A path holds one content for good as far as a sync is concerned; but a person may have removed the file, and another one may
    have come to the same path. An event about another content than the known one starts the file afresh if it is newer, and is
    old news otherwise.
    """
    if file is None:
        return _taken(_fresh(event), event)
    if event.event_id in (file.synced_id, file.processed_id, file.deleted_id):
        return file
    if event.facts.sha256 != file.facts.sha256:
        return _taken(_fresh(event), event) if event.time_ns >= file.sync_time_ns else file
    return _taken(file, event)


def _fresh(event: FileEvent) -> CatalogFile:
    return CatalogFile(event.library_root, event.library_path, event.sync_id, event.source, event.time_ns, event.facts)


def _taken(file: CatalogFile, event: FileEvent) -> CatalogFile:
    match event.change:
        case Change.SYNCED:
            deleted = file.delete_time_ns
            return replace(
                file,
                synced_id=event.event_id,
                sync_id=event.sync_id,
                source=event.source,
                sync_time_ns=event.time_ns,
                # What processing found is more than what landing knew.
                facts=file.facts if file.processed else event.facts,
                # It is at its source again.
                delete_time_ns=None if deleted is not None and event.time_ns > deleted else deleted,
            )
        case Change.PROCESSED:
            return replace(file, processed_id=event.event_id, processed=True, facts=event.facts)
        case Change.DELETED:
            return replace(file, deleted_id=event.event_id, delete_time_ns=event.time_ns)
