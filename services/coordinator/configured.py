"""What the configuration file says that is the coordinator's: the named sources and the schedules, read anew each time, so that a change
needs no restart, and which subscribers have to accept a sync."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mediasync.config_file import mentions
from mediasync.model import SyncSpec
from services.coordinator.accepting import Acceptors
from services.coordinator.plans import Plan, plans_of

if TYPE_CHECKING:
    from mediasync.config.configuration import Configuration


async def configured_sources() -> Mapping[str, SyncSpec]:
    """The sync of each source by its name. Raises CONFIGURATION_INVALID with every mistake in the file."""
    return (await asyncio.to_thread(_load)).sources


def configured_acceptors() -> Acceptors | None:
    """Who has to accept a sync's files before its job is complete; None for nobody. Raises CONFIGURATION_INVALID."""
    if not mentions("async_mode"):
        return None
    settings = _load().ingest
    return None if settings.async_mode else Acceptors(settings.wait_for, settings.wait_seconds)


class ConfiguredFile:
    """The same, for those who ask every few seconds: the file is read again when it was changed."""

    def __init__(self) -> None:
        self._read: tuple[int, int] | None = None
        self._found: tuple[Mapping[str, SyncSpec], Mapping[str, Plan]] | None = None

    async def sources(self) -> Mapping[str, SyncSpec]:
        """As `configured_sources`."""
        return (await asyncio.to_thread(self._get))[0]

    async def plans(self) -> Mapping[str, Plan]:
        """What is scheduled, by name. Raises CONFIGURATION_INVALID."""
        return (await asyncio.to_thread(self._get))[1]

    def _get(self) -> tuple[Mapping[str, SyncSpec], Mapping[str, Plan]]:
        from mediasync.config_file import locate

        try:
            status = locate()[0].stat()
            read = (status.st_mtime_ns, status.st_size)
        except OSError:
            read = (0, 0)
        # Taken once: two threads may be in here, and neither is to see what the other has not read yet.
        found = self._found
        if found is None or read != self._read:
            self._found = None
            configuration = _load()
            found = configuration.sources, plans_of(configuration.sources, configuration.sync_schedules, configuration.cleanup_schedules)
            # Looked up before it was read: a file that is written meanwhile is read once more.
            self._found, self._read = found, read
        return found


def _load() -> Configuration:
    # Not before somebody asks for a source: what reads the file takes 10 MB, and a coordinator that is given URLs needs none of it.
    from mediasync.config import load

    return load()
