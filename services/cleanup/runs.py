"""Clean-ups that run: one at a time of each source, each to its end over as many connections as that takes.

A run that is repeated goes on where it was. What an earlier one of the same source left open in the journal is looked at before anything
else, whichever run that was. A run whose caller is gone ends by itself once what is under way at the source has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from opentelemetry import trace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPolicy, CleanupSummary, SourceSpec, SyncSpec
from mediasync.runtime import context
from mediasync.sources.base import Source
from mediasync.sources.retries import Attempts
from services.cleanup.attempt import Attempt, OnProgress, Tools
from services.cleanup.counting import CleanupProgress
from services.cleanup.libraries import library_of
from services.cleanup.store import NewRun
from services.cleanup.trash import check_unverified

_CLOSE_SECONDS = 5.0
_logger = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class _Active:
    sync_id: str
    stop: asyncio.Event
    task: asyncio.Task[CleanupSummary]


class Runs:
    """Starts clean-ups, and knows which sources are being cleaned. `published` waits a while until the event log has what was told."""

    def __init__(self, tools: Tools, open_source: Callable[[SyncSpec], Source], published: Callable[[], Awaitable[object]]) -> None:
        self._tools = tools
        self._open_source = open_source
        self._published = published
        self._active: dict[str, _Active] = {}
        self._stopped = False

    async def run(self, sync_id: str, job_id: str, spec: SyncSpec, on_progress: OnProgress) -> CleanupSummary:
        """Cleans up, and returns what it came to over all attempts at the run. Cancelled, it lets what is under way at the source end, and
        does not wait for it. Raises MediasyncError: CLEANUP_BUSY, one of the other reasons CLEANUP_*, or why the source or the library
        cannot be used; the run may be repeated then."""
        check_unverified(spec.source, policy_of(spec))
        while (other := self._active.get(spec.source.key)) is not None:
            if other.sync_id != sync_id:
                raise MediasyncError(Reason.CLEANUP_BUSY, f"{spec.source.label} is being cleaned up by another job")
            # Of a caller that was cut off, and asks again.
            other.stop.set()
            await asyncio.wait({other.task})
        if self._stopped:
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the clean-up service is going down; ask again")
        stop = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._run(sync_id, job_id, spec, on_progress, stop), name=f"clean-up {sync_id}")
        self._active[spec.source.key] = _Active(sync_id, stop, task)
        task.add_done_callback(lambda _: self._ended(spec.source, task))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            raise

    @property
    def active(self) -> frozenset[str]:
        """The runs that are at work now."""
        return frozenset(active.sync_id for active in self._active.values())

    def stop(self) -> None:
        """Tells what runs to end, and takes nothing more."""
        self._stopped = True
        for active in self._active.values():
            active.stop.set()

    async def close(self) -> None:
        """Ends what runs: what is under way at the sources is waited for, for a while."""
        self.stop()
        tasks = {active.task for active in self._active.values()}
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
            for task in left:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, source: SourceSpec, task: asyncio.Task[CleanupSummary]) -> None:
        self._active.pop(source.key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Also said here, because the caller may be gone.
            _logger.info("the clean-up of %s ended: %s", source.label, error)

    async def _run(self, sync_id: str, job_id: str, spec: SyncSpec, on_progress: OnProgress, stop: asyncio.Event) -> CleanupSummary:
        journal = self._tools.journal
        library = await library_of(spec, self._tools.transfer)
        source = spec.source
        new = NewRun(sync_id, job_id, source.key, source.label, library.root, library.uuid, context.trace_parent())
        known = await journal.begin_run(new)
        if known.ended:
            return known.summary
        attempts = Attempts(spec.options)
        on_progress = _never_back(on_progress)
        connected = False
        with _tracer.start_as_current_span("clean up"):
            while True:
                attempt = Attempt(self._tools, sync_id, spec, library, on_progress, stop)
                try:
                    connection = await self._open_source(spec).connect()
                    connected = True
                    try:
                        summary = await attempt.run(connection)
                    finally:
                        await connection.close()
                except MediasyncError as error:
                    await attempt.save()
                    if not connected or stop.is_set():
                        raise
                    if attempt.advanced:
                        attempts.succeeded()
                    delay = attempts.delay_after(error)
                    _logger.warning("%s; %s", error, attempts, extra={"delay_seconds": delay})
                    on_progress(attempt.progress(str(attempts)))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(delay):
                            await stop.wait()
                    if stop.is_set():
                        raise
                    continue
                if summary is None:
                    text = f"the clean-up of {source.label} was stopped; asked for again, it goes on where it was"
                    raise MediasyncError(Reason.SERVICES_UNREACHABLE, text)
                break
        await self._published()
        return summary


def _never_back(on_progress: OnProgress) -> OnProgress:
    """The same, of which no number goes down: a new attempt begins with no plan."""
    furthest = CleanupProgress("")

    def tell(now: CleanupProgress) -> None:
        nonlocal furthest
        furthest = CleanupProgress(
            now.stage,
            max(now.files_total, furthest.files_total),
            max(now.files_done, furthest.files_done),
            max(now.bytes_total, furthest.bytes_total),
            max(now.bytes_done, furthest.bytes_done),
        )
        on_progress(furthest)

    return tell


def policy_of(spec: SyncSpec) -> CleanupPolicy:
    """The policy of a spec that has one."""
    if spec.cleanup is None:
        raise MediasyncError(Reason.INVALID_ARGUMENT, "a clean-up needs to be told what it may delete (`cleanup`)")
    return spec.cleanup
