"""Why one file is gone, or still there: what the journal has of it, what is on record, and what a clean-up now would do with it."""

from __future__ import annotations

from collections.abc import Callable

from mediasync.errors import MediasyncError
from mediasync.model import FileExplanation, PlannedFile, Problem, SyncSpec
from mediasync.sources.base import Source
from services.cleanup.entities import PlanRow
from services.cleanup.history_store import History
from services.cleanup.libraries import library_of
from services.cleanup.one_file import plan_file
from services.cleanup.peers import Transfer
from services.cleanup.runs import policy_of
from services.cleanup.standing import check_standing
from services.cleanup.trash import check_unverified


class Explainer:
    """Explains files."""

    def __init__(self, history: History, transfer: Transfer, open_source: Callable[[SyncSpec], Source]) -> None:
        self._history = history
        self._transfer = transfer
        self._open_source = open_source

    async def explain(self, spec: SyncSpec, path: bytes) -> FileExplanation:
        """All that is known of a file. A source that cannot be asked, and a clean-up that would be refused, are part of the answer."""
        deletions = await self._history.of_file(spec.source.key, path)
        present: bool | None = None
        problem: Problem | None = None
        row: PlanRow | None = None
        root = spec.dest_path
        try:
            check_unverified(spec.source, policy_of(spec))
            library = await library_of(spec, self._transfer)
            root = library.root or root
            connection = await self._open_source(spec).connect()
            try:
                await check_standing(spec, connection.probe.root, self._transfer)
                row = await plan_file(connection, spec, library, self._transfer, path)
                present = row is not None
            finally:
                await connection.close()
        except MediasyncError as error:
            problem = Problem.of(error)
        copy = (
            row.copies[0] if row is not None and row.copies else next((item.library_path for item in deletions if item.library_path), b"")
        )
        planned = (
            None if row is None else PlannedFile(row.path, row.size_bytes, row.age_ns / 1e9, row.kept, row.joined, row.message or row.cause)
        )
        return FileExplanation(present, problem, planned, deletions, copy, root)
