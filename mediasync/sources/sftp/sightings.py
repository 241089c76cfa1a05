"""Since when files are as they are, where the far side tells no clock."""

from __future__ import annotations

import time

from mediasync.sources.sftp.client import SECOND_NS, Look

_SIGHTINGS = 20_000


class Sightings:
    """Since when files were seen as they are, by our own clock: the server's is not told. Shared by the connections of a source."""

    def __init__(self) -> None:
        self._since: dict[bytes, tuple[int, int, float]] = {}

    def age_seconds(self, path: bytes, look: Look) -> float:
        """For how long a file was surely left alone: by its mtime, as far as that is not ahead of our clock, or for as long as it was
        seen to be."""
        now = time.monotonic()
        size, mtime, since = self._since.get(path, (-1, 0, now))
        if (size, mtime) != (look.size_bytes, look.mtime_ns):
            self._since.pop(path, None)
            if len(self._since) >= _SIGHTINGS:
                del self._since[next(iter(self._since))]
            self._since[path] = (look.size_bytes, look.mtime_ns, now)
            since = now
        # The mtime is a whole second, rounded down.
        return max((time.time_ns() - look.mtime_ns - SECOND_NS) / SECOND_NS, now - since, 0.0)

    def forget(self, path: bytes) -> None:
        """It was taken."""
        self._since.pop(path, None)
