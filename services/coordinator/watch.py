"""Following a job to its end, whatever is restarted meanwhile (invariant I9).

A watch relays the progress service's stream and adds what only the coordinator knows: that the job has ended, and how. It
begins with a snapshot, sends heartbeats when nothing moves, and ends with exactly one `finished`. The job's row decides:

- the progress service is down: heartbeats; when it is back, its stream is taken up where it was left;
- it has nothing yet: a snapshot made of the row, once;
- the job ends: the last snapshot is waited for, but not for long, then comes `finished`.

No number of a stream goes down: what the progress service says after it was restarted is laid over what was sent already.
Only the newest snapshot is kept for a watcher that is slow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from mediasync import convert
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import Job, JobProgress, JobState, ProgressStatus
from mediasync.v1 import coordinator_pb2 as pb
from mediasync.v1 import progress_pb2, types_pb2
from services.coordinator.jobs import Endings
from services.coordinator.store import Store

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
LAST_SNAPSHOT_SECONDS = 2.0

_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 1.0
# Where a watcher is: behind an event of the progress service, whose own token follows, or behind one of ours.
_BEHIND_PROGRESS = "p."
_BEHIND_ROW = "j."
_BEHIND_END = "f."
_GROWING = (
    "percent",
    "folders_total",
    "folders_done",
    "files_total",
    "files_done",
    "bytes_total",
    "bytes_done",
    "errors",
    "warnings",
    "files_processed",
    "files_to_clean",
    "files_cleaned",
    "bytes_to_clean",
    "bytes_cleaned",
)
_TERMINAL = (types_pb2.PROGRESS_STATUS_COMPLETE, types_pb2.PROGRESS_STATUS_FAILED, types_pb2.PROGRESS_STATUS_CANCELLED)
_STATUS_OF_ROW = {
    JobState.PENDING: ProgressStatus.INITIALIZING,
    JobState.RUNNING: ProgressStatus.INITIALIZING,
    JobState.PAUSED: ProgressStatus.PAUSED,
}


class Feed(Protocol):
    """The progress service's stream of one run, strictly after a token."""

    def progress(self, sync_id: str, resume_token: str) -> AsyncGenerator[progress_pb2.ProgressWatchResponse]: ...


class Watches:
    """Hands out watches of jobs. `draining` is set when the process ends: watchers are told to call again."""

    def __init__(self, store: Store, endings: Endings, feed: Feed, draining: asyncio.Event) -> None:
        self._store = store
        self._endings = endings
        self._feed = feed
        self._draining = draining

    async def watch(self, job_or_sync_id: str, resume_token: str) -> AsyncIterator[pb.WatchJobResponse]:
        """The events of a job strictly after `resume_token`, or from a snapshot on. Raises JOB_NOT_FOUND, and INVALID_ARGUMENT for a
        token that was not given out here."""
        upstream_token = _upstream_token(resume_token)
        job = (await self._store.job(job_or_sync_id)).job
        wake, ended = asyncio.Event(), asyncio.Event()

        def hear() -> None:
            ended.set()
            wake.set()

        draining = asyncio.ensure_future(self._draining.wait())
        draining.add_done_callback(lambda _: wake.set())
        upstream = _Upstream(self._feed, job, upstream_token, wake.set)
        try:
            with self._endings.heard(job.job_id, hear):
                if (await self._store.job(job.job_id)).job.state.terminal:
                    # It ended before listening began.
                    ended.set()
                async for event in self._events(job.job_id, upstream, wake, ended, resume_token):
                    yield event
        finally:
            draining.cancel()
            await upstream.close()

    async def _events(
        self, job_id: str, upstream: _Upstream, wake: asyncio.Event, ended: asyncio.Event, token: str
    ) -> AsyncIterator[pb.WatchJobResponse]:
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while True:
            wake.clear()
            taken = upstream.take()
            if taken:
                token, progress = taken
                yield pb.WatchJobResponse(resume_token=token, progress=progress)
            if ended.is_set():
                deadline = loop.time() + LAST_SNAPSHOT_SECONDS if deadline is None else deadline
                if (upstream.at_end and not upstream.waiting) or loop.time() >= deadline:
                    job = (await self._store.job(job_id)).job
                    yield pb.WatchJobResponse(resume_token=_BEHIND_END, finished=convert.job_to_pb(job))
                    return
            elif self._draining.is_set():
                raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the coordinator is going down; watch again to go on")
            limit = HEARTBEAT_SECONDS if deadline is None else max(0.0, deadline - loop.time())
            try:
                async with asyncio.timeout(limit):
                    await wake.wait()
            except TimeoutError:
                if deadline is None:
                    yield pb.WatchJobResponse(resume_token=token, heartbeat=types_pb2.Heartbeat())


