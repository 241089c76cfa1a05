"""One child process of the supervisor: started, watched, started again when it dies, drained when told.

Failure modes it is written for: a child that dies at any moment (again with backoff), one that cannot start for a reason
that a restart will not cure (given up with the child's own words), one that hangs while starting or while draining (killed), and a
supervisor that is itself killed (the child's stdin ends, which a service takes as the word to drain).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mediasync.errors import ExitCode, MediasyncError, Reason
from mediasync.local.control import error_from_json
from mediasync.local.journal import Journal

SERVICES = ("progress", "ingest", "transfer", "cleanup", "coordinator")
"""In the order in which they can do without one another: drained from the last to the first."""

ON_DEMAND = frozenset({"cleanup"})
"""What a single command's supervisor starts only when it is asked to: most commands never need it."""

# A start that fails with one of these says something that a person must change; see `mediasync.errors`.
_HOPELESS = frozenset({ExitCode.USAGE, ExitCode.SOURCE, ExitCode.LIBRARY, ExitCode.SERVICES})


@dataclass(frozen=True)
class ChildCommand:
    """How a child is started. `environment` is added to the supervisor's own. One that is `on_demand` is started when it is asked for."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    on_demand: bool = False


def service_commands(listen: str = "", *, ephemeral: bool = False) -> tuple[ChildCommand, ...]:
    """The services as child processes; the coordinator listens at `listen` too when given. For a supervisor that is `ephemeral` those of
    ON_DEMAND are.

    `-P` keeps the current folder off the module path, so that a folder called `services` there cannot shadow ours.
    """
    return tuple(
        ChildCommand(
            name,
            (sys.executable, "-P", "-m", f"services.{name}"),
            {"MEDIASYNC_LISTEN": listen} if listen and name == "coordinator" else {},
            on_demand=ephemeral and name in ON_DEMAND,
        )
        for name in SERVICES
    )


@dataclass(frozen=True)
class Policy:
    """How patient the supervisor is, in seconds."""

    first_backoff_seconds: float = 0.2
    longest_backoff_seconds: float = 10.0
    healthy_after_seconds: float = 30.0
    ready_within_seconds: float = 60.0
    drain_seconds: float = 10.0
    starts_before_giving_up: int = 5
    """Only for a child that was never ready; one that was is started again for ever."""


class ChildState(enum.StrEnum):
    """What a child is doing."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """Dead; started again after the backoff."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class ChildStatus:
    """A child as `mediasync status` shows it. `started` is Unix seconds; `pid` is 0 while there is no process."""

    name: str
    state: ChildState
    pid: int
    restarts: int
    addresses: tuple[str, ...]
    version: str
    started: float


