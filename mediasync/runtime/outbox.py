"""From a service's outbox to the event log, at least once. Events are serialised already.

An event is deleted here only after the log has it durably; a crash between the two sends it again, and the log knows it by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc.aio

from mediasync.convert import event_bytes
from mediasync.errors import MediasyncError
from mediasync.runtime import context, crash
from mediasync.runtime.channels import rpc_errors
from mediasync.runtime.notices import Notice
from mediasync.v1 import events_pb2

_PUBLISH_SECONDS = 30.0
_BATCH = 1000
_PAUSE_SECONDS = 0.2
_CALL_BYTES = 8 << 20
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 5.0
_logger = logging.getLogger(__name__)

Publish = Callable[[Sequence[bytes]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UnsentEvent:
    """A serialised event that is not in the event log yet."""

    sequence: int
    sync_id: str
    event: bytes


class Outbox(Protocol):
    """Where a service keeps its events, which it writes in the transactions that they tell of."""

    async def unsent_events(self, limit: int) -> list[UnsentEvent]:
        """The oldest events that are not in the event log yet."""

    async def events_sent(self, upto: int) -> None:
        """Forgets events that are in the event log."""

    async def trace_parent(self, sync_id: str) -> str:
        """The trace that a run belongs to; empty where it is not known."""


def to_event_log(channel: grpc.aio.Channel) -> Publish:
    """Publishes to the event log behind `channel`."""
    # Of bytes, as they are in the outbox.
    call: Callable[..., Awaitable[events_pb2.EventsPublishResponse]] = channel.unary_unary(
        "/mediasync.v1.Events/Publish", response_deserializer=events_pb2.EventsPublishResponse.FromString
    )

    async def publish(serialised: Sequence[bytes]) -> None:
        with rpc_errors("the ingest service"):
            await call(event_bytes.batch(serialised), timeout=_PUBLISH_SECONDS)

    return publish


class OutboxPublisher:
    """Sends what is in an outbox, in order. `publish` returns once the events are durable in the log; `written` announce new ones, and
    `emptied` is announced after each batch. `crash_point` lies between the two."""

    def __init__(self, outbox: Outbox, publish: Publish, written: Sequence[Notice], emptied: Notice, crash_point: str) -> None:
        self._outbox = outbox
        self._publish = publish
        self._written = written
        self._emptied = emptied
        self._crash_point = crash_point

    async def run(self) -> None:
        """Runs until cancelled. A log that is away is waited for; the events stay."""
        retry_seconds = _FIRST_RETRY_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            seen = [notice.count for notice in self._written]
            batch = await self._outbox.unsent_events(_BATCH)
            if not batch:
                await self._wait(seen)
                continue
            try:
                for events in _calls(batch):
                    sync_id = events[0].sync_id
                    with context.resumed(sync_id, await self._outbox.trace_parent(sync_id)):
                        await self._publish([event.event for event in events])
            except MediasyncError as error:
                _logger.warning("%d events wait for the event log: %s", len(batch), error)
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2 * retry_seconds, _LAST_RETRY_SECONDS)
                continue
            retry_seconds = _FIRST_RETRY_SECONDS
            crash.point(self._crash_point)
            await self._outbox.events_sent(batch[-1].sequence)
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
