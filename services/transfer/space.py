"""Room in the library: a reserve that a sync never uses up.

What is looked at is the file system's own count of free bytes. What it does not guarantee: another program may fill the disk between
two looks; then the system's ENOSPC ends the sync as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.storage.library_marker import library_error

_LOOK_EVERY_BYTES = 64 << 20
_LOOK_EVERY_SECONDS = 0.5
GIGABYTE = 1_000_000_000


class SpaceGuard:
    """Watches the free space of one library's file system. Cheap enough to be told of every chunk; may cross to another process."""

    def __init__(self, root: bytes, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._unlooked_bytes = 0
        self._looked_time = float("-inf")

    def check(self, incoming_bytes: int = 0) -> None:
        """Raises LIBRARY_NO_SPACE when `incoming_bytes` do not fit, LIBRARY_RESERVE when they would not leave the reserve."""
        try:
            status = os.statvfs(self._root)
        except OSError as error:
            raise library_error(error, self._root) from error
        self._unlooked_bytes = 0
        self._looked_time = time.monotonic()
        free = status.f_bavail * status.f_frsize
        path = display(self._root)
        if incoming_bytes > free:
            text = f"{incoming_bytes:,} bytes have to come, and the library {path} has {free:,} free"
            raise MediasyncError(Reason.LIBRARY_NO_SPACE, text)
        if free - incoming_bytes < self._reserve_bytes:
            coming = f"{incoming_bytes:,} bytes have to come, " if incoming_bytes else ""
            text = f"{coming}the library {path} has {free:,} free, and {self._reserve_bytes:,} of these are kept as a reserve"
            raise MediasyncError(Reason.LIBRARY_RESERVE, text)

    def written(self, size_bytes: int) -> None:
        """To be told as bytes come in; looks every 64 MiB or half a second. Raises as `check` does."""
        self._unlooked_bytes += size_bytes
        if self._unlooked_bytes >= _LOOK_EVERY_BYTES or time.monotonic() - self._looked_time >= _LOOK_EVERY_SECONDS:
            self.check()


class GrowingNeed:
    """What has to come and was not asked for yet, of a list that still grows; `check` is called with it every 64 MiB of growth."""

    def __init__(self, check: Callable[[int], None]) -> None:
        self._check = check
        self._bytes = self._unchecked_bytes = 0

    def clear(self) -> None:
        """The list begins anew."""
        self._bytes = self._unchecked_bytes = 0

    def needed(self, size_bytes: int) -> None:
        """So much more has to come. Raises what `check` raises."""
        self._bytes += size_bytes
        self._unchecked_bytes += size_bytes
        if self._unchecked_bytes >= _LOOK_EVERY_BYTES:
            self._unchecked_bytes = 0
            self._check(self._bytes)

    def taken(self, size_bytes: int) -> None:
        """So much was asked for, and is watched as it comes."""
        self._bytes -= size_bytes
