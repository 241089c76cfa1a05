"""Folders that are empty once their files are gone."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection
from services.cleanup.dated import removable


async def remove_empty(connection: Connection, folders: Iterable[bytes], named: Collection[bytes]) -> int:
    """Removes those of `folders`, and of the folders above them, that are called like a day that is over, if they are empty; never one of
    `named`. Returns how many went; 0 where the source has no means to."""
    # The source's own clock says what is over.
    now_ns = time.time_ns() + int(connection.probe.clock_offset_seconds * 1e9)
    candidates = removable(folders, named, now_ns)
    if not candidates:
        return 0
    try:
        return len(await connection.remove_empty_folders(candidates))
    except MediasyncError as error:
        if error.reason is not Reason.ENGINE_CANNOT:
            raise
        return 0
