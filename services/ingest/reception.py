"""What was learned about how a subscriber takes events: by which calls, how many, how large. Pure.

Who comes back after it was gone may be another version of it: nothing learned holds then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.ingest.events import LoggedEvent
from services.ingest.window import MAX_CALL_BYTES

_SMALLEST_BUDGET_BYTES = 64 * 1024
_OVERHEAD_BYTES = 4096


class Reception:
    """Of one subscriber, whose subscription has `batch_size`."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._limit = batch_size
        self._suspects: frozenset[int] = frozenset()
        self.batches = True
        """Whether it implements OnBatchSynced."""
        self.budget_bytes = MAX_CALL_BYTES
        """How many bytes of events a call may have."""

    @property
    def limit(self) -> int:
        """How many events the next call may have."""
        return self._limit if self.batches else 1

    def forget(self) -> None:
        """Somebody else may be there when it is back."""
        self.batches = True
        self.budget_bytes = MAX_CALL_BYTES

    def broke(self, events: Sequence[LoggedEvent]) -> None:
        """A call of several failed: the one that breaks it is among these, and the calls stay small until they are all through, or it is
        found."""
        self._suspects = frozenset(event.sequence for event in events)
        self._limit = max(1, len(events) // 2)

    def found(self) -> None:
        """The one that breaks calls goes alone from now on."""
        self._suspects, self._limit = frozenset(), self._batch_size

    def took(self, settled: Collection[int]) -> None:
        """These were dealt with."""
        if self._suspects:
            self._suspects -= frozenset(settled)
            if not self._suspects:
                self._limit = self._batch_size

    def too_large(self, sent_bytes: int, limit_bytes: int) -> bool:
        """A call of `sent_bytes` was too large for it; `limit_bytes` is what it takes by its own account, 0 where it does not say.
        Returns whether that account makes sense."""
        sensible = 0 < limit_bytes - _OVERHEAD_BYTES < sent_bytes
        wanted = limit_bytes - _OVERHEAD_BYTES if sensible else self.budget_bytes // 2
        self.budget_bytes = min(self.budget_bytes, max(_SMALLEST_BUDGET_BYTES - _OVERHEAD_BYTES, wanted))
        return sensible
