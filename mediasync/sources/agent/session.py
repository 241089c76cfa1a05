"""The agent's two byte streams as requests and answers.

`Session` starts the program, waits for its marker, and then hands each frame to the call under way. It owns the one place where the
line's end becomes an error, and makes sure that everything waiting hears of it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.sources import shell
from mediasync.sources.agent import assembly, requests, wire
from mediasync.sources.agent.payloads import broken
from mediasync.sources.channel import Channel, Launcher
from mediasync.sources.selection import EVERYTHING

MAX_GREETING = 64 * 1024
MAX_NOISE = 4096
START_SECONDS = 30.0  # a container that just woke up may take long to start Python
LINE_SECONDS = 25.0  # the longest silence while an answer is due; the far side says that it lives every five seconds
STALL_SECONDS = 120.0  # the longest time in which it says no more than that: disks may take their time
LOOKS = 16  # how often in that time is looked at the clock


class Call(Protocol):
    """One request's answers. `data` and `frame` are called on the event loop as bytes arrive; what they raise ends the session."""

    @property
    def due(self) -> bool:
        """Something is to come, and would be taken at once."""

    def frame(self, kind: int, payload: bytes) -> int:
        """Takes a frame; returns how many raw bytes follow it."""

    def data(self, data: bytes) -> None:
        """Takes the next raw bytes."""

    def failed(self, error: BaseException) -> None:
        """Nothing more comes."""


@dataclass(frozen=True)
class Opened:
    """What was learned when the program started."""

    ready: wire.Ready
    round_trip_seconds: float
    clock_offset_seconds: float
    window_bytes: int


