"""What a configuration amounts to: sources with all defaults applied, and for every value where it came from."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mediasync.config import cleanup, schema, tree, urls
from mediasync.config.checks import DEFAULT_SOURCE
from mediasync.config.fields import SecretOfFile
from mediasync.config.ingest import DEFAULT_BATCH_SIZE, IngestSettings, settings_of
from mediasync.config.tree import Origin, Table
from mediasync.model import (
    DockerConnection,
    Engine,
    LocalConnection,
    SourceConnection,
    SourceSpec,
    SourceType,
    SshConnection,
    SyncOptions,
    SyncSpec,
)
from mediasync.paths import display
from mediasync.profiles import PROFILES
from mediasync.sources.secrets import Secrets
from mediasync.times import OFF

DEFAULT_LISTEN = "127.0.0.1:7171"
MASK = "********"
_INGEST_DEFAULTS = ("batch_size", "linger_ms", "async_mode", "wait_for", "wait_seconds", "implementation", "retention_days", "retention_gb")
Shown = str | int | float | bool | None | list["Shown"]
"""A value as it is printed; secrets are masked in it."""


@dataclass(frozen=True)
class Setting:
    """One value of the effective configuration. `origin` is `FILE:LINE`, a variable, another key, `type forge` or `default`; `line` is 0
    unless the file has it. `written` says that somebody wrote this very key; `note` what happens while it is not in force."""

    key: str
    value: Shown
    origin: str
    line: int = 0
    written: bool = False
    in_force: bool = True
    note: str = ""


@dataclass(frozen=True)
class CoordinatorSettings:
    """The clients' one address: `listen` is `host:port` on loopback; port 0 lets the system choose."""

    listen: str = DEFAULT_LISTEN


