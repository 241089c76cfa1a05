"""The engine: each job is one durable DBOS workflow, whose id is the job's. Nothing of DBOS is seen outside this module and `course`.

A step's outcome is recorded when it ends; killed at any point and started again, the workflow goes through its body once more, is given
the recorded outcomes, and goes on with the step that had none. There is a step a unit of work, never a file: one costs a few
milliseconds and two writes.

What to know of DBOS, and what is done about it:

- Two processes with one executor id would run everything twice: the engine is opened only by the holder of the lease (see `__main__`).
- A changed application version strands what is under way, so it is pinned. Whoever changes the order or the names of steps has to
  raise it, and to see to it that the old ones are given up.
- A step id is drawn when a step is called. Units run side by side and end in any order, so their ids are drawn beforehand, in theirs (see
  `course`).
- It cancels by a poll each second and then lets no step run any more, so that nothing could tell of the end. A job is stopped by
  our own note in the store and an event here, at once; the workflow itself then concludes, publishes and ends.
- It counts how often a workflow was recovered, and gives it up after a number of times, which is for one that kills the coordinator. A
  job may be paused, or watch, for months; so the count is put back once a job has been under way for a minute.
- A pause is no state of the workflow: its body waits inside a step, and again after a recovery.
- Its defaults are pickle, the rollback journal, a logger that writes to stderr, and three queries a second when idle.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dbos._workflow_commands as dbos_background
import sqlalchemy as sa
from dbos import DBOS, DBOSPortableJSONSerializer, SetWorkflowID
from dbos import error as dbos_error
from dbos._utils import INTERNAL_QUEUE_NAME
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Job, JobKind
from mediasync.runtime import crash
from mediasync.runtime.context import bound
from services.coordinator import course
from services.coordinator.accepting import Acceptors
from services.coordinator.cleaning import Cleaning, CleanupPeer
from services.coordinator.jobs import Endings, Hold
from services.coordinator.outcomes import failed, settled
from services.coordinator.patience import Patience
from services.coordinator.reporting import JobReports
from services.coordinator.run import Run, joined
from services.coordinator.steps import Steps, publish
from services.coordinator.store import Store, StoredJob
from services.coordinator.terms import Peers, Terms
from services.coordinator.watch_notes import WatchNotes
from services.coordinator.workflow_store import forget_recoveries, wal_engine

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

SURVIVED_SECONDS = 60.0
"""A job that was under way for so long does not kill the coordinator."""

APPLICATION_VERSION = "1"
EXECUTOR_ID = "coordinator"
MAINTENANCE_SECONDS = 3600.0
KEPT_WORKFLOW_SECONDS = 7 * 86_400.0
KEPT_REQUEST_SECONDS = 7 * 86_400.0

# A job whose every recovery kills the coordinator again would keep all others from running.
_MAX_RECOVERIES = 20
_DBOS_THREADS = 16
_QUICK_POLL_SECONDS = 0.2
_IDLE_POLL_SECONDS = 30.0
_CLOSE_SECONDS = 6.0
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_DELETE_AT_ONCE = 500
_WORDS = {JobKind.SYNC: "sync", JobKind.CLEANUP: "clean-up"}

ReporterFactory = Callable[[str], Any]
"""Makes the async context manager that gives the `Reporter` of a sync id."""


class WorkflowEngine:
    """See `jobs.Engine`. One a process: DBOS is a singleton. `open` it on the event loop that is to run the jobs."""

    def __init__(
        self,
        database: Path,
        store: Store,
        peers: Peers,
        cleanup: CleanupPeer,
        reporter: ReporterFactory,
        hold: Hold,
        endings: Endings,
        patience: Patience | None = None,
        acceptors: Acceptors | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._peers = peers
        self._cleanup = cleanup
        self._reporter = reporter
        self._hold = hold
        self._endings = endings
        self._patience = patience or Patience()
        self._acceptors = acceptors
        self._runs: dict[str, Run] = {}
        self._sqlalchemy: sa.Engine | None = None
        self._workflow: Any = None

    async def open(self) -> None:
        """Goes on with every job that has not ended. To be called by the holder of the lease only."""
        dbos_logger = logging.getLogger("dbos")
        # Without a handler it makes one that writes to stderr; with one its records go where all others go.
        dbos_logger.addHandler(logging.NullHandler())
        self._sqlalchemy = wal_engine(self._database)
        instance = DBOS(
            config={
                "name": "mediasync",
                "system_database_engine": self._sqlalchemy,
                "application_version": APPLICATION_VERSION,
                "executor_id": EXECUTOR_ID,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "WARNING",
                "enable_otlp": False,
                "max_executor_threads": _DBOS_THREADS,
                # Nobody waits for its notifications; its thread sleeps this long before it notices that it is to end.
                "notification_listener_polling_interval_sec": _QUICK_POLL_SECONDS,
                "scheduler_polling_interval_sec": _IDLE_POLL_SECONDS,
            }
        )
        for decorating in list(dbos_logger.filters):
            # It adds fields of its own to every record, which say nothing in our logs.
            dbos_logger.removeFilter(decorating)

        async def sync(job_id: str) -> None:
            await self._run(job_id)

        self._workflow = DBOS.workflow(name="sync", max_recovery_attempts=_MAX_RECOVERIES)(sync)
        # Recovered workflows come through its internal queue. It is polled quickly until they have, and seldom from then on; so are
        # its delayed and timed-out workflows, of which we have none. dbos is pinned exactly, which is what makes this safe.
        queue = instance._registry._register_internal_queue(INTERNAL_QUEUE_NAME, polling_interval_sec=_QUICK_POLL_SECONDS)
        dbos_background._BACKGROUND_JOBS_INTERVAL_SEC = _IDLE_POLL_SECONDS
        # On the event loop's own thread, though it blocks for some 50 ms: the loop it is launched on is the one that runs workflows.
        DBOS.launch()
        await self.recover()
        asyncio.get_running_loop().call_later(10 * _QUICK_POLL_SECONDS, setattr, queue, "_polling_interval_sec", _IDLE_POLL_SECONDS)

    async def close(self) -> None:
        """Lets go of every job where it is; the next start goes on with it."""
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        tasks = {run.task for run in self._runs.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "dbos-close") as executor:
            await loop.run_in_executor(executor, _destroy)
        # DBOS had made its own threads the loop's default ones, and they are gone.
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="default"))
        if self._sqlalchemy:
            self._sqlalchemy.dispose()

    async def submit(self, job_id: str) -> None:
        """Begins an accepted job; durable once returned. Harmless for one that has begun."""
        with SetWorkflowID(job_id):
            await DBOS.start_workflow_async(self._workflow, job_id)

    def cancel(self, job_id: str) -> None:
        """Makes a running job look at what it was asked: to stop. Harmless for any other."""
        if job_id in self._runs:
            self._runs[job_id].terms.stop.set()

    async def look(self, job_id: str) -> None:
        """Makes a running job look at whether it is paused and how fast it may be, as the store has it. Harmless for any other."""
        run = self._runs.get(job_id)
        if run is None:
            return
        stored = await self._store.job(job_id)
        limited = stored.job.limit_mbps != run.terms.limit_mbps
        run.terms.limit_mbps = stored.job.limit_mbps
        moved = stored.pause_changes != run.terms.pausing.changes
        if moved:
            if run.notes is not None:
                run.notes.clear()
            if run.reports is not None:
                run.reports.pause(stored.pause_changes)
            run.terms.pausing.move(stored.pause_changes)
            await self._hold_or_not(job_id, run)
        if limited and run.sync_id:
            try:
                await self._peers.set_limit(run.sync_id, run.terms.limit_mbps)
            except MediasyncError as error:
                # The worker that comes back is told with the call.
                logger.warning("the transfer worker could not be told of the limit: %s", error, extra={"reason": error.reason.value})

    async def _hold_or_not(self, job_id: str, run: Run) -> None:
        """Services that live for the length of a command need not stay for a job that is paused, or that watches under `mediasync up`."""
        if run.terms.pausing.paused or run.standing:
            self._hold.end(job_id)
        else:
            await self._hold.begin(job_id)

    async def recover(self) -> None:
        """Begins jobs that were accepted and not begun, and gives up those that DBOS has given up."""
        for job_id in await self._store.unfinished():
            status = await DBOS.get_workflow_status_async(job_id)
            if status is None:
                await self.submit(job_id)
            elif status.status in _ENDED and job_id not in self._runs:
                stored = await self._store.job(job_id)
                if not stored.job.state.terminal:
                    await self._give_up(stored, status.status)

    async def maintain(self) -> None:
        """Every hour: looks after lost jobs, and forgets what nobody will ask for any more."""
        while True:
            await asyncio.sleep(MAINTENANCE_SECONDS)
            await self.recover()
            await self.forget(time.time())

    async def forget(self, now: float) -> None:
        """Forgets the records of workflows that ended a week before `now` (Unix seconds), and requests answered then."""
        before = datetime.fromtimestamp(now - KEPT_WORKFLOW_SECONDS, UTC).isoformat()
        while True:
            old = await DBOS.list_workflows_async(
                status=list(_ENDED), completed_before=before, limit=_DELETE_AT_ONCE, load_input=False, load_output=False
            )
            if not old:
                break
            await DBOS.delete_workflows_async([workflow.workflow_id for workflow in old])
        await self._store.forget_requests(now - KEPT_REQUEST_SECONDS)

    async def _run(self, job_id: str) -> None:
        """The body of the workflow. Whatever is in here and not in a step may run again, and does no harm when it does."""
        task = asyncio.current_task()
        assert task is not None
        run = self._runs[job_id] = Run(task)
        survived = asyncio.get_running_loop().call_later(SURVIVED_SECONDS, self._survived, job_id)
        try:
            recovered = await self._store.start(job_id)
            stored = await self._store.job(job_id)
            if stored.cancel_requested:
                run.terms.stop.set()
            run.sync_id, run.standing = stored.job.sync_id, stored.standing
            run.terms.limit_mbps, run.terms.scope, run.terms.recovered = stored.job.limit_mbps, stored.scope, recovered
            run.terms.pausing.move(stored.pause_changes)
            await self._hold_or_not(job_id, run)
            await self.look(job_id)
            with joined(stored.trace), bound(stored.job.sync_id):
                await self._sync(stored.job, run)
        finally:
            survived.cancel()
            del self._runs[job_id]
            self._hold.end(job_id)

    def _survived(self, job_id: str) -> None:
        """A job that has been under way for a while is none that kills the coordinator: it may be recovered as often as it likes. One that
        watches, or is paused, lives through many restarts."""
        assert self._sqlalchemy is not None
        try:
            forget_recoveries(self._sqlalchemy, job_id)
        except sa.exc.SQLAlchemyError as error:
            logger.warning("the recoveries of job %s cannot be forgotten: %s", job_id, error)

    async def _sync(self, job: Job, run: Run) -> None:
        recovered = run.terms.recovered
        attributes: dict[str, str | bool] = {"job.id": job.job_id, "source": job.spec.source.label, "recovered": recovered}
        word = "Going on with" if recovered else "Beginning"
        logger.info("%s the %s of %s", word, _WORDS[job.kind], job.spec.source.label, extra={"job_id": job.job_id})
        async with self._reporter(job.sync_id) as reporter:
            reports = run.reports = JobReports(reporter, job, run.terms.pausing.changes)
            if run.terms.pausing.paused:
                reports.pause(run.terms.pausing.changes)
            with tracer.start_as_current_span("sync", attributes=attributes) as span:
                notes = run.notes = WatchNotes(self._store, self._peers, job, reports)
                steps = Steps(self._peers, self._patience, reports, job, run.terms, notes, self._acceptors)
                cleaning = Cleaning(self._cleanup, self._patience, reports, job, run.terms)
                ended, left = await self._to_the_end(job, steps, cleaning, reports, run.terms)
                await self._finish(ended, left, reports)
                summary = ended.summary
                span.set_attributes(
                    {"job.state": ended.state.value, "files": summary.files_transferred, "bytes": summary.bytes_transferred}
                )
                if ended.problem:
                    span.set_status(Status(StatusCode.ERROR, f"{ended.problem.reason.value}: {ended.problem.message}"))

    async def _to_the_end(self, job: Job, steps: Steps, cleaning: Cleaning, reports: JobReports, terms: Terms) -> tuple[Job, course.Left]:
        try:
            if job.kind is JobKind.CLEANUP:
                return await course.cleanup(cleaning), None
            return await course.sync(job, steps, cleaning, reports, terms, self._store)
        except dbos_error.DBOSException:
            # Another process has taken the workflow over, or somebody removed it: not ours to end.
            raise
        except Exception as error:
            logger.exception("The sync failed inside the coordinator", extra={"job_id": job.job_id})
            ended = failed(job, _as_problem(error))
            return await self._told(ended), terms.scope

    async def _told(self, ended: Job) -> Job:
        """A sync's subscribers are told of its end."""
        return ended if ended.kind is JobKind.CLEANUP else settled(ended, await publish(self._peers, self._patience, ended))

    async def _finish(self, ended: Job, left: course.Left, reports: JobReports) -> None:
        """The job's row first, then everybody else: who hears of the end finds it there."""
        crash.point("coordinator.before_terminal")
        await self._store.finish(ended, left)
        crash.point("coordinator.after_terminal")
        self._endings.announce(ended.job_id)
        reports.end(ended)
        state = ended.state.value
        logger.info("The %s has ended: %s", _WORDS[ended.kind], state, extra={"job_id": ended.job_id, "state": state})

    async def _give_up(self, stored: StoredJob, status: str) -> None:
        """Ends a job that no workflow will end any more."""
        job = stored.job
        logger.error("The workflow of job %s ended as %s and left the job behind", job.job_id, status)
        error = MediasyncError(Reason.INTERNAL, f"the job was given up after it failed again and again ({status.lower()})")
        with bound(job.sync_id):
            async with self._reporter(job.sync_id) as reporter:
                reports = JobReports(reporter, job)
                ended = failed(job, error)
                await self._finish(await self._told(ended), stored.scope, reports)


def _as_problem(error: Exception) -> MediasyncError:
    if isinstance(error, BaseExceptionGroup):
        error = next((inner for inner in error.exceptions if isinstance(inner, MediasyncError)), error)
    if isinstance(error, MediasyncError):
        return error
    return MediasyncError(Reason.INTERNAL, f"the sync failed inside the coordinator ({type(error).__name__})")


def _destroy() -> None:
    DBOS.destroy(destroy_registry=True)
