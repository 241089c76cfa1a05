"""Receivers kept for a while and used again: starting one takes a login and a third of a second of processor time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mediasync.model import SourceSpec
from mediasync.sources.ssh_near import find_program
from services.transfer.receiving.frames import Open
from services.transfer.receiving.receiver import Receiver
from services.transfer.receiving.windows import Line

_IDLE_SECONDS = 30.0


class Receivers:
    """All receivers of a worker. Close it when done."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._idle: dict[SourceSpec, list[Receiver]] = {}
        self._starting: dict[SourceSpec, list[asyncio.Task[Receiver]]] = {}
        self._busy: set[Receiver] = set()
        self._busy_since = 0.0
        self._reaper: asyncio.Task[None] | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes there are."""
        return tuple(receiver.pid for receiver in (*self._busy, *(one for some in self._idle.values() for one in some)))

    @property
    def busy_seconds(self) -> float:
        """How long there has been a pull without a pause; 0 while there is none."""
        return time.monotonic() - self._busy_since if self._busy else 0.0

    def warm(self, spec: SourceSpec, line: Line, count: int, folders: Sequence[bytes] = ()) -> None:
        """Begins to log in with so many, if there are not as many already: a pull over `line` that needs them is expected. They choose
        their windows by what their logins take, for whoever comes with a measured one comes too late."""
        there = self._starting.setdefault(spec, [])
        for _ in range(count - len(there) - len(self._idle.get(spec, ()))):
            there.append(
                asyncio.create_task(Receiver.start(Open(spec, str(self._home), tuple(folders), line=line)), name="warm a receiver")
            )
        self._look_after()

    @asynccontextmanager
    async def receiver(
        self, spec: SourceSpec, window_bytes: int, folders: Sequence[bytes] = (), *, near: bool = False
    ) -> AsyncIterator[Receiver]:
        """A connected receiver, for one use. If the block raises, whatever it raises, the process is killed: it may be in the middle
        of anything. `near` says that the way is short and nothing limits the rate, so that the window need not be kept to. Raises
        MediasyncError."""
        receiver = await self._taken(spec, folders, near)
        if not self._busy:
            self._busy_since = time.monotonic()
        self._busy.add(receiver)
        used = False
        try:
            await receiver.opened(window_bytes)
            yield receiver
            used = True
        finally:
            self._busy.discard(receiver)
            if used and receiver.alive:
                receiver.idle_since = time.monotonic()
                self._idle.setdefault(spec, []).append(receiver)
                self._look_after()
            else:
                await receiver.kill()

    async def _taken(self, spec: SourceSpec, folders: Sequence[bytes], near: bool) -> Receiver:
        idle = self._idle.get(spec, [])
        for receiver in [one for one in reversed(idle) if near or not one.near]:
            idle.remove(receiver)
            if receiver.alive:
                return receiver
            await receiver.kill()
        starting = self._starting.get(spec, [])
        if starting:
            return await starting.pop()
        program = await find_program(spec, self._home) if near else None
        return await Receiver.start(Open(spec, str(self._home), tuple(folders), program))

    def _look_after(self) -> None:
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap(), name="receiver-reaper")

    async def _reap(self) -> None:
        """Ends receivers that nobody has wanted for a while; ends itself with the last one."""
        while self._starting or self._idle:
            await asyncio.sleep(_IDLE_SECONDS / 2)
            for spec, starting in list(self._starting.items()):
                # Warmed for a pull that did not come, or has them already.
                del self._starting[spec]
                started = await asyncio.gather(*starting, return_exceptions=True)
                # One that could not be started is nobody's loss: whoever wants one is told then.
                self._idle.setdefault(spec, []).extend(one for one in started if isinstance(one, Receiver))
            now = time.monotonic()
            for spec, idle in list(self._idle.items()):
                old = [receiver for receiver in idle if now - receiver.idle_since > _IDLE_SECONDS]
                self._idle[spec] = [receiver for receiver in idle if receiver not in old]
                if not self._idle[spec]:
                    del self._idle[spec]
                for receiver in old:
                    await receiver.end()

    async def close(self) -> None:
        """Ends all of them. Those in use are killed."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        starting = [task for some in self._starting.values() for task in some]
        self._starting.clear()
        started = [one for one in await asyncio.gather(*starting, return_exceptions=True) if isinstance(one, Receiver)]
        idle = [receiver for some in self._idle.values() for receiver in some]
        self._idle.clear()
        await asyncio.gather(*(receiver.kill() for receiver in (*started, *self._busy)), *(receiver.end() for receiver in idle))
