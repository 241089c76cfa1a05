"""Sources that the configuration wants to be watched: `watch: true` on a source, under `mediasync up`.

Each of them has one job that watches it. What is configured is compared with what runs at the start and every few seconds: a source
that is new gets its watch, one whose sync changed another one, one that is gone or is not to be watched any more loses it. A watch
that failed is started again after a while; one that a person cancelled, at the next start of the coordinator or when the source is
changed. A configuration with mistakes changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from mediasync import convert
from mediasync.errors import MediasyncError
from mediasync.ids import new_request_id
from mediasync.model import Job, JobState, SyncSpec
from services.coordinator import validation
from services.coordinator.jobs import Jobs
from services.coordinator.store import Request, StandingWatch, Store

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0


class StandingWatches:
    """Sees to it that what is to be watched is. `configured` gives the syncs of the configuration file by the names of their sources."""

    def __init__(self, store: Store, jobs: Jobs, configured: Callable[[], Awaitable[Mapping[str, SyncSpec]]]) -> None:
        self._store = store
        self._jobs = jobs
        self._configured = configured
        self._begun = time.time()
        self._failures: Counter[str] = Counter()
        self._said = ""

    async def run(self) -> None:
        """Looks again and again."""
        while True:
            try:
                await self.look()
            except MediasyncError as error:
                # Such as a disk that is full: the next look may go well.
                logger.error("sources that are to be watched could not be looked after: %s", error, extra={"reason": error.reason.value})
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Makes what runs what is configured."""
        try:
            wanted = {name: spec for name, spec in (await self._configured()).items() if spec.options.watch}
        except MediasyncError as error:
            self._say(f"what is to be watched stays as it is: {error.message}")
            return
        running = {watch.name: watch for watch in await self._store.standing_watches()}
        for name, watch in running.items():
            if name not in wanted:
                await self._end(watch)
                await self._store.drop_standing_watch(name)
        for name, spec in wanted.items():
            await self._see_to(name, spec, running.get(name))

    async def _see_to(self, name: str, spec: SyncSpec, watch: StandingWatch | None) -> None:
        wrong = validation.check_spec(spec, name)
        if wrong:
            said = "; ".join(f"{violation.field} {violation.description}" for violation in wrong)
            self._say(f"the source {name} cannot be watched: {said}")
            return
        body = convert.spec_to_pb(spec).SerializeToString(deterministic=True)
        digest = hashlib.sha256(body).hexdigest()
        if watch is not None and watch.digest == digest:
            job = await self._jobs.get(watch.job_id)
            if not job.state.terminal or self._left_alone(name, job):
                return
        elif watch is not None:
            await self._end(watch)
            self._failures.pop(name, None)
        request = Request(new_request_id(), "StandingWatch", hashlib.sha256(body).digest())
        job = await self._jobs.start(request, spec, {}, standing=(name, digest))
        logger.info("Watching the source %s", name, extra={"job_id": job.job_id})

    def _left_alone(self, name: str, job: Job) -> bool:
        """Whether a watch that has ended is not to be started again, or not yet."""
        if job.end_time < self._begun:
            return False
        if job.state is JobState.CANCELLED:
            return True
        if job.start_time and job.end_time - job.start_time > _LONGEST_PAUSE_SECONDS:
            # It went well for long: what failed before that says nothing of now.
            self._failures.pop(name, None)
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** self._failures[name], _LONGEST_PAUSE_SECONDS)
        if time.time() - job.end_time < pause:
            return True
        self._failures[name] += 1
        return False

    async def _end(self, watch: StandingWatch) -> None:
        job = await self._jobs.get(watch.job_id)
        if not job.state.terminal:
            logger.info("The source %s is no longer watched as it was", watch.name, extra={"job_id": job.job_id})
            request = Request(new_request_id(), "StandingWatch", hashlib.sha256(watch.job_id.encode()).digest())
            await self._jobs.cancel(request, watch.job_id)

    def _say(self, text: str) -> None:
        """Once, not at every look."""
        if text != self._said:
            logger.error("%s", text[0].upper() + text[1:])
        self._said = text
