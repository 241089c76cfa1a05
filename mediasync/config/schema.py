"""Every key that a configuration can have.

A key that is known, but that this version does nothing with yet, is marked `Later`: its value is checked all the same, and
`mediasync config check` says that it is not in force. A value in `Later.today` asks for what is done anyway and counts as in force.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

from mediasync.config import fields as f
from mediasync.model import Duplicates, Durability, Engine, FollowSymlinks


@dataclass(frozen=True)
class Later:
    """A later version serves it. `note` says what happens until then."""

    note: str = "a later version serves it"
    today: tuple[object, ...] = ()


class Section(BaseModel):
    """A mapping of known keys. None is a key that was not written."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def known(cls) -> dict[str, FieldInfo]:
        """Every key as it is written, which is no name for a field where Python has the word for itself."""
        return {info.alias or name: info for name, info in cls.model_fields.items()}

    def value(self, key: str) -> Any:
        """What is written for `key`."""
        return getattr(self, key if key in type(self).model_fields else f"{key}_")


class CleanupSection(Section):
    """When a source is emptied, and what of; see `model.CleanupPolicy` for each."""

    enabled: f.Flag | None = None
    dry_run: f.Flag | None = None
    verify_synced: f.Flag | None = None
    i_mean_it: f.Flag | None = None
    schedule: f.Schedule | None = None
    age_hours: f.Amount | None = None
    age_basis: Annotated[str, f.choice("created", "modified", "accessed")] | None = None
    preserve_recent_minutes: f.Amount | None = None
    preserve_patterns: f.Patterns | None = None
    exclude_patterns: f.Patterns | None = None
    allowed_extensions: f.Extensions | None = None
    min_size_bytes: f.Count | None = None
    keep_last: f.Number | None = None
    keep_counter: f.Flag | None = None
    min_free_space_gb: f.Amount | None = None
    target_free_space_gb: f.Amount | None = None
    min_free_space_percent: f.Percent | None = None
    target_free_space_percent: f.Percent | None = None
    min_age_minutes: f.Amount | None = None
    max_files_per_batch: f.Batch | None = None
    max_delete_files: f.Count | None = None
    max_delete_share: f.Share | None = None
    trash_days: f.Amount | None = None
    clean_culled: f.Flag | None = None


class CleanupTarget(CleanupSection):
    """Something that is emptied: a folder of this machine, or a named source."""

    name: f.Name
    path: f.LocalPath | None = None
    source: f.Name | None = None
    folders: f.Folders | None = None


class CleanupEverywhere(CleanupSection):
    """What counts for all sources and targets."""

    targets: Annotated[tuple[CleanupTarget, ...], f.as_list] | None = None


class Options(Section):
    """How a sync behaves; for one source, or below `sync:` for all."""

    parallel_transfers: f.Parallel | None = None
    retry_attempts: f.Attempts | None = None
    retry_delay_seconds: f.Seconds | None = None
    extract_metadata: f.Flag | None = None
    verify_transfers: f.Flag | None = None
    full_scan: f.Flag | None = None
    settle_seconds: f.Seconds | None = None
    incomplete_after_seconds: f.Seconds | None = None

    newest_first: f.Flag | None = None
    restore: f.Flag | None = None
    watch: f.Flag | None = None
    bandwidth_limit_mbps: f.Megabits | None = None
    bandwidth_timetable: f.Timetable | None = None
    engine: Annotated[Engine, f.member(Engine)] | None = None
    compress: f.Flag | None = None
    follow_symlinks: Annotated[FollowSymlinks, f.member(FollowSymlinks)] | None = None
    min_size_bytes: f.Count | None = None
    max_size_bytes: f.Count | None = None
    min_age_minutes: f.Amount | None = None
    max_age_days: f.Amount | None = None
    allowed_extensions: f.Extensions | None = None
    include_patterns: f.Patterns | None = None
    excluded_patterns: f.Patterns | None = None
    temporary_suffixes: f.Words | None = None
    rewritten_patterns: f.Patterns | None = None
    duplicates: Annotated[Duplicates, f.member(Duplicates)] | None = None
    durability: Annotated[Durability, f.member(Durability)] | None = None
    min_free_space_gb: f.Amount | None = None
    file_mode: f.Mode | None = None
    dir_mode: f.Mode | None = None
    owner: f.Word | None = None
    group: f.Word | None = None

    schedule: f.Schedule | None = None
    enable_cleanup: f.Flag | None = None
    cleanup_age_hours: f.Amount | None = None
    cleanup_dry_run: f.Flag | None = None
    generate_xmp: Annotated[f.Flag | None, Later("no XMP sidecars are written", (False,))] = None
    generate_thumbnails: Annotated[f.Flag | None, Later("no thumbnails are made", (False,))] = None
    calculate_hashes: Annotated[f.Flag | None, Later("no effect: the sha256 of every file is always taken", (True,))] = None
    cleanup: CleanupSection | None = None


