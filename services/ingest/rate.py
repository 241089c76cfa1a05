"""How many a second, over the last minute. Pure: the time is the caller's."""

from __future__ import annotations

SPAN_SECONDS = 60.0
_SLICE_SECONDS = 5.0
_SLICES = int(SPAN_SECONDS / _SLICE_SECONDS)


class Rate:
    """Counts in slices of the last minute. Young ones are taken by their age, so that what has just begun is not said to be slow."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._counts = [0] * _SLICES
        self._slice = int(now / _SLICE_SECONDS)

    def add(self, count: int, now: float) -> None:
        """As many were done just now."""
        self._turn(now)
        self._counts[self._slice % _SLICES] += count

    def per_second(self, now: float) -> float:
        """Over the last minute, or since the beginning where that is shorter."""
        self._turn(now)
        return sum(self._counts) / max(1.0, min(SPAN_SECONDS, now - self._began))

    def _turn(self, now: float) -> None:
        current = int(now / _SLICE_SECONDS)
        for passed in range(max(self._slice + 1, current - _SLICES + 1), current + 1):
            self._counts[passed % _SLICES] = 0
        self._slice = max(self._slice, current)
