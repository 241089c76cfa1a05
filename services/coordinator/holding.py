"""Keeps a supervisor that lives for the length of a command alive while jobs run.

`mediasync sync --detach`, or one whose terminal was closed, leaves its services behind to finish; they are stopped when nobody
holds the supervisor any more. A supervisor that is not there (each service started by hand) needs no holding.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from mediasync.errors import MediasyncError
from mediasync.local.control import SOCKET_NAME, ControlClient

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_START_SECONDS = 30.0


class SupervisorHold:
    """One connection to the supervisor while at least one job is active, made anew when the supervisor was started again."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = run_dir / SOCKET_NAME
        self._active: set[str] = set()
        self._answered = asyncio.Event()
        self._idle = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def begin(self, job_id: str) -> None:
        """A job is active. Returns once the supervisor knows or it turned out that there is none, and after 2 seconds in any case."""
        self._active.add(job_id)
        self._idle.clear()
        if self._keeper is None or self._keeper.done():
            self._answered.clear()
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="hold of the supervisor")
        if self._socket.exists():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._answered.wait()

    async def need(self, service: str) -> None:
        """Returns once a service that the supervisor starts on demand is ready. Where there is none, or it does not know, who calls the
        service finds out."""
        if not self._socket.exists():
            return
        try:
            async with asyncio.timeout(_START_SECONDS):
                supervisor = await ControlClient.connect(str(self._socket))
                try:
                    await supervisor.ask({"op": "need", "service": service})
                finally:
                    await supervisor.close()
        except (OSError, ValueError, TimeoutError, MediasyncError) as error:
            logger.warning("the supervisor was asked for %s: %s", service, error)

    def end(self, job_id: str) -> None:
        """The job is no longer active."""
        self._active.discard(job_id)
        if not self._active:
            self._idle.set()

    async def close(self) -> None:
        """Lets go, whatever is active: the coordinator ends."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    async def _keep(self) -> None:
        while self._active:
            try:
                await self._hold_once()
            except (OSError, ValueError, TimeoutError, MediasyncError) as error:
                logger.debug("the supervisor cannot be held: %s", error)
            self._answered.set()
            if self._active:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await self._idle.wait()

    async def _hold_once(self) -> None:
        """Holds it until no job is active, or it is gone."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            supervisor = await ControlClient.connect(str(self._socket))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await supervisor.ask({"hold": "jobs"})
            if not answer.get("held"):
                # It is ending; what is unfinished goes on at the next start.
                return
            self._answered.set()
            gone = asyncio.ensure_future(supervisor.wait_closed())
            idle = asyncio.ensure_future(self._idle.wait())
            try:
                await asyncio.wait({gone, idle}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiter in (gone, idle):
                    waiter.cancel()
                await asyncio.gather(gone, idle, return_exceptions=True)
        finally:
            await supervisor.close()
