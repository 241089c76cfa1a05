"""Plans for who only asks: made over a connection of their own, kept for an hour, given out in pages."""

from __future__ import annotations

from collections.abc import Callable

from mediasync.model import CleanupPlan, PlannedFile, SyncSpec
from mediasync.sources.base import Source
from services.cleanup.entities import PlanRow
from services.cleanup.libraries import library_of
from services.cleanup.peers import Transfer
from services.cleanup.plan_store import PlanStore
from services.cleanup.planning import make_plan
from services.cleanup.runs import policy_of
from services.cleanup.standing import check_standing
from services.cleanup.trash import check_unverified


class Previews:
    """Makes plans, and gives them out."""

    def __init__(self, plans: PlanStore, transfer: Transfer, open_source: Callable[[SyncSpec], Source]) -> None:
        self._plans = plans
        self._transfer = transfer
        self._open_source = open_source

    async def plan(self, spec: SyncSpec) -> str:
        """Makes a plan; returns its id. Raises MediasyncError where the source or the library cannot be used, and one of the reasons
        CLEANUP_* where a clean-up would be refused."""
        check_unverified(spec.source, policy_of(spec))
        library = await library_of(spec, self._transfer)
        connection = await self._open_source(spec).connect()
        try:
            await check_standing(spec, connection.probe.root, self._transfer)
            return await make_plan(connection, spec, library, self._transfer, self._plans, lambda _stage: None)
        finally:
            await connection.close()

    async def get(self, plan_id: str) -> CleanupPlan:
        """What a plan comes to. Raises CLEANUP_PLAN_EXPIRED."""
        return await self._plans.get(plan_id)

    async def page(self, plan_id: str, after: int, limit: int) -> list[tuple[int, PlannedFile]]:
        """The next files of a plan, each with the number that the next page comes after. Raises CLEANUP_PLAN_EXPIRED."""
        return [(row.number, planned(row)) for row in await self._plans.page(plan_id, after, limit)]


def planned(row: PlanRow) -> PlannedFile:
    """A file of a plan, for who only asks."""
    return PlannedFile(row.path, row.size_bytes, row.age_ns / 1e9, row.kept, row.joined, row.message or row.cause)
