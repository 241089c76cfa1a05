"""The named sources of the configuration file, as it is now: read anew each time, so that a change needs no restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mediasync.model import SyncSpec


async def configured_sources() -> Mapping[str, SyncSpec]:
    """The sync of each source by its name. Raises CONFIGURATION_INVALID with every mistake in the file."""
    return await asyncio.to_thread(_load)


def _load() -> Mapping[str, SyncSpec]:
    # Not before somebody asks for a source: what reads the file takes 10 MB, and a coordinator that is given URLs needs none of it.
    from mediasync.config import load

    return load().sources
