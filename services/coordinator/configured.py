"""The named sources of the configuration file, as it is now: read anew each time, so that a change needs no restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mediasync.model import SyncSpec


async def configured_sources() -> Mapping[str, SyncSpec]:
    """The sync of each source by its name. Raises CONFIGURATION_INVALID with every mistake in the file."""
    return await asyncio.to_thread(_load)


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
