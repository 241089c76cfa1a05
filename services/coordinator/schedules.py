"""What is begun at its times under `mediasync up`: syncs and clean-ups that the configuration schedules.

Each schedule has one job at a time: while that of the time before is under way, a time goes by. A time that passed while nothing ran is
made up for once, at the start; one that passed while the schedule was held is not. A job is begun once for each of its times, also by a
coordinator that is killed as it begins it. A configuration with mistakes changes nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import tzinfo

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.model import JobKind
from mediasync.model.schedules import Schedule
from mediasync.suggest import did_you_mean
from services.coordinator import validation
from services.coordinator.jobs import Jobs
from services.coordinator.plans import Plan
from services.coordinator.schedule_store import ScheduleStore, StoredSchedule
from services.coordinator.store import Request

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0

Plans = Callable[[], Awaitable[Mapping[str, Plan]]]
"""What the configuration schedules, by the names of the schedules."""


class Schedules:
    """Begins what is due. `clock` gives Unix seconds, `zone` is where cron's times are meant; the system's unless they are given."""

    def __init__(
        self, store: ScheduleStore, jobs: Jobs, plans: Plans, clock: Callable[[], float] = time.time, zone: tzinfo | None = None
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._plans = plans
        self._clock = clock
        self._zone = zone
        self._said = ""
        # What was looked at last, and when something of it is due next: until then the store is not asked.
        self._looked: Mapping[str, Plan] | None = None
        self._looked_time = self._next_time = 0.0

    async def run(self) -> None:
        """Looks again and again."""
        while True:
            try:
                await self.look()
            except MediasyncError as error:
                # Such as a disk that is full: the next look may go well.
                logger.error("what is scheduled could not be looked after: %s", error, extra={"reason": error.reason.value})
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Begins what is due by now."""
        try:
            plans = await self._plans()
        except MediasyncError as error:
            self._say(f"nothing is begun by its schedule: {error.message}")
            return
        now = self._clock()
        # A clock that went back is looked at too.
        if plans is self._looked and self._looked_time <= now < self._next_time:
            return
        stored = await self._store.all()
        for name, found in stored.items():
            if name not in plans and not found.paused:
                await self._store.drop(name)
        next_times = [math.inf]
        for name, plan in plans.items():
            known = stored.get(name)
            if known is None or known.times != plan.times.text or known.seen_time > now:
                # From now on: when it would have been due before it was written, or by a clock that was wrong, nobody meant.
                await self._store.put(dataclasses.replace(known or StoredSchedule(name), times=plan.times.text, seen_time=now))
            elif not known.paused:
                await self._see_to(plan, known, now)
            if known is None or not known.paused:
                next_times.append(plan.times.next_after(now, self._zone) or math.inf)
        self._looked, self._looked_time, self._next_time = plans, now, min(next_times)

    async def list(self, limit: int, after: str) -> list[Schedule]:
        """Schedules by name, from the first behind `after`. Raises CONFIGURATION_INVALID when the file cannot be read."""
        plans, stored = await self._plans(), await self._store.all()
        return [self._shown(plans[name], stored.get(name)) for name in sorted(plans) if name > after][:limit]

    async def pause(self, request: Request, name: str, *, paused: bool) -> Schedule:
        """Holds a schedule, or lets it go on. Raises SCHEDULE_NOT_FOUND, CONFIGURATION_INVALID."""
        plans = await self._plans()
        if name not in plans:
            raise MediasyncError(Reason.SCHEDULE_NOT_FOUND, f"there is no schedule {name[:100]!r}{did_you_mean(name, plans)}")
        plan = plans[name]
        stored = await self._store.pause(request, StoredSchedule(name, plan.times.text, seen_time=self._clock()), paused=paused)
        self._looked = None
        return self._shown(plan, stored)

    async def _see_to(self, plan: Plan, found: StoredSchedule, now: float) -> None:
        due = plan.times.next_after(found.seen_time, self._zone)
        if due is None or due > now:
            return
        if found.last_job_id and await self._under_way(found.last_job_id):
            logger.info("%s is due, and its job of the time before is under way", plan.name, extra={"job_id": found.last_job_id})
            await self._store.put(dataclasses.replace(found, seen_time=now))
            return
        syncs = plan.kind is JobKind.SYNC
        wrong = validation.check_spec(plan.spec, plan.name, needs_dest=syncs, apart=syncs)
        if wrong:
            said = "; ".join(f"{violation.field} {violation.description}" for violation in wrong)
            self._say(f"{plan.name} cannot be begun by its schedule: {said}")
            return
        body = hashlib.sha256(convert.spec_to_pb(plan.spec).SerializeToString(deterministic=True)).digest()
        # The same for one that is begun again after a crash, so that the job is the same.
        mark = hashlib.sha256(f"{plan.name}\n{due:.0f}\n{body.hex()}".encode()).hexdigest()[:32]
        job = await self._jobs.start(Request(f"schedule_{mark}", "Schedule", body), plan.spec, {}, kind=plan.kind)
        await self._store.put(dataclasses.replace(found, last_job_id=job.job_id, last_time=now, seen_time=now))
        logger.info("Begun by its schedule: %s", plan.name, extra={"job_id": job.job_id})

    async def _under_way(self, job_id: str) -> bool:
        try:
            return not (await self._jobs.get(job_id)).state.terminal
        except MediasyncError as error:
            if error.reason is not Reason.JOB_NOT_FOUND:
                raise
            return False

    def _shown(self, plan: Plan, stored: StoredSchedule | None) -> Schedule:
        found = stored or StoredSchedule(plan.name)
        due = None if found.paused else plan.times.next_after(self._clock(), self._zone)
        return Schedule(plan.name, plan.kind, plan.source, plan.times.text, due or 0.0, found.paused, found.last_job_id, found.last_time)

    def _say(self, text: str) -> None:
        """Once, not at every look."""
        if text != self._said:
            logger.error("%s", text[0].upper() + text[1:])
        self._said = text
