"""Bringing what a scan found wanted into the library: compare, pull, land; and what was not complete yet, to be looked at again.

One `Taking` serves one unit for as long as it is at work, over many scans when it watches. What had landed when something fails stays
committed; the caller scans again and finds the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import MAX_PROBLEMS, Problem
from mediasync.paths import display
from mediasync.sources.base import DirectoryUnreadable, FileEntry, FileRead, ReadStatus
from mediasync.storage.library_marker import library_error
from services.transfer.comparing import Comparison
from services.transfer.diff import directory_of
from services.transfer.entities import LandedFile, StagedFile
from services.transfer.flow import WantedFlow
from services.transfer.flushing import flush_run
from services.transfer.groups import first_error
from services.transfer.landing import Lander, Landing
from services.transfer.parts import Parts
from services.transfer.pull import Pull
from services.transfer.scanning import ScanResult
from services.transfer.space import GIGABYTE, SpaceGuard
from services.transfer.spool import WantedSpool
from services.transfer.staging import Staging

_GROUP_FILES = 64
_MOST_GROUP_FILES = 256
_GROUP_SECONDS = 0.1

_logger = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Unfinished:
    """A file that is not complete yet, as it was last found. `seen_time` is of this machine's monotonic clock."""

    entry: FileEntry
    seen_time: float


