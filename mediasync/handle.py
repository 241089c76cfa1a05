"""A job, as the one who started or follows it has it in hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mediasync.model import Job, JobProgress

if TYPE_CHECKING:
    from mediasync.client import Client


@dataclass
class JobHandle:
    """A job that was started with, or is followed by, a client."""

    job_id: str
    sync_id: str
    _client: Client = field(repr=False)
    _finished: Job | None = field(default=None, repr=False)

    def watch(self) -> AsyncGenerator[JobProgress, None]:
        """See `Client.watch`."""
        return self._client.watch(self)

    async def result(self) -> Job:
        """Waits for its end and returns the job as it ended: `state`, `summary`, and `problem` if it failed. Does not raise for a job
        that failed or was cancelled."""
        async for _ in self.watch():
            pass
        assert self._finished is not None  # a watch ends with it or raises
        return self._finished

    async def cancel(self) -> None:
        """Asks it to stop. Returns at once; `result` says when it has, and as what it ended."""
        await self._client.cancel_job(self.job_id)

    async def pause(self) -> None:
        """Holds it, until it is resumed or cancelled; a watch goes on, with snapshots that say so. Raises JOB_ENDED."""
        await self._client.pause_job(self.job_id)

    async def resume(self) -> None:
        """Lets it go on with what is left. Raises JOB_ENDED."""
        await self._client.resume_job(self.job_id)
