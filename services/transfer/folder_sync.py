"""One folder, from the first look to the last committed file.

Everything here may be repeated after a crash at any point: what was committed is found unchanged by the next scan and is counted
from the store; what was not is pulled again. A large pull begins while the scan still runs; what only a complete scan can tell waits for
its end: what vanished, what the hash decides about, and since when changes are unknown. What it does not guarantee: that the library
mirrors one moment of the source. Files come and go while it runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from opentelemetry import trace

from mediasync.model import MAX_PROBLEMS, SyncSummary
from mediasync.paths import display
from mediasync.sources.base import DirectoryScanned, FileEntry
from services.transfer import messages
from services.transfer.diff import DirectoryDiff, directory_of
from services.transfer.entities import UnitCounts
from services.transfer.flow import WantedFlow
from services.transfer.groups import first_error
from services.transfer.parts import Parts
from services.transfer.scanning import LIST_IN_FULL, FolderScan, ScanResult, digest_of
from services.transfer.space import GrowingNeed
from services.transfer.staging import Staging
from services.transfer.taking import Taking

# A file that is being written while the sync runs is worth a short wait; one that was left unfinished a while ago is not.
_LOOKS_AGAIN = 3
_LONGEST_WAIT_SECONDS = 5.0
_FRESH_NS = 10_000_000_000

_tracer = trace.get_tracer(__name__)


class FolderSync:
    """One attempt at one unit.

    A watch gives the `taking` that it goes on with: unfinished files are left to it then, and so is saying that the unit is done. With
    `goes_on` what was counted before still counts. `only` are paths that alone are taken, with what is below them; the scan is not
    remembered then.
    """

    def __init__(self, parts: Parts, taking: Taking | None = None, *, goes_on: bool = False, only: Sequence[bytes] | None = None) -> None:
        self._parts = parts
        self._watching = taking is not None
        self._taking = taking or Taking(parts)
        self._goes_on = goes_on
        self._only = only
        self._counted: set[bytes] = set()
        """Paths that were counted before the scan found them."""
        self._room = GrowingNeed(self._taking.check_space)
        self.scan_seconds = 0.0
        """How long the last scan took."""

    async def scan(self, flow: WantedFlow | None = None) -> ScanResult:
        """Looks at the folder and compares; changes nothing. What `flow` takes is not in the result, which the caller closes. Raises
        MediasyncError."""
        parts, taking = self._parts, self._taking
        parts.activity("scanning")
        counted = taking.begin(anew=not self._goes_on)
        if not self._goes_on:
            parts.tally.restart(await parts.landings.committed_by_directory(parts.unit))
        self._counted = counted if self._goes_on else set()
        vanished_before = parts.tally.vanished_meanwhile
        first = True

        async def begin() -> None:
            nonlocal first
            if flow is not None and not first:
                # What was asked for is settled before it is looked for again; committed, it is found unchanged.
                flow.take_back()
                await flow.settle()
                self._counted |= taking.begin_again()
                parts.tally.vanished_meanwhile = vanished_before
            first = False
            self._room.clear()
            parts.tally.go_back()

        async def expect(record: DirectoryScanned, difference: DirectoryDiff, there: Sequence[FileEntry]) -> None:
            for entry in difference.wanted:
                if entry.path not in self._counted:
                    parts.tally.found(entry)
            if flow is not None:
                self._room.needed(sum(entry.size_bytes for entry in difference.wanted))

        with _tracer.start_as_current_span("scan", attributes={"folder": display(parts.unit.folder)}) as span:
            started = time.monotonic()
            offer = flow.offer if flow is not None else _nothing
            result = await FolderScan(parts, on_directory=expect, only=self._only, offer=offer).exact(begin)
            self.scan_seconds = time.monotonic() - started
            files = result.wanted.files + (flow.files if flow is not None else 0)
            found = {"files": result.finished.files_seen, "files.wanted": files, "files.doubtful": result.doubtful.files}
            span.set_attributes({**found, "scan.full": result.full})
        return result

    def _asked_for(self, entry: FileEntry) -> None:
        """A file is pulled while the scan still runs."""
        self._room.taken(entry.size_bytes)
        if entry.path not in self._counted:
            self._parts.tally.asked_for(entry)

    async def run(self, staging: Staging) -> SyncSummary:
        """Syncs the folder by way of `staging`. Raises MediasyncError when the source or the library is lost; what had landed stays
        committed."""
        started = time.monotonic()
        parts, taking = self._parts, self._taking
        result = await self._scan_and_take(staging)
        if self._only is None:
            await self._finish(result)
        counts = await parts.landings.unit_counts(parts.unit)
        if not self._watching:
            await self._tell(counts)
            parts.tally.finished()
        parts.on_progress(parts.tally)
        unsettled = len(taking.look_again)
        known = counts.files + counts.duplicates + counts.culled
        unchanged = result.finished.files_seen - known - unsettled - taking.files_failed - parts.tally.vanished_meanwhile
        return SyncSummary(
            files_transferred=counts.files,
            bytes_transferred=counts.bytes,
            files_unchanged=max(0, unchanged),
            files_filtered=result.finished.files_filtered,
            files_unsettled=unsettled,
            files_failed=taking.files_failed + len(result.unreadable),
            files_vanished=counts.vanished,
            files_duplicate=counts.duplicates,
            files_culled=counts.culled,
            problems=tuple(taking.problems[:MAX_PROBLEMS]),
            problems_total=taking.files_failed + len(result.unreadable),
            duration_seconds=time.monotonic() - started,
        )

    async def _scan_and_take(self, staging: Staging) -> ScanResult:
        """The two at the same time, as far as that goes. The result is closed."""
        parts, taking = self._parts, self._taking
        # The newest of all is known when everything was seen.
        flow = None if parts.options.newest_first or self._only is not None else WantedFlow(parts.options, self._asked_for)
        result: ScanResult | None = None
        try:
            with first_error():
                async with asyncio.TaskGroup() as group:
                    if flow is not None:
                        group.create_task(taking.take_early(flow, staging), name="pull while scanning")
                    result = await self.scan(flow)
                    await parts.manifest.mark_vanished(parts.unit, result.vanished)
                    await taking.take(result, staging, flow)
            if not self._watching:
                await self._look_again(result, staging)
            return result
        finally:
            if result is not None:
                result.close()
                await parts.failures.replace(parts.unit, taking.failed_files.items())

    async def _look_again(self, result: ScanResult, staging: Staging) -> None:
        """Waits a little for files that somebody is writing right now."""
        taking = self._taking
        since_ns = result.finished.started_ns - _FRESH_NS
        fresh = {path: found.entry for path, found in taking.look_again.items() if found.entry.mtime_ns > since_ns}
        for _ in range(_LOOKS_AGAIN):
            if not fresh:
                return
            # Long enough that a file which was left alone meanwhile counts as settled.
            self._parts.activity("waiting for files that are being written")
            await asyncio.sleep(min(self._parts.options.settle_seconds, _LONGEST_WAIT_SECONDS))
            await taking.pull_again(list(fresh), staging)
            # Still unfinished: only one that grew meanwhile has somebody at work on it.
            fresh = {path: found.entry for path, found in taking.look_again.items() if path in fresh and found.entry != fresh[path]}

    async def _tell(self, counts: UnitCounts) -> None:
        """What all attempts of this run have brought, under one id: of several that get so far the first is heard."""
        if counts.files:
            unit = self._parts.unit
            origin = unit.origin
            event = messages.batch_synced(
                unit.sync_id, origin.library, origin.source_label, origin.key, unit.folder, counts.files, counts.bytes
            )
            await self._parts.landings.tell(unit, event)
            await self._parts.on_committed()

    async def _finish(self, result: ScanResult) -> None:
        """Remembers the scan. A directory with anything unfinished in it is listed in full by the next one."""
        unfinished = self._taking.unfinished | {directory_of(path) for path in self._taking.look_again}
        self._taking.unfinished.clear()
        seen = {path: LIST_IN_FULL if path in unfinished else inode for path, inode in result.seen.items()}
        parts = self._parts
        await parts.manifest.finish_scan(
            parts.unit.origin, parts.unit.folder, result.watermark_ns, seen, full=result.full, selection=digest_of(parts.lanes.selection)
        )


def _nothing(entry: FileEntry) -> bool:
    """Takes no file."""
    return False