class Child:
    """Keeps one child process running until `stop`. `changed` is called after every change of state."""

    def __init__(
        self, command: ChildCommand, environ: Mapping[str, str], cwd: str, journal: Journal, policy: Policy, changed: Callable[[], None]
    ) -> None:
        self.command = command
        self.state = ChildState.STARTING
        self.failure: MediasyncError | None = None
        self._environ = {**environ, **command.environment}
        self._cwd = cwd
        self._journal = journal
        self._policy = policy
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._restarts = 0
        self._was_ready = False
        self._addresses: tuple[str, ...] = ()
        self._version = ""
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix=command.name)
        self._tail: deque[str] = deque(maxlen=20)
        self._said: MediasyncError | None = None
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()

    def status(self) -> ChildStatus:
        """As it is now."""
        pid = self._process.pid if self._process and self._process.returncode is None else 0
        return ChildStatus(self.command.name, self.state, pid, self._restarts, self._addresses, self._version, self._started)

    async def run(self) -> None:
        """Runs until `stop` was called, or until `failure` says why it was given up."""
        delay = 0.0
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                code = await self._run_once()
                if self._stop.is_set():
                    return
                if self._give_up(code):
                    return
                healthy = time.monotonic() - began >= self._policy.healthy_after_seconds
                delay = self._policy.first_backoff_seconds if healthy or not delay else min(delay * 2, self._policy.longest_backoff_seconds)
                self._restarts += 1
                self._journal.warning(
                    f"{self.command.name} {_ended_how(code)}; starting it again in {delay:g} s",
                    child=self.command.name,
                    exit_code=code,
                    restarts=self._restarts,
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
        finally:
            self._waiter.shutdown(wait=False)
            self._set(ChildState.FAILED if self.failure else ChildState.STOPPED)
            self._ended.set()

    async def stop(self) -> None:
        """Asks the child to end, waits for it, kills it after the grace. Returns when it is gone."""
        self._stop.set()
        process = self._process
        if process and process.returncode is None:
            self._set(ChildState.STOPPING)
            process.terminate()
        try:
            async with asyncio.timeout(self._policy.drain_seconds):
                await self._ended.wait()
        except TimeoutError:
            self._journal.warning(
                f"{self.command.name} has not ended {self._policy.drain_seconds:g} s after it was asked to; killing it",
                child=self.command.name,
            )
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """SIGKILL to the child and what it started."""
        self._stop.set()
        if self._process and self._process.returncode is None:
            self._kill_group(self._process)

    def _set(self, state: ChildState) -> None:
        self.state = state
        self._changed()

    def _give_up(self, code: int) -> bool:
        if self._was_ready:
            return False
        if code not in _HOPELESS and self._restarts + 1 < self._policy.starts_before_giving_up:
            return False
        words = self._said.message if self._said else "\n".join(self._tail).strip() or f"it {_ended_how(code)} and said nothing"
        name = self.command.name
        if self._said and self._said.reason is not Reason.DATA_FOLDER_IN_USE:
            self.failure = self._said
        else:
            # In use by another service of that name, not by another supervisor, which is what the reason would say of us.
            self.failure = MediasyncError(
                Reason.SERVICE_FAILED_TO_START,
                f"{name} cannot start: {words}",
                self._said.remedy if self._said else "",
                metadata={"exit_code": str(code) if code in _HOPELESS else ""},
            )
        self._journal.info(f"{name} cannot start", child=name, exit_code=code, stderr=words)
        return True

    async def _run_once(self) -> int:
        """Starts the process and waits for its end. Returns its exit code, negative for a signal."""
        self._set(ChildState.STARTING)
        self._tail.clear()
        self._said = None
        ready_read, ready_write = os.pipe()
        output_read, output_write = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - returns once the program runs, a millisecond
                self.command.argv,
                stdin=subprocess.PIPE,  # its end tells the child that the supervisor is gone
                stdout=output_write,
                stderr=output_write,
                cwd=self._cwd,
                env={**self._environ, "MEDIASYNC_SUPERVISED": "1", "MEDIASYNC_READY_FD": str(ready_write)},
                pass_fds=(ready_write,),
                start_new_session=True,  # a Ctrl-C in the terminal goes to the supervisor alone, which then drains in order
            )
        except OSError as error:
            os.close(ready_read)
            os.close(output_read)
            self._tail.append(f"{self.command.argv[0]}: {error.strerror}")
            return int(ExitCode.SERVICES)
        finally:
            os.close(ready_write)
            os.close(output_write)
        self._process = process
        self._started = time.time()
        helpers = [
            asyncio.create_task(self._relay_output(output_read), name=f"{self.command.name} output"),
            asyncio.create_task(self._watch_ready(process, ready_read), name=f"{self.command.name} ready"),
        ]
        # A thread that waits for the one process: asyncio's own way differs from version to version in whether it also waits for
        # pipes that a grandchild still holds.
        code = await asyncio.get_running_loop().run_in_executor(self._waiter, process.wait)
        if not self._stop.is_set():
            self._set(ChildState.WAITING)
        self._kill_group(process)  # what it started must not go on without it
        await asyncio.wait(helpers, timeout=1)  # its last words
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        assert process.stdin is not None
        process.stdin.close()
        return code

    async def _relay_output(self, output_read: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output_read, "rb", buffering=0)
        )
        rest = b""
        try:
            while data := await reader.read(65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._relay_line(line)
                if len(rest) > 65536:  # no newline in sight: do not hoard it
                    self._relay_line(rest)
                    rest = b""
        finally:
            transport.close()
            if rest:
                self._relay_line(rest)

    def _relay_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        self._tail.append(text)
        self._journal.relay(self.command.name, text)

    async def _watch_ready(self, process: subprocess.Popen[bytes], ready_read: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ready_read, "rb", buffering=0)
        )
        try:
            async with asyncio.timeout(self._policy.ready_within_seconds):
                line = await reader.readline()
        except TimeoutError:
            self._tail.append(f"it was not ready after {self._policy.ready_within_seconds:g} s")
            self._kill_group(process)
            return
        finally:
            transport.close()
        if not line:
            return  # it ended before it was ready, which is seen where its end is waited for
        announced = json.loads(line)
        if "error" in announced:
            self._said = error_from_json(announced["error"])
            return
        self._addresses = tuple(announced.get("addresses", ()))
        self._version = announced.get("version", "")
        self._was_ready = True
        self._journal.info(f"{self.command.name} is ready", child=self.command.name, child_pid=process.pid, addresses=list(self._addresses))
        if self.state is ChildState.STARTING:
            self._set(ChildState.READY)

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        # The child leads a session of its own, so its group holds its helpers and nobody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _ended_how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
