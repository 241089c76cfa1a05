"""What the catalog keeps of a file, and how an event changes that. Pure: no database, no gRPC."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Key = tuple[str, bytes]
"""A file's library and its path below the library's root."""


class Change(enum.Enum):
    """What an event says of a file."""

    SYNCED = "synced"
    PROCESSED = "processed"
    DELETED = "deleted"


class Facts(NamedTuple):
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


class FileEvent(NamedTuple):
    """One event about a file. `library_path` is bytes relative to `library_root`.

    `moved_from` is where the file was until it was found here; empty unless it moved. `place` is then the part of the message that says
    where it is now: behind a record it takes the place of what the record said.
    """

    event_id: str
    change: Change
    time_ns: int
    sync_id: str
    source: str
    library_root: str
    library_path: bytes
    facts: Facts
    moved_from: bytes = b""
    place: bytes = b""

    @property
    def key(self) -> Key:
        """Which file."""
        return self.library_root, self.library_path

    @property
    def keys(self) -> tuple[Key, ...]:
        """Which file, and where it was."""
        return (self.key, (self.library_root, self.moved_from)) if self.moved_from else (self.key,)


class CatalogFile(NamedTuple):
    """A file in the catalog; the fields up to `facts` are in the order of the columns.

    `number` is its own for good, given in the order in which files are first heard of; 0 before it is stored. `sync_time_ns` is when it
    came into the library; until that event has come, when it was first heard of. `moved_time_ns` is since when it is where it is, None
    where that is since it came. The ids are of the last event of each kind that was taken in, empty for none, so that a repetition
    changes nothing.
    """

    number: int
    library_root: str
    library_path: bytes
    sync_id: str
    source: str
    sync_time_ns: int
    processed: bool
    delete_time_ns: int | None
    moved_time_ns: int | None
    synced_id: str
    processed_id: str
    deleted_id: str
    moved_id: str
    facts: Facts

    @property
    def key(self) -> Key:
        """Which file."""
        return self.library_root, self.library_path

    @property
    def since_ns(self) -> int:
        """Since when this content is at this path."""
        return self.sync_time_ns if self.moved_time_ns is None else self.moved_time_ns


class ListedFile(NamedTuple):
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


@dataclass(frozen=True)
class ExportPage:
    """Files with their bulky parts, by number. `last`: there are no more."""

    files: Sequence[tuple[ListedFile, bytes]]
    last: bool


class Wanted(NamedTuple):
    """A file that is asked about. An empty `sha256` or `library_root` stands for any."""

    library_path: bytes
    sha256: bytes = b""
    library_root: str = ""


@dataclass(frozen=True)
class Changes:
    """What a batch of events makes of the database, to be done in this order: numbers that are no longer there, files that are at
    another place (two may have changed places), files that are otherwise not what they were, and new ones, in order."""

    dropped: Sequence[int]
    moved: Sequence[CatalogFile]
    changed: Sequence[CatalogFile]
    added: Sequence[CatalogFile]


def changes(known: Iterable[CatalogFile], events: Iterable[FileEvent]) -> Changes:
    """What `events`, taken in in order, make of the database. `known` are the files that it has at any of their keys."""
    before = {file.number: file for file in known}
    files = {file.key: file for file in before.values()}
    for event in events:
        if event.moved_from:
            _move(files, event)
        else:
            key = event.key
            files[key] = apply(files.get(key), event)
    moved: list[CatalogFile] = []
    changed: list[CatalogFile] = []
    added: list[CatalogFile] = []
    for file in files.values():
        if not file.number:
            added.append(file)
            continue
        was = before.pop(file.number)
        if was is file:
            continue
        (changed if was.key == file.key else moved).append(file)
    return Changes(list(before), moved, changed, added)


def apply(file: CatalogFile | None, event: FileEvent) -> CatalogFile:
    """The file after `event`, which is not that it moved. `file` is None, or the one at the event's path; unchanged when the event was
    taken in before.

    A path holds one content for good as far as a sync is concerned; but a person may have removed the file, and another one may
    have come to the same path. An event about another content than the known one starts the file afresh if it is newer, and is
    old news otherwise.
    """
    if file is None:
        return _fresh(0, event)
    if event.event_id in (file.synced_id, file.processed_id, file.deleted_id, file.moved_id):
        return file
    if event.facts.sha256 != file.facts.sha256:
        return _fresh(file.number, event) if event.time_ns >= file.since_ns else file
    return _taken(file, event)


def _move(files: dict[Key, CatalogFile], event: FileEvent) -> None:
    """A file was found at another path. It stays the file it was. Two at the same path become one, of the content that came last.

    Where nothing is known of the old path, it is a file that is new; and where the old path holds something else by now, or the same
    again since, that stays.
    """
    key, old_key = event.key, (event.library_root, event.moved_from)
    here, old = files.get(key), files.get(old_key)
    if key == old_key or (old is not None and (old.facts.sha256 != event.facts.sha256 or old.since_ns > event.time_ns)):
        old = None
    if old is not None:
        # There it is no more, whatever is at the new path.
        del files[old_key]
    if here is None:
        files[key] = _fresh(0, event) if old is None else _moved(old, event)
    elif here.facts.sha256 != event.facts.sha256:
        if event.time_ns >= here.since_ns:
            files[key] = _fresh(here.number, event) if old is None else _moved(old, event)
    elif old is not None and old.processed and not here.processed:
        files[key] = _moved(old, event)
    elif here.moved_id != event.event_id:
        files[key] = here._replace(moved_id=event.event_id, moved_time_ns=max(here.since_ns, event.time_ns))


def _moved(file: CatalogFile, event: FileEvent) -> CatalogFile:
    return file._replace(
        library_path=event.library_path,
        moved_time_ns=event.time_ns,
        moved_id=event.event_id,
        facts=file.facts._replace(record=file.facts.record + event.place),
    )


def _fresh(number: int, event: FileEvent) -> CatalogFile:
    """The file when nothing else is known of it than `event`."""
    change, event_id = event.change, event.event_id
    return CatalogFile(
        number,
        event.library_root,
        event.library_path,
        event.sync_id,
        event.source,
        event.time_ns,
        change is Change.PROCESSED,
        event.time_ns if change is Change.DELETED else None,
        None,
        event_id if change is Change.SYNCED and not event.moved_from else "",
        event_id if change is Change.PROCESSED else "",
        event_id if change is Change.DELETED else "",
        event_id if event.moved_from else "",
        event.facts,
    )


def _taken(file: CatalogFile, event: FileEvent) -> CatalogFile:
    match event.change:
        case Change.SYNCED:
            deleted = file.delete_time_ns
            return file._replace(
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
            return file._replace(processed_id=event.event_id, processed=True, facts=event.facts)
        case Change.DELETED:
            return file._replace(deleted_id=event.event_id, delete_time_ns=event.time_ns)


def after_prefix(prefix: bytes) -> bytes:
    """The smallest name after all that start with `prefix`; empty when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""