class Session:
    """One program at a far side. `Receiver` of its channel."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.failure: BaseException | None = None
        self._channel: Channel | None = None
        self._call: Call | None = None
        self._parser = wire.FrameParser()
        self._marker = b""
        self._greeting = bytearray()
        self._greeted = False
        self._noise: deque[bytes] = deque(maxlen=64)
        self._closing: asyncio.Task[None] | None = None
        self._heard = self._moved = 0.0
        self._pauses = 0
        self._held_until = 0.0
        self._hold: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def open(self, launcher: Launcher, roots: list[bytes]) -> Opened:
        """Starts the program at one of `roots`. Raises MediasyncError, and leaves nothing behind then."""
        nonce = secrets.token_hex(16).encode()
        self._marker = wire.MARKER + nonce + b"\n"
        hello = _Hello()
        self._call = hello
        try:
            launched = await launcher.launch(self)
            self._channel = launched.channel
            async with asyncio.timeout(START_SECONDS):
                # Nothing is waited for in between: the loader reads the program, and the program this.
                launched.channel.write(assembly.program() + requests.hello(nonce, roots, EVERYTHING))
                kind, payload = await hello.answer
            arrived = time.time_ns()
            if kind == wire.Answer.FAILED:
                raise wire.failed(payload, self.place)
            ready = wire.ready(payload)
        except TimeoutError as error:
            await self.close()
            what = "answered otherwise than expected" if self._greeting else "did not answer"
            raise MediasyncError(
                Reason.SOURCE_PROTOCOL, f"{self.place} {what} within {START_SECONDS:.0f} s after login{self._printed()}"
            ) from error
        except BaseException:
            await self.close()
            raise
        finally:
            self._call = None
        offset = (ready.clock_ns - arrived) / 1e9 + launched.round_trip_seconds / 2
        return Opened(ready, launched.round_trip_seconds, offset, launched.window_bytes)

    def begin(self, call: Call) -> None:
        """Makes `call` the one that gets what arrives. Raises what ended the session, if something did."""
        if isinstance(self.failure, MediasyncError):
            raise self.failure
        if self.failure is not None:
            raise self._closed()
        if self._call is not None:
            raise RuntimeError("a connection does one thing at a time")
        self._call = call
        self._heard = self._moved = time.monotonic()
        self._look()

    def finish(self, call: Call) -> None:
        """The call got its last answer."""
        if self._call is call:
            self._call = None
            self._stop_looking()

    def write(self, data: bytes) -> None:
        """Sends a request."""
        if self._channel is not None:
            self._channel.write(data)

    async def drain(self) -> None:
        """Waits until what was sent is mostly on its way."""
        if self._channel is not None:
            await self._channel.drain()
            # A line that takes what we send is not dead.
            self._heard = self._moved = time.monotonic()

    def pause(self) -> None:
        """Lets the far side wait: whoever takes the answers lags. Each has its `resume`."""
        self._pauses += 1
        if self._channel is not None and self._pauses == 1:
            self._channel.pause_reading()

    def resume(self) -> None:
        """Goes on."""
        self._pauses -= 1
        if self._channel is not None and self._pauses == 0:
            self._channel.resume_reading()

    def hold(self, seconds: float) -> None:
        """Lets the far side wait for so long from now: it is too fast. What is on its way still comes."""
        loop = asyncio.get_running_loop()
        self._held_until = max(self._held_until, loop.time() + seconds)
        if self._hold is None and self.failure is None:
            self.pause()
            self._hold = loop.call_at(self._held_until, self._release)

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        self._hold = None
        if loop.time() < self._held_until:
            self._hold = loop.call_at(self._held_until, self._release)
        else:
            self.resume()

    async def close(self) -> None:
        """Ends the program. Calls under way end with CONNECTION_LOST."""
        self._fail(self._closed())
        if self._channel is not None:
            if self._closing is None:
                self._closing = asyncio.ensure_future(self._channel.close())
            # A caller that is cancelled here leaves the closing to go on by itself; it is bounded.
            await asyncio.shield(self._closing)

    # Receiver.

    def data_received(self, data: bytes) -> None:
        """Cuts what arrives into frames and raw bytes for the call under way."""
        if self.failure is not None:
            return
        self._heard = time.monotonic()
        try:
            if self._greeted:
                self._take(data)
            else:
                self._greet(data)
        except (MediasyncError, OSError) as error:
            self._fail(error)
        except Exception as error:  # a sink's or a parser's bug must reach the call, not the event loop's log alone
            self._fail(error)

    def noise_received(self, data: bytes) -> None:
        """Keeps the last lines of stderr for a message."""
        self._noise.append(data[-MAX_NOISE:])

    def channel_closed(self, exit_status: int | None, error: MediasyncError | None) -> None:
        """Tells the call under way."""
        self._fail(error or self._ended(exit_status))

    # Inside.

    def _greet(self, data: bytes) -> None:
        self._greeting += data
        at = self._greeting.find(self._marker)
        if at >= 0:
            rest = bytes(self._greeting[at + len(self._marker) :])
            del self._greeting[at:]
            self._greeted = True
            self._take(rest)
        elif len(self._greeting) > MAX_GREETING:
            raise MediasyncError(
                Reason.SOURCE_PROTOCOL,
                f"{self.place} printed more than {MAX_GREETING} bytes after login and did not start the transfer program{self._printed()}",
            )

    def _take(self, data: bytes) -> None:
        parser = self._parser
        left = parser.raw_left
        if left and len(data) <= left:
            # Nearly everything passes here: one piece of one file, uncopied.
            self._moved = self._heard
            parser.raw_left = left - len(data)
            assert self._call is not None
            self._call.data(data)
            return
        view = memoryview(data)
        while len(view):
            if parser.raw_left:
                part = view[: parser.raw_left]
                view = view[len(part) :]
                parser.raw_left -= len(part)
                assert self._call is not None
                self._moved = self._heard
                self._call.data(bytes(part))
                continue
            found = parser.next(view)
            if found is None:
                return
            kind, payload, view = found
            if kind == wire.Answer.ALIVE:
                continue
            self._moved = self._heard
            if kind == wire.Answer.TICK:
                continue
            if self._call is None:
                raise broken(f"a frame of kind {kind} that nobody asked for")
            if kind == wire.Answer.FAILED and not isinstance(self._call, _Hello):
                raise wire.failed(payload, self.place)
            parser.raw_left = self._call.frame(kind, payload)

    def _fail(self, error: BaseException) -> None:
        if self.failure is not None:
            return
        self.failure = error
        self._stop_looking()
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._call is not None:
            self._call.failed(error)
        if self._channel is not None and self._closing is None:
            self._closing = asyncio.ensure_future(self._channel.close())

    def _look(self) -> None:
        """Ends a session whose line is dead, or whose far side hangs: SSH's own keepalive is answered by the server, not by our program."""
        now = time.monotonic()
        if self._call is None or not self._call.due or self._hold is not None:
            self._heard = self._moved = now
        if now - self._heard >= LINE_SECONDS:
            self._fail(MediasyncError(Reason.CONNECTION_LOST, f"{self.place} has sent nothing for {LINE_SECONDS:.0f} s"))
            return
        if now - self._moved >= STALL_SECONDS:
            stalled = f"{self.place} has got nowhere for {STALL_SECONDS:.0f} s; a disk may hang there"
            self._fail(MediasyncError(Reason.CONNECTION_LOST, stalled))
            return
        self._watch = asyncio.get_running_loop().call_later(min(LINE_SECONDS, STALL_SECONDS) / LOOKS, self._look)

    def _stop_looking(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _closed(self) -> MediasyncError:
        return MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self.place} was closed")

    def _printed(self) -> str:
        said = bytes(self._greeting[-500:]).strip() or b"".join(self._noise)[-500:].strip()
        return f"; it printed: {display(said)}" if said else ""

    def _ended(self, exit_status: int | None) -> MediasyncError:
        if self._greeted:
            noise = b"".join(self._noise)[-500:].strip()
            said = f" after it printed: {display(noise)}" if noise else ""
            return MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self.place} ended{said}")
        if exit_status == shell.NO_PYTHON_STATUS:
            looked = ", ".join(shell.PYTHONS[:4])
            return MediasyncError(
                Reason.SOURCE_WITHOUT_PYTHON,
                f"no Python 3.6 or later was found at {self.place}; looked for {looked} and in the usual environments",
            )
        status = f" (exit status {exit_status})" if exit_status is not None else ""
        return MediasyncError(
            Reason.SOURCE_PROTOCOL,
            f"{self.place} closed the session before the transfer program started{status}{self._printed()}",
            "Log in as a user who may run commands there: `ssh` to the same place, followed by `echo hello`, should print just that.",
        )


class _Hello:
    """The first call: one frame."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    @property
    def due(self) -> bool:
        return not self.answer.done()

    def frame(self, kind: int, payload: bytes) -> int:
        if kind not in (wire.Answer.READY, wire.Answer.FAILED):
            raise broken(f"a frame of kind {kind} first")
        if not self.answer.done():
            self.answer.set_result((kind, payload))
        return 0

    def data(self, data: bytes) -> None:
        raise AssertionError("no raw bytes follow a first frame")

    def failed(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # whoever waits gets it; if nobody does any more, it is no unretrieved one
