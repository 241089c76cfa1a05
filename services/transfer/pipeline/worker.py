"""The front of the pipeline: hands files to worker processes, and survives whatever a file does to one.

A process is started when a file comes and none is idle, and ended when it has had nothing to do for some seconds, as it holds some
20 MB. It gets one file at a time. When it dies on a file (a decoder that crashes, the kernel's OOM killer) it is replaced and the file
tried once more; a file that takes too long is given up at once. Either way the file is reported as invalid, and the others go on.

A plain subprocess with pipes, as forking a process that runs gRPC is not safe.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from services.transfer.pipeline.frames import HEADER_BYTES, MAX_FRAME_BYTES, frame, parse_response, request
from services.transfer.pipeline.stage import MediaFacts, MediaFile, StageRun, problem_with

logger = logging.getLogger(__name__)

DEFAULT_COMMAND = (sys.executable, "-P", "-m", "services.transfer.pipeline.worker_process")
_ATTEMPTS = 2
_END_SECONDS = 2.0


class _WorkerDiedError(Exception):
    """A worker process ended, or said what makes no sense, while it had a file."""


class PipelineWorker:
    """Passes files through stages in at most `processes` processes of their own; as many files are under way at a time.

    `idle_seconds` is how long a process without work is kept, `file_seconds` how long one file may take. Safe to call from many tasks
    of one event loop. Close it when done.
    """

    def __init__(
        self,
        processes: int = 1,
        idle_seconds: float = 5.0,
        file_seconds: float = 30.0,
        command: Sequence[str] = DEFAULT_COMMAND,
    ) -> None:
        self._processes = processes
        self._slots = asyncio.Semaphore(processes)
        self._idle_seconds = idle_seconds
        self._file_seconds = file_seconds
        self._command = tuple(command)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._reaper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes there are."""
        return tuple(process.pid for process in (*self._idle, *self._busy))

    async def process(self, file: MediaFile, stages: tuple[str, ...]) -> MediaFacts:
        """What these stages find of `file`. Trouble with the file is in the facts; raises only CANCELLED, once closed, and
        INTERNAL when a worker process cannot be started at all."""
        died = ""
        async with self._slots:
            for _ in range(_ATTEMPTS):
                try:
                    async with asyncio.timeout(self._file_seconds):
                        run = await self._ask(file, stages)
                except TimeoutError:
                    return self._failed(file, f"could not be looked into: that took more than {self._file_seconds:g} seconds")
                except _WorkerDiedError as error:
                    died = f"could not be looked into: {error}, {_ATTEMPTS} times"
                else:
                    return self._logged(run)
            return self._failed(file, died)

    async def close(self) -> None:
        """Ends all processes. Files under way end with CANCELLED."""
        self._closing.set()
        for process in list(self._busy):
            await process.kill()
        for _ in range(self._processes):  # every file under way has seen it then
            await self._slots.acquire()
        for _ in range(self._processes):
            self._slots.release()
        if self._reaper is not None:
            await self._reaper
        idle, self._idle = self._idle, []
        await asyncio.gather(*(process.end() for process in idle))

    async def _ask(self, file: MediaFile, stages: tuple[str, ...]) -> StageRun:
        """One attempt, with a process that is kept if it goes well and ended if not: it may still be busy with the file."""
        self._refuse_if_closing()
        worker = self._idle.pop() if self._idle else await _Process.start(self._command)
        self._busy.add(worker)
        answered = False
        try:
            self._refuse_if_closing()
            run = await worker.ask(file, stages, self._file_seconds)
            answered = True
        except _WorkerDiedError:
            self._refuse_if_closing()
            raise
        finally:
            self._busy.discard(worker)
            if answered:
                self._keep(worker)
            else:
                await worker.kill()
        return run

    def _refuse_if_closing(self) -> None:
        if self._closing.is_set():
            raise MediasyncError(Reason.CANCELLED, "the pipeline is being shut down")

    def _keep(self, worker: _Process) -> None:
        worker.idle_since = time.monotonic()
        self._idle.append(worker)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.get_running_loop().create_task(self._reap(), name="pipeline-reaper")

    async def _reap(self) -> None:
        """Ends processes that have been idle for long enough; ends itself with the last one."""
        while self._idle and not self._closing.is_set():
            oldest = self._idle[0]
            left = oldest.idle_since + self._idle_seconds - time.monotonic()
            if left > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._closing.wait()
            else:
                self._idle.remove(oldest)
                await oldest.end()

    def _logged(self, run: StageRun) -> MediaFacts:
        for failure in run.failures:
            logger.error(
                "a pipeline stage failed on a file",
                extra={"stage": failure.stage, "file": display(failure.library_path), "details": failure.details},
            )
        return run.facts

    def _failed(self, file: MediaFile, what: str) -> MediaFacts:
        problem = problem_with(file, what)
        logger.warning("a file could not be looked into", extra={"file": display(file.library_path), "details": problem.message})
        return MediaFacts(invalid=problem)


class _Process:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.idle_since = 0.0

    @classmethod
    async def start(cls, command: Sequence[str]) -> _Process:
        """A new process. Raises MediasyncError with INTERNAL if it cannot be started."""
        pipe = asyncio.subprocess.PIPE
        try:
            return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
        except OSError as error:
            raise MediasyncError(Reason.INTERNAL, f"the pipeline's worker process cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, file: MediaFile, stages: tuple[str, ...], limit_seconds: float) -> StageRun:
        """Its answer for one file. Raises _WorkerDiedError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(frame(request(file, stages, limit_seconds)))
            await stdin.drain()
            length = int.from_bytes(await stdout.readexactly(HEADER_BYTES), "big")
            if length > MAX_FRAME_BYTES:
                raise _WorkerDiedError("the process that looks into files gave an answer without end")
            return parse_response(json.loads(await stdout.readexactly(length)), file)
        except (ConnectionError, RuntimeError, asyncio.IncompleteReadError):
            # uvloop says RuntimeError where the pipe to a process that has ended was closed before the write.
            raise _WorkerDiedError(f"the process that looks into files ended ({_how(await self._process.wait())})") from None
        except (ValueError, KeyError, TypeError) as error:
            raise _WorkerDiedError(
                f"the process that looks into files gave an answer that makes no sense ({type(error).__name__})"
            ) from error

    async def end(self) -> None:
        """Lets it end, or makes it."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()
        # One that hangs in the kernel, on a network mount that does not answer, cannot be waited for; it is reaped when it ends.
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
