"""When to try a source again, and how long to wait."""

from __future__ import annotations

import random

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncOptions

_LONGEST_WAIT_SECONDS = 60.0

# A line that broke, or a container that restarts. Not a wrong name, key or folder: these stay wrong.
_TRANSIENT = {Reason.CONNECTION_LOST, Reason.HOST_UNREACHABLE, Reason.SOURCE_PROTOCOL}


class Attempts:
    """Counts the failures in a row of one task against `retry_attempts`."""

    def __init__(self, options: SyncOptions) -> None:
        self._options = options
        self.failures = 0

    def succeeded(self) -> None:
        """Something went well: the next failure is a first one again."""
        self.failures = 0

    def delay_after(self, error: MediasyncError) -> float:
        """How many seconds to wait before the next attempt. Raises `error` when another one would not help, and CONNECTION_LOST with
        its words when none is left: the source was there before.

        Doubles with each failure, with a jitter of a quarter so that several connections do not come back at once.
        """
        self.failures += 1
        if error.reason not in _TRANSIENT or (error.reason is Reason.SOURCE_PROTOCOL and self.failures > self._options.retry_attempts):
            raise error
        if self.failures > self._options.retry_attempts:
            tried = f"; tried {self.failures} times" if self.failures > 1 else ""
            lost = "" if error.reason is Reason.CONNECTION_LOST else "the source was lost: "
            raise MediasyncError(Reason.CONNECTION_LOST, f"{lost}{error.message}{tried}") from error
        delay = min(self._options.retry_delay_seconds * 2 ** (self.failures - 1), _LONGEST_WAIT_SECONDS)
        return float(delay * random.uniform(0.75, 1.25))  # noqa: S311 - nothing secret

    def __str__(self) -> str:
        return f"reconnecting ({self.failures} of {self._options.retry_attempts})"
