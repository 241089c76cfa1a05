"""From what a person typed to what is asked of the coordinator: a URL or a name, a destination, and options over both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediasync.errors import FieldViolation, MediasyncError, Reason

if TYPE_CHECKING:
    from mediasync.client import Client
    from mediasync.config import Configuration
    from mediasync.model import SourceSpec, SourceType, SshConnection, SyncSpec


@dataclass(frozen=True)
class Wishes:
    """What options say about a sync; empty ones leave the source's own in force."""

    dest: str = ""
    folders: Sequence[str] = ()
    profile: str = ""
    identity_files: Sequence[Path] = ()
    known_hosts: Sequence[Path] = ()
    accept_new_host_key: bool = False
    parallel_transfers: int | None = None
    full: bool = False
    password_file: Path | None = None
    passphrase_file: Path | None = None
    engine: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SyncOptions` that were asked for, see `sync_options.given`."""
    compress: bool = False
    clean: bool | None = None
    """Whether the sync ends with a clean-up; None for what the source says."""


async def resolve_sync(
    client: Client, source: str, wishes: Wishes, configuration: Configuration, *, own_file: bool, needs_dest: bool = True
) -> SyncSpec:
    """The sync that `source`, a URL or a name, and the options mean. Where it needs no destination, a name without one stays without.

    A name is looked up in the configuration file that this command was given (`own_file`), then at the coordinator, which knows its
    own file and what was added. Raises INVALID_ARGUMENT, SOURCE_NOT_FOUND.
    """
    from mediasync.config import is_url

    if is_url(source):
        return spec_from_url(source, wishes, configuration)
    if own_file and source in configuration.sources:
        return overlay(configuration.sources[source], wishes, needs_dest=needs_dest)
    default_dest = str(configuration.media_base or "") if needs_dest else ""
    return overlay(await _named(client, source, configuration if own_file else None), wishes, default_dest, needs_dest=needs_dest)


async def resolve_source(client: Client, source: str, wishes: Wishes, configuration: Configuration, *, own_file: bool) -> SourceSpec:
    """The place that `source` means, with what the options say about reaching it. Looked up as `resolve_sync` does."""
    from mediasync.config import is_url

    if is_url(source):
        return source_from_url(source, wishes)
    if wishes.profile:
        raise _profile_of_name(source)
    if own_file and source in configuration.sources:
        return _reached(configuration.sources[source].source, wishes)
    return _reached((await _named(client, source, configuration if own_file else None)).source, wishes)


async def resolve_test(client: Client, source: str, wishes: Wishes, configuration: Configuration, *, own_file: bool) -> SyncSpec:
    """What is looked at to test `source`: a URL is its place, a name the sync that it stands for. Looked up as `resolve_sync` does."""
    from dataclasses import replace

    from mediasync.config import is_url
    from mediasync.model import SyncSpec

    folders = resolve_folders(wishes)
    if is_url(source):
        return SyncSpec(source_from_url(source, wishes), "", folders)
    if wishes.profile:
        raise _profile_of_name(source)
    if own_file and source in configuration.sources:
        spec = configuration.sources[source]
    else:
        spec = await _named(client, source, configuration if own_file else None)
    return replace(spec, source=_reached(spec.source, wishes), folders=folders or spec.folders)


async def _named(client: Client, name: str, own: Configuration | None) -> SyncSpec:
    """The sync that the coordinator knows by `name`. A name that it does not know may be one of the command's own file, misspelled."""
    from mediasync.suggest import nearest

    try:
        return (await client.get_source(name)).spec
    except MediasyncError as error:
        near = nearest(name, own.sources) if own and error.reason is Reason.SOURCE_NOT_FOUND else None
        if near is None:
            raise
        raise MediasyncError(error.reason, f"there is no source {name!r}; the nearest is {near!r}", metadata={"nearest": near}) from None


def source_from_url(url: str, wishes: Wishes) -> SourceSpec:
    """The place that a URL means."""
    from mediasync.config import parse_source_url

    return _reached(parse_source_url(url, _source_type(wishes.profile)), wishes)


def check_source(source: str, wishes: Wishes) -> None:
    """Says what is wrong with a URL and the options before any service is started for it."""
    from mediasync.config import is_url

    resolve_folders(wishes)
    if is_url(source):
        source_from_url(source, wishes)


def check_sync(source: str, wishes: Wishes, configuration: Configuration) -> None:
    """Says what is wrong with a URL, its destination and the options before any service is started for it."""
    from mediasync.config import is_url

    if is_url(source):
        spec_from_url(source, wishes, configuration)


def resolve_folders(wishes: Wishes) -> tuple[bytes, ...]:
    """The folders that were asked for. Raises INVALID_ARGUMENT for one that is no folder below a source's path."""
    from mediasync.config.fields import folder

    folders = []
    for name in wishes.folders:
        try:
            folders.append(folder(name))
        except ValueError as error:
            raise _wrong("--folder", f"--folder {name!r}: expected {error}") from None
    return tuple(folders)


def spec_from_url(url: str, wishes: Wishes, configuration: Configuration, *, needs_dest: bool = True) -> SyncSpec:
    """The sync of a URL, with the configuration's options for all syncs below the given ones."""
    from mediasync.model import SyncSpec

    spec = SyncSpec(source_from_url(url, wishes), str(configuration.media_base or ""), (), configuration.defaults)
    return overlay(spec, replace(wishes, profile=""), needs_dest=needs_dest)


def overlay(spec: SyncSpec, wishes: Wishes, default_dest: str = "", *, needs_dest: bool = True) -> SyncSpec:
    """`spec` with what the options say laid over it. Raises INVALID_ARGUMENT for a wrong one, or when there is no destination."""
    from mediasync.model import MAX_PARALLEL_TRANSFERS, CleanupPolicy

    if wishes.profile:
        raise _profile_of_name(spec.source.name)
    options = spec.options
    if wishes.parallel_transfers is not None:
        if not 1 <= wishes.parallel_transfers <= MAX_PARALLEL_TRANSFERS:
            raise _wrong(
                "--parallel-transfers", f"--parallel-transfers is {wishes.parallel_transfers}; expected 1 to {MAX_PARALLEL_TRANSFERS}"
            )
        options = replace(options, parallel_transfers=wishes.parallel_transfers)
    if wishes.full:
        options = replace(options, full_scan=True)
    options = replace(options, **wishes.options)
    cleanup = spec.cleanup
    if wishes.clean is not None:
        cleanup = replace(cleanup or CleanupPolicy(), after_sync=wishes.clean)
    folders = resolve_folders(wishes)
    dest = _destination(wishes.dest) or spec.dest_path or default_dest
    if needs_dest and not dest:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            "there is no destination to sync to",
            "Name the library's folder: mediasync sync SOURCE DEST (or set MEDIA_BASE, or a destination in the configuration).",
            [FieldViolation("DEST", "missing")],
        )
    source = _reached(spec.source, wishes)
    return replace(spec, source=source, dest_path=dest, folders=folders or spec.folders, options=options, cleanup=cleanup)


def _reached(source: SourceSpec, wishes: Wishes) -> SourceSpec:
    """The source with what the options say about getting there. Raises INVALID_ARGUMENT for one that it has no use for."""
    from mediasync.model import Engine, SshConnection
    from mediasync.profiles import engines_of
    from mediasync.suggest import did_you_mean

    if wishes.engine:
        names = [engine.value for engine in engines_of(source.connection)]
        if wishes.engine not in names:
            hint = did_you_mean(wishes.engine, names)
            what = f"--engine {wishes.engine}: expected one of {', '.join(names)} for {source.scheme}://"
            raise _wrong("--engine", f"{what}{hint}")
        source = replace(source, engine=Engine(wishes.engine))
    if wishes.compress:
        source = replace(source, compress=True)
    if isinstance(source.connection, SshConnection):
        return replace(source, connection=_logged_in(source.connection, wishes))
    for option, value in (
        ("--identity-file", wishes.identity_files),
        ("--known-hosts", wishes.known_hosts),
        ("--accept-new-host-key", wishes.accept_new_host_key),
        ("--password-file", wishes.password_file),
        ("--passphrase-file", wishes.passphrase_file),
    ):
        if value:
            raise _wrong(option, f"{option} goes with sources that are reached over SSH, not with {source.scheme}://")
    return source


def _logged_in(connection: SshConnection, wishes: Wishes) -> SshConnection:
    if wishes.identity_files:
        connection = replace(connection, identity_files=tuple(_file("--identity-file", path) for path in wishes.identity_files))
    if wishes.known_hosts:
        # It need not be there yet: a first key may be about to go into it.
        connection = replace(connection, known_hosts_files=tuple(os.path.abspath(path.expanduser()) for path in wishes.known_hosts))
    if wishes.accept_new_host_key:
        connection = replace(connection, accept_new_host_key=True)
    if wishes.password_file:
        connection = replace(connection, password_file=_file("--password-file", wishes.password_file))
    if wishes.passphrase_file:
        connection = replace(connection, passphrase_file=_file("--passphrase-file", wishes.passphrase_file))
    return connection


def _destination(dest: str) -> str:
    if not dest:
        return ""
    try:
        dest.encode()
    except UnicodeEncodeError:
        raise _wrong("DEST", "the destination's name is not UTF-8, which the path of a library has to be") from None
    return os.path.abspath(os.path.expanduser(dest))


def _file(option: str, path: Path) -> str:
    absolute = os.path.abspath(path.expanduser())
    if not os.path.isfile(absolute):
        text = f"{option}: there is no file {absolute}"
        remedy = "Give the file's path; without the option, ~/.ssh/config and the SSH agent say how to log in."
        raise MediasyncError(Reason.INVALID_ARGUMENT, text, remedy, fields=[FieldViolation(option, text)])
    return absolute


def _source_type(profile: str) -> SourceType | None:
    from mediasync.model import SourceType
    from mediasync.suggest import did_you_mean

    names = [kind.value for kind in SourceType]
    if profile and profile not in names:
        raise _wrong("--profile", f"there is no profile {profile!r}; expected one of {', '.join(names)}{did_you_mean(profile, names)}")
    return SourceType(profile) if profile else None


def _profile_of_name(name: str) -> MediasyncError:
    return _wrong("--profile", f"--profile goes with a URL; the source {name!r} has a type of its own")


def _wrong(field: str, message: str) -> MediasyncError:
    return MediasyncError(Reason.INVALID_ARGUMENT, message, fields=[FieldViolation(field, message)])
