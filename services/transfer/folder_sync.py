"""One folder, from the first look to the last committed file.

Everything here may be repeated after a crash at any point: what was committed is found unchanged by the next scan and is counted
from the store; what was not is pulled again. What it does not guarantee: that the library mirrors one moment of the source. Files
come and go while it runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry import trace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import MAX_PROBLEMS, Problem, SyncOptions, SyncSummary
from mediasync.paths import display
from mediasync.sources.base import (
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    FileRead,
    ReadStatus,
    ScanFinished,
    ScanRequest,
)
from services.transfer.diff import diff_directory, directory_of, name_of
from services.transfer.entities import LandedFile, ScanState, StagedFile, SyncUnit
from services.transfer.groups import first_error
from services.transfer.landing import Lander, Landing
from services.transfer.landing_store import LandingStore
from services.transfer.library import free_bytes, library_error
from services.transfer.manifest_store import ManifestStore
from services.transfer.pull import Pull
from services.transfer.receiving.lanes import Lanes
from services.transfer.retries import Attempts
from services.transfer.spool import WantedSpool
from services.transfer.staging import Staging
from services.transfer.tally import UnitTally

# ctime comes from a clock of ticks of some milliseconds, and a file may have been changed just as it was looked at.
_WATERMARK_MARGIN_NS = 2_000_000_000
_FULL_SCAN_EVERY_SECONDS = 86_400
_GROUP_FILES = 64
_GROUP_SECONDS = 0.1
# A file that is being written while the sync runs is worth a short wait; one that was left unfinished a while ago is not.
_LOOKS_AGAIN = 3
_LONGEST_WAIT_SECONDS = 5.0
_FRESH_NS = 10_000_000_000
# No directory has this inode number, so a scan takes one that is on record with it for another and lists it in full.
_LIST_IN_FULL = 0

_logger = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass
class ScanResult:
    """What a scan of a folder found, held against the manifest."""

    wanted: WantedSpool
    finished: ScanFinished = field(default_factory=lambda: ScanFinished(0, 0, 0, 0))
    full: bool = False
    seen: dict[bytes, int] = field(default_factory=dict)
    unreadable: list[DirectoryUnreadable] = field(default_factory=list)
    vanished: dict[bytes, Sequence[bytes] | None] = field(default_factory=dict)


class FolderSync:
    """One attempt at one unit."""

    def __init__(
        self,
        unit: SyncUnit,
        options: SyncOptions,
        lanes: Lanes,
        manifest: ManifestStore,
        landings: LandingStore,
        executor: Executor,
        scratch: Path,
        *,
        on_progress: Callable[[UnitTally], None],
        on_scanned: Callable[[int, int], None],
        on_committed: Callable[[], Awaitable[None]],
    ) -> None:
        self._unit = unit
        self._options = options
        self._lanes = lanes
        self._manifest = manifest
        self._landings = landings
        self._executor = executor
        self._scratch = scratch
        self._tally = UnitTally(unit.folder)
        self._on_progress = on_progress
        self._on_scanned = on_scanned
        self._on_committed = on_committed
        self._problems: list[Problem] = []
        self._files_failed = 0
        self._committed_before: Mapping[bytes, tuple[int, int]] = {}
        self._look_again: dict[bytes, FileEntry] = {}
        self._unfinished: set[bytes] = set()
        self._scan_started_ns = 0

    async def scan(self) -> ScanResult:
        """Looks at the folder and compares; changes nothing. The caller closes `wanted`. Raises MediasyncError."""
        self._tally.stage("scanning")
        self._on_progress(self._tally)
        attempts = Attempts(self._options)
        while True:
            result = ScanResult(WantedSpool(self._scratch))
            try:
                async with self._lanes.pool.connection() as connection:
                    state = await self._scan_state()
                    request = ScanRequest(
                        self._unit.folder, state.watermark_ns, state.directories if state.watermark_ns is not None else {}
                    )
                    result.full = state.watermark_ns is None
                    self._tally.restart(self._committed_before)
                    after: bytes | None = None
                    async for record in connection.scan(request):
                        if isinstance(record, DirectoryScanned):
                            after = await self._compare(record, after, result)
                        elif isinstance(record, DirectoryUnreadable):
                            result.unreadable.append(record)
                        else:
                            result.finished = record
                if state.watermark_ns is not None and result.finished.started_ns < state.watermark_ns:
                    # The far side's clock was put back: ctimes from before say nothing any more.
                    _logger.warning("the source's clock went back; listing everything")
                    result.wanted.close()
                    self._options = dataclasses.replace(self._options, full_scan=True)
                    continue
                self._find_gone_directories(state.directories, result)
                return result
            except MediasyncError as error:
                result.wanted.close()
                delay = attempts.delay_after(error)
                _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay})
                self._tally.stage(str(attempts))
                self._on_progress(self._tally)
                await asyncio.sleep(delay)
            except BaseException:
                result.wanted.close()
                raise

    async def _scan_state(self) -> ScanState:
        state = await self._manifest.scan_state(self._unit.origin, self._unit.folder)
        last_full = await self._manifest.last_full_scan(self._unit.origin, self._unit.folder)
        if self._options.full_scan or time.time() - last_full > _FULL_SCAN_EVERY_SECONDS:
            return ScanState(None, state.directories)
        return state

    async def _compare(self, record: DirectoryScanned, after: bytes | None, result: ScanResult) -> bytes | None:
        """Adds what a directory brings to `result`. Returns the name up to which a directory that comes in pieces was compared."""
        origin = self._unit.origin
        last = name_of(record.files[-1].path) if record.more and record.files else None
        if record.complete:
            rows = await self._manifest.manifest_range(origin, record.path, after, last)
        elif record.names is not None:
            rows = await self._manifest.manifest_range(origin, record.path, None, None)
        elif record.files:
            rows = await self._manifest.manifest_names(origin, record.path, [name_of(entry.path) for entry in record.files])
        else:
            rows = []
        difference = diff_directory(record, rows)
        for entry in difference.wanted:
            result.wanted.add(entry)
            self._tally.expect(entry)
        if difference.vanished:
            result.vanished[record.path] = [*(result.vanished.get(record.path) or ()), *difference.vanished]
        result.seen[record.path] = record.inode
        return last

    def _find_gone_directories(self, known: Mapping[bytes, int], result: ScanResult) -> None:
        """Directories on record that the scan did not report are gone, unless they are, or are below, one that could not be read."""
        closed = {record.path for record in result.unreadable}
        closed_prefixes = tuple(path + b"/" if path else b"" for path in closed)
        for path in known:
            if path in result.seen:
                continue
            if path in closed or (closed_prefixes and path.startswith(closed_prefixes)):
                result.seen[path] = _LIST_IN_FULL
            else:
                result.vanished[path] = None

    async def run(self, staging: Staging) -> SyncSummary:
        """Syncs the folder by way of `staging`. Raises MediasyncError when the source or the library is lost; what had landed stays
        committed."""
        started = time.monotonic()
        self._committed_before = await self._landings.committed_by_directory(self._unit)
        with _tracer.start_as_current_span("scan", attributes={"folder": display(self._unit.folder)}) as span:
            result = await self.scan()
            span.set_attributes({"files": result.finished.files_seen, "files.wanted": result.wanted.files, "scan.full": result.full})
        self._scan_started_ns = result.finished.started_ns
        try:
            self._tally.scanned()
            self._on_scanned(result.wanted.files, result.wanted.size_bytes)
            self._on_progress(self._tally)
            await self._manifest.mark_vanished(self._unit, result.vanished)
            for record in result.unreadable:
                text = f"the folder {display(record.path) or '(root)'} cannot be read at the source: {record.message}"
                self._failed(Problem.of(MediasyncError(Reason.FOLDER_UNREADABLE, text), record.path), in_scan=False)
            if result.wanted.files:
                with _tracer.start_as_current_span("pull", attributes={"files": result.wanted.files, "bytes": result.wanted.size_bytes}):
                    await self._take(result.wanted, staging)
        finally:
            result.wanted.close()
        await self._finish(result)
        counts = await self._landings.unit_counts(self._unit)
        self._tally.finished()
        self._on_progress(self._tally)
        unsettled = len(self._look_again)
        unchanged = result.finished.files_seen - counts.files - unsettled - self._files_failed - self._tally.vanished_meanwhile
        return SyncSummary(
            files_transferred=counts.files,
            bytes_transferred=counts.bytes,
            files_unchanged=max(0, unchanged),
            files_filtered=result.finished.files_filtered,
            files_unsettled=unsettled,
            files_failed=self._files_failed + len(result.unreadable),
            files_vanished=counts.vanished,
            problems=tuple(self._problems[:MAX_PROBLEMS]),
            problems_total=self._files_failed + len(result.unreadable),
            duration_seconds=time.monotonic() - started,
        )

    async def _take(self, wanted: WantedSpool, staging: Staging) -> None:
        """Pulls and lands everything wanted, then looks again at what was not complete."""
        root = self._unit.origin.library.root
        try:
            free = free_bytes(root)
        except OSError as error:
            raise library_error(error, root) from error
        if wanted.size_bytes > free:
            text = f"{wanted.size_bytes:,} bytes have to come, and the library {display(root)} has {free:,} free"
            raise MediasyncError(Reason.LIBRARY_NO_SPACE, text)
        await self._pull_and_land(wanted, staging)
        fresh = {path: entry for path, entry in self._look_again.items() if entry.mtime_ns > self._scan_started_ns - _FRESH_NS}
        for _ in range(_LOOKS_AGAIN):
            if not fresh:
                return
            # Long enough that a file which was left alone meanwhile counts as settled.
            self._tally.stage("waiting for files that are being written")
            self._on_progress(self._tally)
            await asyncio.sleep(min(self._options.settle_seconds, _LONGEST_WAIT_SECONDS))
            again = WantedSpool(self._scratch)
            try:
                for path, entry in fresh.items():
                    again.add(entry)
                    del self._look_again[path]
                await self._pull_and_land(again, staging)
            finally:
                again.close()
            # Still unfinished: only one that grew meanwhile has somebody at work on it.
            fresh = {path: entry for path, entry in self._look_again.items() if path in fresh and entry != fresh[path]}

    async def _pull_and_land(self, wanted: WantedSpool, staging: Staging) -> None:
        self._tally.stage("transferring")
        lander = Lander(self._unit, self._landings, self._executor, verify=self._options.verify_transfers)
        begun: asyncio.Queue[Landing | None] = asyncio.Queue(maxsize=4 * _GROUP_FILES)
        flushes: set[asyncio.Future[Problem | None]] = set()

        def done(flushed: asyncio.Future[Problem | None]) -> None:
            if flushed.cancelled() or flushed.exception() is None:
                flushes.discard(flushed)

        async def begin(staged: StagedFile) -> None:
            landing = lander.begin(staged)
            flushes.add(landing.flushed)
            landing.flushed.add_done_callback(done)
            await begun.put(landing)

        pull = Pull(
            self._lanes,
            staging,
            self._unit.origin.source_key,
            on_staged=begin,
            on_other=self._not_taken,
            on_bytes=lambda file, count: self._received(file.path, count),
            on_stage=self._stage,
        )

        lost: list[MediasyncError] = []

        async def pull_everything() -> None:
            try:
                await pull.run(wanted)
            except MediasyncError as error:
                # What is here already is whole, and lands before the sync fails.
                lost.append(error)
            await begun.put(None)

        try:
            with first_error():
                async with asyncio.TaskGroup() as group:
                    group.create_task(pull_everything(), name="pull")
                    group.create_task(self._land(lander, begun), name="land")
        except OSError as error:
            raise library_error(error, self._unit.origin.library.root) from error
        finally:
            # Of a sync that failed or was cancelled: no thread may be at work in the staging folder when it is removed.
            await asyncio.gather(*flushes, return_exceptions=True)
        if lost:
            raise lost[0]

    async def _land(self, lander: Lander, begun: asyncio.Queue[Landing | None]) -> None:
        """Lands files in groups: as many as came within a tenth of a second, so that one flush serves many."""
        more = True
        while more:
            first = await begun.get()
            if first is None:
                return
            group = [first]
            try:
                async with asyncio.timeout(_GROUP_SECONDS):
                    while len(group) < _GROUP_FILES:
                        item = await begun.get()
                        if item is None:
                            more = False
                            break
                        group.append(item)
            except TimeoutError:
                pass  # the group is what has come
            outcomes = await _undisturbed(lander.land(group))
            await self._on_committed()
            for landing, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, LandedFile):
                    self._tally.landed(outcome.entry)
                    self._on_progress(self._tally)
                else:
                    self._failed(outcome, in_scan=True, entry=landing.staged.entry)

    async def _not_taken(self, outcome: FileRead) -> None:
        path = outcome.wanted.path
        if outcome.status is ReadStatus.UNREADABLE:
            text = f"{display(path)} cannot be read at the source: {outcome.message}"
            self._failed(Problem.of(MediasyncError(Reason.FILE_UNREADABLE, text), path), in_scan=True)
        elif outcome.entry is not None and outcome.status in (ReadStatus.UNSETTLED, ReadStatus.CHANGED):
            self._look_again[path] = outcome.entry
        else:
            # Gone since the scan, or no regular file any more: the next scan says what is there then.
            self._tally.vanished_meanwhile += 1
            self._unfinished.add(directory_of(path))

    def _failed(self, problem: Problem, *, in_scan: bool, entry: FileEntry | None = None) -> None:
        _logger.warning("%s", problem.message, extra={"reason": problem.reason.value})
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)
        if in_scan and problem.path is not None:
            self._files_failed += 1
            self._tally.failed(problem.path)
            self._unfinished.add(directory_of(entry.path if entry else problem.path))
        self._on_progress(self._tally)

    def _received(self, path: bytes, count: int) -> None:
        self._tally.received(path, count)
        self._on_progress(self._tally)

    def _stage(self, text: str) -> None:
        self._tally.stage(text)
        self._on_progress(self._tally)

    async def _finish(self, result: ScanResult) -> None:
        """Remembers the scan. A directory with anything unfinished in it is listed in full by the next one."""
        self._unfinished.update(directory_of(path) for path in self._look_again)
        seen = {path: _LIST_IN_FULL if path in self._unfinished else inode for path, inode in result.seen.items()}
        watermark = result.finished.started_ns - _WATERMARK_MARGIN_NS
        await self._manifest.finish_scan(self._unit.origin, self._unit.folder, watermark, seen, result.full)


async def _undisturbed(landing: Coroutine[Any, Any, list[LandedFile | Problem]]) -> list[LandedFile | Problem]:
    """A landing that has begun is finished before a cancel takes effect, so that every visible file is on record."""
    task = asyncio.create_task(landing, name="land a group")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
