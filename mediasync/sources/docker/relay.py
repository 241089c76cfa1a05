"""A Docker engine behind SSH, as a Unix socket on this side.

Each connection to the socket becomes a session that runs `docker system dial-stdio`, as the docker command does it: it finds the engine's
socket there whatever it is called. The login is that of any SSH source: `~/.ssh/config`, keys, agent, jump hosts, and host keys that
are verified. The socket lies in a folder of its own that only the services' user may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Self

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec, SshConnection
from mediasync.profiles import Profile
from mediasync.sources import shell_docker, ssh_errors
from mediasync.sources.secrets import secrets_of
from mediasync.sources.ssh_login import Gate, Login

PIECE_BYTES = 128 * 1024
WINDOW_BYTES = 2 << 20
MAX_NOISE = 500


class Relay:
    """The socket, and the login behind it."""

    def __init__(self, login: Login, folder: Path) -> None:
        self.path = str(folder / "docker.sock")
        self.problem: MediasyncError | None = None
        self._login = login
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, connection: SshConnection, home: Path) -> Self:
        """Logs in and listens. Raises MediasyncError; nothing is left open then."""
        gate = Gate(home, Profile(), lambda: secrets_of(SourceSpec(connection)))
        login = await gate.log_in(await gate.resolve(connection))
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="mediasync-docker-"))
        relay = cls(login, folder)
        try:
            relay._server = await asyncio.start_unix_server(relay._accepted, relay.path, limit=PIECE_BYTES)
        except BaseException:
            await relay.close()
            raise
        return relay

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            process = await self._login.connection.create_process(
                shell_docker.DIAL, encoding=None, env=None, send_env=None, request_pty=False, window=WINDOW_BYTES, max_pktsize=PIECE_BYTES
            )
        except (asyncssh.Error, OSError) as error:
            self._failed(ssh_errors.printable(error))
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump_in(reader, process))
                group.create_task(_pump_out(process, writer))
        except* (asyncssh.Error, OSError):
            pass  # either end is gone, which the other one is told by the end of its stream
        finally:
            await self._ended(process)
            process.close()
            writer.transport.abort()

    async def _ended(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        if process.exit_status:
            noise = b""
            with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    noise = await process.stderr.read(MAX_NOISE)
            self._failed(ssh_errors.printable(noise.decode("utf-8", "replace").strip() or f"it ended with {process.exit_status}"))

    def _failed(self, why: str) -> None:
        place = self._login.target.place
        self.problem = MediasyncError(
            Reason.DOCKER_UNREACHABLE,
            f"{place} lets us log in, but `{shell_docker.DIAL}` does not work there: {why}",
            "Check that `docker version` works for that login there.",
        )

    async def close(self) -> None:
        """Ends the sessions and the login."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._login.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def _pump_in(reader: asyncio.StreamReader, process: asyncssh.SSHClientProcess[bytes]) -> None:
    while data := await reader.read(PIECE_BYTES):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.write_eof()


async def _pump_out(process: asyncssh.SSHClientProcess[bytes], writer: asyncio.StreamWriter) -> None:
    while data := await process.stdout.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()