class Connection(Section):
    """Where a source is, and how to log in there."""

    type: f.Type | None = None
    url: f.SourceUrl | None = None
    host: f.Host | None = None
    port: f.Port | None = None
    user: f.User | None = None
    path: f.RemotePath | None = None
    identity_file: f.LocalPath | None = None
    identity_files: f.LocalPaths | None = None
    known_hosts: f.LocalPaths | None = None
    accept_new_host_key: f.Flag | None = None
    password: f.Secret | None = None
    password_file: f.SecretFile | None = None
    passphrase: f.Secret | None = None
    passphrase_file: f.SecretFile | None = None
    docker_host: f.EngineUrl | None = None


class DestinationSection(Section):
    """Where files go to."""

    path: f.LocalPath


Destination = Annotated[DestinationSection, f.single("path")]


class SourceSection(Connection, Options):
    """A named source, with every option of a sync."""

    destination: Destination | None = None
    folders: f.Folders | None = None


class SyncSection(Options):
    """Option defaults of every sync. With `source:` in it, also the source called `default`, as the older configuration has it."""

    source: Connection | None = None
    destination: Destination | None = None
    folders: f.Folders | None = None
    bandwidth_limit_total_mbps: f.Megabits | None = None
    bandwidth_timetable_total: f.Timetable | None = None


class CoordinatorSection(Section):
    """The clients' one address."""

    listen: f.Listen | None = None


EventName = Annotated[str, f.choice("file_synced", "file_processed", "file_deleted", "sync_complete", "batch_synced")]


class SubscriberSection(Section):
    """An address that implements MediaIngest, or a cursor for one who reads by himself."""

    name: f.Name
    address: f.SubscriberAddress
    events: Annotated[tuple[EventName, ...], f.as_list] | None = None
    source: f.Words | None = None
    path: f.Patterns | None = None
    from_: Annotated[f.Start | None, Field(alias="from")] = None
    batch_size: Annotated[int, f.whole(1, 1000)] | None = None
    tls_ca_file: f.LocalPath | None = None
    tls_cert_file: f.LocalPath | None = None
    tls_key_file: f.LocalPath | None = None
    token_file: f.LocalPath | None = None


class IngestSection(Section):
    """Who is told about files."""

    subscribers: Annotated[tuple[SubscriberSection, ...], f.as_list] | None = None
    batch_size: Annotated[int, f.whole(1, 1000)] | None = None
    linger_ms: Annotated[int, f.whole(0, 50)] | None = None
    async_mode: f.Flag | None = None
    wait_for: Annotated[tuple[f.Name, ...], f.as_list] | None = None
    wait_seconds: Annotated[float, f.number(1, 86_400, "seconds")] | None = None
    implementation: Annotated[str, f.choice("catalog", "postgres", "custom")] | None = None
    connection_string: f.DatabaseUrl | None = None
    connection_string_file: f.DatabaseUrlFile | None = None
    log_connection_string: f.DatabaseUrl | None = None
    log_connection_string_file: f.DatabaseUrlFile | None = None
    retention_days: f.Amount | None = None
    retention_gb: f.Amount | None = None


class Root(Section):
    """The whole of it."""

    media_base: f.LocalPath | None = None
    log_base: f.LocalPath | None = None
    sync: SyncSection | None = None
    sources: dict[f.Name, SourceSection] | None = None
    coordinator: CoordinatorSection | None = None
    ingest: IngestSection | None = None
    cleanup: CleanupEverywhere | None = None


def unwrapped(annotation: Any) -> Any:
    """An annotation without Annotated and None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            (annotation,) = (kind for kind in get_args(annotation) if kind is not types.NoneType)
        else:
            return annotation


def section_of(annotation: Any) -> type[Section] | None:
    """The section that an annotation stands for, or None."""
    kind = unwrapped(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def names_of(annotation: Any) -> Any:
    """What stands below each name of a mapping from names that a person chooses, or None."""
    kind = unwrapped(annotation)
    return get_args(kind)[1] if get_origin(kind) is dict else None


def inside(annotation: Any, step: str | int) -> Any:
    """What stands below `step`, or None when nothing can."""
    if section := section_of(annotation):
        info = section.known().get(str(step))
        return info.annotation if info else None
    if isinstance(step, int):
        kind = unwrapped(annotation)
        return get_args(kind)[0] if get_origin(kind) is tuple else None
    return names_of(annotation)


def at(path: tuple[str | int, ...]) -> Any:
    """The annotation at `path`, or None when nothing can stand there."""
    annotation: Any = Root
    for step in path:
        annotation = inside(annotation, step)
        if annotation is None:
            return None
    return annotation


def paths(annotation: Any = Root, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every key of the schema; `*` stands for a name, `[]` for the items of a list."""
    if section := section_of(annotation):
        return [found for name, info in section.known().items() for found in paths(info.annotation, (*path, name))]
    if below := names_of(annotation):
        return paths(below, (*path, "*"))
    item = inside(annotation, 0)
    if section_of(item):
        return paths(item, (*path, "[]"))
    return [path]


def is_secret(annotation: Any) -> bool:
    """Whether a value is never shown."""
    return unwrapped(annotation) is SecretStr


def is_list(annotation: Any) -> bool:
    """Whether a value is a list."""
    return get_origin(unwrapped(annotation)) is tuple
