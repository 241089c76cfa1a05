"""Runs every service on this machine as a child process: `mediasync up`, and what a single command starts for its own length.

    python -P -m mediasync.local.supervisor [--listen HOST:PORT] [--json]
    python -P -m mediasync.local.supervisor --ephemeral

All children start at once, but for those that are started when they are asked for; each is started again when it dies. SIGTERM and SIGINT
drain them, the one that asks the others first; a second signal kills. The *ephemeral* form ends by itself when nobody holds its control
socket any more, and speaks to who started it on stdout: one JSON line if it could not start. It ends with code 75 when another supervisor
has the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from mediasync import __version__
from mediasync.errors import ExitCode, MediasyncError, Reason
from mediasync.local.children import Child, ChildCommand, ChildState, Policy, service_commands
from mediasync.local.control import SOCKET_NAME, ControlServer, error_to_json
from mediasync.local.holder import Holder, take_lock, write_note
from mediasync.local.journal import Journal
from mediasync.runtime.home import Home
from mediasync.runtime.listen import loopback

DEFAULT_LISTEN = "127.0.0.1:7171"
EXIT_LOST_RACE = 75
"""What an ephemeral supervisor ends with when another one has the data folder."""


@dataclass(frozen=True)
class EphemeralPolicy:
    """How long a supervisor that nobody holds lives, in seconds."""

    unattached_seconds: float = 10.0
    """From its start to the first hold."""
    linger_seconds: float = 0.2
    """From the moment that the last holder let go."""
    lost_seconds: float = 1.0
    """From the moment that the last holder's connection ended without a word: it may be a coordinator that died, which is seen by then."""
    recovery_seconds: float = 10.0
    """From the moment that a child that died is ready again: a coordinator that was killed takes its hold again when it finds its jobs."""


@dataclass(frozen=True)
class Settings:
    """What a supervisor is to do."""

    home: Home
    commands: Sequence[ChildCommand]
    ephemeral: bool = False
    listen: str = ""
    policy: Policy = field(default_factory=Policy)
    ephemeral_policy: EphemeralPolicy = field(default_factory=EphemeralPolicy)


