"""`SyncConfig`: one sync as Python callers describe it, with the option names that people know."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from mediasync.config import fields as f
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import MAX_PARALLEL_TRANSFERS, SourceSpec, SourceType, SshConnection, SyncOptions, SyncSpec
from mediasync.profiles import PROFILES


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


RemotePath = Annotated[str, PlainValidator(_remote)]
Folder = Annotated[str, PlainValidator(_folder)]
LocalPath = Annotated[str, PlainValidator(_local)]
LocalPaths = Annotated[tuple[LocalPath, ...], BeforeValidator(_several)]

_NOT_YET: Mapping[str, tuple[object, ...]] = {
    "bandwidth_limit_mbps": (None, 0),
    "enable_cleanup": (False,),
    "generate_xmp": (False,),
    "calculate_hashes": (True,),
}
"""Options that a later version serves, and the values that ask for what is done today."""


class SyncConfig(BaseModel):
    """One sync. Wrong values raise pydantic's ValidationError, which lists every one.

    Options that this version does not serve yet are kept, named by `not_yet`, and announced by a `NotInForceWarning`, so that a program
    written for them runs and says what it does not get. None of them makes this version do more than it was asked for: nothing
    is deleted at a source, whatever `enable_cleanup` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False, validate_default=False)

    source_type: SourceType = SourceType.SSH
    """`forge`, `comfyui`, `vastai` or `ssh`; brings port, user, path and folders where nothing else says them."""
    source_host: f.Host
    """Host name, address, or an alias of `~/.ssh/config`."""
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
    """At most so many megabits (not megabytes) a second; None or 0 for no limit. Not in force yet."""
    enable_cleanup: bool = False
    """Delete at the source what was verified in the library. Not in force yet."""
    cleanup_age_hours: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 24
    """Clean up what is older. Without effect unless `enable_cleanup`."""
    cleanup_dry_run: bool = False
    """Only say what a clean-up would delete. Without effect unless `enable_cleanup`."""
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
    known_hosts: LocalPaths = ()
    """Files to use in place of `~/.ssh/known_hosts`."""
    accept_new_host_key: bool = False
    """Accept the key of a host that was never seen. A changed key is never accepted."""

    @model_validator(mode="after")
    def _announce(self) -> Self:
        if not self.source_path and not PROFILES[self.source_type].roots:
            raise ValueError(f"source_path is missing; a source of type {self.source_type} has no folder of its own")
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
            source=SourceSpec(
                connection=SshConnection(
                    host=self.source_host,
                    port=self.source_port or 0,
                    user=self.source_user or "",
                    identity_files=tuple(str(f.local_path(path, working)) for path in self.identity_file),
                    known_hosts_files=tuple(str(f.local_path(path, working)) for path in self.known_hosts),
                    accept_new_host_key=self.accept_new_host_key,
                ),
                root=f.remote_path(self.source_path) if self.source_path else b"",
                type=self.source_type,
            ),
            dest_path=str(f.local_path(destination, working)),
            folders=tuple(f.folder(name) for name in self.folders),
            options=SyncOptions(
                parallel_transfers=self.parallel_transfers,
                retry_attempts=self.retry_attempts,
                retry_delay_seconds=self.retry_delay_seconds,
                extract_metadata=self.extract_metadata,
                verify_transfers=self.verify_transfers,
            ),
        )
