"""One run while it is reported or watched: takes reports, saves the picture, shows it.

Reports only mark the topic; its one task makes a picture of all that came since the last, saves it, and then shows it to
whoever waits. So the pace is set here, once for all watchers, and what has been shown is always in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mediasync.errors import MediasyncError
from mediasync.model import JobProgress, ProgressReport, UnitProgress
from mediasync.runtime import crash
from mediasync.runtime.context import bound
from services.progress.aggregate import Change, JobAggregate
from services.progress.clock import Clock
from services.progress.store import ProgressStore, StoredSync

logger = logging.getLogger(__name__)

SHOW_SECONDS = 0.1
"""Between two pictures while somebody watches."""
SAVE_SECONDS = 1.0
"""Between two pictures while nobody watches and no milestone is passed."""
HEARTBEAT_SECONDS = 5.0
"""After this long without a change watchers get a heartbeat, and a topic that nobody watches ends."""
_STALL_SECONDS = 1.0

T = TypeVar("T")
Encode = Callable[[str, int, JobProgress | None], T]
"""(sync_id, version, picture or None for a heartbeat) -> what watchers get; made once and shared by all."""


@dataclass(frozen=True)
class Picture(Generic[T]):
    """A picture, ready to be sent. Versions grow, across restarts too."""

    version: int
    progress: JobProgress
    encoded: T


class Topic(Generic[T]):
    """One run. `run` is its task; one that has ended needs none."""

    def __init__(self, sync_id: str, stored: StoredSync | None, store: ProgressStore, encode: Encode[T], clock: Clock) -> None:
        self.watchers = 0
        self.shown: Picture[T] | None = None
        self.signal = asyncio.Event()
        """Set, and replaced by another, at each picture and each heartbeat."""
        self.beats = 0
        """Heartbeats so far."""
        self._sync_id = sync_id
        self._store = store
        self._encode = encode
        self._clock = clock
        self._version = 0
        self._newest: Picture[T] | None = None
        self._unsaved_units: set[str] = set()
        self._unsaved = False
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._never = asyncio.Event()
        self._saving = asyncio.Lock()
        self._save_failed = False
        if stored is None:
            self._aggregate = JobAggregate(sync_id)
        else:
            self._version = stored.version
            self._aggregate = JobAggregate(sync_id, stored.progress, stored.job, stored.units)
            # Made anew of the same parts, with the same numbers, so it bears the same version.
            progress = self._aggregate.snapshot(stored.progress.update_time, clock.monotonic())
            self.shown = self._newest = Picture(stored.version, progress, encode(sync_id, stored.version, progress))

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self._aggregate.terminal

    def report(self, reporter: str, report: ProgressReport) -> None:
        """Takes a report. It is shown and saved soon; see `save` for now."""
        change = self._aggregate.merge(reporter, report, self._clock.monotonic())
        if change is Change.NOTHING and self._version:
            return
        if isinstance(report, UnitProgress):
            self._unsaved_units.add(reporter)
        self._unsaved = True
        self._news.set()
        if change is Change.MILESTONE:
            self._hurry.set()

    def enter(self) -> None:
        """A watcher came; `leave` must follow."""
        self.watchers += 1
        self._hurry.set()

    def leave(self) -> None:
        """A watcher went."""
        self.watchers -= 1

    def wake(self) -> None:
        """Makes every watcher look up."""
        signal, self.signal = self.signal, asyncio.Event()
        signal.set()

    async def run(self, forget: Callable[[], None]) -> None:
        """Saves and shows until the run has ended or nobody cares any more; then calls `forget`."""
        shown_at = self._clock.monotonic() - SAVE_SECONDS
        with bound(self._sync_id):
            while True:
                if not await self._clock.wait(self._news, _STALL_SECONDS if self._moving else HEARTBEAT_SECONDS):
                    if self._moving:
                        # Nothing comes in any more, and the rate has to say so.
                        self._unsaved = True
                        self._news.set()
                    elif self.watchers:
                        self.beats += 1
                        self.wake()
                    else:
                        break
                    continue
                await self._pace(shown_at)
                self._news.clear()
                self._hurry.clear()
                self.shown = await self.save()
                shown_at = self._clock.monotonic()
                self.wake()
                if self._unsaved:
                    self._news.set()
                elif self.ended:
                    break
            forget()

    async def save(self) -> Picture[T]:
        """Saves what was reported so far, and returns the picture of it. What cannot be saved is tried again at the next picture."""
        async with self._saving:
            if self._newest is not None and not self._unsaved:
                return self._newest
            unix_ns = self._clock.unix_ns()
            progress = self._aggregate.snapshot(unix_ns / 1e9, self._clock.monotonic())
            if self._newest is None or not self._newest.progress.status.terminal:
                # Of the time, so that it grows even if the newest versions were lost in a power cut.
                self._version = max(self._version + 1, unix_ns)
            units, self._unsaved_units, self._unsaved = self._unsaved_units, set(), False
            try:
                crash.point("progress.before_store")
                await self._store.save(self._version, progress, self._aggregate.job, {name: self._aggregate.unit(name) for name in units})
                crash.point("progress.after_store")
                self._save_failed = False
            except BaseException as error:
                self._unsaved_units |= units
                self._unsaved = True
                if not isinstance(error, MediasyncError):
                    raise
                # Watchers are better served with what is known than with nothing; only a restart may now fall back.
                if not self._save_failed:
                    logger.error("progress cannot be saved: %s", error, extra={"reason": error.reason.value})
                self._save_failed = True
            self._newest = Picture(self._version, progress, self._encode(self._sync_id, self._version, progress))
            return self._newest

    @property
    def _moving(self) -> bool:
        return self.shown is not None and self.shown.progress.bytes_per_second > 0

    async def _pace(self, shown_at: float) -> None:
        """Waits until the next picture is due."""
        if not self.watchers and (left := shown_at + SAVE_SECONDS - self._clock.monotonic()) > 0:
            await self._clock.wait(self._hurry, left)
        if (left := shown_at + SHOW_SECONDS - self._clock.monotonic()) > 0:
            await self._clock.wait(self._never, left)
