"""From a description of a source to something that can be connected to."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from mediasync.model import DockerConnection, Engine, LocalConnection, SourceSpec, SshConnection
from mediasync.sources.base import Source
from mediasync.sources.channel import DEFAULT_WINDOW_BYTES, Window
from mediasync.sources.ssh import SshSource


async def default_window() -> int:
    """The window of a connection that nobody has planned."""
    return DEFAULT_WINDOW_BYTES


def discard_partials(spec: SourceSpec, home: pathlib.Path) -> None:
    """Removes what an engine keeps in the data folder of files that came in part. Raises OSError."""
    if spec.engine is Engine.RSYNC:
        from mediasync.sources.rsync.receiving import Places

        Places.of(home, spec.key).forget()


def open_source(spec: SourceSpec, *, home: pathlib.Path, window: Window = default_window, folders: Sequence[bytes] = ()) -> Source:
    """The source that `spec` describes; nothing is connected yet.

    `home` is the data folder, where accepted host keys are kept. `window` is asked by each connection that has one. `folders` are those
    that the user named, which may be links; folders that any connection of this source scans, or is asked about by `missing_folders`,
    count as named too.
    """
    match spec.connection:
        case SshConnection():
            return SshSource(spec, home, window, folders)
        case DockerConnection():
            # Not before it is needed: what talks to engines takes 20 MB and a quarter of a second to load.
            from mediasync.sources.docker.source import DockerSource

            return DockerSource(spec, home, folders)
        case LocalConnection():
            from mediasync.sources.local.source import LocalSource

            return LocalSource(spec, folders)
