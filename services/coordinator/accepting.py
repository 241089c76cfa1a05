"""Waiting until subscribers have accepted what a sync brought, where the configuration asks for it (`ingest.async_mode: false`).

Decides over the job alone: its files are in the library before the wait begins, and the subscribers go on being told of them whatever comes
of it. The deadline is of this process: a job that is paused, or recovered by another process, waits anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Problem
from services.coordinator.patience import Patience
from services.coordinator.terms import Acceptance, Peers

# So that who waits hears of who is left now and then, and a service that hangs is noticed.
_CALL_SECONDS = 10.0
# Between answers that came at once and said that something is left.
_PAUSE_SECONDS = 0.2
_IN_THE_LIBRARY = "the files are in the library, and it is still told of them"


@dataclass(frozen=True)
class Acceptors:
    """The subscriptions that have to accept a sync's files, and the time that they have for it."""

    names: tuple[str, ...]
    seconds: float


async def accepted(peers: Peers, patience: Patience, stage: Callable[[str], None], sync_id: str, acceptors: Acceptors) -> Problem | None:
    """Waits until all of them have dealt with every event of a sync that is in the log. Returns why they have not accepted them, None if
    they have. `stage` is told who is waited for."""
    try:
        return await _wait(peers, patience, stage, sync_id, acceptors)
    finally:
        stage("")


async def _wait(peers: Peers, patience: Patience, stage: Callable[[str], None], sync_id: str, acceptors: Acceptors) -> Problem | None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + acceptors.seconds
    stage(_waiting_for(acceptors.names))
    while True:

        async def attempt(alive: Callable[[], None]) -> tuple[Acceptance, ...]:
            return await peers.wait_accepted(acceptors.names, sync_id, min(_CALL_SECONDS, max(0.0, deadline - clock())))

        try:
            found = await patience.call("waiting for subscribers", attempt)
        except MediasyncError as error:
            return Problem.of(error)
        problem = _lost(found) or _settled(found)
        if problem or not any(one.left for one in found):
            return problem
        if clock() >= deadline:
            return _late(found, acceptors.seconds)
        stage(_waiting_for([one.subscription for one in found if one.left]))
        await asyncio.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - clock())))


def _waiting_for(names: Sequence[str]) -> str:
    return f"waiting for {', '.join(names)}"


def _lost(found: Sequence[Acceptance]) -> Problem | None:
    """Of one that no time would help."""
    for one in found:
        if one.missing:
            message = f"there is no subscriber {one.subscription} to accept the files; they are in the library"
            return Problem(Reason.SUBSCRIPTION_NOT_FOUND, message, "`ingest.wait_for` names it: correct that, or add the subscriber.")
        if one.too_far_behind and one.left:
            message = f"{one.subscription} is too far behind to be told of this sync; its files are in the library"
            remedy = f"Fill it again: `mediasync events replay --subscriber {one.subscription} --from snapshot`."
            return Problem(Reason.SUBSCRIBER_TOO_FAR_BEHIND, message, remedy)
    return None


def _settled(found: Sequence[Acceptance]) -> Problem | None:
    """Of those that have dealt with everything."""
    rejected = [one for one in found if one.rejected]
    if not rejected or any(one.left for one in found):
        return None
    said = ", ".join(f"{one.subscription} rejected {_events(one.rejected)}" for one in rejected)
    remedy = f"`mediasync events dead-letters list --subscriber {rejected[0].subscription}` says which, and why."
    return Problem(Reason.SUBSCRIBER_REJECTED, f"{said} of this sync; the files are in the library", remedy)


def _late(found: Sequence[Acceptance], seconds: float) -> Problem:
    late = [one for one in found if one.left]
    said = ", ".join(f"{one.subscription} has not accepted {_events(one.left)}" for one in late)
    why = "; ".join(f"{one.subscription}: {one.last_error}" for one in late if one.last_error)
    message = f"{said} of this sync within {seconds:g} s; {_IN_THE_LIBRARY}{f' ({why})' if why else ''}"
    return Problem(Reason.SUBSCRIBER_NOT_IN_TIME, message, f"`mediasync subscribers show {late[0].subscription}` says what it is at.")


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"
