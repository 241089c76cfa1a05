"""Calling another service that may be restarting: again and again, but not for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from mediasync.errors import MediasyncError, Reason

logger = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 2.0
# A worker that shows life and dies, again and again, dies of the work itself. One that was well for a while does not: a watch lives
# through many restarts.
_MOST_LOSSES = 50
_WELL_SECONDS = 600.0


def _default_limits() -> Mapping[Reason, float]:
    return {
        # The service is down; the supervisor brings it back in a second or two.
        Reason.SERVICES_UNREACHABLE: 60.0,
        # It is going down and ended the call itself.
        Reason.CANCELLED: 60.0,
        # Our own earlier call is not quite gone, or another job is at the same source.
        Reason.SYNC_IN_PROGRESS: 60.0,
        # The same for a clean-up: our own earlier call, or one that ends before long.
        Reason.CLEANUP_BUSY: 600.0,
        # It does other jobs first.
        Reason.WORKER_FULL: 3600.0,
    }


@dataclass(frozen=True)
class Patience:
    """For how many seconds without any sign of life a call is repeated, by the reason it fails with. Other reasons are final."""

    seconds: Mapping[Reason, float] = field(default_factory=_default_limits)

    async def call(self, what: str, attempt: Callable[[Callable[[], None]], Awaitable[T]]) -> T:
        """What `attempt` returns, in the end. `what` names the call in the log.

        `attempt` is handed a function to call at each sign of life, after which the time counts from zero again. Raises what
        the last attempt raised when time is up, and at once what another attempt would not cure.
        """
        loop = asyncio.get_running_loop()
        lost_since: float | None = None
        lost_last = loop.time()
        pause = _FIRST_PAUSE_SECONDS
        losses = 0

        def alive() -> None:
            nonlocal lost_since, pause
            lost_since, pause = None, _FIRST_PAUSE_SECONDS

        while True:
            try:
                return await attempt(alive)
            except MediasyncError as error:
                limit = self.seconds.get(error.reason)
                if limit is None:
                    raise
                now = loop.time()
                if lost_since is None:
                    lost_since = now
                    losses = 1 if now - lost_last > _WELL_SECONDS else losses + 1
                    logger.warning("%s: %s; trying again for up to %g s", what, error.message, limit, extra={"reason": error.reason.value})
                lost_last = now
                if now - lost_since + pause > limit or losses > _MOST_LOSSES:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_SECONDS)
