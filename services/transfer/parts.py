"""What the steps of one unit's sync have in common: where it comes from, where it goes, and whom to tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mediasync.model import SyncOptions
from services.transfer.entities import SyncUnit
from services.transfer.failed_store import FailedStore
from services.transfer.landing_store import LandingStore
from services.transfer.manifest_store import ManifestStore
from services.transfer.receiving.lanes import Lanes
from services.transfer.tally import UnitTally

R = TypeVar("R")


@dataclass(frozen=True)
class Parts:
    """One unit of one run. `on_progress` hears of every change of `tally`; `scratch` is a folder for what does not fit into memory."""

    unit: SyncUnit
    options: SyncOptions
    lanes: Lanes
    manifest: ManifestStore
    landings: LandingStore
    failures: FailedStore
    executor: Executor
    scratch: Path
    tally: UnitTally
    on_progress: Callable[[UnitTally], None]
    on_scanned: Callable[[int, int], None]
    on_committed: Callable[[], Awaitable[None]]

    def activity(self, text: str) -> None:
        """Says in words what is being done."""
        self.tally.stage(text)
        self.on_progress(self.tally)

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """Runs what waits for a disk in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *args)
