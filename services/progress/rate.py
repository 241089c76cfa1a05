"""Bytes a second over the last few seconds."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 5.0
# Divided by at least this, so that the first bytes of a job do not read as an enormous rate.
_SHORTEST_SECONDS = 0.5


class RateWindow:
    """A sliding window over a count that only grows. Times are seconds of any monotonic clock."""

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """The count stands at `count` now."""
        self._trim(now)
        self._samples.append((now, count))

    def per_second(self, now: float) -> float:
        """Growth a second over the window that ends now; 0 with nothing to compare."""
        self._trim(now)
        if not self._samples:
            return 0.0
        (first, base), (_, newest) = self._samples[0], self._samples[-1]
        elapsed = now - max(first, now - self._window_seconds)
        return (newest - base) / max(elapsed, _SHORTEST_SECONDS)

    def _trim(self, now: float) -> None:
        # The newest sample at or before the window's start stays: it says where the count stood then.
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window_seconds:
            self._samples.popleft()
