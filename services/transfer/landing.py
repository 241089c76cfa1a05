"""From staging into the library: durable first, then visible, never replacing anything (invariants I1, I2).

A group of staged files goes through: fsync of each -> a place for each (`placing`) -> intents committed -> rename without replacing ->
fsync of the folders -> manifest, index, event and processing task committed. Killed anywhere between, `recovery` finishes or forgets: a
file that is visible has its hash on record at every moment, in its intent or its manifest row. `durability` says what `fast` leaves out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Duplicates, Durability, Problem, SyncOptions
from mediasync.paths import display
from mediasync.runtime import crash
from mediasync.storage.library_marker import library_error, read_marker
from services.transfer import messages
from services.transfer.duplicates import Copies
from services.transfer.durability import boot_id, flush_files
from services.transfer.entities import LandedFile, LandingKind, Remembered, StagedFile, SyncUnit
from services.transfer.folders import LibraryFolders
from services.transfer.hashing import sha256_of
from services.transfer.landing_store import LandingStore
from services.transfer.library import file_error
from services.transfer.modes import Modes
from services.transfer.placing import Placement, Placer
from services.transfer.renames import rename_without_replacing
from services.transfer.repairing import replace_corrupt
from services.transfer.replaced import RewrittenNames, set_aside

_FLUSHED_TOGETHER = 16

R = TypeVar("R")
Outcomes = dict[int, LandedFile | Problem]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Landing:
    """Files on their way into the library, together. Each of `flushes` ends once the bytes of some of them are durable, with what is wrong
    with any."""

    staged: Sequence[StagedFile]
    flushes: Sequence[asyncio.Future[list[Problem | None]]]


class Lander:
    """Lands the files of one unit. One group at a time; what it landed fast is on the disk after `flushing.flush_run`."""

    def __init__(self, unit: SyncUnit, store: LandingStore, executor: Executor, options: SyncOptions) -> None:
        """Raises INVALID_ARGUMENT for an option that means nothing here."""
        self._unit = unit
        self._library = unit.origin.library
        self._store = store
        self._executor = executor
        self._options = options
        self._fast = options.durability is Durability.FAST
        self._unflushed = False
        self._modes = Modes.of(options)
        self._rewritten = RewrittenNames(options.rewritten_patterns)
        self._extras = itertools.count(1)
        self._folders = LibraryFolders(self._library.root, self._modes, durable=not self._fast)

    def begin(self, staged: Sequence[StagedFile]) -> Landing:
        """Starts to make files durable, while others still come in. The caller lands them, or waits for the end of what was begun."""
        if self._fast and not self._options.verify_transfers and not self._modes.for_files:
            return Landing(staged, ())
        run = asyncio.get_running_loop().run_in_executor
        parts = [staged[at : at + _FLUSHED_TOGETHER] for at in range(0, len(staged), _FLUSHED_TOGETHER)]
        return Landing(staged, [run(self._executor, self._prepare, part) for part in parts])

    async def land(self, begun: Landing) -> list[LandedFile | Problem]:
        """Lands files; one outcome each, in order. A problem is of that file alone, and its staged copy is gone.

        Raises MediasyncError with a reason LIBRARY_* when nothing more can land.
        """
        await self._run(self._check_marker)
        group = list(begun.staged)
        flushed = [problem for part in await asyncio.gather(*begun.flushes) for problem in part]
        outcomes: Outcomes = {index: problem for index, problem in enumerate(flushed) if problem is not None}
        waiting = [index for index in range(len(group)) if index not in outcomes]
        paths = [staged.entry.path for staged in group]
        memories = dict(zip(paths, await self._store.memories(self._unit, paths), strict=True))
        copies = Copies(self._library.root, await self._copies_on_record(group))
        landed_paths = [path for memory in memories.values() for path in memory.landed] if self._options.restore else []
        corrupt = await self._store.corrupt(self._library, landed_paths) if landed_paths else {}
        placer = Placer(self._library, self._options, self._rewritten, memories, copies, _discard, corrupt)
        tried: list[bytes] = []
        while waiting:
            now, later = self._first_of_each(group, waiting)
            placements = await self._run(self._place, placer, group, now, outcomes)
            await self._store.add_landings(self._unit, [(item.staged, item.path, item.kind) for _, item in placements])
            if self._fast and placements:
                await self._note_unflushed()
            crash.point("transfer.after_intent")
            # A name that somebody else took in this very moment, or that the file system refuses, is chosen anew.
            again = await self._run(self._make_visible, placer, placements, outcomes)
            tried += [item.path for index, item in placements if not _became(outcomes.get(index), item)]
            for index, item in placements:
                outcome = outcomes.get(index)
                if isinstance(outcome, LandedFile):
                    copies.add(outcome.sha256, outcome.library_path)
                elif index >= 0:
                    group[index] = item.staged
            waiting = again + later
        landed = [outcome for outcome in outcomes.values() if isinstance(outcome, LandedFile)]
        if not self._fast:
            await self._run(self._sync_folders, landed)
        crash.point("transfer.before_commit")
        label, library = self._unit.origin.source_label, self._library
        visible = {file.library_path for file in landed if file.kind.visible}
        await self._store.commit_landed(
            self._unit,
            landed,
            lambda file: messages.file_synced(self._unit.sync_id, library, label, file),
            [path for path in tried if path not in visible],
        )
        crash.point("transfer.after_commit")
        return [outcomes[index] for index in range(len(group))]

    async def _note_unflushed(self) -> None:
        """Puts on record, and the record on the disk, what is about to be visible without being there."""
        if not self._unflushed:
            await self._store.flushes.begin(self._unit, await self._run(boot_id))
            self._unflushed = True
        await self._store.flushes.flush_intents()

    async def _run(self, function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def _copies_on_record(self, group: Sequence[StagedFile]) -> dict[bytes, list[bytes]]:
        if self._options.duplicates is Duplicates.KEEP:
            return {}
        return await self._store.copies(self._library, [staged.sha256 for staged in group])

    def _first_of_each(self, group: Sequence[StagedFile], waiting: Sequence[int]) -> tuple[list[int], list[int]]:
        """Where content matters, the second file of the same content waits until the first has landed."""
        if self._options.duplicates is Duplicates.KEEP:
            return list(waiting), []
        first: dict[bytes, int] = {}
        for index in waiting:
            first.setdefault(group[index].sha256, index)
        now = set(first.values())
        return [index for index in waiting if index in now], [index for index in waiting if index not in now]

    def _check_marker(self) -> None:
        """A share that went away under the sync leaves an empty folder, which must not be filled."""
        marker = read_marker(self._library.root)
        if marker is None or marker.uuid != self._library.uuid:
            raise MediasyncError(
                Reason.LIBRARY_MARKER_MISSING,
                f"the library {display(self._library.root)} lost its marker during the sync; was its disk unmounted?",
                "Mount it again and run the same command again.",
            )

    def _prepare(self, group: Sequence[StagedFile]) -> list[Problem | None]:
        """Gives files their mode and owner and makes their bytes durable; with verification, reads them back."""
        try:
            if self._modes.for_files:
                for staged in group:
                    self._modes.apply_to_file(staged.staged_path)
            if not self._fast or self._options.verify_transfers:
                flush_files([staged.staged_path for staged in group], drop=self._options.verify_transfers)
            return [self._verified(staged) if self._options.verify_transfers else None for staged in group]
        except OSError as error:
            raise library_error(error, self._library.root) from error

    def _verified(self, staged: StagedFile) -> Problem | None:
        if sha256_of(staged.staged_path) == staged.sha256:
            return None
        os.unlink(staged.staged_path)
        text = f"{display(staged.entry.path)} read back from the library's disk differs from what was received"
        return Problem.of(MediasyncError(Reason.FILE_VERIFY_FAILED, text), staged.entry.path)

    def _place(
        self, placer: Placer, group: Sequence[StagedFile], indexes: Sequence[int], outcomes: Outcomes
    ) -> list[tuple[int, Placement]]:
        """Places some of a group. Returns what has to become visible; what does not is in `outcomes`. Sidecars that have to be copied are
        among the former, under negative indexes."""
        placements: list[tuple[int, Placement]] = []
        for index, outcome in zip(indexes, placer.place([group[index] for index in indexes]), strict=True):
            if isinstance(outcome, Placement):
                placements.append((index, outcome))
            else:
                outcomes[index] = outcome
        copied: list[tuple[int, Placement]] = []
        for _, placement in placements:
            for sidecar, path in placer.stranded(placement):
                copy = self._copy_of(sidecar, placement)
                if copy is not None:
                    copied.append((-next(self._extras), Placement(copy, path, LandingKind.COPIED)))
        # Sidecars first: a picture that is visible after a crash is not looked at again, and its sidecar would be missing for ever.
        return copied + placements

    def _copy_of(self, sidecar: Remembered, beside: Placement) -> StagedFile | None:
        """A copy in staging of a sidecar that is in the library; None if its owner changed or removed it."""
        staged_path = beside.staged.staged_path + b".sidecar"
        try:
            if not copy_of(os.path.join(self._library.root, sidecar.library_path), staged_path, sidecar):
                return None
            staged = StagedFile(sidecar.entry, staged_path, sidecar.sha256, sidecar.incomplete)
            self._modes.apply_to_file(staged_path)
            if not self._fast:
                flush_files([staged_path])
        except OSError as error:
            raise library_error(error, self._library.root) from error
        crash.point("transfer.after_copy")
        return staged

    def _make_visible(self, placer: Placer, placements: Sequence[tuple[int, Placement]], outcomes: Outcomes) -> list[int]:
        """Renames files into the library. Returns the indexes of those that need another name."""
        again: list[int] = []
        for index, item in placements:
            staged, entry = item.staged, item.staged.entry
            absolute = os.path.join(self._library.root, item.path)
            try:
                self._folders.make(os.path.dirname(absolute), os.path.dirname(staged.staged_path))
                if item.kind is LandingKind.REPLACED:
                    set_aside(self._library.root, item.path)
                    crash.point("transfer.after_aside")
                    os.rename(staged.staged_path, absolute)
                elif item.kind is LandingKind.REPAIRED:
                    replace_corrupt(self._library.root, item.path, staged)
                else:
                    rename_without_replacing(staged.staged_path, absolute)
            except OSError as error:
                another = isinstance(error, FileExistsError) or placer.refuse(entry.path, error.errno or 0)
                if another and item.kind is not LandingKind.COPIED:
                    again.append(index)
                    continue
                problem = file_error(error, entry.path)
                if problem is None:
                    raise library_error(error, self._library.root) from error
                _discard(staged)
                if item.kind is not LandingKind.COPIED:
                    outcomes[index] = Problem.of(problem, entry.path)
            else:
                crash.point("transfer.after_rename")
                outcomes[index] = LandedFile(entry, item.path, staged.sha256, item.kind, staged.incomplete)
        return again

    def _sync_folders(self, landed: Sequence[LandedFile]) -> None:
        try:
            self._folders.sync({os.path.dirname(file.library_path) for file in landed if file.kind.visible})
        except OSError as error:
            raise library_error(error, self._library.root) from error


def copy_of(source: bytes, target: bytes, expected: Remembered) -> bool:
    """Copies a small file whose hash is known, time included. Returns whether it is that file. Raises OSError of the target."""
    try:
        if sha256_of(source) != expected.sha256:
            return False
        with open(source, "rb") as file:
            content = file.read()
    except OSError:
        return False
    with open(target, "wb") as file:
        file.write(content)
    if sha256_of(target) != expected.sha256:
        os.unlink(target)
        return False
    try:
        os.utime(target, ns=(expected.entry.mtime_ns, expected.entry.mtime_ns))
    except OSError:
        pass  # refused, as for every other file there
    return True


def _became(outcome: LandedFile | Problem | None, item: Placement) -> bool:
    return isinstance(outcome, LandedFile) and outcome.library_path == item.path


def _discard(staged: StagedFile) -> None:
    try:
        os.unlink(staged.staged_path)
    except FileNotFoundError:
        pass  # removed with its staging folder
