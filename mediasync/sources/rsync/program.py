"""Running the rsync program of this machine, once for each thing that is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import shell_rsync, ssh_errors
from mediasync.sources.base import Pace
from mediasync.sources.rsync import progress, transport
from mediasync.sources.rsync.listing import Trouble, trouble
from mediasync.sources.rsync.tunnel import Tunnel

MAX_LINE = 1 << 20
OUTPUT_PIECE_BYTES = 1 << 16
MAX_TROUBLES = 10_000
STOP_SECONDS = 5.0

PARTIAL = frozenset({23, 24})
"""Exit statuses of a run that did its work but for some files: what stderr says of them decides."""

_NOT_THERE = (126, 127)
_FAR = f"far:{shell_rsync.PLACEHOLDER.decode()}"


def program() -> str:
    """Path of rsync on this machine. Raises ENGINE_CANNOT."""
    found = shutil.which("rsync")
    if found is None:
        raise MediasyncError(
            Reason.ENGINE_CANNOT,
            "the rsync program is not installed on the services' machine",
            "Install it there (`apt install rsync`), or choose another engine.",
        )
    return found


_showing: dict[str, bool] = {}


async def shows_progress() -> bool:
    """Whether the program on this machine can be asked how far it is. Found out once."""
    path = program()
    if path not in _showing:
        asking = await asyncio.create_subprocess_exec(
            path, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await asking.communicate()
        _showing[path] = progress.shows(said)
    return _showing[path]


class Far:
    """The far side of a connection: what every run needs to know of it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, place: str, root: bytes, window_bytes: int) -> None:
        self.connection = connection
        self.place = place
        self.root = root
        self.window_bytes = window_bytes


class Run:
    """One rsync: `async with` starts it and leaves nothing of it. `lines` first, then `ended`."""

    def __init__(
        self, far: Far, options: Sequence[str], target: bytes | None = None, names: Iterable[bytes] | None = None, pace: Pace | None = None
    ) -> None:
        """`target` is the folder to write to; `names`, if given, are what is listed or taken."""
        self._far = far
        self._options = [*options, *(("--from0", "--files-from=-") if names is not None else ())]
        self._target = target
        self._names = names
        self._troubles: list[Trouble] = []
        self._tunnel = Tunnel(far.connection, lambda arguments: shell_rsync.server_command(arguments, far.root), far.window_bytes, pace)

    async def __aenter__(self) -> Self:
        helper = f"{_word(sys.executable)} -I -S {_word(str(Path(transport.__file__)))} {self._tunnel.theirs.fileno()}"
        paths = [_FAR, *([os.fsdecode(self._target)] if self._target is not None else [])]
        # Nothing of the user's: RSYNC_* variables and ~/.popt change what options mean. Times are printed in the zone of TZ.
        environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent"}
        try:
            self._process = await asyncio.create_subprocess_exec(
                program(),
                "-e",
                helper,
                *self._options,
                *paths,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environ,
                cwd="/",
                pass_fds=(self._tunnel.theirs.fileno(),),
                start_new_session=True,
                limit=MAX_LINE,
            )
        except BaseException:
            self._tunnel.close()
            raise
        self._tasks = [
            asyncio.create_task(self._tunnel.serve(), name="rsync tunnel"),
            asyncio.create_task(self._feed(), name="rsync names"),
            asyncio.create_task(self._hear(), name="rsync stderr"),
        ]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is None:
                # It is the leader of its session: its receiver and transport.py are in the same group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, sign)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_SECONDS):
                        await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._tunnel.close()

    async def _feed(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended; its status says why
            for name in self._names or ():
                stdin.write(name + b"\0")
                if stdin.transport.get_write_buffer_size() > MAX_LINE:
                    await stdin.drain()
            await stdin.drain()
        stdin.close()

    async def _hear(self) -> None:
        assert self._process.stderr is not None
        async for line in _lines(self._process.stderr):
            if len(self._troubles) < MAX_TROUBLES:
                self._troubles.append(trouble(line))

    async def lines(self) -> AsyncIterator[bytes]:
        """What it prints, line by line."""
        assert self._process.stdout is not None
        async for line in _lines(self._process.stdout):
            yield line

    async def output(self) -> AsyncIterator[bytes]:
        """What it prints, in pieces as they come."""
        assert self._process.stdout is not None
        while piece := await self._process.stdout.read(OUTPUT_PIECE_BYTES):
            yield piece

    async def ended(self) -> list[Trouble]:
        """Waits for its end; returns what it complained of, empty if nothing. Raises MediasyncError when it did not do its work, OSError
        when this side's disk is why."""
        async for _ in self.output():
            pass
        status = await self._process.wait()
        await self._tasks[2]
        await self._tasks[0]
        if status == 0:
            return []
        for item in self._troubles:
            if item.here and item.errno:
                raise OSError(item.errno, f"rsync: {item.why}")
        if status in PARTIAL:
            # A sender since 3.2.3 complains on its own stderr, one before by way of ours.
            return [*self._troubles, *map(trouble, self._tunnel.noise.splitlines())]
        raise self._failure(status)

    @property
    def round_trip_seconds(self) -> float:
        """What opening the session took."""
        return self._tunnel.opened_seconds

    def _failure(self, status: int) -> MediasyncError:
        place = self._far.place
        if self._far.connection.is_closed():
            return MediasyncError(Reason.CONNECTION_LOST, f"the connection to {place} broke")
        noise = ssh_errors.printable(self._tunnel.noise.decode("utf-8", "replace").strip()[:300])
        if self._tunnel.status in _NOT_THERE:
            return MediasyncError(
                Reason.ENGINE_CANNOT,
                f"rsync cannot be run at {place}" + (f": {noise}" if noise else ""),
                "Install rsync there, or choose another engine (leave `engine: rsync` out).",
            )
        said = "; ".join(item.text for item in self._troubles[:3])
        return MediasyncError(
            Reason.SOURCE_PROTOCOL,
            f"rsync at {place} failed with status {status}: {said or noise or 'it did not say why'}"
            + (f" ({noise})" if said and noise else ""),
            "If the login prints a greeting, silence it for commands: rsync takes nothing else on the line.",
        )


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The stream's lines, without their ends."""
    while line := await stream.readline():
        yield line.removesuffix(b"\n")


def _word(text: str) -> str:
    """One word of what rsync splits at blanks."""
    return f"'{text}'" if any(character in text for character in ' \t"') else text
