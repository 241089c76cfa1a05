"""The stand-in for a container: a real SSH server on loopback that runs real commands, with a home folder of its own.

It lets in one key, which it makes itself, and shows a host key of its own. What is under its root: `home/` (the login's folder, where
pictures belong), `keys/` (the key to log in with, and a known_hosts file that names the server). It can be as slow as a line to a
rented machine. Commands run as whoever started it: it is a stage set, not a sandbox, and listens on loopback only.

    async with StandIn(root) as container:
        print(container.url(container.home / "outputs"))

or `python -m demo.container ROOT`, which prints one JSON line when it serves and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import asyncssh

_BLOCK_BYTES = 64 << 10
_WINDOW_BYTES = 4 << 20
_PACKET_BYTES = 128 << 10


class StandIn:
    """A container that is none. Start it with `async with`; `port` is chosen by the system unless given.

    `bytes_per_second` limits what all its sessions together send, 0 for no limit; `greeting` is printed to every login, as some login
    scripts do.
    """

    def __init__(self, root: Path, *, port: int = 0, bytes_per_second: int = 0, greeting: str = "") -> None:
        self.home = (root / "home").absolute()
        self.identity_file = (root / "keys" / "id_ed25519").absolute()
        self.known_hosts_file = (root / "keys" / "known_hosts").absolute()
        self.host = "127.0.0.1"
        self.port = port
        self.user = getpass.getuser()
        self._greeting = greeting.encode()
        self._line = _Line(bytes_per_second)
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._connections: set[asyncssh.SSHServerConnection] = set()

    def url(self, path: Path) -> str:
        """`ssh://user@host:port/path` of a folder in the container."""
        return f"ssh://{quote(self.user)}@{self.host}:{self.port}{quote(str(path))}"

    def describe(self) -> dict[str, object]:
        """All that is needed to log in, for a JSON line."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "home": str(self.home),
            "identity_file": str(self.identity_file),
            "known_hosts_file": str(self.known_hosts_file),
        }

    async def __aenter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self.identity_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        login, host = _key(self.identity_file), _key(self.identity_file.with_name("host_ed25519"))
        self._acceptor = await asyncssh.listen(
            self.host,
            self.port,
            server_host_keys=[host],
            authorized_client_keys=asyncssh.import_authorized_keys(login.export_public_key("openssh").decode("ascii")),
            server_factory=lambda: _Logins(self._connections),
            process_factory=self._start,
            encoding=None,
            window=_WINDOW_BYTES,
            max_pktsize=_PACKET_BYTES,
            compression_algs=None,
            keepalive_interval=0,
        )
        self.port = self._acceptor.get_port()
        public = host.export_public_key("openssh").decode("ascii").split()
        self.known_hosts_file.write_text(f"[{self.host}]:{self.port} {public[0]} {public[1]}\n")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.wait_closed()
        if self._running:
            await asyncio.wait(self._running)  # each ends its command, as its session is closed now

    def _start(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(session), name="stand-in-session")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        """Runs one command, or a shell that reads its commands from the session."""
        command = ("-c", session.command) if session.command else ()
        pipe = asyncio.subprocess.PIPE
        environment = {"HOME": str(self.home), "USER": self.user, "LOGNAME": self.user, "SHELL": "/bin/sh", "LANG": "C.UTF-8"}
        environment["PATH"] = os.environ.get("PATH", os.defpath)
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", *command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.home, env=environment, start_new_session=True
        )
        assert process.stdin is not None
        closed = asyncio.create_task(session.wait_closed())
        feeding = asyncio.create_task(_feed(session, process.stdin))
        try:
            session.stdout.write(self._greeting)
            serving = asyncio.create_task(self._serve_output(process, session))
            await asyncio.wait([serving, closed], return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                _kill(process)  # sshd would leave it; here nothing is left behind
            await serving
            code = await process.wait()
            if closed.done():
                return
            if code >= 0:
                session.exit(code)
            else:
                session.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        finally:
            feeding.cancel()
            closed.cancel()
            if process.returncode is None:
                _kill(process)

    async def _serve_output(self, process: asyncio.subprocess.Process, session: asyncssh.SSHServerProcess[bytes]) -> None:
        assert process.stdout is not None and process.stderr is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(process.stdout, session.stdout, self._line.take))
            group.create_task(_copy(process.stderr, session.stderr, self._line.take))


class _Logins(asyncssh.SSHServer):
    """Remembers who is connected, so that all are gone when the container is."""

    def __init__(self, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._connection)


class _Line:
    """What the line lets through: shared by all sessions, in bytes a second."""

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Waits until that many bytes have gone."""
        if not self._bytes_per_second:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + count / self._bytes_per_second
        await asyncio.sleep(self._free_at - now)


async def _copy(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes], take: Callable[[int], Awaitable[None]]) -> None:
    with suppress(OSError, asyncssh.Error):  # whoever reads it has gone
        while data := await source.read(_BLOCK_BYTES):
            await take(len(data))
            target.write(data)
            await target.drain()


async def _feed(session: asyncssh.SSHServerProcess[bytes], target: asyncio.StreamWriter) -> None:
    """What the far side sends, up to its end; a program that reads no further may have gone meanwhile."""
    with suppress(OSError, asyncssh.Error, asyncssh.BreakReceived, asyncssh.SignalReceived, asyncssh.TerminalSizeChanged):
        while data := await session.stdin.read(_BLOCK_BYTES):
            target.write(data)
            await target.drain()
    target.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends a command and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _key(path: Path) -> asyncssh.SSHKey:
    """The key in that file; a new one the first time."""
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment="stand-in")
        path.touch(mode=0o600)
        path.write_bytes(key.export_private_key("openssh"))
        return key
    return asyncssh.read_private_key(str(path))


async def _serve(root: Path, port: int, bytes_per_second: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with StandIn(root, port=port, bytes_per_second=bytes_per_second) as container:
        sys.stdout.write(json.dumps(container.describe()) + "\n")
        sys.stdout.flush()
        await ended.wait()


def main() -> None:
    """`python -m demo.container`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a folder that it may fill")
    parser.add_argument("--port", type=int, default=0, help="default: chosen by the system")
    parser.add_argument("--bytes-per-second", type=int, default=0, help="of the line; default: no limit")
    options = parser.parse_args()
    asyncio.run(_serve(options.root, options.port, options.bytes_per_second))


if __name__ == "__main__":
    main()
