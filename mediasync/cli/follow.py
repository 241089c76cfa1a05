"""Following a job in the foreground. The first Ctrl-C cancels the job and waits for its end, the second leaves as soon as the job was
asked to stop, the third at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from mediasync.cli import output
from mediasync.errors import ExitCode, MediasyncError, Reason
from mediasync.model import Job

if TYPE_CHECKING:
    from mediasync.cli.display import Display
    from mediasync.handle import JobHandle

_ASK_SECONDS = 1.0


async def follow(job: JobHandle, display: Display, interrupt: Interrupt) -> Job:
    """Shows the job's progress on a display that is open, until the job has ended."""
    interrupt.job_started(job.cancel, display)
    async for progress in job.watch():
        display.update(progress)
    return await job.result()


class Interrupt:
    """What SIGINT and SIGTERM do while a command follows a job. Before the job has started they end the command."""

    def __init__(self, as_json: bool = False, *, watch: bool = False, kept: str = "what has landed stays") -> None:
        self._as_json = as_json
        self._watch = watch
        self._kept = kept
        self._main = asyncio.current_task()
        self._cancel: Callable[[], Awaitable[None]] | None = None
        self._display: Display | None = None
        self._count = 0
        self._ended_with: int | None = None
        self._cancelling: asyncio.Task[None] | None = None

    @property
    def happened(self) -> bool:
        """Whether there was a signal."""
        return self._count > 0

    @contextlib.contextmanager
    def handled(self) -> Iterator[Interrupt]:
        """Takes the signals while inside."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield self
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def job_started(self, cancel: Callable[[], Awaitable[None]], display: Display) -> None:
        """From now on the first signal cancels the job."""
        self._cancel, self._display = cancel, display

    def job_ended(self, exit_code: int) -> None:
        """The job has ended and was reported; from now on a signal only hurries the way out."""
        self._ended_with = exit_code

    def _on_signal(self) -> None:
        self._count += 1
        if self._count == 2 and self._ended_with is None and self._cancelling is not None and not self._cancelling.done():
            # Or a job that nobody has asked to stop would go on when we are gone.
            self._cancelling.add_done_callback(lambda _: self._leave())
            asyncio.get_running_loop().call_later(_ASK_SECONDS, self._leave)
        elif self._count > 1 or self._ended_with is not None:
            self._leave()
        elif self._cancel is None:
            assert self._main is not None
            self._main.cancel()
        else:
            assert self._display is not None
            doing = "Ending the watch" if self._watch else "Cancelling"
            self._display.say(f"{doing}; {self._kept}. Ctrl-C again leaves at once.")
            self._cancelling = asyncio.ensure_future(self._cancel_job())

    async def _cancel_job(self) -> None:
        assert self._cancel is not None
        try:
            await self._cancel()
        except Exception:
            # The watch meets the same trouble and tells it; let it, by ending the wait.
            assert self._main is not None
            self._main.cancel()

    def _leave(self) -> None:
        """Ends the process here and now. The job, if it was asked to stop, does so without us, and the services after it."""
        if self._display is not None:
            self._display.__exit__(None, None, None)  # harmless when it has been left
        if self._as_json and self._ended_with is None:
            output.print_json(output.error_json(MediasyncError(Reason.CANCELLED, "left before the job had ended"), int(ExitCode.CANCELLED)))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(ExitCode.CANCELLED if self._ended_with is None else self._ended_with)
