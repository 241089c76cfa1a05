"""A program at the other end of two byte streams: over SSH, in a container, or as a local child process.

A `Launcher` starts the agent's loader somewhere and hands over a `Channel` to write to; what the program prints is given to a
`Receiver` on the event loop as it arrives, without a queue in between. A channel carries no meaning: framing is the agent's
matter (`mediasync.sources.agent`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from mediasync.errors import MediasyncError

DEFAULT_WINDOW_BYTES = 2 << 20
"""For a connection that scans and pulls little. A larger one is dear for the SSH server."""

Window = Callable[[], Awaitable[int]]
"""Says how many bytes one connection may have on their way. Asked once a connection is logged in: who knows the line may say it then."""


class Receiver(Protocol):
    """What a channel tells. Called on the event loop; nothing may be raised."""

    def data_received(self, data: bytes) -> None:
        """The program wrote to its stdout."""

    def noise_received(self, data: bytes) -> None:
        """The program, or the shell before it, wrote to its stderr."""

    def channel_closed(self, exit_status: int | None, error: MediasyncError | None) -> None:
        """Nothing comes any more; called once, last. `exit_status` is None where it was not told, `error` says why the line broke,
        None when the program ended by itself or the channel was closed by us."""


class Channel(Protocol):
    """The way to the program."""

    def write(self, data: bytes) -> None:
        """Sends to its stdin. Never blocks; use `drain` between large writes. Does nothing once closed."""

    async def drain(self) -> None:
        """Returns once what was written is mostly on its way, or the channel is closed."""

    def pause_reading(self) -> None:
        """Stops `data_received` after what was read already; the far side is slowed down by the unread rest."""

    def resume_reading(self) -> None:
        """Goes on with it."""

    async def close(self) -> None:
        """Ends the program, the streams and what carries them. May be called more than once; bounded in time."""


@dataclass(frozen=True)
class Launched:
    """A program that was started. `round_trip_seconds` is 0 where none was measured; `window_bytes` is how much may be on its way."""

    channel: Channel
    round_trip_seconds: float = 0.0
    window_bytes: int = DEFAULT_WINDOW_BYTES


class Launcher(Protocol):
    """Starts the loader of `mediasync.sources.shell` somewhere."""

    @property
    def place(self) -> str:
        """The far side, for messages."""

    async def launch(self, receiver: Receiver) -> Launched:
        """Starts it, in bounded time. Raises MediasyncError; nothing is left behind then."""
