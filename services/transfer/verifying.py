"""Holding a library's index against what is on its disk.

1. Walk: tree and index are read side by side, both in path order, some thousand at a time. Each step is committed with a cursor, so that a
   verify that was cut off goes on where it was.
2. Settle: what was found is looked at once more, because syncs go on meanwhile and a file lands in two steps. Then unknown files are
   held against those that are gone: same size and hash is a file that was moved; index and manifest follow it, and subscribers are told.

A file with another time than on record is read, and so is every file when it is `deep`. The same bytes with another time are as good as
before; this time is what is expected from now on.

Nothing is believed of a library that is not there: its marker is looked at before each commit (invariant I4), and what is below a folder
that cannot be listed is not missing. No file is changed.

What it does not guarantee: that a file which is edited while it is read is told rightly. It is told as changed, and the next verify sees.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.library import FindingKind, LibraryProgress, VerifyOptions
from mediasync.paths import display
from mediasync.runtime import crash
from mediasync.storage.library_marker import read_marker
from mediasync.storage.library_reading import LibraryReader, ReadFile
from services.transfer.entities import LibraryId
from services.transfer.judging import finding, judge_read
from services.transfer.library_store import IndexedFile, LibraryStore, Own, Recorded, Verification
from services.transfer.library_walk import LAST, Found, LibraryWalk
from services.transfer.repair_store import RepairStore
from services.transfer.settling import Follow, Settling

R = TypeVar("R")
OnProgress = Callable[[LibraryProgress], None]

STEP_FILES = 1000
# A deep step is committed after so much was read: that much is read again when it is cut off.
STEP_BYTES = 1 << 30
_NO_FILE = "there is no regular file any more"


class Verifier:
    """One verify of one library. `executor` has the threads that read."""

    def __init__(
        self,
        library: LibraryId,
        store: LibraryStore,
        repairs: RepairStore,
        executor: ThreadPoolExecutor,
        options: VerifyOptions,
        follow: Follow,
        on_progress: OnProgress,
    ) -> None:
        self._library = library
        self._store = store
        self._repairs = repairs
        self._executor = executor
        self._options = options
        self._follow = follow
        self._on_progress = on_progress
        self._reader = LibraryReader(library.root, executor, from_disk=options.deep)
        self._found: list[Found] = []
        self._closed: tuple[bytes, ...] = ()
        self._total = 0
        self._resumed = False

    async def run(self) -> Verification:
        """Walks and settles. Raises MediasyncError with a reason LIBRARY_*, with everything up to there on record."""
        state = await self._begin()
        self._total = await self._store.count(self._library, self._options.below)
        walk = LibraryWalk(self._library.root, self._options.below, state.cursor)
        while state.cursor < LAST:
            state = await self._step(walk, state)
            crash.point("transfer.verify_step")
        await self._settling().run(thorough=False)
        state = replace(state, finish_time=time.time())
        await self._store.commit(self._library, state)
        return state

    async def look_again(self) -> None:
        """Only settles what an earlier verify found. Raises MediasyncError."""
        await self._settling().run(thorough=True)

    def _settling(self) -> Settling:
        return Settling(
            self._library, self._store, self._repairs, self._reader, self._options, self._follow, self.check_marker, self._on_progress
        )

    async def _begin(self) -> Verification:
        """The state to go on from."""
        last = await self._store.verification(self._library)
        asked = self._options
        if last is not None and not last.finish_time and not asked.restart:
            before = last.options
            if (before.below, before.deep, bool(before.since_ns)) == (asked.below, asked.deep, bool(asked.since_ns)):
                self._options = replace(asked, since_ns=before.since_ns)
                self._resumed = True
                return last
        state = Verification(replace(asked, restart=False))
        await self._store.begin(self._library, state)
        return state

    async def _step(self, walk: LibraryWalk, state: Verification) -> Verification:
        """Deals with the next files of both sides, and commits. Returns the new state."""
        if len(self._found) < STEP_FILES:
            self._found += await self._run(walk.next, STEP_FILES - len(self._found))
        at_end = len(self._found) < STEP_FILES
        rows = await self._store.indexed(self._library, self._options.below, state.cursor, STEP_FILES)
        # Up to where both sides are known, and, of a deep one, not more than can be read in a while.
        upto = LAST if at_end else self._found[-1].path
        if len(rows) == STEP_FILES:
            upto = min(upto, rows[-1].path)
        upto = self._bounded(upto)
        here = [item for item in self._found if item.path <= upto]
        self._found = self._found[len(here) :]
        step = _Step([row for row in rows if row.path <= upto], here)
        await self._judge(step)
        new = replace(
            state,
            cursor=upto,
            files_intact=state.files_intact + step.intact,
            files_read=state.files_read + len(step.read),
            files_left_out=state.files_left_out + step.left_out,
            others=state.others + step.others,
            bytes_read=state.bytes_read + self._reader.bytes_read,
        )
        self._reader.bytes_read = 0
        await self._run(self.check_marker)
        await self._store.commit(self._library, new, step.findings, step.own, step.read, step.back)
        self._report(new)
        return new

    def _bounded(self, upto: bytes) -> bytes:
        if not self._options.deep:
            return upto
        size = 0
        for item in self._found:
            size += item.size_bytes
            if size >= STEP_BYTES:
                return min(upto, item.path)
        return upto

    async def _judge(self, step: _Step) -> None:
        """Finds out what is with each file of a step."""
        rows = {row.path: row for row in step.rows}
        doubtful: list[tuple[IndexedFile, Found]] = []
        for item in step.found:
            row = rows.pop(item.path, None)
            if item.closed:
                step.findings.append(Recorded(item.path or b"/", FindingKind.UNREADABLE, message=item.closed))
                if item.path.endswith(b"/") or not item.path:
                    self._closed += (item.path,)
            elif row is None:
                step.unknown(item)
            elif self._options.since_ns and item.ctime_ns < self._options.since_ns:
                step.left_out += 1
            elif not item.regular:
                step.findings.append(finding(row, FindingKind.CHANGED, _NO_FILE))
            else:
                self._compare(row, item, step, doubtful)
        gone = [row for row in rows.values() if not row.path.startswith(self._closed)]
        step.findings += await self._run(self._gone, gone)
        if doubtful:
            files = [(item.path, item.size_bytes) for _, item in doubtful]
            for (row, item), read in zip(doubtful, await self._reader.read(files, self._still_reading), strict=True):
                _conclude(row, item, read, step)

    def _compare(self, row: IndexedFile, item: Found, step: _Step, doubtful: list[tuple[IndexedFile, Found]]) -> None:
        size, mtime, _ = row.expected
        same = (size, mtime) == (item.size_bytes, item.mtime_ns)
        if same and row.culled:
            step.back.append(row.path)
        if same and not self._options.deep:
            step.intact += 1
        elif not same and item.size_bytes not in (size, row.size_bytes):
            # Another size is other content, and takes no reading.
            step.findings.append(finding(row, FindingKind.CHANGED))
        else:
            doubtful.append((row, item))

    def _gone(self, rows: Sequence[IndexedFile]) -> list[Recorded]:
        """Findings of files that are on record and were not met. One that came this moment is not gone."""
        findings = []
        for row in rows:
            try:
                os.lstat(os.path.join(self._library.root, row.path))
            except (FileNotFoundError, NotADirectoryError):
                findings.append(finding(row, FindingKind.CULLED if row.culled else FindingKind.MISSING))
            except OSError as error:
                findings.append(finding(row, FindingKind.UNREADABLE, error.strerror or str(error)))
        return findings

    def check_marker(self) -> None:
        """Raises LIBRARY_MARKER_MISSING when the library is not there any more."""
        marker = read_marker(self._library.root)
        if marker is None or marker.uuid != self._library.uuid:
            raise MediasyncError(
                Reason.LIBRARY_MARKER_MISSING,
                f"the library {display(self._library.root)} lost its marker while it was looked at; was its disk unmounted?",
                "Mount it again and run the same command again: it goes on where it was.",
            )

    async def _run(self, function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def _still_reading(self) -> None:
        self._on_progress(LibraryProgress("reading files", bytes_done=self._reader.bytes_read, resumed=self._resumed))

    def _report(self, state: Verification) -> None:
        done = state.files_intact + state.files_left_out
        self._on_progress(LibraryProgress("comparing", done, self._total, state.bytes_read, resumed=self._resumed))


class _Step:
    """What one step has, and what it comes to."""

    def __init__(self, rows: Sequence[IndexedFile], found: Sequence[Found]) -> None:
        self.rows = rows
        self.found = found
        self.findings: list[Recorded] = []
        self.own: list[Own] = []
        self.read: list[bytes] = []
        self.back: list[bytes] = []
        self.intact = 0
        self.left_out = 0
        self.others = 0

    def unknown(self, item: Found) -> None:
        """Something that is not on record."""
        if item.regular:
            self.findings.append(Recorded(item.path, FindingKind.UNKNOWN, item.size_bytes, item.mtime_ns))
        else:
            self.others += 1


def _conclude(row: IndexedFile, item: Found, read: ReadFile, step: _Step) -> None:
    """What the bytes of a file say."""
    verdict = judge_read(row, read, same_time=(item.size_bytes, item.mtime_ns) == row.expected[:2])
    if isinstance(verdict, Recorded):
        step.findings.append(verdict)
    elif verdict is not None:
        step.intact += 1
        step.read.append(row.path)
        if (verdict.size_bytes, verdict.mtime_ns, verdict.sha256) != row.expected or row.culled:
            step.own.append(verdict)
