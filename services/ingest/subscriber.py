"""What delivery knows of a subscriber: it can be offered events, and answers or fails. No gRPC here; see `subscriber_client`."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.ingest.events import LoggedEvent


class Verdict(enum.Enum):
    """What a subscriber says of an event."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Answer:
    """A subscriber's word on one event. `reason` is for people, cleaned of control characters and bounded."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Answers:
    """What a call was answered with: by event id, only ids that were asked about. `irregular` says what was wrong with the answer
    as a whole (unknown ids, missing or contradicting results); empty when nothing was."""

    by_id: Mapping[str, Answer]
    irregular: str = ""
    all_accepted: bool = False
    """Every event that was asked about was accepted; `by_id` may be empty then."""


@dataclass(frozen=True, slots=True)
class AskedFile:
    """A file that a subscriber is asked about: where it is in which library, and its SHA-256, empty where any will do."""

    library_path: bytes
    library_root: str = ""
    sha256: bytes = b""


class Failure(enum.Enum):
    """Why a call brought no answer."""

    UNREACHABLE = "unreachable"
    """Nobody is there, or nobody lets us in: nothing is said of any event."""
    BUSY = "busy"
    """It was too slow, or has no room: usually the subscriber's trouble, rarely one event's."""
    UNIMPLEMENTED = "unimplemented"
    """It does not know the call."""
    TOO_LARGE = "too large"
    """It takes no messages of that size."""
    REFUSED = "refused"
    """It broke over it."""


class CallFailed(Exception):  # noqa: N818 named after what happened
    """A call to a subscriber brought no answer. The text is for people. `status` is what it was answered with instead, such as `INTERNAL`;
    `limit_bytes` the largest message that it takes, 0 where it does not say."""

    def __init__(self, failure: Failure, message: str, *, status: str = "", limit_bytes: int = 0) -> None:
        super().__init__(message)
        self.failure = failure
        self.status = status
        self.limit_bytes = limit_bytes


class Subscriber(Protocol):
    """One subscriber. Its calls are bounded in time and raise CallFailed."""

    async def send_batch(self, events: Sequence[LoggedEvent]) -> Answers:
        """Offers file events, in log order, in one call."""

    async def send(self, event: LoggedEvent) -> Answers:
        """Offers one event by the call made for its kind."""

    async def hold(self, files: Sequence[AskedFile]) -> Sequence[bool]:
        """Which of these files are on its record, in order, in one call. The count of the answer is not checked."""

    async def holds(self, file: AskedFile) -> bool:
        """Whether a file is on its record."""

    def returned(self) -> bool:
        """Whether the connection, which was lost when a call failed, is there again. Asking makes it try."""

    async def close(self) -> None:
        """Ends the connection."""
