"""What the configuration file says that is the coordinator's: the named sources, read anew each time, so that a change needs no restart,
and which subscribers have to accept a sync."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mediasync.config_file import mentions
from mediasync.model import SyncSpec
from services.coordinator.accepting import Acceptors


async def configured_sources() -> Mapping[str, SyncSpec]:
    """The sync of each source by its name. Raises CONFIGURATION_INVALID with every mistake in the file."""
    return await asyncio.to_thread(_load)


def configured_acceptors() -> Acceptors | None:
    """Who has to accept a sync's files before its job is complete; None for nobody. Raises CONFIGURATION_INVALID."""
    if not mentions("async_mode"):
        return None
    from mediasync.config import load

    settings = load().ingest
    return None if settings.async_mode else Acceptors(settings.wait_for, settings.wait_seconds)


class ConfiguredWatches:
    """The same, for one who asks every few seconds: the file is read again when it was changed."""

    def __init__(self) -> None:
        self._read: tuple[int, int] | None = None
        self._sources: Mapping[str, SyncSpec] | None = None

    async def sources(self) -> Mapping[str, SyncSpec]:
        """As `configured_sources`."""
        return await asyncio.to_thread(self._get)

    def _get(self) -> Mapping[str, SyncSpec]:
        from mediasync.config_file import locate

        try:
            status = locate()[0].stat()
            found = (status.st_mtime_ns, status.st_size)
        except OSError:
            found = (0, 0)
        if self._sources is None or found != self._read:
            # Looked up first: a file that is written meanwhile is read once more.
            self._read, self._sources = found, None
            self._sources = _load()
        return self._sources


def _load() -> Mapping[str, SyncSpec]:
    # Not before somebody asks for a source: what reads the file takes 10 MB, and a coordinator that is given URLs needs none of it.
    from mediasync.config import load

    return load().sources
