"""What can be asked of a library as a whole: verify, adopt, sum up, get a repair ready. One verify or adoption of a library at a time.

A folder without a marker is no library, and nothing is said of it (invariant I4); only an adoption makes one of a folder that never was
one before.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.library import AdoptSummary, Finding, FindingKind, LibraryProgress, LibraryStats, VerifyOptions, VerifySummary
from mediasync.paths import check_relative, display
from mediasync.runtime import context
from mediasync.runtime.notices import Notice
from mediasync.storage.database import Database
from mediasync.storage.library_marker import OWN_FOLDER, library_error, read_marker
from services.transfer.adopting import SOURCE_KEY, SOURCE_LABEL, Adoption, settled_events
from services.transfer.adoption_store import AdoptionStore
from services.transfer.entities import LibraryId
from services.transfer.library import check_folder
from services.transfer.library_stats_store import LibraryStatsStore
from services.transfer.library_store import IndexedFile, LibraryStore, Own, Recorded, Verification
from services.transfer.manifest_store import ManifestStore
from services.transfer.move_store import MoveStore
from services.transfer.queue_store import QueueStore
from services.transfer.repair_store import RepairStore
from services.transfer.verifying import Verifier

OnProgress = Callable[[LibraryProgress], None]
OpenLibrary = Callable[[str], AbstractAsyncContextManager[LibraryId]]

_PAGE = 1000
_TELL_SECONDS = 30.0
_ALL = tuple(FindingKind)


class LibraryKeeper:
    """`open_library` gives a library for one use, and makes one of a folder that is none. `sent` is announced when events have left the
    outbox, `committed` by us when there are new ones."""

    def __init__(self, database: Database, home: Path, open_library: OpenLibrary, committed: Notice, sent: Notice) -> None:
        self._store = LibraryStore(database)
        self._adoptions = AdoptionStore(database)
        self._repairs = RepairStore(database)
        self._stats = LibraryStatsStore(database)
        self._moves = MoveStore(database)
        self._manifest = ManifestStore(database)
        self._queues = QueueStore(database)
        self._home = home
        self._open_library = open_library
        self._committed = committed
        self._sent = sent
        self._busy: set[str] = set()
        self._executor = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="library")

    async def verify(self, path: str, options: VerifyOptions, on_progress: OnProgress) -> VerifySummary:
        """Compares a library with its index. Raises LIBRARY_*, INVALID_ARGUMENT."""
        if options.below:
            _check_below(options.below)
        async with self._alone(path) as library:
            verifier = await self._verifier(library, _run_id("verify"), options, on_progress)
            if options.findings_only:
                await verifier.look_again()
                state = Verification(options)
            else:
                state = await verifier.run()
            return VerifySummary(
                files_intact=state.files_intact,
                files_read=state.files_read,
                files_left_out=state.files_left_out,
                others=state.others,
                bytes_read=state.bytes_read,
                findings=await self._store.counts(library, options.below),
            )

    async def findings(self, path: str, below: bytes = b"") -> AsyncIterator[Finding]:
        """What the last verify found, by path."""
        async with self.library(path) as library:
            after = b""
            while page := await self._store.told(library, _ALL, after, _PAGE, below):
                for finding in page:
                    # A slash at the end tells a folder from a file in the record only.
                    yield dataclasses.replace(finding, path=finding.path.rstrip(b"/"))
                after = page[-1].path

    async def adopt(self, path: str, on_progress: OnProgress) -> AdoptSummary:
        """Takes the files of a folder into the index. Raises LIBRARY_*."""
        async with self._alone(path, may_be_new=True) as library:
            run_id = _run_id("adopt")
            origin = await self._manifest.origin(SOURCE_KEY, SOURCE_LABEL, library)
            verifier = await self._verifier(library, run_id, VerifyOptions(restart=True), on_progress)
            state = await verifier.run()
            adoption = Adoption(
                library, self._store, self._adoptions, self._executor, run_id, origin.key, self._committed, self._sent, on_progress
            )
            summary = await adoption.run()
            await settled_events(self._adoptions, self._sent, _TELL_SECONDS)
            findings = await self._store.counts(library)
            return dataclasses.replace(summary, files_known=state.files_intact, others=state.others, findings=findings)

    async def indexed(self, path: str, after: bytes = b"") -> AsyncIterator[tuple[LibraryId, Sequence[IndexedFile]]]:
        """The files of a library's index, by path; of all libraries that there are, as far as they are on record, for an empty path. Files
        that are culled are not meant to be there. Raises LIBRARY_*, INVALID_ARGUMENT."""
        if path:
            async with self.library(path) as library:
                libraries = [library]
        else:
            libraries, after = list(await self._manifest.libraries()), b""
        for library in libraries:
            place = after
            while page := await self._store.indexed(library, b"", place, _PAGE):
                yield library, [file for file in page if not file.culled]
                place = page[-1].path

    async def stats(self, path: str) -> LibraryStats:
        """Sums a library up. Raises LIBRARY_*."""
        async with self.library(path) as library:
            stats = await self._stats.stats(library, SOURCE_LABEL)
            try:
                disk = await asyncio.to_thread(os.statvfs, library.root)
            except OSError as error:
                raise library_error(error, library.root) from error
            return dataclasses.replace(stats, free_bytes=disk.f_bavail * disk.f_frsize, capacity_bytes=disk.f_blocks * disk.f_frsize)

    async def prepare_repair(self, path: str, repair_id: str) -> tuple[list[tuple[str, str, int]], int]:
        """Puts the files that the last verify found lost on record as those that failed in the run `repair_id`. Returns (key, label,
        files) of each source, and how many files no source has. Raises LIBRARY_*."""
        async with self.library(path) as library:
            await self._queues.begin_run(repair_id, context.trace_parent())
            return await self._repairs.prepare_repair(library, repair_id)

    async def _verifier(self, library: LibraryId, run_id: str, options: VerifyOptions, on_progress: OnProgress) -> Verifier:
        """A verify that is the run `run_id`: what it tells of moved files belongs to that."""
        await self._queues.begin_run(run_id, context.trace_parent())

        async def follow(moves: Sequence[tuple[Recorded, Own]]) -> None:
            await self._moves.follow(library, run_id, moves)
            await self._committed.announce()

        return Verifier(library, self._store, self._repairs, self._executor, options, follow, on_progress)

    async def close(self) -> None:
        """Ends the threads."""
        await asyncio.to_thread(self._executor.shutdown)

    @asynccontextmanager
    async def _alone(self, path: str, *, may_be_new: bool = False) -> AsyncIterator[LibraryId]:
        async with self.library(path, may_be_new=may_be_new) as library:
            if library.uuid in self._busy:
                raise MediasyncError(Reason.LIBRARY_BUSY, f"{display(library.root)} is being verified or adopted already")
            self._busy.add(library.uuid)
            try:
                yield library
            finally:
                self._busy.discard(library.uuid)

    @asynccontextmanager
    async def library(self, path: str, *, may_be_new: bool = False) -> AsyncIterator[LibraryId]:
        """The library at an absolute path, for one use. Raises LIBRARY_*, INVALID_ARGUMENT."""
        if not os.path.isabs(path):
            violation = FieldViolation("library_path", "must be an absolute path")
            raise MediasyncError(Reason.INVALID_ARGUMENT, f"the library {path!r} is not named by an absolute path", fields=[violation])
        if not may_be_new:
            root = os.fsencode(os.path.normpath(path))  # noqa: ASYNC240 - text only
            await asyncio.to_thread(check_folder, root, self._home)
            known = any(library.root == root for library in await self._manifest.libraries())
            # Of one that is known, opening it says the same with more words.
            if not known and await asyncio.to_thread(read_marker, root) is None:
                raise MediasyncError(
                    Reason.LIBRARY_MARKER_MISSING,
                    f"{display(root)} is no library: it has no marker (.mediasync/library.json)",
                    f"To make it one with the files that are there: mediasync library adopt {shlex.quote(display(root))}",
                )
        async with self._open_library(path) as library:
            yield library


def _run_id(kind: str) -> str:
    return f"{kind}_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}_{secrets.token_hex(4)}"


def _check_below(below: bytes) -> None:
    try:
        check_relative(below)
        inside = below == OWN_FOLDER or below.startswith(OWN_FOLDER + b"/")
    except MediasyncError:
        inside = True
    if inside:
        text = f"{display(below)} is no path of a library's files; it has to be relative to the library's folder"
        raise MediasyncError(Reason.INVALID_ARGUMENT, text, fields=[FieldViolation("below", "no path below the library's root")])