class Supervisor:
    """Owns the children from start to drain. `on_ready` is called once, when every child has been ready for the first time."""

    def __init__(self, settings: Settings, journal: Journal, environ: Mapping[str, str], on_ready: Callable[[Supervisor], None]) -> None:
        self._settings = settings
        self._journal = journal
        self._on_ready = on_ready
        self._started = time.time()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Condition()
        self._wakeups: set[asyncio.Task[None]] = set()
        self._lives_until = math.inf
        self._ready_once = False
        self._failure: MediasyncError | None = None
        base = {**environ, "MEDIASYNC_HOME": str(settings.home.path)}
        base.pop("MEDIASYNC_LISTEN", None)
        self._base = base
        self.children = [self._child(command) for command in settings.commands if not command.on_demand]
        self._running: list[asyncio.Task[None]] = []
        self._control = ControlServer(str(settings.home.run / SOCKET_NAME), self)

    async def run(self) -> None:
        """Runs until asked to end. Raises MediasyncError when it cannot start."""
        lock = take_lock(self._settings.home.run)
        try:
            self._note()
            if self._settings.listen:
                check_free(self._settings.listen)
            await self._control.start()
            self._journal.info("supervisor started", ephemeral=self._settings.ephemeral)
            self._handle_signals()
            if self._settings.ephemeral:
                self._lives_until = time.monotonic() + self._settings.ephemeral_policy.unattached_seconds
            for child in self.children:
                self._run(child)
            watch = asyncio.create_task(self._watch(), name="watch")
            await self._stopping.wait()
            watch.cancel()
            await self._drain()
            await asyncio.gather(*self._running)
            await asyncio.gather(watch, return_exceptions=True)
            self._journal.info("supervisor ended")
        finally:
            self._control.close_door()  # while the lock is held: afterwards the socket's name may be another one's
            lock.release()  # before the connections end, so that who waits for that can start the next one
            await self._control.close()
        if self._failure:
            raise self._failure

    # What the control socket asks for.

    def status(self) -> dict[str, object]:
        """Itself and its children."""
        return {
            "supervisor": {
                "pid": os.getpid(),
                "version": __version__,
                "started": self._started,
                "ephemeral": self._settings.ephemeral,
                "home": str(self._settings.home.path),
                "address": self.address,
                "stopping": self.stopping,
            },
            "children": [asdict(child.status()) for child in self.children],
        }

    async def ready(self) -> None:
        """Returns once every child is ready; raises MediasyncError when that will not be."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._all_ready or self._failure or self.stopping)
        if self._failure:
            raise self._failure
        if self.stopping:
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the services were stopped while they were starting")

    async def need(self, service: str) -> None:
        """Returns once that child is ready, which it starts where it does not run. What cannot be started on demand is an error of who
        asks, not of the others."""
        command = next((command for command in self._settings.commands if command.name == service), None)
        if command is None:
            names = ", ".join(command.name for command in self._settings.commands)
            raise MediasyncError(Reason.INVALID_ARGUMENT, f"there is no service {service!r}; expected one of {names}")
        if self.stopping:
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, f"{service} is not started: the services are ending")
        child = next((child for child in self.children if child.command is command and not child.failure), None)
        if child is None:
            child = self._child(command)
            order = [command.name for command in self._settings.commands]
            self.children = sorted(
                [*(other for other in self.children if other.command is not command), child], key=lambda one: order.index(one.command.name)
            )
            self._run(child)
        async with self._changed:
            await self._changed.wait_for(lambda: child.state is ChildState.READY or child.failure or self.stopping)
        if child.failure:
            raise child.failure
        if self.stopping:
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, f"{service} was stopped while it was starting")

    @property
    def stopping(self) -> bool:
        """Whether it is ending."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Begins to end."""
        self._stopping.set()
        self._wake()

    def holds_changed(self, *, lost: bool = False) -> None:
        """Somebody began or ceased to hold it; `lost` says that a connection just ended."""
        if self._settings.ephemeral and not self._control.held:
            patience = self._settings.ephemeral_policy
            self._lives_until = time.monotonic() + (patience.lost_seconds if lost else patience.linger_seconds)
        self._wake()

    async def staying(self) -> bool:
        """Waits until it is decided whether it goes on: at once when somebody holds it."""
        if not self._settings.ephemeral:
            return True
        async with self._changed:
            await self._changed.wait_for(lambda: self._control.held or self.stopping)
        return not self.stopping

    @property
    def address(self) -> str:
        """The clients' one address: TCP where there is one."""
        addresses = next((child.status().addresses for child in self.children if child.command.name == "coordinator"), ())
        return next((address for address in addresses if not address.startswith("unix:")), addresses[0] if addresses else "")

    # Inside.

    def _child(self, command: ChildCommand) -> Child:
        return Child(command, self._base, str(self._settings.home.path), self._journal, self._settings.policy, self._wake)

    def _run(self, child: Child) -> None:
        self._running.append(asyncio.create_task(child.run(), name=child.command.name))

    @property
    def _all_ready(self) -> bool:
        # Who needs one that is started on demand waits for that one.
        return all(child.state is ChildState.READY for child in self.children if not child.command.on_demand)

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.create_task(notify())
        self._wakeups.add(task)
        task.add_done_callback(self._wakeups.discard)

    async def _watch(self) -> None:
        """Sees to it that it ends when a child cannot start, or when nobody holds it any more."""
        while True:
            failed = next((child.failure for child in self.children if child.failure and not child.command.on_demand), None)
            if failed:
                self._failure = failed
                self.stop()
                return
            if self._all_ready and not self._ready_once:
                self._ready_once = True
                self._note()
                self._on_ready(self)
            if self._settings.ephemeral and not self._control.held:
                if any(child.state is ChildState.WAITING for child in self.children):
                    self._lives_until = math.inf  # whoever held it may be the one that died
                elif self._all_ready and self._lives_until == math.inf:
                    self._lives_until = time.monotonic() + self._settings.ephemeral_policy.recovery_seconds
                if time.monotonic() >= self._lives_until:
                    self.stop()
                    return
            with contextlib.suppress(TimeoutError):
                left = self._lives_until - time.monotonic()
                async with asyncio.timeout(None if math.isinf(left) or self._control.held else max(left, 0)), self._changed:
                    await self._changed.wait()

    async def _drain(self) -> None:
        if self._settings.ephemeral and not self._control.held:
            # No job is active, or the coordinator would hold us: nobody works for anybody, and a command waits for this.
            await asyncio.gather(*(child.stop() for child in self.children))
            return
        for child in reversed(self.children):
            await child.stop()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.stopping:
            self._journal.warning("asked again to end: killing what still runs", signal=number.name)
            for child in self.children:
                child.kill()
            return
        self._journal.info("asked to end", signal=number.name)
        if not self._settings.ephemeral:
            self._journal.say("stopping the services; once more kills them")
        self.stop()

    def _note(self) -> None:
        write_note(self._settings.home.run, Holder(os.getpid(), self._started, self._settings.ephemeral, self.address))


