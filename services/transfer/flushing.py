"""Putting on the disk what a run landed fast: once, before the run is reported done. See `durability`."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from mediasync.runtime import crash
from mediasync.storage.library_marker import library_error
from services.transfer.durability import sync_file_system
from services.transfer.flush_store import FlushStore


async def flush_run(sync_id: str, store: FlushStore, executor: Executor) -> None:
    """Everything that a run landed is on the disk once this returns; until then a machine that crashes may take it back. Raises
    MediasyncError when a disk fails.

    Asks the database what there is to flush, so that it does not matter which process landed it.
    """
    units = await store.of_run(sync_id)
    for root in {library.root for library, _ in units}:
        crash.point("transfer.before_flush")
        try:
            await asyncio.get_running_loop().run_in_executor(executor, sync_file_system, root)
        except OSError as error:
            raise library_error(error, root) from error
    for library, unit in units:
        await store.end(library, unit)
