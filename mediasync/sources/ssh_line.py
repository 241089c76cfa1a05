"""One SSH connection, and the sessions that an engine has on it.

While it is being found out which engine fits, the connection outlives an engine that does not, so that the next one need not log in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import ssh_errors
from mediasync.sources.channel import Launched, Receiver, Window
from mediasync.sources.ssh_login import Gate, Login, Target

PACKET_BYTES = 128 * 1024
SESSION_SECONDS = 30.0  # some servers run accounting and mounts before they let a session begin
EOF_SECONDS = 5.0


class SshLine:
    """A connection to a host, made when it is first needed. `kept` is set while another engine may still want it."""

    def __init__(self, gate: Gate, target: Target, window: Window) -> None:
        self._gate = gate
        self._target = target
        self._login: Login | None = None
        self.window = window
        self.kept = False

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return self._target.place

    async def log_in(self) -> asyncssh.SSHClientConnection:
        """The connection, made if there is none. Raises MediasyncError."""
        if self._login is not None and self._login.connection.is_closed():
            await self.close()
        if self._login is None:
            self._login = await self._gate.log_in(self._target)
        return self._login.connection

    async def let_go(self) -> None:
        """An engine is done with it."""
        if not self.kept:
            await self.close()

    async def close(self) -> None:
        """Ends it. Bounded in time; may be called more than once."""
        login, self._login = self._login, None
        if login is not None:
            await login.close()


class SshLauncher:
    """Starts a command in a session of its own."""

    def __init__(self, line: SshLine, command: str) -> None:
        self._line = line
        self._command = command

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return self._line.place

    async def launch(self, receiver: Receiver) -> Launched:
        """Logs in, where that is not done, and runs the command."""
        connection = await self._line.log_in()
        try:
            window_bytes = await self._line.window()
            session = _Session(receiver, self.place)
            began = time.perf_counter()
            async with asyncio.timeout(SESSION_SECONDS):
                await connection.create_session(
                    lambda: session,
                    self._command,
                    encoding=None,
                    env=None,
                    send_env=None,
                    request_pty=False,
                    window=window_bytes,
                    max_pktsize=PACKET_BYTES,
                )
        except (asyncssh.Error, OSError) as error:
            await self._line.let_go()
            reason = error.reason if isinstance(error, asyncssh.ChannelOpenError) else str(error) or "it did not answer"
            raise MediasyncError(
                Reason.SOURCE_PROTOCOL,
                f"{self.place} lets us log in, but run no command: {ssh_errors.printable(reason)}",
                "Log in as a user with a shell.",
            ) from error
        except BaseException:
            await self._line.let_go()
            raise
        # The channel was confirmed after one round trip, the command after another; neither had to wait for a program to start. The
        # shorter counts: servers delay one or the other for reasons of their own.
        started = time.perf_counter()
        return Launched(SshChannel(self._line, session), min(session.opened - began, started - session.opened), window_bytes)


class _Session(asyncssh.SSHClientSession[bytes]):
    """Passes on what arrives, in the callback that brought it."""

    def __init__(self, receiver: Receiver, place: str) -> None:
        self._receiver = receiver
        self._place = place
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._exit_status: int | None = None
        self._give_up: asyncio.TimerHandle | None = None
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self.opened = 0.0

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = chan
        self.opened = time.perf_counter()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is None:
            self._receiver.data_received(data)
        else:
            self._receiver.noise_received(data)

    def eof_received(self) -> bool:
        # Nothing more can come. The exit status usually follows; a server that keeps the channel open instead is not waited for.
        if self.channel is not None:
            self._give_up = asyncio.get_running_loop().call_later(EOF_SECONDS, self.channel.close)
        return True

    def exit_status_received(self, status: int) -> None:
        self._exit_status = status

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
        self._may_write.set()
        self._receiver.channel_closed(self._exit_status, ssh_errors.line_lost(exc, self._place))

    async def drained(self) -> None:
        await self._may_write.wait()


class SshChannel:
    """A session's streams, on a line that ends with it."""

    def __init__(self, line: SshLine, session: _Session) -> None:
        assert session.channel is not None
        self._line = line
        self._session = session
        self._channel = session.channel

    def write(self, data: bytes) -> None:
        """Sends to the program's stdin."""
        with contextlib.suppress(BrokenPipeError):  # closed: `channel_closed` tells
            self._channel.write(data)

    async def drain(self) -> None:
        """Returns once what was written is mostly on its way."""
        await self._session.drained()

    def pause_reading(self) -> None:
        """Lets at most a window's worth arrive."""
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Takes everything again."""
        self._channel.resume_reading()

    async def close(self) -> None:
        """Ends the session, and the line with it."""
        # Not close(), which would wait for what was not read yet.
        self._channel.abort()
        await self._line.let_go()
