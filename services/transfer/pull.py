"""Bringing wanted files into staging over several lanes (`receiving.lanes`), none of which ever waits for a round trip.

Each lane takes batches from one shared flow, the next while the last still streams. One that breaks gives back what it
had not delivered, and comes again after a while; only when it has failed too often in a row without delivering a file does the pull fail.
The flow may still be fed by a scan: a lane that finds nothing to ask for is closed after a moment, and opened again when there is more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import FileRead, WantedFile
from mediasync.sources.retries import Attempts
from services.transfer.entities import StagedFile
from services.transfer.flow import WantedFlow
from services.transfer.groups import first_error
from services.transfer.receiving.lanes import LaneOpener, Lanes
from services.transfer.receiving.reception import OnBytes
from services.transfer.staging import Staging

# A lane that waits for more hears nothing meanwhile of what it asked for.
_PATIENCE_SECONDS = 0.25

_logger = logging.getLogger(__name__)

OnStaged = Callable[[StagedFile], Awaitable[None]]
OnOther = Callable[[FileRead], Awaitable[None]]


class Pull:
    """One pull of a list of files. `on_staged` and `on_other` are awaited for each outcome, and may slow the pull down by taking
    their time. `origin` tells the partial files of one folder of a source from another's."""

    def __init__(
        self,
        lanes: Lanes,
        staging: Staging,
        origin: str,
        *,
        on_staged: OnStaged,
        on_other: OnOther,
        on_bytes: OnBytes,
        on_stage: Callable[[str], None],
    ) -> None:
        self._lanes = lanes
        self._staging = staging
        self._origin = origin
        self._options = lanes.options
        self._on_staged = on_staged
        self._on_other = on_other
        self._on_bytes = on_bytes
        self._on_stage = on_stage
        self._outcomes = 0

    async def run(self, wanted: WantedFlow) -> None:
        """Pulls everything. Raises MediasyncError when the source is lost for good, OSError when staging fails."""
        async with self._lanes.for_pull(wanted) as openers:
            with first_error():
                async with asyncio.TaskGroup() as group:
                    for number, opener in enumerate(openers):
                        group.create_task(self._pull(opener, wanted), name=f"pull {number}")
        if self._outcomes != wanted.files:
            # Saying nothing would lose files: the next scan believes that everything up to now was dealt with.
            raise MediasyncError(Reason.INTERNAL, f"{wanted.files} files were wanted and {self._outcomes} were heard of again")

    async def _pull(self, open_lane: LaneOpener, wanted: WantedFlow) -> None:
        """One lane's work, over as many reconnects as it takes."""
        attempts = Attempts(self._options)
        while (first := await wanted.next()) is not None:
            # Handed out and not answered yet; what is in here when the connection breaks is handed out again.
            pending: deque[WantedFile] = deque(first)
            try:
                async with (
                    open_lane() as lane,
                    aclosing(lane.receive(_feed(wanted, first, pending), self._staging.area(self._origin), self._on_bytes)) as files,
                ):
                    async for received in files:
                        pending.popleft()
                        self._outcomes += 1
                        if received.staged is not None:
                            await self._on_staged(received.staged)
                        else:
                            await self._on_other(received.outcome)
                        attempts.succeeded()
            except MediasyncError as error:
                delay = attempts.delay_after(error)
                _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay, "files_left": len(pending)})
                self._on_stage(str(attempts))
                wanted.give_back(list(pending))
                await asyncio.sleep(delay)


async def _feed(wanted: WantedFlow, first: Sequence[WantedFile], pending: deque[WantedFile]) -> AsyncIterator[Sequence[WantedFile]]:
    yield first
    while (batch := await wanted.next(_PATIENCE_SECONDS)) is not None:
        pending.extend(batch)
        yield batch
