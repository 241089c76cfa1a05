"""Why one file, or a whole job, failed."""

from __future__ import annotations

from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason

MAX_PROBLEMS = 100


@dataclass(frozen=True)
class Problem:
    """Why one file, or a whole job, failed."""

    reason: Reason
    message: str
    remedy: str = ""
    path: bytes | None = None

    @classmethod
    def of(cls, error: MediasyncError, path: bytes | None = None) -> Problem:
        """The problem that `error` describes."""
        return cls(error.reason, error.message, error.remedy, path)

    def as_error(self) -> MediasyncError:
        """The error to raise for it."""
        return MediasyncError(self.reason, self.message, self.remedy)
