"""Bringing again what a library lost: which sync brought it, and a job for each source that is restricted to these files.

The transfer worker knows sources by their keys only. How to reach one is known by its name, or from the newest job that synced from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Protocol

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Job, SyncSpec
from services.coordinator.jobs import Jobs
from services.coordinator.rows import Unit
from services.coordinator.sources import Sources
from services.coordinator.store import Request

_PAGE = 200
_NAMED = "name:"


class RepairPeers(Protocol):
    """The transfer worker, as repairs see it."""

    async def prepare_repair(self, library_path: str, repair_id: str) -> tuple[list[tuple[str, int]], int]:
        """The keys of the sources that have what a library lost, with how many files each; and how many files no source has."""


class Repairs:
    """Starts repairs."""

    def __init__(self, jobs: Jobs, sources: Sources, peers: RepairPeers) -> None:
        self._jobs = jobs
        self._sources = sources
        self._peers = peers

    async def repair(self, request: Request, library_path: str, trace: Mapping[str, str]) -> tuple[list[Job], int]:
        """Starts a job for each source that has lost files. Returns them, and how many files have no source. Repeated, it starts no second
        one for the same source. Raises what the worker says of the library."""
        # The same for a repetition, so that its jobs are the same requests.
        repair_id = f"repair_{hashlib.sha256(request.request_id.encode()).hexdigest()[:24]}"
        sources, without = await self._peers.prepare_repair(library_path, repair_id)
        jobs = []
        for key, files in sources:
            spec = await self._spec_of(key, library_path)
            if spec is None:
                without += files
                continue
            # Everything else stays as the source's own sync has it, or what it brings would not be the same.
            options = dataclasses.replace(spec.options, restore=True, watch=False)
            spec = dataclasses.replace(spec, dest_path=library_path, folders=(), options=options, cleanup=None)
            mark = hashlib.sha256(key.encode()).hexdigest()[:7]
            asked = Request(f"{request.request_id}:{mark}", request.method, request.digest)
            jobs.append(await self._jobs.start_for(asked, spec, trace, [Unit(b"", repair_id)]))
        return jobs, without

    async def _spec_of(self, key: str, library_path: str) -> SyncSpec | None:
        """The sync that brought files from a source; None if nobody knows any more how to reach it."""
        if key.startswith(_NAMED):
            try:
                return (await self._sources.get(key.removeprefix(_NAMED))).spec
            except MediasyncError as error:
                if error.reason is not Reason.SOURCE_NOT_FOUND:
                    raise
        before, best = "", None
        while page := await self._jobs.list(_PAGE, before, ()):
            for job in page:
                if job.spec.source.key == key:
                    if job.spec.dest_path == library_path:
                        return job.spec
                    best = best or job.spec
            before = page[-1].job_id
        return best
