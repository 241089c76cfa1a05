"""Running the media stages over landed files, off the transfer's path, and going on after a crash.

The queue is in the database: a file is on it from the transaction that committed it until the one that writes its FILE_PROCESSED event.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from opentelemetry import trace

from mediasync.model import Problem
from mediasync.runtime import context, crash
from mediasync.runtime.notices import Notice
from services.transfer import messages
from services.transfer.entities import ProcessingTask
from services.transfer.pipeline.stage import MediaFile
from services.transfer.pipeline.worker import PipelineWorker
from services.transfer.queue_store import QueueStore

_HOLD_SECONDS = 0.25
_FETCH = 32  # a result may hold 2 MB of a graph
_logger = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)

VALIDATE_ONLY = ("validate",)
ALL_STAGES = ("validate", "metadata")


class Processor:
    """Works the queue off, `parallel` files at a time."""

    def __init__(
        self,
        queues: QueueStore,
        worker: PipelineWorker,
        committed: Notice,
        progressed: Notice,
        parallel: int,
        hold: Callable[[], bool] = lambda: False,
    ) -> None:
        """While `hold` says so, nothing new is begun."""
        self._hold = hold
        self._queues = queues
        self._worker = worker
        self._committed = committed
        self._progressed = progressed
        self._slots = asyncio.Semaphore(parallel)

    async def run(self) -> None:
        """Runs until cancelled. `committed` is announced when there may be new tasks; `progressed` is announced when tasks were
        finished."""
        while True:
            seen = self._committed.count
            if self._hold():
                await self._committed.wait_past(seen, _HOLD_SECONDS)
                continue
            tasks = await self._queues.processing_tasks(_FETCH, 0)
            if not tasks:
                await self._committed.wait_past(seen)
                continue
            for sync_id, group in _by_sync(tasks):
                parent = await self._queues.trace_parent(sync_id)
                with context.resumed(sync_id, parent), _tracer.start_as_current_span("process", attributes={"files": len(group)}):
                    present = await asyncio.to_thread(lambda tasks: [_is_present(task) for task in tasks], group)
                    results = await asyncio.gather(*(self._process(*pair) for pair in zip(group, present, strict=True)))
                    crash.point("transfer.before_processed")
                    await self._queues.finish_processing(results)
                    crash.point("transfer.after_processed")
                await self._progressed.announce()

    async def _process(self, task: ProcessingTask, present: bool) -> tuple[ProcessingTask, bytes | None, Problem | None]:
        landed = task.landed
        path = _path(task)
        async with self._slots:
            if not present:
                # Its owner moved, edited or deleted it meanwhile; it is theirs.
                _logger.info("%s is not in the library any more, nothing to look into", path)
                return task, None, None
            file = MediaFile(path, landed.library_path, landed.entry.size_bytes, landed.entry.mtime_ns, landed.incomplete)
            facts = await self._worker.process(file, ALL_STAGES if task.extract_metadata else VALIDATE_ONLY)
        event = messages.file_processed(task.sync_id, task.library, task.source_label, landed, facts)
        return task, event, facts.invalid


def _path(task: ProcessingTask) -> bytes:
    return os.path.join(task.library.root, task.landed.library_path)


def _is_present(task: ProcessingTask) -> bool:
    """Whether the file is still where it landed; one that its owner moved, edited or deleted is not."""
    try:
        return os.lstat(_path(task)).st_size == task.landed.entry.size_bytes
    except OSError:
        return False


def _by_sync(tasks: Sequence[ProcessingTask]) -> list[tuple[str, list[ProcessingTask]]]:
    groups: dict[str, list[ProcessingTask]] = {}
    for task in tasks:
        groups.setdefault(task.sync_id, []).append(task)
    return list(groups.items())
