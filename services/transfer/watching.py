"""Watching one folder for ever: a new picture is in the library within a second of its last byte.

Three looks, each for what the cheaper ones cannot see:

- the far side says in which directories something moved (`Connection.watch`, over a connection of its own); where its engine has no means
  to, quick scans ask, the more rarely the more they cost. Only those directories are then listed, over a connection that is kept open;
- an exact scan finds what was changed in place, every minute, or less often where it would cost more than a hundredth of a core;
- once a day it is a full one (`scanning`).

A file that is not complete yet is looked at again after 50 ms, then twice that, up to the settle time: its last byte moves nothing that a
directory would tell.

A source that is gone is tried again for ever, a minute apart in the end, and everything is looked at when it is back. A library that is
gone ends the watch: nothing may be written to what is in its place.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncSummary
from mediasync.sources.base import DirectoryScanned, FileEntry, ScanRequest
from services.transfer.diff import DirectoryDiff
from services.transfer.folder_sync import FolderSync
from services.transfer.parts import Parts
from services.transfer.scanning import LIST_IN_FULL, FolderScan, ScanResult
from services.transfer.staging import Staging
from services.transfer.taking import Taking, Unfinished

EXACT_EVERY_SECONDS = 60.0
# A scan may keep both sides busy for as long as it takes: so many times that is waited.
_SHARE = 150
_QUICKEST_SECONDS, _SLOWEST_SECONDS = 0.5, 5.0
_FIRST_LOOK_SECONDS, _GROWING_SECONDS, _LONGEST_LOOK_SECONDS = 0.05, 0.4, 60.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0

# What a host, a container or a mount is like while it restarts. A key that changed or a login that is refused does not pass by itself.
_GONE = {
    Reason.CONNECTION_LOST,
    Reason.HOST_NOT_FOUND,
    Reason.HOST_UNREACHABLE,
    Reason.SOURCE_PROTOCOL,
    Reason.SOURCE_ROOT_MISSING,
    Reason.SOURCE_FOLDER_MISSING,
    Reason.SOURCE_UNREADABLE,
    Reason.SOURCE_WITHOUT_PYTHON,
    Reason.CONTAINER_NOT_FOUND,
    Reason.CONTAINER_STOPPED,
    Reason.DOCKER_UNREACHABLE,
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Activity:
    """What a watch is at, in words. Times are Unix seconds, 0 while the source is there."""

    text: str
    gone_since: float = 0.0
    next_try: float = 0.0


@dataclass(frozen=True)
class _Look:
    """When a file that was not complete is looked at again. Times are of the monotonic clock."""

    entry: FileEntry
    since: float
    delay: float
    due: float


def next_look(last: _Look | None, found: Unfinished, settle_seconds: float) -> _Look:
    """The look after one that found a file unfinished. One that grows may be complete at any moment; one that stands still counts as
    settled once it did for long enough, and later than that it is hardly worth a look."""
    now = found.seen_time
    if last is None:
        return _Look(found.entry, now, _FIRST_LOOK_SECONDS, now + _FIRST_LOOK_SECONDS)
    if last.entry != found.entry:
        delay = min(2 * last.delay, _GROWING_SECONDS)
        return _Look(found.entry, now, delay, now + delay)
    delay = min(2 * last.delay, _LONGEST_LOOK_SECONDS)
    settled = last.since + settle_seconds + _FIRST_LOOK_SECONDS
    return _Look(found.entry, last.since, delay, min(now + delay, settled) if now < settled else now + delay)


class FolderWatch:
    """One watch of one unit. `session` opens the library for one use, with a staging folder; it is not kept open while nothing moves."""

    def __init__(
        self, parts: Parts, session: Callable[[], AbstractAsyncContextManager[Staging]], on_activity: Callable[[Activity], None]
    ) -> None:
        self._parts = parts
        self._session = session
        self._on_activity = on_activity
        self._taking = Taking(parts)
        self._scan = FolderScan(parts, on_directory=self._expect)
        self._known: dict[bytes, int] = {}
        self._quick_since_ns = 0
        self._moved: set[bytes] = set()
        self._everything = False
        self._wake = asyncio.Event()
        self._polls = False
        self._poll_seconds = _QUICKEST_SECONDS
        self._next_poll = 0.0
        self._next_exact = 0.0
        self._looks: dict[bytes, _Look] = {}

    async def run(self) -> SyncSummary:
        """Runs until cancelled. Raises MediasyncError when the source refuses us for good, at the first sync also when it is not there, and
        when the library is lost."""
        seen, failures, gone_since = False, 0, 0.0
        with self._parts.lanes.pool.kept_open():
            while True:
                try:
                    await self._sync(goes_on=False)
                    seen, failures, gone_since = True, 0, 0.0
                    await self._watch()
                except MediasyncError as error:
                    if not seen or error.reason not in _GONE:
                        raise
                    failures += 1
                    gone_since = gone_since or time.time()
                    delay = min(_FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10), _LONGEST_RETRY_SECONDS)
                    delay *= random.uniform(0.75, 1.25)  # noqa: S311 - nothing secret
                    _logger.warning("the source is gone: %s", error, extra={"delay_seconds": delay})
                    self._say(Activity(f"the source is gone: {error.message}", gone_since, time.time() + delay))
                    await asyncio.sleep(delay)

    def _say(self, activity: Activity) -> None:
        self._parts.activity(activity.text)
        self._on_activity(activity)

    async def _sync(self, *, goes_on: bool) -> None:
        """An exact sync of everything, and when the next one is due."""
        async with self._session() as staging:
            sync = FolderSync(self._parts, self._taking, goes_on=goes_on)
            await sync.run(staging)
        state = await self._parts.manifest.scan_state(self._parts.unit.origin, self._parts.unit.folder)
        self._known = dict(state.directories)
        self._quick_since_ns = state.watermark_ns or 0
        self._next_exact = time.monotonic() + max(EXACT_EVERY_SECONDS, _SHARE * sync.scan_seconds)
        self._plan_looks()

    async def _watch(self) -> None:
        """Until the line breaks."""
        self._polls = False
        listening = asyncio.create_task(self._listen(), name="listen for changes")
        try:
            self._say(Activity("watching"))
            while True:
                await self._wait(listening)
                now = time.monotonic()
                if now >= self._next_exact:
                    self._moved.clear()
                    await self._sync(goes_on=True)
                elif self._moved or self._everything or (self._polls and now >= self._next_poll):
                    await self._look()
                elif any(look.due <= now for look in self._looks.values()):
                    await self._look_again(now)
                else:
                    continue
                self._parts.activity("watching")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _wait(self, listening: asyncio.Task[None]) -> None:
        """Until there is something to do. Raises what ended the listening."""
        due = min([self._next_exact, *(look.due for look in self._looks.values()), *([self._next_poll] if self._polls else [])])
        waking = asyncio.create_task(self._wake.wait())
        try:
            waited_for = {waking} if listening.done() and self._polls else {waking, listening}
            await asyncio.wait(waited_for, timeout=max(0.0, due - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        self._wake.clear()
        if listening.done() and not self._polls:
            listening.result()
            raise MediasyncError(Reason.CONNECTION_LOST, "the far side stopped watching")

    async def _listen(self) -> None:
        """Hears from the far side what moved. Ends at once where the engine cannot tell: then it is asked."""
        request = ScanRequest(self._parts.unit.folder, known_directories=self._known, selection=self._parts.lanes.selection)
        try:
            async with self._parts.lanes.pool.dedicated() as connection:
                first = True
                async for moved in connection.watch(request):
                    # What moved between the last scan and the first word is found by one look at everything.
                    self._everything = self._everything or first
                    first = False
                    self._moved |= moved
                    if self._moved or self._everything:
                        self._wake.set()
        except MediasyncError as error:
            if error.reason is not Reason.ENGINE_CANNOT:
                raise
            self._polls = True
            self._wake.set()

    async def _look(self) -> None:
        """Lists the directories in which something moved, and takes what is new."""
        moved, everything = set(self._moved), self._everything or self._polls
        self._moved.clear()
        self._everything = False
        known = self._known if everything else self._below(moved)
        started = time.monotonic()
        async with self._parts.lanes.pool.connection() as connection:
            result = await self._scan.quick(connection, self._quick_since_ns, {**known, **dict.fromkeys(moved, LIST_IN_FULL)})
        if everything:
            self._quick_since_ns = result.watermark_ns
        cost = time.monotonic() - started
        self._poll_seconds = min(max(_QUICKEST_SECONDS, cost * _SHARE), _SLOWEST_SECONDS)
        self._next_poll = time.monotonic() + self._poll_seconds
        try:
            await self._take(result)
        finally:
            result.close()

    def _below(self, moved: set[bytes]) -> Mapping[bytes, int]:
        """The known directories below those that moved: what is new among them is told by leaving these out."""
        if b"" in moved:
            return self._known
        prefixes = tuple(path + b"/" for path in moved)
        return {path: inode for path, inode in self._known.items() if path.startswith(prefixes)}

    async def _take(self, result: ScanResult) -> None:
        if result.vanished:
            await self._parts.manifest.mark_vanished(self._parts.unit, result.vanished)
        for path, names in result.vanished.items():
            if names is None:
                self._known.pop(path, None)
        self._known.update(result.seen)
        if result.wanted.files or result.doubtful.files or result.unreadable:
            async with self._session() as staging:
                await self._taking.take(result, staging)
        self._plan_looks()

    async def _look_again(self, now: float) -> None:
        """Asks for the files whose time has come."""
        due = [path for path, look in self._looks.items() if look.due <= now]
        async with self._session() as staging:
            await self._taking.pull_again(due, staging)
        self._plan_looks()

    def _plan_looks(self) -> None:
        """When each file that is not complete is looked at next. One that was not looked at meanwhile stays as planned."""
        looks = {}
        for path, found in self._taking.look_again.items():
            last = self._looks.get(path)
            planned = last is not None and found.seen_time < last.due and found.entry == last.entry
            looks[path] = last if planned and last is not None else next_look(last, found, self._parts.options.settle_seconds)
        self._looks = looks

    async def _expect(self, record: DirectoryScanned, difference: DirectoryDiff, there: Sequence[FileEntry]) -> None:
        for entry in difference.wanted:
            # One that is waited for was counted when it was found.
            waited_for = self._taking.look_again.pop(entry.path, None)
            if waited_for is not None:
                self._parts.tally.grew(entry.path, entry.size_bytes - waited_for.entry.size_bytes)
            elif entry.path not in self._taking.failed_files:
                self._parts.tally.expect(entry)
