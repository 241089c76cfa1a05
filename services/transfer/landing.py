"""From staging into the library: durable first, then visible, never replacing anything (invariants I1, I2).

A group of staged files goes through: fsync of each -> a name that is free -> intents committed -> rename without replacing -> fsync
of the folders -> manifest, index, event and processing task committed. Killed anywhere between, `recover` finishes or forgets: a
file that is visible has its hash on record at every moment, in its intent or its manifest row.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Problem
from mediasync.paths import check_relative, display
from mediasync.runtime import crash
from services.transfer import messages
from services.transfer.entities import LandedFile, LandingKind, LibraryId, StagedFile, SyncUnit
from services.transfer.landing_store import LandingStore
from services.transfer.library import OWN_FOLDER, file_error, library_error, read_marker, sync_folder
from services.transfer.naming import candidate_paths
from services.transfer.renames import rename_without_replacing

_READ_SIZE = 1 << 20
R = TypeVar("R")


@dataclass(frozen=True)
class Landing:
    """A file on its way into the library. `flushed` ends with None once its bytes are durable, or with what is wrong with them."""

    staged: StagedFile
    flushed: asyncio.Future[Problem | None]


class Lander:
    """Lands the files of one unit. One group at a time."""

    def __init__(self, unit: SyncUnit, store: LandingStore, executor: Executor, *, verify: bool) -> None:
        self._unit = unit
        self._library = unit.origin.library
        self._store = store
        self._executor = executor
        self._verify = verify
        self._known_folders: set[bytes] = {self._library.root}

    def begin(self, staged: StagedFile) -> Landing:
        """Starts to make a file durable, while others still come in. The caller lands it, or cancels its flush."""
        return Landing(staged, asyncio.ensure_future(self._run(self._flush, staged)))

    async def land(self, begun: Sequence[Landing]) -> list[LandedFile | Problem]:
        """Lands a group; one outcome each, in order. A problem is of that file alone, and its staged copy is gone.

        Raises MediasyncError with a reason LIBRARY_* when nothing more can land.
        """
        await self._run(self._check_marker)
        group = [landing.staged for landing in begun]
        flushed = await asyncio.gather(*(landing.flushed for landing in begun))
        outcomes: dict[int, LandedFile | Problem] = {index: problem for index, problem in enumerate(flushed) if problem is not None}
        waiting = [index for index in range(len(group)) if index not in outcomes]
        while waiting:
            chosen = await self._run(self._choose_targets, [group[index] for index in waiting])
            targets: list[tuple[int, bytes]] = []
            for index, target in zip(waiting, chosen, strict=True):
                if isinstance(target, bytes):
                    targets.append((index, target))
                else:
                    outcomes[index] = target
            await self._store.add_landings(self._unit, [(group[index], path) for index, path in targets])
            crash.point("transfer.after_intent")
            # A name that somebody else took in this very moment is chosen anew.
            waiting = await self._run(self._rename, group, targets, outcomes)
        landed = [outcome for outcome in outcomes.values() if isinstance(outcome, LandedFile)]
        await self._run(self._sync_folders, landed)
        crash.point("transfer.before_commit")
        label, library = self._unit.origin.source_label, self._library
        await self._store.commit_landed(self._unit, landed, lambda file: messages.file_synced(self._unit.sync_id, library, label, file))
        crash.point("transfer.after_commit")
        return [outcomes[index] for index in range(len(group))]

    async def _run(self, function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def _check_marker(self) -> None:
        """A share that went away under the sync leaves an empty folder, which must not be filled."""
        marker = read_marker(self._library.root)
        if marker is None or marker.uuid != self._library.uuid:
            raise MediasyncError(
                Reason.LIBRARY_MARKER_MISSING,
                f"the library {display(self._library.root)} lost its marker during the sync; was its disk unmounted?",
                "Mount it again and run the same command again.",
            )

    def _flush(self, staged: StagedFile) -> Problem | None:
        """Makes the bytes durable; with verification, reads them back."""
        try:
            descriptor = os.open(staged.staged_path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                if self._verify:
                    # Past the page cache, as far as the kernel follows the advice.
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
            if self._verify and sha256_of(staged.staged_path) != staged.sha256:
                os.unlink(staged.staged_path)
                text = f"{display(staged.entry.path)} read back from the library's disk differs from what was received"
                return Problem.of(MediasyncError(Reason.FILE_VERIFY_FAILED, text), staged.entry.path)
        except OSError as error:
            raise library_error(error, self._library.root) from error
        return None

    def _choose_targets(self, group: Sequence[StagedFile]) -> list[bytes | LandedFile | Problem]:
        """For each file a free path, or the copy that is there already, or why it cannot land."""
        taken: set[bytes] = set()
        chosen: list[bytes | LandedFile | Problem] = []
        for staged in group:
            target: bytes | LandedFile | Problem
            try:
                target = self._choose_target(staged, taken)
            except OSError as error:
                problem = file_error(error, staged.entry.path)
                if problem is None:
                    raise library_error(error, self._library.root) from error
                _discard(staged)
                target = Problem.of(problem, staged.entry.path)
            except MediasyncError as error:
                _discard(staged)
                target = Problem.of(error, staged.entry.path)
            if isinstance(target, bytes):
                taken.add(target)
            chosen.append(target)
        return chosen

    def _choose_target(self, staged: StagedFile, taken: set[bytes]) -> bytes | LandedFile:
        wanted = check_relative(staged.entry.path)
        if wanted == OWN_FOLDER or wanted.startswith(OWN_FOLDER + b"/"):
            raise MediasyncError(Reason.FILE_NAME_UNSAFE, f"{display(wanted)} is inside the library's own folder")
        for path in candidate_paths(wanted, staged.entry.mtime_ns):
            if path in taken:
                continue
            try:
                status = os.lstat(self._absolute(path))
            except FileNotFoundError:
                return path
            same_size = stat.S_ISREG(status.st_mode) and status.st_size == staged.entry.size_bytes
            if same_size and sha256_of(self._absolute(path)) == staged.sha256:
                _discard(staged)
                return LandedFile(staged.entry, path, staged.sha256, LandingKind.KNOWN, staged.incomplete)
        raise AssertionError("candidate_paths never ends")

    def _rename(
        self, group: Sequence[StagedFile], targets: Sequence[tuple[int, bytes]], outcomes: dict[int, LandedFile | Problem]
    ) -> list[int]:
        """Makes files visible. Returns the indexes of those whose name was taken meanwhile."""
        again: list[int] = []
        for index, path in targets:
            staged = group[index]
            absolute = self._absolute(path)
            try:
                self._make_folder(os.path.dirname(absolute))
                rename_without_replacing(staged.staged_path, absolute)
            except FileExistsError:
                again.append(index)
            except OSError as error:
                problem = file_error(error, staged.entry.path)
                if problem is None:
                    raise library_error(error, self._library.root) from error
                _discard(staged)
                outcomes[index] = Problem.of(problem, staged.entry.path)
            else:
                crash.point("transfer.after_rename")
                outcomes[index] = LandedFile(staged.entry, path, staged.sha256, LandingKind.NEW, staged.incomplete)
        return again

    def _make_folder(self, folder: bytes) -> None:
        """Makes a folder of the library and those above it, each durable in its parent."""
        if folder in self._known_folders:
            return
        parent = os.path.dirname(folder)
        self._make_folder(parent)
        try:
            os.mkdir(folder)
        except FileExistsError:
            # A file of that name raises NotADirectoryError when something is put into it.
            pass
        else:
            sync_folder(parent)
        self._known_folders.add(folder)

    def _sync_folders(self, landed: Sequence[LandedFile]) -> None:
        try:
            for folder in {os.path.dirname(self._absolute(file.library_path)) for file in landed if file.kind is LandingKind.NEW}:
                sync_folder(folder)
        except OSError as error:
            raise library_error(error, self._library.root) from error

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._library.root, path)


async def recover(library: LibraryId, store: LandingStore, executor: Executor) -> int:
    """Finishes what a process that died had begun to land. Returns how many files that were visible are now on record.

    A file that is not visible at its intended path, or holds other bytes (then it is somebody else's), is forgotten and will be
    pulled again.
    """
    finished = 0
    for unit, landed in await store.pending_landings(library):
        absolute = os.path.join(library.root, landed.library_path)
        if await asyncio.get_running_loop().run_in_executor(executor, _holds, absolute, landed):

            def event_of(file: LandedFile, unit: SyncUnit = unit) -> bytes:
                return messages.file_synced(unit.sync_id, library, unit.origin.source_label, file)

            await store.commit_landed(unit, [landed], event_of)
            finished += 1
        else:
            await store.forget_landing(library, landed.library_path)
    return finished


def _holds(absolute: bytes, landed: LandedFile) -> bool:
    try:
        status = os.lstat(absolute)
        return stat.S_ISREG(status.st_mode) and status.st_size == landed.entry.size_bytes and sha256_of(absolute) == landed.sha256
    except OSError:
        return False


def _discard(staged: StagedFile) -> None:
    try:
        os.unlink(staged.staged_path)
    except FileNotFoundError:
        pass  # removed with its staging folder


def sha256_of(path: bytes) -> bytes:
    """The hash of a file's bytes. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_READ_SIZE):
            digest.update(chunk)
    return digest.digest()
