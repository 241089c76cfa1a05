"""All runs that are being reported or watched, each with its topic; the others rest in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import JobProgress, ProgressReport
from services.progress.clock import Clock
from services.progress.store import ProgressStore
from services.progress.topic import Encode, Topic

T = TypeVar("T")
Spawn = Callable[[Coroutine[Any, Any, None], str], object]
"""Runs a topic's task under the given name; owns it, and cancels it at the end."""


class Hub(Generic[T]):
    """Takes reports and serves watchers, each of whom gets what `encode` makes of a picture."""

    def __init__(self, store: ProgressStore, encode: Encode[T], spawn: Spawn, clock: Clock | None = None) -> None:
        self._store = store
        self._encode = encode
        self._spawn = spawn
        self._clock = clock or Clock()
        self._topics: dict[str, Topic[T]] = {}
        self._opening = asyncio.Lock()
        self._draining = False

    async def report(self, sync_id: str, reporter: str, report: ProgressReport) -> None:
        """Takes a report; the first of a run makes it known. What comes after the run has ended changes nothing."""
        topic = await self._topic(sync_id, create=True)
        topic.report(reporter, report)

    async def save(self, sync_id: str) -> None:
        """Returns once everything reported of the run so far is in the store."""
        if topic := self._topics.get(sync_id):
            await topic.save()

    async def newest(self, sync_id: str) -> JobProgress:
        """The newest picture. Raises SYNC_NOT_FOUND."""
        return (await (await self._topic(sync_id)).save()).progress

    async def watch(self, sync_id: str, after: int = 0) -> AsyncIterator[T]:
        """What follows version `after`: the newest picture, each time there is one, until the terminal one; heartbeats while
        nothing changes. One who is slow skips pictures, never the last. After the terminal version nothing follows.

        Raises SYNC_NOT_FOUND, and SERVICES_UNREACHABLE when this process is about to end.
        """
        topic = await self._topic(sync_id)
        topic.enter()
        try:
            seen, beats = after, topic.beats
            while True:
                signal, shown = topic.signal, topic.shown
                ended = shown is not None and shown.progress.status.terminal
                # A terminal picture is delivered even to one who claims to have seen a later version.
                if shown is not None and (shown.version > seen or (ended and shown.version != seen)):
                    seen, beats = shown.version, topic.beats
                    yield shown.encoded
                elif beats != topic.beats:
                    beats = topic.beats
                    yield self._encode(sync_id, seen, None)
                if ended:
                    return
                if self._draining:
                    raise going_down()
                await signal.wait()
        finally:
            topic.leave()

    def drain(self) -> None:
        """Ends every watch, so that its client comes back to the next process."""
        self._draining = True
        for topic in self._topics.values():
            topic.wake()

    async def close(self) -> None:
        """Saves what is not saved yet; topics' tasks have ended by now."""
        for topic in self._topics.values():
            await topic.save()

    async def _topic(self, sync_id: str, *, create: bool = False) -> Topic[T]:
        """The run's topic, opened from the store if need be. Raises SYNC_NOT_FOUND for an unknown run, unless one is to be created.

        The caller goes on without a pause from here to using it, or the topic could end in between.
        """
        if topic := self._topics.get(sync_id):
            return topic
        async with self._opening:
            if topic := self._topics.get(sync_id):
                return topic
            stored = await self._store.load(sync_id)
            if stored is None:
                if not create:
                    raise MediasyncError(Reason.SYNC_NOT_FOUND, f"nothing is known of the progress of {sync_id!r}")
                await self._store.prune(self._topics)
            topic = Topic(sync_id, stored, self._store, self._encode, self._clock)
            if not topic.ended:
                self._start(sync_id, topic)
            return topic

    def _start(self, sync_id: str, topic: Topic[T]) -> None:
        self._topics[sync_id] = topic
        self._spawn(topic.run(lambda: self._forget(sync_id)), f"progress of {sync_id}")

    def _forget(self, sync_id: str) -> None:
        del self._topics[sync_id]


def going_down() -> MediasyncError:
    """What a stream ends with when this process is about to end."""
    return MediasyncError(Reason.SERVICES_UNREACHABLE, "the progress service is restarting", "Watch again with the last resume token.")
