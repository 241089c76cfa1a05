"""When to call a subscriber that cannot be reached. Pure: every time is the caller's.

Closed, calls are made as ever, with a growing pause after each that found nobody. After `FAILURES_TO_OPEN` of them in a row it opens: from
then on a single event is the probe. What was in a call that found nobody is not held against it.
"""

from __future__ import annotations

import enum

from services.ingest import backoff

FAILURES_TO_OPEN = 3
EARLY_SECONDS = 1.0
"""A subscriber that seems to be back is tried at once, but not sooner than this after the last failure: one that drops every connection
that it has taken would be called without a pause."""


class CircuitState(enum.Enum):
    """Whether somebody is there."""

    CLOSED = "closed"
    OPEN = "open"


class Circuit:
    """Of one subscriber."""

    def __init__(self) -> None:
        self._failures = 0
        self._failed_at = 0.0
        self.next_try_at = 0.0
        """No call before it; 0 when nothing stands against one."""

    @property
    def state(self) -> CircuitState:
        """Closed until proven otherwise."""
        return CircuitState.OPEN if self._failures >= FAILURES_TO_OPEN else CircuitState.CLOSED

    @property
    def failing(self) -> bool:
        """Whether the last call found nobody."""
        return self._failures > 0

    @property
    def early_at(self) -> float:
        """From when on a subscriber that seems to be back is tried."""
        return min(self.next_try_at, self._failed_at + EARLY_SECONDS)

    def failed(self, now: float) -> None:
        """A call found nobody."""
        self._failures += 1
        self._failed_at = now
        self.next_try_at = now + backoff.delay(self._failures)

    def answered(self) -> None:
        """Somebody is there, whatever was answered."""
        self._failures = 0
        self.next_try_at = 0.0

    def try_now(self) -> None:
        """The next call may be made at once."""
        self.next_try_at = 0.0