class Taking:
    """Takes files of one unit, one list at a time.

    `look_again` are those that were not complete, or changed while they were read. `unfinished` are the directories that the next exact
    scan has to list in full, because something in them was not dealt with.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._space = SpaceGuard(parts.unit.origin.library.root, int(parts.options.min_free_space_gb * GIGABYTE))
        self.problems: list[Problem] = []
        self.files_failed = 0
        self.failed_files: dict[bytes, Reason] = {}
        self._failed_before: frozenset[bytes] = frozenset()
        self.look_again: dict[bytes, Unfinished] = {}
        self.unfinished: set[bytes] = set()

    def begin(self, *, anew: bool = False) -> set[bytes]:
        """A scan of everything begins: what failed or was not complete is found again, if it still is. Returns these paths; they are
        among what was expected already, unless all counts began `anew`."""
        return self._begin(frozenset() if anew else frozenset(self.failed_files))

    def begin_again(self) -> set[bytes]:
        """As `begin`, for a scan that broke after files were taken: what had failed before it is still known to have."""
        return self._begin(self._failed_before | self.failed_files.keys())

    def _begin(self, failed_before: frozenset[bytes]) -> set[bytes]:
        counted = {*self.failed_files, *self.look_again}
        self._failed_before = failed_before
        self.problems, self.files_failed = [], 0
        self.failed_files, self.look_again = {}, {}
        return counted

    def check_space(self, incoming_bytes: int) -> None:
        """Raises MediasyncError when so much would not fit."""
        self._space.check(incoming_bytes)

    async def take(self, result: ScanResult, staging: Staging, flow: WantedFlow | None = None) -> None:
        """Takes what a scan found. Where its pull has begun meanwhile, `flow` gets what is left to take, and whoever began it waits for
        its end. Raises MediasyncError when the source or the library is lost."""
        parts, wanted = self._parts, result.wanted
        if flow is not None and not flow.begun:
            for entry in flow.take_back():
                wanted.add(entry)
            flow.close()
            flow = None
        for record in result.unreadable:
            self._unreadable(record)
        if result.doubtful.files:
            with _tracer.start_as_current_span("compare", attributes={"files": result.doubtful.files}) as span:
                comparison = Comparison(parts, self._expect)
                known = await comparison.run(result.doubtful, wanted)
                span.set_attribute("files.known", known)
        parts.tally.scanned()
        if flow is not None:
            flow.complete(wanted)
            parts.on_scanned(flow.files, flow.size_bytes)
            self._space.check(flow.rest_bytes)
            parts.activity("transferring")
            return
        parts.on_scanned(wanted.files, wanted.size_bytes)
        parts.on_progress(parts.tally)
        if wanted.files:
            with _tracer.start_as_current_span("pull", attributes={"files": wanted.files, "bytes": wanted.size_bytes}):
                await self.pull(wanted, staging)

    async def take_early(self, flow: WantedFlow, staging: Staging) -> None:
        """Takes what a scan that still runs finds, once it is so much that the pull is a large one, and to the end of the flow."""
        if await flow.large():
            with _tracer.start_as_current_span("pull") as span:
                await self._bring(flow, staging)
                span.set_attributes({"files": flow.files, "bytes": flow.size_bytes})

    async def pull(self, wanted: WantedSpool, staging: Staging) -> None:
        """Pulls and lands everything on a list."""
        self._parts.tally.stage("transferring")
        await self._bring(WantedFlow.of(wanted, self._parts.options), staging)

    async def _bring(self, flow: WantedFlow, staging: Staging) -> None:
        """Pulls and lands everything that is in a flow, or comes."""
        parts = self._parts
        self._space.check(flow.size_bytes)
        lander = Lander(parts.unit, parts.landings, parts.executor, parts.options)
        staged: asyncio.Queue[StagedFile | None] = asyncio.Queue(maxsize=2 * _MOST_GROUP_FILES)
        begun: asyncio.Queue[Landing | None] = asyncio.Queue(maxsize=1)
        flushes: set[asyncio.Future[list[Problem | None]]] = set()

        async def not_taken(outcome: FileRead) -> None:
            await self._not_taken(outcome)
            flow.settled(1)

        pull = Pull(
            parts.lanes,
            staging,
            parts.unit.beginnings_key,
            on_staged=staged.put,
            on_other=not_taken,
            on_bytes=lambda file, count: self._received(file.path, count),
            on_stage=parts.activity,
        )
        lost: list[MediasyncError] = []

        async def pull_everything() -> None:
            try:
                await pull.run(flow)
            except MediasyncError as error:
                # What is here already is whole, and lands before the sync fails.
                lost.append(error)
            await staged.put(None)

        try:
            with first_error():
                async with asyncio.TaskGroup() as group:
                    group.create_task(pull_everything(), name="pull")
                    group.create_task(_begin_groups(lander, staged, begun, flushes), name="flush")
                    group.create_task(self._land(lander, begun, flow), name="land")
        except OSError as error:
            raise library_error(error, parts.unit.origin.library.root) from error
        finally:
            # Of a sync that failed or was cancelled: no thread may be at work in the staging folder when it is removed.
            await asyncio.gather(*flushes, return_exceptions=True)
        if parts.options.watch:
            # A watch has no end at which it could be done.
            await flush_run(parts.unit.sync_id, parts.landings.flushes, parts.executor)
        if lost:
            raise lost[0]

    async def pull_again(self, paths: Sequence[bytes], staging: Staging) -> None:
        """Pulls those of `look_again`."""
        again = WantedSpool(self._parts.scratch)
        try:
            for path in paths:
                again.add(self.look_again.pop(path).entry)
            await self.pull(again, staging)
        finally:
            again.close()

    async def _land(self, lander: Lander, begun: asyncio.Queue[Landing | None], flow: WantedFlow) -> None:
        """Lands one group after the other."""
        while (landing := await begun.get()) is not None:
            outcomes = await undisturbed(lander.land(landing))
            await self._parts.on_committed()
            for staged, outcome in zip(landing.staged, outcomes, strict=True):
                if isinstance(outcome, LandedFile):
                    self._parts.tally.landed(outcome.entry)
                else:
                    self.failed(outcome, in_scan=True, entry=staged.entry)
            self._parts.on_progress(self._parts.tally)
            flow.settled(len(outcomes))

    async def _not_taken(self, outcome: FileRead) -> None:
        path = outcome.wanted.path
        if outcome.status is ReadStatus.UNREADABLE:
            text = f"{display(path)} cannot be read at the source: {outcome.message}"
            self.failed(Problem.of(MediasyncError(Reason.FILE_UNREADABLE, text), path), in_scan=True)
        elif outcome.entry is not None and outcome.status in (ReadStatus.UNSETTLED, ReadStatus.CHANGED):
            self.look_again[path] = Unfinished(outcome.entry, time.monotonic())
            self._parts.tally.grew(path, outcome.entry.size_bytes - outcome.wanted.size_bytes)
        else:
            # Gone since the scan, or no regular file any more: the next scan says what is there then.
            self._parts.tally.vanished_meanwhile += 1
            self.unfinished.add(directory_of(path))

    def _unreadable(self, record: DirectoryUnreadable) -> None:
        text = f"the folder {display(record.path) or '(root)'} cannot be read at the source: {record.message}"
        self.failed(Problem.of(MediasyncError(Reason.FOLDER_UNREADABLE, text), record.path), in_scan=False)

    def failed(self, problem: Problem, *, in_scan: bool, entry: FileEntry | None = None) -> None:
        """Something will not come. `in_scan` says that it is a file that the scan counted."""
        _logger.warning("%s", problem.message, extra={"reason": problem.reason.value})
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        if problem.path is not None:
            self.failed_files[problem.path] = problem.reason
        if in_scan and problem.path is not None:
            self.files_failed += 1
            if problem.path not in self._failed_before:
                self._parts.tally.failed(problem.path)
            self.unfinished.add(directory_of(entry.path if entry else problem.path))
        self._parts.on_progress(self._parts.tally)

    def _expect(self, entry: FileEntry) -> None:
        self._parts.tally.expect(entry)

    def _received(self, path: bytes, count: int) -> None:
        self._space.written(count)
        self._parts.tally.received(path, count)
        self._parts.on_progress(self._parts.tally)


async def _begin_groups(
    lander: Lander,
    staged: asyncio.Queue[StagedFile | None],
    begun: asyncio.Queue[Landing | None],
    flushes: set[asyncio.Future[list[Problem | None]]],
) -> None:
    """Makes groups of what comes, and begins to flush each: as many files as came within a tenth of a second, or, while the group before
    is still landing, as many as came meanwhile, so that one flush and one transaction serve many. `flushes` are those that go on."""

    def done(flush: asyncio.Future[list[Problem | None]]) -> None:
        if flush.cancelled() or flush.exception() is None:
            flushes.discard(flush)

    more = True
    while more:
        first = await staged.get()
        if first is None:
            break
        group = [first]
        try:
            async with asyncio.timeout(_GROUP_SECONDS):
                while len(group) < _GROUP_FILES or (not staged.empty() and len(group) < _MOST_GROUP_FILES):
                    item = await staged.get()
                    if item is None:
                        more = False
                        break
                    group.append(item)
        except TimeoutError:
            pass  # the group is what has come
        landing = lander.begin(group)
        for flush in landing.flushes:
            flushes.add(flush)
            flush.add_done_callback(done)
        await begun.put(landing)
    await begun.put(None)


async def undisturbed(landing: Coroutine[Any, Any, list[LandedFile | Problem]]) -> list[LandedFile | Problem]:
    """A landing that has begun is finished before a cancel takes effect, so that every visible file is on record."""
    task = asyncio.create_task(landing, name="land a group")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
