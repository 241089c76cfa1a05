"""`SyncConfig`: one sync as Python callers describe it, with the option names that people know."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from mediasync import cleanup_policy
from mediasync.bandwidth import parse_timetable_line
from mediasync.config import fields as f
from mediasync.config import urls
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import (
    MAX_PARALLEL_TRANSFERS,
    REWRITTEN_PATTERNS,
    CleanupPolicy,
    DockerConnection,
    Duplicates,
    Durability,
    Engine,
    FollowSymlinks,
    SourceSpec,
    SourceType,
    SshConnection,
    SyncOptions,
    SyncSpec,
)
from mediasync.profiles import engines_of
from mediasync.sources.docker.names import check_engine_url
from mediasync.sources.selection import rules


class NotInForceWarning(UserWarning):
    """An option asks for something that this version does not do yet."""


def _path_text(value: Any) -> str:
    # pydantic's own str refuses the surrogate escapes that keep a name which is no UTF-8.
    if not isinstance(value, str | bytes | os.PathLike):
        raise ValueError("expected a path as str, bytes or os.PathLike")
    raw = os.fspath(value)
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw


def _remote(value: Any) -> str:
    text = _path_text(value)
    if text:
        _checked(f.remote_path, text)
    return text


def _folder(value: Any) -> str:
    text = _path_text(value)
    _checked(f.folder, text)
    return text


def _local(value: Any) -> str:
    text = _path_text(value)
    if text:
        _checked(lambda path: f.local_path(path, "/"), text)
    return text


def _checked(parse: Any, text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"expected {error}") from None


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str | bytes | os.PathLike) else value


def _url(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a URL as str")
    if value:
        try:
            urls.parse_place(value)
        except MediasyncError as error:
            raise ValueError(error.message) from None
    return value


def _engine_address(value: str) -> str:
    if value:
        _checked(check_engine_url, value)
    return value


def _pattern(value: str) -> str:
    rules([value])
    return value


def _timetable_line(value: str) -> str:
    _checked(parse_timetable_line, value)
    return value


def _policy(value: CleanupPolicy) -> CleanupPolicy:
    for name, said in cleanup_policy.mistakes(value):
        raise ValueError(f"{name} {said}")
    return value


RemotePath = Annotated[str, PlainValidator(_remote)]
Folder = Annotated[str, PlainValidator(_folder)]
LocalPath = Annotated[str, PlainValidator(_local)]
LocalPaths = Annotated[tuple[LocalPath, ...], BeforeValidator(_several)]
Words = Annotated[tuple[str, ...], BeforeValidator(_several)]
Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(_several)]
Timetable = Annotated[tuple[Annotated[str, AfterValidator(_timetable_line)], ...], BeforeValidator(_several)]
Mode = Annotated[str, Field(pattern="^(0?[0-7]{3})?$")]
Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

_NOT_YET: Mapping[str, tuple[object, ...]] = {
    "generate_xmp": (False,),
    "calculate_hashes": (True,),
}
"""Options that a later version serves, and the values that ask for what is done today."""


class SyncConfig(BaseModel):
    """One sync. Wrong values raise pydantic's ValidationError, which lists every one.

    Options that this version does not serve yet are kept, named by `not_yet`, and announced by a `NotInForceWarning`, so that a program
    written for them runs and says what it does not get.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False, validate_default=False)

    source_type: SourceType | None = None
    """`forge`, `comfyui` or `vastai` bring port, user, path and folders where nothing else says them; without one it is `ssh`, or what
    `source_url` is."""
    source_host: f.Host | Literal[""] = ""
    """Host name, address, or an alias of `~/.ssh/config`. Needed unless there is a `source_url`."""
    source_url: Annotated[str, PlainValidator(_url)] = ""
    """In place of host, port, user and path: `ssh://…`, `docker://[context@]container/path`, or a folder of the services' machine."""
    docker_host: Annotated[str, AfterValidator(_engine_address)] = ""
    """The Docker engine of a container, as DOCKER_HOST has it; empty for the one that the `docker` command would use."""
    engine: Engine = Engine.AUTO
    """What lists and reads at the source."""
    compress: bool = False
    """Compress on the way. Pictures and videos are compressed already."""
    source_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """SSH port; None for the one of `~/.ssh/config`, else the type's, else 22."""
    source_user: f.User | None = None
    """Login name; None for the one of `~/.ssh/config`, else the type's."""
    source_path: RemotePath = ""
    """Folder at the source, absolute or below `~/`; empty for the type's."""
    dest_path: LocalPath = ""
    """The library; relative to the working folder, `~` is the home folder; empty for `$MEDIA_BASE`."""
    folders: tuple[Folder, ...] = ()
    """Folders below `source_path`; none for the type's, or everything."""
    parallel_transfers: Annotated[int, Field(ge=1, le=MAX_PARALLEL_TRANSFERS)] = 3
    """SSH connections that pull at the same time."""
    bandwidth_limit_mbps: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """At most so many megabits (not megabytes) a second; None or 0 for no limit."""
    bandwidth_timetable: Timetable = ()
    """Lines such as `08:00-18:00 20mbit` that count in place of the limit while they last."""
    newest_first: bool = False
    """Bring the newest files first."""
    restore: bool = False
    """Bring back files that were taken once and deleted from the library."""
    watch: bool = False
    """Go on, and bring every new file as it appears."""
    full_scan: bool = False
    """Look at everything at the source, not only at what moved since the last look."""
    settle_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 2
    """A file whose format has no end to look at is taken once it was left alone for this long."""
    incomplete_after_seconds: Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)] = 3600
    """An incomplete file that was left alone for this long is taken as it is."""
    follow_symlinks: FollowSymlinks = FollowSymlinks.NONE
    """Which links below the path are followed: `none`, `files` or `all`."""
    min_size_bytes: Annotated[int, Field(ge=0, le=10**18)] = 0
    """Smaller files are no results."""
    max_size_bytes: Annotated[int, Field(ge=0, le=10**18)] = 0
    """Larger files are none; 0 for no limit."""
    min_age_minutes: Amount = 0
    """Younger files are not results yet."""
    max_age_days: Amount = 0
    """Older files are none; 0 for no limit."""
    allowed_extensions: Annotated[tuple[f.Extension, ...], BeforeValidator(_several)] = ()
    """Only files that end in one of these; none for all."""
    include_patterns: Patterns = ()
    """Only files that match; see docs/filters.md."""
    excluded_patterns: Patterns = ()
    """No files that match."""
    temporary_suffixes: Words = ()
    """Endings of unfinished files' names, in place of the built-in ones."""
    rewritten_patterns: Patterns = REWRITTEN_PATTERNS
    """Files that a generator keeps writing anew: the library has the newest, and the former for 30 days."""
    duplicates: Duplicates = Duplicates.KEEP
    """A file whose content the library has already: `keep`, `skip` or `hardlink`."""
    durability: Durability = Durability.FULL
    """`full`: a file counts once it is on the disk; `fast`: once the system has it."""
    min_free_space_gb: Amount = 1
    """What a sync leaves free on the library's disk."""
    file_mode: Mode = ""
    """Octal mode of new files, such as `0640`; empty for the process's own."""
    dir_mode: Mode = ""
    """Octal mode of new folders."""
    owner: str = ""
    """Owner of new files, name or number; empty for the process's own."""
    group: str = ""
    """Group of new files."""
    enable_cleanup: bool = False
    """Delete at the source, after each sync, what was verified in the library."""
    cleanup_age_hours: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 24
    """Clean up what is older. Without effect unless `enable_cleanup`."""
    cleanup_dry_run: bool = False
    """Only say what a clean-up would delete. Without effect unless `enable_cleanup`."""
    cleanup: Annotated[CleanupPolicy, AfterValidator(_policy)] | None = None
    """Everything else about clean-ups, also for `Client.start_cleanup`. What the three options above say counts, where they are given."""
    generate_xmp: bool = False
    """Write an XMP sidecar beside each picture. Not in force yet."""
    calculate_hashes: bool = True
    """The sha256 of every file is always taken; False has no effect."""
    extract_metadata: bool = True
    """Read prompt, seed and model out of each file."""
    retry_attempts: Annotated[int, Field(ge=0, le=100)] = 3
    """Attempts after the first to reach the source or to pull a file."""
    retry_delay_seconds: Annotated[float, Field(ge=0, le=86_400 * 30, allow_inf_nan=False)] = 5
    """Time before the first retry; doubled for each further one."""
    verify_transfers: bool = False
    """Read each file back from the library's disk and compare, before it becomes visible."""
    identity_file: LocalPaths = ()
    """Private keys to log in with; none for the agent and `~/.ssh/config`."""
    password_file: LocalPath = ""
    """File that holds the login's password. A password itself is never part of a sync."""
    passphrase_file: LocalPath = ""
    """File that holds the passphrase of the private key."""
    known_hosts: LocalPaths = ()
    """Files to use in place of `~/.ssh/known_hosts`."""
    accept_new_host_key: bool = False
    """Accept the key of a host that was never seen. A changed key is never accepted."""

    @model_validator(mode="after")
    def _announce(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        if names := self.not_yet:
            # 3: past this validator and pydantic's __init__, to the caller's line.
            warnings.warn(f"not in force yet, and without effect: {', '.join(names)}", NotInForceWarning, stacklevel=3)
        return self

    @property
    def not_yet(self) -> tuple[str, ...]:
        """The options that ask for something this version does not do yet."""
        return tuple(name for name, today in _NOT_YET.items() if getattr(self, name) not in today)

    def to_spec(self, environ: Mapping[str, str] = os.environ) -> SyncSpec:
        """The same as plain data, paths made absolute. Raises MediasyncError with INVALID_ARGUMENT when no destination is known."""
        destination = self.dest_path or environ.get("MEDIA_BASE", "")
        if not destination:
            message = "dest_path is missing, and MEDIA_BASE is not set either"
            raise MediasyncError(Reason.INVALID_ARGUMENT, message, "Say where the pictures go.", [FieldViolation("dest_path", message)])
        working = os.getcwd()
        return SyncSpec(
            source=self._source(working),
            dest_path=str(f.local_path(destination, working)),
            folders=tuple(f.folder(name) for name in self.folders),
            options=SyncOptions(**self._options()),
            cleanup=self._cleanup(),
        )

    def _cleanup(self) -> CleanupPolicy | None:
        policy = self.cleanup
        if self.enable_cleanup:
            flat = {"age_hours": "cleanup_age_hours", "dry_run": "cleanup_dry_run"}
            given = {name: getattr(self, option) for name, option in flat.items() if option in self.model_fields_set}
            policy = replace(policy or CleanupPolicy(), after_sync=True, **given)
        elif policy is not None and "enable_cleanup" in self.model_fields_set:
            policy = replace(policy, after_sync=False)
        return policy

    def _options(self) -> dict[str, Any]:
        values = {option.name: getattr(self, option.name) for option in fields(SyncOptions)}
        return {**values, "bandwidth_limit_mbps": self.bandwidth_limit_mbps or 0.0}

    def _place(self) -> urls.Place:
        """How to get there. A source without a URL is a host."""
        if self.source_url:
            place = urls.parse_place(self.source_url)
            root = f.remote_path(self.source_path) if self.source_path else place.root
            return urls.Place(place.text, place.connection, root)
        connection = SshConnection(self.source_host, self.source_port or 0, self.source_user or "")
        return urls.Place("", connection, f.remote_path(self.source_path) if self.source_path else b"")

    def _problems(self) -> Iterator[str]:
        """What options make together that none of them is alone."""
        if not self.source_host and not self.source_url:
            yield "source_host is missing, or source_url"
            return
        if self.source_url:
            twice = [name for name in ("source_host", "source_port", "source_user") if getattr(self, name)]
            if twice:
                yield f"{', '.join(twice)}: source_url says that already"
            if self.source_path and urls.parse_place(self.source_url).root:
                yield "source_path: source_url has a path already"
        place = self._place()
        kind, wrong = urls.type_of(place, self.source_type)
        if wrong and not place.root and not self.source_url:
            yield f"source_path is missing; a source of type {kind} has no folder of its own"
        elif wrong:
            yield f"{self.source_url or self.source_host} {wrong}"
        if self.engine not in engines_of(place.connection):
            yield f"engine: {self.engine} is none of {', '.join(engines_of(place.connection))}, which there are for such a source"
        if self.docker_host and (not isinstance(place.connection, DockerConnection) or place.connection.context):
            yield "docker_host: is for containers whose URL names no context"

    def _source(self, working: str) -> SourceSpec:
        place = self._place()
        connection = place.connection
        if isinstance(connection, SshConnection):
            connection = replace(
                connection,
                identity_files=tuple(str(f.local_path(path, working)) for path in self.identity_file),
                known_hosts_files=tuple(str(f.local_path(path, working)) for path in self.known_hosts),
                accept_new_host_key=self.accept_new_host_key,
                password_file=str(f.local_path(self.password_file, working)) if self.password_file else "",
                passphrase_file=str(f.local_path(self.passphrase_file, working)) if self.passphrase_file else "",
            )
        elif isinstance(connection, DockerConnection):
            connection = replace(connection, engine_url=self.docker_host)
        kind, _ = urls.type_of(place, self.source_type)
        return SourceSpec(connection, place.root, kind, engine=self.engine, compress=self.compress)
