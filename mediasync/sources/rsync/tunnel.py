"""Joins the rsync program on this side to its server at the far side, over a session of an SSH connection that is there already."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import cast

import asyncssh

from mediasync.sources.base import Pace
from mediasync.sources.rsync.transport import LOST

PACKET_BYTES = 128 * 1024
MAX_COMMAND = 128 * 1024
MAX_NOISE = 1 << 20
_NOT_RUN = 126


class Tunnel:
    """One session. `noise` is what the far side's shell said on its stderr, the beginning of it; `opened_seconds` how long the session
    took to open, a round trip; 0 before it has; `status` what the program there ended with, None before it has."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, command: Callable[[Sequence[bytes]], bytes], window_bytes: int, pace: Pace | None
    ) -> None:
        self._connection = connection
        self._command = command
        self._window_bytes = window_bytes
        self._pace = pace
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.noise = b""
        self.status: int | None = None
        self.opened_seconds = 0.0

    async def serve(self) -> None:
        """Waits for rsync's side, and carries bytes until the far side's program has ended."""
        arguments, descriptors = await self._handed()
        status = LOST
        session = _Session(self, self._pace)
        loop = asyncio.get_running_loop()
        reader = os.fdopen(descriptors[0], "rb", 0)
        writer = os.fdopen(descriptors[1], "wb", 0)
        transport: asyncio.ReadTransport | None = None
        try:
            session.output, _ = await loop.connect_write_pipe(lambda: _Output(session), writer)
            began = loop.time()
            await self._connection.create_session(
                lambda: session,
                cast(str, self._command(arguments)),  # a root need not be UTF-8; bytes are sent as they are
                encoding=None,
                env=None,
                send_env=None,
                request_pty=False,
                window=self._window_bytes,
                max_pktsize=PACKET_BYTES,
            )
            self.opened_seconds = loop.time() - began
            transport, _ = await loop.connect_read_pipe(lambda: _Input(session), reader)
            status = await session.ended()
        except (asyncssh.ChannelOpenError, asyncssh.DisconnectError, OSError) as error:
            self.noise += str(error).encode("utf-8", "replace")
            status = _NOT_RUN if isinstance(error, asyncssh.ChannelOpenError) else LOST
        finally:
            self.status = status
            session.close()
            if transport is not None:
                transport.close()
            reader.close()
            writer.close()
            try:
                self._ours.send(bytes([status & 0xFF]))
            except OSError:
                pass  # rsync has ended before

    async def _handed(self) -> tuple[list[bytes], list[int]]:
        """rsync's remote command, and the pipes to it."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._ours, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._ours)
        message, descriptors, _, _ = socket.recv_fds(self._ours, MAX_COMMAND, 2)
        if len(descriptors) != 2:
            raise ConnectionError("rsync's side ended before it began")
        return message.split(b"\0"), descriptors

    def heard(self, data: bytes) -> None:
        """The far side wrote to its stderr."""
        self.noise += data[: MAX_NOISE - len(self.noise)]

    def close(self) -> None:
        """Lets go of what is left of the way to rsync."""
        self._ours.close()
        self.theirs.close()


class _Session(asyncssh.SSHClientSession[bytes]):
    def __init__(self, tunnel: Tunnel, pace: Pace | None) -> None:
        self._tunnel = tunnel
        self._pace = pace
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._input: asyncio.ReadTransport | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._status = LOST
        self._resume: asyncio.TimerHandle | None = None
        self._held = False
        self.delivered = asyncio.Event()
        self.output: asyncio.WriteTransport | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is not None:
            self._tunnel.heard(data)
            return
        assert self.output is not None
        self.output.write(data)
        if self._pace is not None and (seconds := self._pace.took(len(data))) > 0 and self._channel is not None:
            self._channel.pause_reading()
            self._resume = asyncio.get_running_loop().call_later(seconds, self._paced)

    def _paced(self) -> None:
        self._resume = None
        if not self._held and self._channel is not None:
            self._channel.resume_reading()

    def hold(self, held: bool) -> None:
        """rsync does not take its input, or takes it again."""
        self._held = held
        if self._channel is None or self._channel.is_closing():
            return
        if held:
            self._channel.pause_reading()
        elif self._resume is None:
            self._channel.resume_reading()

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def reads_from(self, transport: asyncio.ReadTransport) -> None:
        """Where rsync's own bytes come from."""
        self._input = transport

    def sent(self, data: bytes) -> None:
        """rsync wrote to the far side."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def sent_all(self) -> None:
        """rsync writes no more."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def pause_writing(self) -> None:
        if self._input is not None and not self._input.is_closing():
            self._input.pause_reading()

    def resume_writing(self) -> None:
        if self._input is not None and not self._input.is_closing():
            self._input.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._resume is not None:
            self._resume.cancel()
        if not self._ended.done():
            self._ended.set_result(LOST if exc is not None else self._status)

    async def ended(self) -> int:
        """The far side's exit status, once everything it said was handed over."""
        status = await self._ended
        if self.output is not None:
            self.output.close()
            await self.delivered.wait()
        return status

    def close(self) -> None:
        """Ends the session."""
        if self._channel is not None:
            self._channel.abort()
        if self.output is not None and not self.delivered.is_set():
            self.output.abort()


class _Output(asyncio.BaseProtocol):
    """rsync's input, as this side sees it."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def pause_writing(self) -> None:
        self._session.hold(True)

    def resume_writing(self) -> None:
        self._session.hold(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.delivered.set()


class _Input(asyncio.Protocol):
    """rsync's output, as this side sees it."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._session.reads_from(cast(asyncio.ReadTransport, transport))

    def data_received(self, data: bytes) -> None:
        self._session.sent(data)

    def eof_received(self) -> None:
        self._session.sent_all()
