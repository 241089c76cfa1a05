"""A program in a container, started through the engine's exec.

The connection that starts it is taken over: what is written to it is the program's stdin, and what comes back is its stdout and
stderr in frames of 8 bytes head (which of the two, and the length) and data. Not reading it makes the program wait: the socket fills, the
engine stops copying, the pipe fills. The engine tells the exit status only when asked after the end.

A program that hangs where it cannot be interrupted stays until it is done: engines have no way to end an exec but its own stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from typing import cast

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import shell
from mediasync.sources.channel import Launched, Receiver
from mediasync.sources.docker.containers import Container
from mediasync.sources.docker.engine import Engine, EngineError

START_SECONDS = 30.0
CLOSE_SECONDS = 5.0
_STATUS_SECONDS = 5.0
_MAX_HEAD = 64 * 1024
_MAX_FRAME = 16 << 20
_HEAD = struct.Struct(">BxxxL")
_NO_SHELL = (126, 127)


class ExecLauncher:
    """Starts a loader in a container, as the user that the container runs as; `command` is one of `mediasync.sources.shell` and its
    siblings. The engine is closed with what was started."""

    def __init__(self, engine: Engine, container: Container, command: str) -> None:
        self._engine = engine
        self._container = container
        self._command = command

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return f"the container {self._container.name}"

    async def launch(self, receiver: Receiver) -> Launched:
        """Starts it. Raises MediasyncError; nothing is left behind then."""
        command = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "Cmd": ["sh", "-c", self._command],
        }
        try:
            # The second request: the first one also asks for the engine's version.
            await self._engine.version()
            began = time.perf_counter()
            created = await self._engine.json(f"containers/{self._container.id}/exec", "POST", data=command)
            round_trip = time.perf_counter() - began
            channel = ExecChannel(self._engine, str(created["Id"]), self.place, receiver)
            await channel.start()
        except EngineError as error:
            await self._engine.close()
            raise self._refused(error) from error
        except BaseException:
            await self._engine.close()
            raise
        return Launched(channel, round_trip)

    def _refused(self, error: EngineError) -> MediasyncError:
        if error.status == 404:
            return MediasyncError(Reason.CONTAINER_NOT_FOUND, f"{self.place} is gone")
        # 409 from Docker, 500 from podman.
        if error.status == 409 or "not running" in error.message or "state improper" in error.message:
            return MediasyncError(Reason.CONTAINER_STOPPED, f"{self.place} does not run: {error.message}")
        return MediasyncError(Reason.SOURCE_PROTOCOL, f"no program can be started in {self.place}: {error.message}")


class ExecChannel(asyncio.Protocol):
    """The streams of one exec."""

    def __init__(self, engine: Engine, exec_id: str, place: str, receiver: Receiver) -> None:
        self._engine = engine
        self._exec_id = exec_id
        self._place = place
        self._receiver = receiver
        self._transport: asyncio.Transport | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._ended = asyncio.Event()
        self._begun: asyncio.Future[None] | None = None
        self._buffer = bytearray()
        self._kind = 0
        self._left = 0
        self._closing = False
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the program and takes the connection over. Raises MediasyncError; nothing is left open then."""
        self._begun = asyncio.get_running_loop().create_future()
        version = await self._engine.version()
        body = json.dumps({"Detach": False, "Tty": False}).encode()
        await self._engine.dial(lambda: self)
        assert self._transport is not None
        head = (
            f"POST /{version}/exec/{self._exec_id}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._begun
        except BaseException as error:
            self._closing = True
            self._transport.abort()
            if isinstance(error, TimeoutError):
                message = f"{self._engine.place} did not start a program in {self._place} within {START_SECONDS:.0f} s"
                raise MediasyncError(Reason.SOURCE_PROTOCOL, message) from error
            raise

    # Channel.

    def write(self, data: bytes) -> None:
        """Sends to its stdin."""
        if self._transport is not None and not self._transport.is_closing() and not self._closing:
            self._transport.write(data)

    async def drain(self) -> None:
        """Returns once what was written is mostly on its way."""
        await self._may_write.wait()

    def pause_reading(self) -> None:
        """Leaves its output in the socket."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Takes its output again."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()

    async def close(self) -> None:
        """Ends the program's stdin, at which it ends, and then the connection and what was asked of the engine."""
        self._closing = True
        transport = self._transport
        if transport is not None:
            try:
                if transport.can_write_eof():
                    transport.write_eof()
                else:
                    transport.close()
                # What it still says is thrown away, or it might wait for a reader instead of ending.
                self.resume_reading()
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._ended.wait()
            except (TimeoutError, OSError, RuntimeError):
                pass  # it is cut off then, which the engine passes on
            finally:
                transport.abort()
        if self._telling is not None:
            await asyncio.wait([self._telling])
        await self._engine.close()

    # Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: those of uvloop are transports without saying so.
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        if self._begun is not None and not self._begun.done():
            self._buffer += data
            data = self._answered()
        if data:
            self._take(data)

    def eof_received(self) -> bool:
        return False  # nothing comes any more: the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._may_write.set()
        self._ended.set()
        if self._begun is not None and not self._begun.done():
            why = str(exc) if exc else "it closed the connection"
            message = f"{self._engine.place} did not start a program in {self._place}: {why}"
            self._begun.set_exception(MediasyncError(Reason.SOURCE_PROTOCOL, message))
            self._begun.exception()  # whoever waits gets it; if nobody does any more, it is no unretrieved one
            return
        self._telling = asyncio.ensure_future(self._tell(exc))

    def _answered(self) -> bytes:
        """Looks at the head of the engine's answer; returns what came behind it."""
        assert self._begun is not None
        assert self._transport is not None
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                self._transport.abort()
            return b""
        words = bytes(self._buffer[:end]).split(b"\r\n")[0].split(b" ", 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        rest = bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        # 101 where the engine knows upgrades, 200 from older ones; the stream follows either way.
        if status in (101, 200):
            self._begun.set_result(None)
            return rest
        reason = Reason.CONTAINER_STOPPED if status == 409 else Reason.SOURCE_PROTOCOL
        said = rest.decode("utf-8", "replace").strip()
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = str(json.loads(said)["message"])
        words_of = EngineError(status, said).message or f"status {status}"
        self._begun.set_exception(MediasyncError(reason, f"no program can be started in {self._place}: {words_of}"))
        self._transport.abort()
        return b""

    def _take(self, data: bytes) -> None:
        """Takes the frames apart. A frame's data is passed on as it comes, not gathered."""
        view = memoryview(data)
        while view:
            if self._left:
                part = view[: self._left]
                view = view[len(part) :]
                self._left -= len(part)
                if self._kind == 1:
                    self._receiver.data_received(bytes(part))
                else:
                    self._receiver.noise_received(bytes(part))
                continue
            need = _HEAD.size - len(self._buffer)
            self._buffer += view[:need]
            view = view[need:]
            if len(self._buffer) == _HEAD.size:
                self._kind, self._left = _HEAD.unpack(self._buffer)
                self._buffer.clear()
                if self._left > _MAX_FRAME or self._kind > 2:
                    assert self._transport is not None
                    self._transport.abort()
                    return

    async def _tell(self, exc: Exception | None) -> None:
        """Says how it ended, once the engine was asked."""
        status: int | None = None
        error: MediasyncError | None = None
        if exc is not None and not self._closing:
            error = MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self._place} broke: {exc}")
        elif not self._closing:
            with contextlib.suppress(EngineError, MediasyncError, TimeoutError):
                async with asyncio.timeout(_STATUS_SECONDS):
                    status = (await self._engine.json(f"exec/{self._exec_id}/json")).get("ExitCode")
        # Without a shell the engine itself says so: then there is nothing to run Python with either.
        self._receiver.channel_closed(shell.NO_PYTHON_STATUS if status in _NO_SHELL else status, error)
