"""What a process, or the machine, that died left behind in a library: finished or forgotten before the next sync begins.

A process that died leaves intents. A file that is at its path with the intended hash is committed; otherwise it is forgotten and
will be pulled again. What is at that path then is somebody else's, or the version that was to be replaced.

A machine that died may also have lost what was landed with `durability: fast` and not flushed: see `durability`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from mediasync.paths import display
from mediasync.runtime import crash
from mediasync.storage.library_marker import OWN_FOLDER, library_error
from services.transfer import messages
from services.transfer.durability import boot_id, sync_file_system
from services.transfer.entities import LandedFile, LandingKind, LibraryId, SyncUnit
from services.transfer.flush_store import FlushStore, UnflushedFile, UnflushedUnit
from services.transfer.hashing import holds
from services.transfer.landing_store import LandingStore
from services.transfer.library import sync_folder
from services.transfer.naming import candidate_paths
from services.transfer.renames import rename_without_replacing
from services.transfer.replaced import remove_old

TORN = OWN_FOLDER + b"/torn"
# Some file systems keep times to two seconds.
_COARSEST_TIME_NS = 2_000_000_000

R = TypeVar("R")
_logger = logging.getLogger(__name__)


async def recover(library: LibraryId, store: LandingStore, executor: Executor) -> int:
    """Finishes what had begun to land. Returns how many files that were visible are now on record. Raises MediasyncError."""

    async def run(function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(executor, function, *args)

    try:
        flushes = store.flushes
        unflushed = await flushes.units(library)
        boot = await run(boot_id) if unflushed else ""
        crashed = [unit for unit in unflushed if not boot or unit.boot_id != boot]
        finished = 0
        for unit, landed in await store.pending_landings(library):
            absolute = os.path.join(library.root, landed.library_path)
            if await run(holds, absolute, landed.entry.size_bytes, landed.sha256):
                await store.commit_landed(unit, [landed], _event_of(unit, library))
                finished += 1
                continue
            if any((item.origin, item.sync_id) == (unit.origin.key, unit.sync_id) for item in crashed):
                await run(_move_torn, library.root, _unflushed(landed))
            await run(_remove_placeholder, library.root, landed)
            await store.forget_landing(library, landed.library_path)
        for item in crashed:
            await _look_through(item, library, flushes, run)
        if unflushed:
            # Also what was looked through: it may have been read from memory only.
            await run(sync_file_system, library.root)
            for item in unflushed:
                await flushes.end(library, item)
        await run(remove_old, library.root, time.time())
    except OSError as error:
        raise library_error(error, library.root) from error
    return finished


def _event_of(unit: SyncUnit, library: LibraryId) -> Callable[[LandedFile], bytes]:
    return lambda file: messages.file_synced(unit.sync_id, library, unit.origin.source_label, file)


async def _look_through(unit: UnflushedUnit, library: LibraryId, flushes: FlushStore, run: Callable[..., Any]) -> None:
    """Reads again what a unit brought, and forgets what the crash took."""
    lost: Sequence[UnflushedFile] = await run(_lost_of, library.root, await flushes.files(library, unit.sync_id))
    if lost:
        _logger.warning("the machine crashed before %d files of %s were on the disk; they are pulled again", len(lost), unit.sync_id)
    await flushes.forget(library, unit.origin, lost)


def _lost_of(root: bytes, files: Sequence[UnflushedFile]) -> list[UnflushedFile]:
    """Those that are missing or torn; the latter are moved aside."""
    lost = []
    for file in files:
        absolute = os.path.join(root, file.library_path)
        if not holds(absolute, file.size_bytes, file.sha256) and (not os.path.lexists(absolute) or _move_torn(root, file)):
            lost.append(file)
    return lost


def _move_torn(root: bytes, file: UnflushedFile) -> bool:
    """Moves a file aside that a crash left incomplete. Returns whether it was such: one that its owner changed since is longer, or has
    another time."""
    absolute = os.path.join(root, file.library_path)
    try:
        status = os.lstat(absolute)
    except FileNotFoundError:
        return False
    cut_short = not status.st_size or abs(status.st_mtime_ns - file.mtime_ns) <= _COARSEST_TIME_NS
    if not stat.S_ISREG(status.st_mode) or status.st_size > file.size_bytes or not cut_short:
        return False
    for candidate in candidate_paths(file.library_path, file.mtime_ns):
        aside = os.path.join(root, TORN, candidate)
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        try:
            rename_without_replacing(absolute, aside)
        except FileExistsError:
            continue
        sync_folder(os.path.dirname(aside))
        sync_folder(os.path.dirname(absolute))
        crash.point("transfer.after_torn")
        _logger.warning("%s was cut short by a crash of the machine; what is left of it is in .mediasync/torn", display(file.library_path))
        return True
    raise AssertionError("candidate_paths never ends")


def _remove_placeholder(root: bytes, landed: LandedFile) -> None:
    """Takes away the empty file that stands for one that was about to be renamed over it, where nothing better than that is possible. It is
    ours: the name was free when the intent was written."""
    absolute = os.path.join(root, landed.library_path)
    try:
        status = os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError):
        return
    if landed.kind is not LandingKind.REPLACED and landed.entry.size_bytes and stat.S_ISREG(status.st_mode) and not status.st_size:
        os.unlink(absolute)


def _unflushed(landed: LandedFile) -> UnflushedFile:
    entry = landed.entry
    return UnflushedFile(landed.library_path, entry.path, entry.size_bytes, entry.mtime_ns, landed.sha256)
