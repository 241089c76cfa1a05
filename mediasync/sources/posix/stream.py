"""The two byte streams of a far side's shell, for code that awaits its answers one after the other.

Owns the one place where the line's end becomes an error. What arrives waits here, at most a window's worth: then the far side has to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.sources import shell_posix
from mediasync.sources.channel import DEFAULT_WINDOW_BYTES, Channel, Launcher
from mediasync.sources.posix import wire

MAX_GREETING = 64 * 1024
MAX_NOISE = 4096
MAX_LINE = 64 * 1024
START_SECONDS = 30.0
STALL_SECONDS = 120.0  # the longest silence while an answer is due: a disk may take its time
SLOWEST_HASH = 20 * 1024 * 1024  # bytes a second that a far side hashes at least, while it says nothing


class Stream:
    """`Receiver` of a shell's channel. One coroutine at a time reads from it."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.nonce = secrets.token_hex(16).encode()
        self.failure: BaseException | None = None
        self.round_trip_seconds = 0.0
        self.patience_seconds = STALL_SECONDS
        self.window_bytes = DEFAULT_WINDOW_BYTES
        self._channel: Channel | None = None
        self._closing: asyncio.Task[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._arrived = asyncio.Event()
        self._paused = False
        self._greeted = False
        self._greeting = b""
        self._noise: deque[bytes] = deque(maxlen=16)

    async def open(self, launcher: Launcher, roots: list[bytes]) -> None:
        """Starts the shell and the program in it; its first answer is the next that is read. Raises MediasyncError."""
        try:
            launched = await launcher.launch(self)
            self._channel = launched.channel
            self.round_trip_seconds = launched.round_trip_seconds
            self.window_bytes = launched.window_bytes
            asked = b"".join(wire.request(wire.word(root)) for root in roots)
            # Nothing is waited for in between: the loader reads the program, and the program this.
            launched.channel.write(wire.program() + wire.request(self.nonce) + asked + b"\n")
            marker = shell_posix.MARKER + self.nonce + b"\n"
            async with asyncio.timeout(START_SECONDS):
                while (at := self._greeting.find(marker)) < 0:
                    if len(self._greeting) > MAX_GREETING:
                        raise self._no_shell(f"printed more than {MAX_GREETING} bytes after login and did not start the commands")
                    self._greeting += await self.some()
            self._greeted = True
            self.put_back(self._greeting[at + len(marker) :])
        except TimeoutError as error:
            await self.close()
            raise self._no_shell(f"did not answer as a shell would within {START_SECONDS:.0f} s after login") from error
        except BaseException:
            await self.close()
            raise

    def write(self, data: bytes) -> None:
        """Sends a request."""
        if self._channel is not None:
            self._channel.write(data)

    async def drain(self) -> None:
        """Waits until what was sent is mostly on its way."""
        if self._channel is not None:
            await self._channel.drain()

    async def some(self) -> bytes:
        """What arrived next, in one piece; waits for it. Raises what ended the stream."""
        while not self._chunks:
            if self.failure is not None:
                raise self.failure
            self._arrived.clear()
            try:
                async with asyncio.timeout(self.patience_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                self._fail(MediasyncError(Reason.CONNECTION_LOST, f"{self.place} has sent nothing for {self.patience_seconds:.0f} s"))
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        if self._paused and self._held <= self.window_bytes // 2 and self._channel is not None:
            self._paused = False
            self._channel.resume_reading()
        return chunk

    async def until(self, end: bytes, limit: int = MAX_LINE) -> bytes:
        """What comes before the next `end`, which is taken too."""
        parts = []
        size = 0
        while True:
            chunk = await self.some()
            before, found, after = chunk.partition(end)
            parts.append(before)
            size += len(before)
            if size > limit:
                raise wire.broken(f"an answer of more than {limit} bytes")
            if found:
                self.put_back(after)
                return b"".join(parts)

    async def line(self) -> bytes:
        """The next line."""
        return await self.until(b"\n")

    async def names(self, limit: int) -> list[bytes]:
        """Names that each end in NUL, up to an empty one."""
        result: list[bytes] = []
        while name := await self.until(b"\0"):
            if len(result) >= limit:
                raise wire.broken(f"more than {limit} names")
            result.append(name)
        return result

    async def close(self) -> None:
        """Ends the shell. Whoever waits gets CONNECTION_LOST."""
        self._fail(MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self.place} was closed"))
        if self._channel is not None:
            if self._closing is None:
                self._closing = asyncio.ensure_future(self._channel.close())
            # A caller that is cancelled here leaves the closing to go on by itself; it is bounded.
            await asyncio.shield(self._closing)

    # Receiver.

    def data_received(self, data: bytes) -> None:
        """Keeps what arrived."""
        if self.failure is not None:
            return
        self._chunks.append(data)
        self._held += len(data)
        self._arrived.set()
        if self._held > self.window_bytes and not self._paused and self._channel is not None:
            self._paused = True
            self._channel.pause_reading()

    def noise_received(self, data: bytes) -> None:
        """Keeps the last of stderr for a message."""
        self._noise.append(data[-MAX_NOISE:])

    def channel_closed(self, exit_status: int | None, error: MediasyncError | None) -> None:
        """Tells whoever waits."""
        if error is None:
            said = b"".join(self._noise)[-500:].strip()
            after = f" after it printed: {display(said)}" if said else ""
            error = (
                MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self.place} ended{after}")
                if self._greeted
                else self._no_shell(f"ended the session before the commands started (exit status {exit_status})")
            )
        # What came before the end is still there to be read.
        self._ended(error)

    # Inside.

    def put_back(self, data: bytes) -> None:
        """Makes `data` what is read next."""
        if data:
            self._chunks.appendleft(data)
            self._held += len(data)

    def _fail(self, error: BaseException) -> None:
        self._chunks.clear()
        self._held = 0
        self._ended(error)

    def _ended(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
            if self._channel is not None and self._closing is None:
                self._closing = asyncio.ensure_future(self._channel.close())
        self._arrived.set()

    def _no_shell(self, what: str) -> MediasyncError:
        said = self._greeting[-500:].strip() or b"".join(self._noise)[-500:].strip()
        printed = f"; it printed: {display(said)}" if said else ""
        return MediasyncError(
            Reason.SOURCE_PROTOCOL,
            f"{self.place} {what}{printed}",
            "Log in as a user who may run commands there: `ssh` to the same place, followed by `echo hello`, should print just that.",
        )
