"""From the outbox to the event log, at least once.

An event is deleted here only after the log has it durably; a crash between the two sends it again, and the log knows it by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from mediasync.errors import MediasyncError
from mediasync.runtime import context, crash
from services.transfer.entities import UnsentEvent
from services.transfer.notices import Notice
from services.transfer.queue_store import QueueStore

_BATCH = 1000
_PAUSE_SECONDS = 0.2
_CALL_BYTES = 8 << 20
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 5.0
_logger = logging.getLogger(__name__)

Publish = Callable[[Sequence[bytes]], Awaitable[None]]


class OutboxPublisher:
    """Sends what is in the outbox, in order. `publish` gets serialised events and returns once they are durable in the log."""

    def __init__(self, queues: QueueStore, publish: Publish, written: Sequence[Notice], emptied: Notice) -> None:
        self._queues = queues
        self._publish = publish
        self._written = written
        self._emptied = emptied

    async def run(self) -> None:
        """Runs until cancelled. A log that is away is waited for; the events stay."""
        retry_seconds = _FIRST_RETRY_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            seen = [notice.count for notice in self._written]
            batch = await self._queues.unsent_events(_BATCH)
            if not batch:
                await self._wait(seen)
                continue
            try:
                for events in _calls(batch):
                    sync_id = events[0].sync_id
                    with context.resumed(sync_id, await self._queues.trace_parent(sync_id)):
                        await self._publish([event.event for event in events])
            except MediasyncError as error:
                _logger.warning("%d events wait for the event log: %s", len(batch), error)
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2 * retry_seconds, _LAST_RETRY_SECONDS)
                continue
            retry_seconds = _FIRST_RETRY_SECONDS
            crash.point("transfer.after_publish")
            await self._queues.events_sent(batch[-1].sequence)
            await self._emptied.announce()
            if len(batch) < _BATCH and (rest := began + _PAUSE_SECONDS - loop.time()) > 0:
                # The first event of many is sent at once, the others of this moment together: a call costs more than an event.
                await asyncio.sleep(rest)

    async def _wait(self, seen: Sequence[int]) -> None:
        waits = [asyncio.create_task(notice.wait_past(count)) for notice, count in zip(self._written, seen, strict=True)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _calls(batch: Sequence[UnsentEvent]) -> Iterator[list[UnsentEvent]]:
    """Cuts a batch into calls: each of one run, so that it belongs to one trace, and bounded, as one picture's graph may be 2 MB."""
    call: list[UnsentEvent] = []
    size = 0
    for event in batch:
        if call and (event.sync_id != call[0].sync_id or size + len(event.event) > _CALL_BYTES):
            yield call
            call, size = [], 0
        call.append(event)
        size += len(event.event)
    if call:
        yield call