class _Upstream:
    """Keeps one stream of the progress service open, and the newest snapshot for whoever takes it."""

    def __init__(self, feed: Feed, job: Job, resume_token: str, changed: Callable[[], None]) -> None:
        self.at_end = False
        """Nothing more will come."""
        self._feed = feed
        self._job = job
        self._token = resume_token
        self._changed = changed
        self._newest: tuple[str, types_pb2.JobProgress] | None = None
        self._sent: types_pb2.JobProgress | None = None
        self._furthest: types_pb2.ProgressStatus.ValueType = types_pb2.PROGRESS_STATUS_UNSPECIFIED
        self._task = asyncio.get_running_loop().create_task(self._pump(), name=f"progress of {job.sync_id}")

    @property
    def waiting(self) -> bool:
        """A snapshot waits to be taken."""
        return self._newest is not None

    def take(self) -> tuple[str, types_pb2.JobProgress] | None:
        """The newest snapshot and the token to go on behind it, if it was not taken yet."""
        newest, self._newest = self._newest, None
        return newest

    async def close(self) -> None:
        """Leaves the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _pump(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self.at_end:
            try:
                async with aclosing(self._feed.progress(self._job.sync_id, self._token)) as events:
                    async for event in events:
                        pause = _FIRST_PAUSE_SECONDS
                        self._token = event.resume_token
                        if event.WhichOneof("event") == "progress":
                            self._keep(_BEHIND_PROGRESS + event.resume_token, event.progress)
                # It ends its stream after the last snapshot, which somebody who resumes behind it has seen.
                self.at_end = True
                self._changed()
                return
            except MediasyncError as error:
                if error.reason is Reason.SYNC_NOT_FOUND:
                    self._show_row()
                elif error.reason is Reason.RESUME_TOKEN_EXPIRED:
                    # A snapshot is complete in itself.
                    self._token = ""
                elif not error.retryable and error.reason is not Reason.CANCELLED:
                    logger.error("progress cannot be followed: %s", error, extra={"reason": error.reason.value})
                    return
            except Exception:
                # The border of a task of its own: the watcher still gets heartbeats, and the end.
                logger.exception("progress cannot be followed")
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_SECONDS)

    def _show_row(self) -> None:
        """Nothing was ever reported: says what the row says, unless something was sent before."""
        if self._sent is None and not self._token:
            row = JobProgress(
                self._job.sync_id,
                self._job.job_id,
                _STATUS_OF_ROW.get(self._job.state, ProgressStatus.INITIALIZING),
                start_time=self._job.start_time,
            )
            self._keep(_BEHIND_ROW, convert.progress_to_pb(row))

    def _keep(self, token: str, progress: types_pb2.JobProgress) -> None:
        if self._sent is not None:
            for name in _GROWING:
                before = getattr(self._sent, name)
                if getattr(progress, name) < before:
                    setattr(progress, name, before)
        # A pause comes and goes, over whatever the job is at.
        if progress.status != types_pb2.PROGRESS_STATUS_PAUSED:
            if progress.status not in _TERMINAL:
                progress.status = max(progress.status, self._furthest)
            self._furthest = progress.status
        self._sent = progress
        self._newest = token, progress
        self._changed()


def _upstream_token(resume_token: str) -> str:
    if resume_token in ("", _BEHIND_ROW, _BEHIND_END):
        return ""
    if resume_token.startswith(_BEHIND_PROGRESS):
        return resume_token.removeprefix(_BEHIND_PROGRESS)
    violation = FieldViolation("resume_token", "is not one that a watch gave out")
    raise MediasyncError(
        Reason.INVALID_ARGUMENT, f"resume_token {violation.description}", "Watch again without a token.", fields=(violation,)
    )
