"""The system's own SSH client as the way to a host that is near.

Where the line is short, processor time is what limits a pull, and OpenSSH's `ssh` takes half of what a client in Python does for the same
bytes. It reads no configuration, asks nobody, is shown the keys of the one host that are trusted and offers the keys that it is
told. Whether it can be used at all is found out by `ssh_near`; here is nothing that takes long to load, because the processes that use it
should begin at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError
from mediasync.sources import shell
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import Connection
from mediasync.sources.process import ChildLauncher
from mediasync.sources.ssh_terms import CIPHERS, CONNECT_SECONDS, KEEPALIVE_SECONDS, KEEPALIVE_TRIES

HOST_ALIAS = "mediasync"
"""What the host is called in `Program.known_hosts`."""

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    f"HostKeyAlias={HOST_ALIAS}",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "PreferredAuthentications=publickey",
    "IdentitiesOnly=yes",
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "Compression=no",
    "LogLevel=ERROR",
    f"Ciphers={CIPHERS}",
    f"ConnectTimeout={CONNECT_SECONDS:.0f}",
    f"ServerAliveInterval={KEEPALIVE_SECONDS:.0f}",
    f"ServerAliveCountMax={KEEPALIVE_TRIES}",
)


_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Program:
    """The client's path, whom it logs in as where, and what it is given for that: the lines of a known_hosts file, and files with keys.
    `roots` are the folders that the agent may begin at."""

    path: str
    host: str
    port: int
    user: str
    place: str
    roots: tuple[bytes, ...]
    known_hosts: bytes
    key_files: tuple[str, ...]


async def connect(program: Program, folders: Sequence[bytes]) -> Connection | None:
    """The agent behind the client; None where it does not come about. Why, the client that is built in finds out."""
    launcher = _Launcher(program, shell.agent_command())
    try:
        return await AgentConnection.open(launcher, program.roots, "ssh", NamedFolders(folders))
    except MediasyncError as error:
        _logger.info("%s does not start the agent at %s: %s", program.path, program.place, error)
        return None
    finally:
        launcher.close()


class _Launcher(ChildLauncher):
    """Starts a command at the host by way of the client. Nothing on its command line is secret."""

    def __init__(self, program: Program, command: str) -> None:
        # A file without a name, which ends with this process; the client reads it before it logs in.
        self._keys = os.memfd_create("known_hosts")
        os.write(self._keys, program.known_hosts)
        arguments = [program.path, "-F", "none", "-T", "-p", str(program.port), "-l", program.user]
        for option in (f"UserKnownHostsFile=/proc/{os.getpid()}/fd/{self._keys}", "IdentityAgent=none", *_OPTIONS):
            arguments += ["-o", option]
        for name in program.key_files:
            arguments += ["-i", name]
        super().__init__([*arguments, "--", program.host, command], program.place)

    def close(self) -> None:
        """To be called once the client is logged in, or gone."""
        os.close(self._keys)
