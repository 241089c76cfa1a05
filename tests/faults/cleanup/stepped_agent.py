"""The real agent, stopped before each of its looks at the file system, so that something can happen between any two of them.

Its own text is run as it is. What is put before it makes some functions of `os` ask over a socket first, while the flag in a shared byte
is set. There is none before a name is removed: between the last look and that, no program can see anything (docs/cleanup.md says so).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from mediasync.sources import shell
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import Connection
from mediasync.sources.process import ChildLauncher
from tests.fixtures.ssh import without_override

_LOOKS = ("open", "stat", "fstat", "preadv", "pread", "scandir")

_BEFORE = """
import _thread, mmap, os, socket
def _step(where, flag, looks):
    line = socket.socket(socket.AF_UNIX)
    line.connect(where)
    with open(flag, "rb") as file:
        armed = mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ)
    one = _thread.allocate_lock()
    def wrapped(function):
        def look(*arguments, **keywords):
            if armed[0]:
                with one:
                    line.sendall(b"?")
                    line.recv(1)
            return function(*arguments, **keywords)
        return look
    for name in looks:
        setattr(os, name, wrapped(getattr(os, name)))
_step({where!r}, {flag!r}, {looks!r})
"""


class SteppedAgents:
    """Agents for one root. `on_look` is called while the agent waits, and returns whether it may go on; if not, it is killed."""

    def __init__(self, root: bytes, folder: Path, on_look: Callable[[], bool]) -> None:
        self._root = root
        self._socket = str(folder / "s")
        self._flag = folder / "armed"
        self._on_look = on_look
        self._server: asyncio.Server | None = None
        self._open: list[AgentConnection] = []
        self._flag.write_bytes(b"\0")

    async def start(self) -> None:
        """Before the first connection."""
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Asked(self._on_look), self._socket)

    def arm(self, armed: bool) -> None:
        """Whether looks are asked for."""
        with self._flag.open("r+b") as file:
            file.write(bytes([armed]))

    async def connect(self) -> Connection:
        """A new agent."""
        before = _BEFORE.format(where=self._socket, flag=str(self._flag), looks=_LOOKS)
        *python, loader = shell.agent_arguments(sys.executable)
        # As root nothing would be denied.
        command = [*without_override(), *python, before + loader]
        connection = await AgentConnection.open(ChildLauncher(command), [self._root], "child", NamedFolders())
        self._open.append(connection)
        return connection

    async def close(self) -> None:
        """Ends all of it."""
        for connection in self._open:
            await connection.close()
        if self._server is not None:
            self._server.close()


class _Asked(asyncio.Protocol):
    """An agent that asks before each look; SIGKILL for it where it may not go on."""

    def __init__(self, on_look: Callable[[], bool]) -> None:
        self._on_look = on_look
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # It waits for the answer to each question, so there is never more than one.
        assert data == b"?"
        assert self._transport is not None
        if self._on_look():
            self._transport.write(b"!")
        else:
            asker: socket.socket = self._transport.get_extra_info("socket")
            pid, _, _ = struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
            os.kill(pid, signal.SIGKILL)