@dataclass(frozen=True)
class Configuration:
    """The effective configuration.

    A source without a destination of its own has `media_base` as `dest_path`, and an empty one where that is not set either: the caller
    must then be told one. Folders of this machine that are only cleaned up (`cleanup.targets`) are sources without one. A source's port,
    user, root and folders are empty unless they are set: what its type brings is filled in where the source is connected to, below what
    `~/.ssh/config` says. Secrets that are written in the configuration itself are in `secrets` by the source's name and nowhere else;
    those of files are where the file is.
    """

    sources: Mapping[str, SyncSpec] = field(default_factory=dict)
    defaults: SyncOptions = field(default_factory=SyncOptions)
    media_base: Path | None = None
    log_base: Path | None = None
    coordinator: CoordinatorSettings = field(default_factory=CoordinatorSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    file: Path | None = None
    settings: tuple[Setting, ...] = ()
    bandwidth_limit_total_mbps: float = 0.0
    bandwidth_timetable_total: tuple[str, ...] = ()
    secrets: Mapping[str, Secrets] = field(default_factory=dict, repr=False)
    sync_schedules: Mapping[str, str] = field(default_factory=dict)
    """When sources are synced, by their names; local times as `mediasync.times` reads them."""
    cleanup_schedules: Mapping[str, tuple[str, str, SyncSpec]] = field(default_factory=dict)
    """Source, times and spec of clean-ups, by the names of sources and targets."""

    @property
    def in_force(self) -> tuple[str, ...]:
        """The keys that are written and have an effect."""
        return tuple(setting.key for setting in self.settings if setting.written and setting.in_force)

    @property
    def not_yet(self) -> tuple[str, ...]:
        """The keys that are written and wait for a later version."""
        return tuple(setting.key for setting in self.settings if setting.written and not setting.in_force)


def resolve(typed: schema.Root, root: Table, file: Path | None) -> Configuration:
    """Applies defaults to a valid configuration. `root` is the tree that it was made of."""
    return _Resolver(typed, root, file).resolve()


class _Resolver:
    def __init__(self, typed: schema.Root, root: Table, file: Path | None) -> None:
        self._typed = typed
        self._root = root
        self._file = file
        self._settings: list[Setting] = []
        self._secrets: dict[str, Secrets] = {}

    def resolve(self) -> Configuration:
        typed = self._typed
        for name, value in (("media_base", typed.media_base), ("log_base", typed.log_base)):
            self._show((name,), value)
        sync = typed.sync or schema.SyncSection()
        defaults = SyncOptions()
        # The older single form: what is no option of every sync is the source's.
        self._section(("sync",), sync, skip={"source", "destination", "folders"}, options=defaults)
        defaults = _options(sync, defaults)
        sources = {}
        if sync.source:
            keys: dict[str, tree.Path] = {
                "source": ("sync", "source"),
                "destination": ("sync", "destination"),
                "folders": ("sync", "folders"),
            }
            sources[DEFAULT_SOURCE] = self._source(DEFAULT_SOURCE, sync.source, sync.destination, sync.folders, defaults, keys)
        for name, section in (typed.sources or {}).items():
            path = ("sources", name)
            keys = {"source": path, "destination": (*path, "destination"), "folders": (*path, "folders")}
            options = _options(section, defaults)
            sources[name] = self._source(name, section, section.destination, section.folders, options, keys)
            self._section(path, section, skip={"destination", "folders", *schema.Connection.model_fields}, options=defaults, above="sync")
        names = tuple(sources)
        for name in names:
            self._show_cleaned(cleanup.of_source(typed, name, DEFAULT_SOURCE))
        sources, scheduled = cleanup.applied(typed, sources, defaults, DEFAULT_SOURCE)
        coordinator = typed.coordinator or schema.CoordinatorSection()
        self._show(("coordinator", "listen"), coordinator.listen, DEFAULT_LISTEN)
        return Configuration(
            sources=sources,
            defaults=defaults,
            media_base=typed.media_base,
            log_base=typed.log_base,
            coordinator=CoordinatorSettings(coordinator.listen or DEFAULT_LISTEN),
            ingest=self._ingest(),
            file=self._file,
            settings=tuple(self._settings),
            bandwidth_limit_total_mbps=sync.bandwidth_limit_total_mbps or 0.0,
            bandwidth_timetable_total=sync.bandwidth_timetable_total or (),
            secrets=self._secrets,
            sync_schedules={name: times for name in names if (times := self._sync_times(name))},
            cleanup_schedules=scheduled,
        )

    def _show_cleaned(self, cleaned: cleanup.Cleaned) -> None:
        """What most people want to know of clean-ups, where the source itself does not say it."""
        for key, value in (("enabled", cleaned.policy.after_sync), ("age_hours", cleaned.policy.age_hours)):
            written = cleaned.paths.get(key, ())
            if written[: len(cleaned.path)] != cleaned.path:
                origin = tree.dotted(written) if written else "default"
                self._show((*cleaned.path, "cleanup", key), None, value, origin)

    def _sync_times(self, name: str) -> str:
        """When a source is synced; empty for when it is asked for."""
        own, every = (self._typed.sources or {}).get(name), self._typed.sync
        times = (own and own.schedule) or (every and every.schedule) or ""
        return "" if times == OFF else times

    def _source(
        self,
        name: str,
        connection: schema.Connection,
        destination: schema.DestinationSection | None,
        folders: tuple[bytes, ...] | None,
        options: SyncOptions,
        keys: Mapping[str, tree.Path],
    ) -> SyncSpec:
        reached = self._reached(name, connection)
        kind = connection.type or _kind_of(reached)
        profile = PROFILES[kind]
        from_type = f"type {kind}"
        path = keys["source"]
        self._show((*path, "type"), connection.type, kind)
        for key in ("url", "host"):
            self._show((*path, key), getattr(connection, key))
        if isinstance(reached, SshConnection) and connection.url is None:
            # The type's port and user count below ~/.ssh/config, which only the source itself looks into when it connects.
            self._show((*path, "port"), connection.port, profile.port or None, f"{from_type}, unless ~/.ssh/config has one")
            self._show((*path, "user"), connection.user, profile.user or None, f"{from_type}, unless ~/.ssh/config has one")
        root = connection.path or (connection.url.root if connection.url else b"")
        self._show((*path, "path"), connection.path, None if root else profile.roots or None, f"{from_type}, the first that exists")
        for key in schema.Connection.model_fields:
            if key not in ("type", "url", "host", "port", "user", "path"):
                default = False if key == "accept_new_host_key" and isinstance(reached, SshConnection) else None
                self._show((*path, key), getattr(connection, key), default)
        self._show(keys["destination"], destination and destination.path, self._typed.media_base, "media_base")
        self._show(keys["folders"], folders or None, profile.folders or None, from_type)
        if isinstance(reached, LocalConnection) and connection.path is not None:
            root = os.path.expanduser(connection.path)
        target = destination.path if destination else self._typed.media_base
        own, every = (connection if isinstance(connection, schema.Options) else None), self._typed.sync
        engine = (own and own.engine) or (every and every.engine) or Engine.AUTO
        compress = next((found.compress for found in (own, every) if found and found.compress is not None), False)
        return SyncSpec(SourceSpec(reached, root, kind, name, engine, compress), str(target or ""), folders or (), options)

    def _reached(self, name: str, written: schema.Connection) -> SourceConnection:
        """How to get to a source."""
        place = written.url.connection if written.url else None
        if place is None and written.type is SourceType.LOCAL:
            return LocalConnection()
        if isinstance(place, DockerConnection):
            return replace(place, engine_url=written.docker_host or "")
        if isinstance(place, LocalConnection):
            return place
        base = place or SshConnection(written.host or "", written.port or 0, written.user or "")
        secrets = Secrets(_literal(written.password), _literal(written.passphrase))
        if secrets != Secrets():
            self._secrets[name] = secrets
        identity = written.identity_files or ((written.identity_file,) if written.identity_file else ())
        return replace(
            base,
            identity_files=tuple(str(item) for item in identity),
            known_hosts_files=tuple(str(item) for item in written.known_hosts or ()),
            accept_new_host_key=bool(written.accept_new_host_key),
            password_file=_file_of(written.password_file),
            passphrase_file=_file_of(written.passphrase_file),
        )

    def _ingest(self) -> IngestSettings:
        section = self._typed.ingest or schema.IngestSection()
        path = ("ingest",)
        settings = settings_of(section)
        self._section(path, section, skip={"subscribers", *_INGEST_DEFAULTS})
        for key in _INGEST_DEFAULTS:
            default = DEFAULT_BATCH_SIZE if key == "batch_size" else getattr(settings, key)
            self._show((*path, key), getattr(section, key), default)
        for place, (item, subscriber) in enumerate(zip(section.subscribers or (), settings.subscribers, strict=True)):
            self._section((*path, "subscribers", place), item, skip={"batch_size"})
            self._show((*path, "subscribers", place, "batch_size"), item.batch_size, subscriber.batch_size, "ingest.batch_size")
        self._section(("cleanup",), self._typed.cleanup or schema.CleanupEverywhere())
        return settings

    def _section(
        self, path: tree.Path, section: schema.Section, skip: set[str] | None = None, options: SyncOptions | None = None, above: str = ""
    ) -> None:
        """Shows every key of a section that is written, and every option of a sync."""
        for key in type(section).known():
            value = section.value(key)
            if key in (skip or ()):
                continue
            if isinstance(value, schema.Section):
                self._section((*path, key), value)
            elif isinstance(value, tuple) and value and isinstance(value[0], schema.Section):
                for place, item in enumerate(value):
                    self._section((*path, key, place), item)
            else:
                default = getattr(options, key, self._of_every_source(key) if options else None)
                origin = f"{above}.{key}" if above and self._is_written((above, key)) else "default"
                self._show((*path, key), value, default, origin)

    def _of_every_source(self, key: str) -> Any:
        """What an option that is part of the source, and of no `SyncOptions`, is where a source does not say."""
        written = getattr(self._typed.sync, key, None)
        shown = {"engine": written or Engine.AUTO, "compress": bool(written), "schedule": written}
        return shown.get(key)

    def _is_written(self, path: tree.Path) -> bool:
        node = tree.find(self._root, path)
        return node is not None and not (isinstance(node, tree.Scalar) and node.text is None)

    def _show(self, path: tree.Path, value: Any, default: Any = None, default_origin: str = "default") -> None:
        if value is None:
            if default is not None:
                self._settings.append(Setting(tree.dotted(path), _shown(default), default_origin))
            return
        origin = tree.origin_of(self._root, path)
        later = _later(path)
        in_force = later is None or value in later.today
        self._settings.append(
            Setting(
                key=tree.dotted(path),
                value=_shown(value),
                origin=self._place(origin),
                line=origin.line if not origin.variable else 0,
                written=True,
                in_force=in_force,
                note="" if in_force or later is None else later.note,
            )
        )

    def _place(self, origin: Origin) -> str:
        return origin.variable or f"{display(os.fsencode(self._file or ''))}:{origin.line}"


def _kind_of(connection: SourceConnection) -> SourceType:
    if isinstance(connection, DockerConnection):
        return SourceType.DOCKER
    return SourceType.LOCAL if isinstance(connection, LocalConnection) else SourceType.SSH


def _literal(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _file_of(secret: SecretStr | None) -> str:
    return str(secret.path) if isinstance(secret, SecretOfFile) else ""


def _options(section: schema.Options, defaults: SyncOptions) -> SyncOptions:
    values = {option.name: getattr(section, option.name, None) for option in fields(SyncOptions)}
    return SyncOptions(**{name: getattr(defaults, name) if value is None else value for name, value in values.items()})


def _later(path: tree.Path) -> schema.Later | None:
    section = schema.section_of(schema.at(path[:-1]))
    info = section.known()[str(path[-1])] if section else None
    return next((mark for mark in info.metadata if isinstance(mark, schema.Later)), None) if info else None


def _shown(value: Any) -> Shown:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, bytes):
        return display(value)
    if isinstance(value, urls.Place):
        return _shown(value.text)
    if isinstance(value, enum.Enum | Path):
        return str(value)
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int | float):
        return value
    return display(str(value).encode("utf-8", "backslashreplace"))
