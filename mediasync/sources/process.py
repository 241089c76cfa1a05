"""The agent as a child process on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
from collections.abc import Sequence
from typing import cast

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import shell
from mediasync.sources.channel import Launched, Receiver

CLOSE_SECONDS = 5.0
_PIPE_BYTES = 1 << 20  # what anybody may have; a fuller pipe is read in fewer steps


class ChildLauncher:
    """Starts the loader, or any other command that runs it somewhere, as a child process. It has `descriptors` open, by their numbers here;
    they need to be open only until it was started."""

    def __init__(self, arguments: Sequence[str] = (), place: str = "this machine", descriptors: Sequence[int] = ()) -> None:
        self._arguments = list(arguments) or shell.agent_arguments(sys.executable)
        self._place = place
        self._descriptors = tuple(descriptors)

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return self._place

    async def launch(self, receiver: Receiver) -> Launched:
        """Starts it. Raises SOURCE_WITHOUT_PYTHON if it cannot be run."""
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.subprocess_exec(lambda: _ChildProtocol(receiver), *self._arguments, pass_fds=self._descriptors)
        except OSError as error:
            raise MediasyncError(Reason.SOURCE_WITHOUT_PYTHON, f"{self._arguments[0]} cannot be run: {error.strerror}") from error
        channel = ChildChannel(protocol)
        channel.widen()
        return Launched(channel)


class _ChildProtocol(asyncio.SubprocessProtocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.transport: asyncio.SubprocessTransport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._receiver.data_received(data)
        else:
            self._receiver.noise_received(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._may_write.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        # Called after the process ended and all of its pipes were read to their ends.
        self._may_write.set()
        self.closed.set()
        assert self.transport is not None
        self._receiver.channel_closed(self.transport.get_returncode(), None)

    async def drained(self) -> None:
        await self._may_write.wait()


class ChildChannel:
    """The pipes of a child process."""

    def __init__(self, protocol: _ChildProtocol) -> None:
        assert protocol.transport is not None
        self._protocol = protocol
        self._transport = protocol.transport
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        self._stdout = cast(asyncio.ReadTransport, self._transport.get_pipe_transport(1))

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._transport.get_pid()

    def widen(self) -> None:
        """Lets more of its output wait in the pipe, where the system has room for it."""
        pipe = self._stdout.get_extra_info("pipe")  # uvloop does not say
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):  # a command that ended at once has closed it
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def write(self, data: bytes) -> None:
        """Sends to its stdin."""
        if not self._stdin.is_closing():
            self._stdin.write(data)

    async def drain(self) -> None:
        """Returns once what was written is mostly in the pipe."""
        await self._protocol.drained()

    def pause_reading(self) -> None:
        """Leaves its output in the pipe."""
        with contextlib.suppress(RuntimeError):  # the pipe is closed
            self._stdout.pause_reading()

    def resume_reading(self) -> None:
        """Takes its output again."""
        with contextlib.suppress(RuntimeError):
            self._stdout.resume_reading()

    async def close(self) -> None:
        """Closes stdin, at which the program ends; kills it if it does not."""
        self._stdin.close()
        self._stdout.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._protocol.closed.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
            await self._protocol.closed.wait()
        finally:
            self._transport.close()
