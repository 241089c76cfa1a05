"""The worker as a whole: which libraries are open, which sources are being synced, and what runs behind the syncs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.model import PreviewSummary, SourceReport, SourceSpec, SyncOptions, SyncSpec, SyncSummary
from mediasync.paths import display
from mediasync.runtime import context
from mediasync.runtime.notices import Notice
from mediasync.sources.base import Source, Surroundings
from mediasync.sources.factory import discard_partials
from mediasync.sources.retries import Attempts
from mediasync.sources.selection import selection_for
from mediasync.sources.units import units_of
from mediasync.storage.database import Database
from mediasync.storage.library_marker import library_error, read_marker
from services.transfer import surveying
from services.transfer.bandwidth import Limits
from services.transfer.entities import LibraryId, SyncUnit
from services.transfer.failed_store import FailedStore
from services.transfer.flushing import flush_run
from services.transfer.folder_sync import FolderSync
from services.transfer.landing_store import LandingStore
from services.transfer.library import check_folder, write_marker
from services.transfer.manifest_store import ManifestStore
from services.transfer.modes import Modes
from services.transfer.parts import Parts
from services.transfer.pool import ConnectionPools
from services.transfer.previewing import FolderPreview, OnFiles
from services.transfer.queue_store import QueueStore
from services.transfer.receiving.lanes import Lanes
from services.transfer.receiving.receivers import Receivers
from services.transfer.recovery import recover
from services.transfer.scanning import ScanResult
from services.transfer.staging import Staging, remove_beginnings
from services.transfer.tally import UnitTally
from services.transfer.watching import Activity, FolderWatch

# A sync that was cancelled is at its end by then; another one of the same folder may go on for hours.
_DISCARD_SECONDS = 1.5

_logger = logging.getLogger(__name__)


class TransferWorker:
    """Owns what outlives a call: which libraries are in use, connections, locks."""

    def __init__(
        self,
        database: Database,
        home: Path,
        open_source: Callable[[SourceSpec], Source],
        *,
        receivers: Receivers | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`receivers` None keeps every connection in this process."""
        self._manifest = ManifestStore(database)
        self._landings = LandingStore(database)
        self._failures = FailedStore(database)
        self._queues = QueueStore(database)
        self._home = home
        self._pools = ConnectionPools(open_source)
        self._receivers = receivers
        self.limits = limits or Limits()
        # fsync waits for the disk, not for a processor: a few at a time let the file system put them into one journal commit.
        self._executor = ThreadPoolExecutor(8, thread_name_prefix="disk")
        self._opening = asyncio.Lock()
        self._users: Counter[str] = Counter()
        self._folder_locks: dict[tuple[int, bytes], asyncio.Lock] = {}
        self._timeless: set[str] = set()
        self.committed = Notice()

    def source(self, spec: SourceSpec) -> Source:
        """The source itself, for its host key."""
        return self._pools.source(spec)

    async def check_library(self, dest_path: str) -> None:
        """Whether a sync could write to the library, as far as that can be known before the first byte. Makes it one on first use.
        Raises MediasyncError with a reason LIBRARY_*."""
        async with self._library(dest_path) as library, self._staging(library):
            pass

    def library(self, dest_path: str) -> AbstractAsyncContextManager[LibraryId]:
        """The library, for one use by somebody else; one is made of a folder that never was one. Raises MediasyncError with a reason
        LIBRARY_*."""
        return self._library(dest_path)

    @asynccontextmanager
    async def _library(self, dest_path: str) -> AsyncIterator[LibraryId]:
        """The library, for one use. The first of several finishes what had begun to land there and was left behind.

        Nothing of the library is held open when nobody uses it, so that its disk can be unmounted.
        """
        root = os.fsencode(os.path.normpath(dest_path))  # noqa: ASYNC240 - text only
        async with self._opening:
            known = await self._manifest.libraries()
            run = asyncio.get_running_loop().run_in_executor
            marker_uuid = await run(self._executor, self._check_library, root, known)
            library = await self._manifest.remember_library(marker_uuid, root)
            if not self._users[library.uuid]:
                finished = await recover(library, self._landings, self._executor)
                if finished:
                    _logger.info("finished %d files that a worker that died had landed", finished)
                    await self.committed.announce()
            self._users[library.uuid] += 1
        try:
            yield library
        finally:
            self._users[library.uuid] -= 1

    @asynccontextmanager
    async def _staging(self, library: LibraryId) -> AsyncIterator[Staging]:
        """A staging folder for one use. What did not land is removed with it: room in the library is not for what failed."""
        run = asyncio.get_running_loop().run_in_executor
        making = run(self._executor, Staging, library.root)
        try:
            try:
                staging = await asyncio.shield(making)
            except OSError as error:
                raise library_error(error, library.root) from error
            if staging.times_refused and library.uuid not in self._timeless:
                self._timeless.add(library.uuid)
                _logger.warning(
                    "the file system of the library %s refuses times: %s; files land with the time at which they came",
                    display(library.root),
                    staging.times_refused,
                )
            yield staging
        finally:
            await asyncio.wait({making})
            if making.exception() is None:
                await run(self._executor, making.result().close)

    def _check_library(self, root: bytes, known: list[LibraryId]) -> str:
        check_folder(root, self._home)
        marker = read_marker(root)
        path = display(root)
        expected = next((library for library in known if library.root == root), None)
        if marker is None:
            if expected is not None:
                folder, content = f"{path}/.mediasync", json.dumps({"library": expected.uuid})
                restore = f"mkdir -p {shlex.quote(folder)} && echo {shlex.quote(content)} > {shlex.quote(f'{folder}/library.json')}"
                raise MediasyncError(
                    Reason.LIBRARY_MARKER_MISSING,
                    f"{path} was a library and has no marker (.mediasync/library.json) now; most likely its disk is not mounted",
                    f"Mount it. If this is the right folder all the same: {restore}",
                )
            return write_marker(root).uuid
        if expected is not None and expected.uuid != marker.uuid:
            raise MediasyncError(
                Reason.LIBRARY_MARKER_MISMATCH,
                f"{path} holds another library (marker {marker.uuid}) than before ({expected.uuid})",
                "Mount the right disk there, or sync to this library under another path.",
            )
        other = next((library for library in known if library.uuid == marker.uuid and library.root != root), None)
        if other is not None and not _same_folder(other.root, root) and _has_marker(other.root, marker.uuid):
            raise MediasyncError(
                Reason.LIBRARY_MARKER_MISMATCH,
                f"{path} is a copy of the library {display(other.root)}: both have the same marker",
                f"To make it a library of its own: rm {shlex.quote(f'{path}/.mediasync/library.json')}",
            )
        return marker.uuid

    async def expect_sync(self, spec: SyncSpec) -> None:
        """A sync is about to be asked for. One that was never finished before has much to bring: its connections begin to log in while
        the source is still being looked at. On this very machine a login takes no time worth saving."""
        lanes = self._lanes("", spec)
        if lanes.far and not await self._manifest.ever_scanned(spec.source.key, os.fsencode(spec.dest_path)):
            lanes.warm()

    async def probe(self, spec: SyncSpec, *, count_files: bool, survey: bool = False) -> tuple[SourceReport, list[bytes]]:
        """Connects, and says what is there and which units a sync of `spec` has. With `survey` looks around too. Raises MediasyncError.

        A line that breaks is tried again as the options say; a host that cannot be reached at all is told at once.
        """
        attempts = Attempts(spec.options)
        while True:
            try:
                return await self._probe(spec, count_files, survey)
            except MediasyncError as error:
                if error.reason is not Reason.CONNECTION_LOST:
                    raise
                delay = attempts.delay_after(error)
                _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay})
                await asyncio.sleep(delay)

    async def _probe(self, spec: SyncSpec, count_files: bool, survey: bool) -> tuple[SourceReport, list[bytes]]:
        selection = selection_for(spec.source, spec.options)
        async with self._pools.pool(spec.source, SyncOptions().parallel_transfers).connection() as connection:
            # A sync, which has a library, waits for no answer that it does not need: each takes a round trip.
            wordy = survey or count_files or not spec.dest_path
            present = await connection.list_folders() if wordy else []
            units = await units_of(connection, spec.source, spec.folders)
            probe = connection.probe
            found = await surveying.count(connection, units, selection) if count_files else surveying.Found()
            around = await connection.surroundings() if survey else Surroundings()
            library_free = await asyncio.to_thread(surveying.free_bytes, spec.dest_path) if survey and spec.dest_path else None
            # Last: it may close the connection.
            rate = await surveying.bytes_per_second(connection, found.readable, selection) if survey and found.readable else 0
            report = SourceReport(
                probe.engine,
                probe.platform,
                probe.root,
                tuple(present),
                probe.round_trip_seconds,
                probe.clock_offset_seconds,
                found.files,
                found.size_bytes,
                tuple(found.names),
                around.tools,
                around.free_bytes,
                library_free,
                rate,
            )
            return report, units

    async def sync_folder(
        self,
        sync_id: str,
        spec: SyncSpec,
        folder: bytes,
        on_progress: Callable[[UnitTally], None],
        on_scanned: Callable[[int, int], None],
        on_activity: Callable[[Activity], None] = lambda activity: None,
        only_failed_of: str = "",
    ) -> SyncSummary:
        """One attempt at one unit; with `options.watch` it goes on until it is cancelled. Waits for another sync of the same folder into
        the same library. With `only_failed_of` only what failed in that run is taken. Raises MediasyncError."""
        # Before anything else: what cannot be applied to any file is a mistake of the whole sync.
        Modes.of(spec.options)
        async with self._library(spec.dest_path) as library:
            origin = await self._manifest.origin(spec.source.key, spec.source.label, library)
        await self._queues.begin_run(sync_id, context.trace_parent())
        parts = self._parts(SyncUnit(sync_id, origin, folder, spec.options.extract_metadata), spec, on_progress, on_scanned)

        @asynccontextmanager
        async def session() -> AsyncIterator[Staging]:
            lock = self._folder_locks.setdefault((origin.key, folder), asyncio.Lock())
            async with self._library(spec.dest_path) as library, lock, self._staging(library) as staging:
                yield staging

        if spec.options.watch:
            return await FolderWatch(parts, session, on_activity).run()
        only = await self._failures.paths(only_failed_of, origin, folder) if only_failed_of else None
        async with session() as staging:
            return await FolderSync(parts, only=only).run(staging)

    async def discard_beginnings(self, spec: SyncSpec) -> None:
        """Removes what came in part of large files of `spec.folders`, for a sync that nobody means to go on with. A folder that another
        sync is at work on keeps what it has. Raises MediasyncError."""
        run = asyncio.get_running_loop().run_in_executor
        async with self._library(spec.dest_path) as library:
            origin = await self._manifest.origin(spec.source.key, spec.source.label, library)
            for folder in spec.folders:
                lock = self._folder_locks.setdefault((origin.key, folder), asyncio.Lock())
                try:
                    await asyncio.wait_for(lock.acquire(), _DISCARD_SECONDS)
                except TimeoutError:
                    continue
                try:
                    unit = SyncUnit("", origin, folder, extract_metadata=False)
                    await run(self._executor, remove_beginnings, library.root, unit.beginnings_key)
                    await run(self._executor, discard_partials, spec.source, self._home)
                except OSError as error:
                    raise library_error(error, library.root) from error
                finally:
                    lock.release()

    async def flush(self, sync_id: str) -> None:
        """Everything that a run landed is on the disk once this returns. Raises MediasyncError."""
        await flush_run(sync_id, self._landings.flushes, self._executor)

    async def scan_folder(self, spec: SyncSpec, folder: bytes) -> tuple[ScanResult, int]:
        """What a sync of one folder would take, and how many files it would leave as they are. Takes nothing, remembers nothing
        of the source."""
        async with self._library(spec.dest_path) as library:
            origin = await self._manifest.origin(spec.source.key, spec.source.label, library)
            unit = SyncUnit("", origin, folder, spec.options.extract_metadata)
            result = await FolderSync(self._parts(unit, spec, lambda tally: None, lambda files, size: None)).scan()
        result.close()
        return result, result.finished.files_seen - result.wanted.files

    async def preview_folder(self, spec: SyncSpec, folder: bytes, on_files: OnFiles) -> PreviewSummary:
        """What a sync of one folder would do, file by file. Takes nothing, remembers nothing, and makes no library."""
        root = os.fsencode(os.path.normpath(spec.dest_path))  # noqa: ASYNC240 - text only
        known = await self._manifest.libraries()
        uuid = await asyncio.get_running_loop().run_in_executor(self._executor, self._known_uuid, root, known)
        library = next((library for library in known if library.uuid == uuid), None)
        library = LibraryId(library.key if library else -1, uuid or "", root)
        origin = await self._manifest.known_origin(spec.source.key, spec.source.label, library)
        unit = SyncUnit("", origin, folder, spec.options.extract_metadata)
        return await FolderPreview(self._parts(unit, spec, lambda tally: None, lambda files, size: None), on_files).run()

    def _known_uuid(self, root: bytes, known: list[LibraryId]) -> str | None:
        """The id of the library at `root`; None where there is none yet. Raises MediasyncError as a sync would."""
        if read_marker(root) is None and not any(library.root == root for library in known):
            return None
        return self._check_library(root, known)

    def _parts(
        self, unit: SyncUnit, spec: SyncSpec, on_progress: Callable[[UnitTally], None], on_scanned: Callable[[int, int], None]
    ) -> Parts:
        return Parts(
            unit,
            spec.options,
            self._lanes(unit.sync_id, spec),
            self._manifest,
            self._landings,
            self._failures,
            self._executor,
            self._home,
            UnitTally(unit.folder),
            on_progress,
            on_scanned,
            self.committed.announce,
        )

    def _lanes(self, sync_id: str, spec: SyncSpec) -> Lanes:
        pool = self._pools.pool(spec.source, spec.options.parallel_transfers)
        selection = selection_for(spec.source, spec.options)
        return Lanes(spec.source, spec.options, sync_id, selection, pool, self.limits, self._receivers, spec.folders)

    async def close(self) -> None:
        """Closes connections and ends receivers."""
        if self._receivers is not None:
            await self._receivers.close()
        await self._pools.close()
        self._executor.shutdown()


def _same_folder(one: bytes, other: bytes) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _has_marker(root: bytes, uuid: str) -> bool:
    try:
        marker = read_marker(root)
    except MediasyncError:
        return False
    return marker is not None and marker.uuid == uuid
