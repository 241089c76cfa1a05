"""What the steps of a job are given: the terms it runs on, and the others they speak to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mediasync.model import Job, Problem, ProgressStatus, SyncSpec, SyncSummary
from services.coordinator.pausing import Pausing
from services.coordinator.rows import Unit


@dataclass(frozen=True)
class Scanned:
    """The scan of a folder is over."""

    files_to_take: int
    bytes_to_take: int


@dataclass(frozen=True)
class Alive:
    """The worker is still at it."""


@dataclass(frozen=True)
class Activity:
    """What the watch of a folder is at. Times are Unix seconds, 0 while the source is there."""

    text: str
    gone_since: float = 0.0
    next_try: float = 0.0


@dataclass(frozen=True)
class Processed:
    """How far the processing of a run's files is."""

    files_done: int
    files_left: int
    files_invalid: int = 0
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class CleaningState:
    """How far a clean-up is, over all its attempts; nothing is known of a total before there is a plan."""

    stage: str
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0


@dataclass(frozen=True)
class Acceptance:
    """What a subscription made of a run's events: of those in the log, `left` are not dealt with and `rejected` are dead letters."""

    subscription: str
    left: int = 0
    rejected: int = 0
    last_error: str = ""
    missing: bool = False
    too_far_behind: bool = False


class Peers(Protocol):
    """The other services, as the steps see them. Every call raises MediasyncError."""

    async def probe(self, spec: SyncSpec) -> tuple[bytes, ...]:
        """The units of work of a sync."""

    def sync_folder(
        self, sync_id: str, spec: SyncSpec, folder: bytes, only_failed_of: str
    ) -> AsyncGenerator[Scanned | Alive | Activity | SyncSummary]:
        """Syncs one folder, or watches it; ends after the summary. Leaving it stops the work. With `only_failed_of` only the files that
        failed in that run are taken."""

    def processing(self, sync_id: str) -> AsyncGenerator[Processed]:
        """Follows the processing of a run's files to its end."""

    async def landed(self, sync_id: str) -> tuple[int, int]:
        """Files and bytes that have landed so far."""

    async def discard_beginnings(self, spec: SyncSpec) -> None:
        """Removes what came in part of files of a sync's folders, unless another sync is at work on them."""

    async def set_limit(self, sync_id: str, megabits: float | None) -> None:
        """Changes how fast a run may be; None for what its options say."""

    async def publish_end(self, job: Job) -> int:
        """Puts the end of a job into the event log; its sequence number there."""

    async def wait_delivered(self, subscription: str, sequence: int, seconds: float) -> None:
        """Waits until a subscription has dealt with everything up to `sequence`."""

    async def wait_accepted(self, subscriptions: Sequence[str], sync_id: str, seconds: float) -> tuple[Acceptance, ...]:
        """Waits until subscriptions have dealt with every event of a run, for so long at most, and says how they stand."""


class Reports(Protocol):
    """Where a job's progress is told."""

    def show(self, status: ProgressStatus, *, files_processed: int = 0) -> None:
        """The job is at this now."""

    def stage(self, text: str) -> None:
        """What it is at, in words; empty for the status' own."""

    def clean(self, state: CleaningState) -> None:
        """The clean-up is so far."""


class Watcher(Protocol):
    """Hears what the watch of a job is at."""

    async def heard(self, folder: bytes, activity: Activity) -> None:
        """The watch of a folder is at this now."""


@dataclass
class Terms:
    """On what terms a job runs. Pausing and limit may change meanwhile; `stop` is set when it is to end early. `scope` are the units that
    it is restricted to, None for none; `recovered` says that another process began it."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    pausing: Pausing = field(default_factory=Pausing)
    limit_mbps: float | None = None
    scope: tuple[Unit, ...] | None = None
    recovered: bool = False

    def failed_of(self, folder: bytes) -> str:
        """The run whose failed files are all that is to be taken of a folder; empty for everything."""
        return next((unit.failed_of for unit in self.scope or () if unit.folder == folder), "")
