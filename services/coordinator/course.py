"""Which steps a job goes through, and in which order: each is recorded by DBOS when it ends, under an id that the order gives it.

Whoever changes the order or the names of steps has to raise `workflow.APPLICATION_VERSION`; a step that no older job has, such as the
clean-up of a policy that no older job knew, is free. What DBOS asks for is said in `workflow`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from dbos import DBOS, StepReservation

from mediasync.model import Job, ProgressStatus
from mediasync.runtime import crash
from services.coordinator.cleaning import Cleaning
from services.coordinator.outcomes import Json, Outcome, job_from_json, job_to_json, remains, settled, total
from services.coordinator.reporting import JobReports
from services.coordinator.rows import Unit
from services.coordinator.steps import Steps
from services.coordinator.store import Store
from services.coordinator.terms import Terms

UNITS_AT_ONCE = 4
"""Folders of one job that are synced at the same time."""

Left = tuple[Unit, ...] | None
"""The units that a retry of a job would take; None for all that there are."""


async def sync(job: Job, steps: Steps, cleaning: Cleaning, reports: JobReports, terms: Terms, store: Store) -> tuple[Job, Left]:
    """Returns the job as it ended, and what a retry of it would take."""
    if not terms.recovered:
        reports.show(ProgressStatus.INITIALIZING)
    left = terms.scope
    probed = await _step("probe", steps.probe)
    folders, processed = [Outcome(stopped=True)], Outcome(stopped=True)
    cleaned: Outcome | None = None
    units: Sequence[bytes] = ()
    if not probed.problem and not probed.stopped:
        units = probed.units
        reports.plan(len(units))
        folders = await _folders(job, steps, units, store)
        left = remains(job, terms, units, folders)
        if all(not folder.problem and not folder.stopped for folder in folders):
            processed = await _step("processing", steps.processing)
        if cleaning.wanted and not processed.problem and not processed.stopped:
            cleaned = await _clean(cleaning.clean_after_sync)

    async def conclude() -> Json:
        return job_to_json(await steps.conclude(units, folders, (probed, processed), cleaned))

    ended = job_from_json(await DBOS.run_step_async({"name": "conclude"}, conclude))
    crash.point("coordinator.before_publish")

    async def tell() -> Outcome:
        return await steps.publish(ended)

    told = await _step("publish", tell)
    crash.point("coordinator.after_publish")
    return settled(ended, told), left


async def cleanup(cleaning: Cleaning) -> Job:
    """Returns a clean-up job as it ended. What it deleted the cleanup service tells to subscribers; of its end they are not told."""
    cleaned = await _clean(cleaning.clean)

    async def conclude() -> Json:
        return job_to_json(cleaning.conclude(cleaned))

    return job_from_json(await DBOS.run_step_async({"name": "conclude"}, conclude))


async def _clean(work: Callable[[], Any]) -> Outcome:
    crash.point("coordinator.before_cleanup")
    cleaned = await _step("cleanup", work)
    crash.point("coordinator.after_cleanup")
    return cleaned


async def _folders(job: Job, steps: Steps, units: Sequence[bytes], store: Store) -> list[Outcome]:
    """One step a unit, several at once; all of them where they are watched."""
    free = asyncio.Semaphore(len(units) or 1 if job.spec.options.watch else UNITS_AT_ONCE)
    done: list[Outcome] = []

    async def one(reserved: StepReservation, folder: bytes) -> Outcome:
        async def body() -> Json:
            return (await steps.folder(folder)).to_json()

        async with free:
            outcome = Outcome.from_json(await reserved.run_async({"name": "folder"}, body))
        crash.point("coordinator.after_unit")
        if outcome.problem:
            # The others are at the same source and the same library. Here and not in the step, which a recovery leaves out.
            steps.halt()
        done.append(outcome)
        await store.advance(job.job_id, total(done))
        return outcome

    # All of them now, in the order of the units: units run side by side and end in any order, and a step's id is drawn when it is called.
    reserved = [DBOS.reserve_step() for _ in units]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(step, folder)) for step, folder in zip(reserved, units, strict=True)]
    return [task.result() for task in tasks]


async def _step(name: str, work: Callable[[], Any]) -> Outcome:
    async def body() -> Json:
        outcome: Outcome = await work()
        return outcome.to_json()

    return Outcome.from_json(await DBOS.run_step_async({"name": name}, body))