def check_free(listen: str) -> None:
    """Raises MediasyncError when nothing can or may listen at `listen` (`HOST:PORT`): a clear word at once instead of a child's."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"{listen!r} is not an address to listen at",
            f"Give HOST:PORT, such as {DEFAULT_LISTEN} (port 0: any free one).",
        )
    loopback(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        why = "another program listens there" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise MediasyncError(
            Reason.ADDRESS_IN_USE,
            f"cannot listen at {listen}: {why}",
            f"Choose another address, for example `mediasync up --listen {host if ':' not in host else f'[{host}]'}:0` for any free port.",
        ) from error


def _ready_message(supervisor: Supervisor, home: Home, colour: bool) -> str:
    def bold(text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if colour else text

    names = ", ".join(child.command.name for child in supervisor.children)
    return "\n".join(
        (
            bold(f"mediasync {__version__} is up."),
            f"  Address      {supervisor.address}",
            f"  Services     {names}",
            f"  Data folder  {home.path}",
            f"  Logs         {home.logs}",
            "",
            f"  Sync now     {bold('mediasync sync ssh://user@host:port/path DEST')}",
            f"  Look         {bold('mediasync status')}",
            f"  Stop         {bold('Ctrl-C')}",
        )
    )


def main(argv: Sequence[str] | None = None, settings: Settings | None = None) -> int:
    """Runs a supervisor in this process; returns its exit code. `settings` stands in for the arguments and the environment."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    ephemeral = "--ephemeral" in arguments
    as_json = "--json" in arguments
    journal: Journal | None = None
    try:
        if settings is None:
            listen = "" if ephemeral else (arguments[arguments.index("--listen") + 1] if "--listen" in arguments else DEFAULT_LISTEN)
            settings = Settings(Home.from_environment(os.environ), service_commands(listen, ephemeral=ephemeral), ephemeral, listen)
        home = settings.home
        home.prepare()
        journal = Journal(home.logs)

        def announce(supervisor: Supervisor) -> None:
            if settings.ephemeral:
                return
            text = json.dumps(supervisor.status()) if as_json else _ready_message(supervisor, home, sys.stdout.isatty())
            with contextlib.suppress(OSError):
                print(text, flush=True)  # noqa: T201 - this is what the command prints

        async def supervise() -> None:
            await Supervisor(settings, journal, os.environ, announce).run()

        asyncio.run(supervise())
    except MediasyncError as error:
        return _report(error, journal, ephemeral or (settings is not None and settings.ephemeral), as_json)
    return int(ExitCode.DONE)


def _report(error: MediasyncError, journal: Journal | None, ephemeral: bool, as_json: bool) -> int:
    fields = error_to_json(error)
    code = int(str(fields["exit_code"]))
    if ephemeral and error.reason is Reason.DATA_FOLDER_IN_USE:
        return EXIT_LOST_RACE
    if journal:
        journal.info(error.message, reason=error.reason.value)
    with contextlib.suppress(OSError):
        if ephemeral or as_json:
            print(json.dumps({"error": fields}), flush=True)  # noqa: T201 - who started it reads this
        if not ephemeral:
            remedy = f"\n  → {error.remedy}" if error.remedy else ""
            print(f"error: {error.message}{remedy}", file=sys.stderr, flush=True)  # noqa: T201 - its console
    return code


if __name__ == "__main__":
    sys.exit(main())
