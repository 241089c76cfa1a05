"""What rsync cannot do, done by the agent or a shell's tools over the login that rsync uses, where the server allows commands."""

from __future__ import annotations

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import shell, shell_posix
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import Connection
from mediasync.sources.ssh_line import SshLauncher, SshLine

# The server lets nothing run, or what runs there sees other folders than rsync does.
_ONLY_RSYNC = frozenset({Reason.SOURCE_PROTOCOL, Reason.ENGINE_CANNOT, Reason.SOURCE_ROOT_MISSING, Reason.SOURCE_UNREADABLE})


class Commands:
    """An engine beside rsync, started when it is first needed, on the same line."""

    def __init__(self, line: SshLine, root: bytes, folders: NamedFolders) -> None:
        self._line = line
        self._root = root
        self._folders = folders
        self._connection: Connection | None = None
        self._refusal: MediasyncError | None = None

    @property
    def connection(self) -> Connection | None:
        """What was started, if it lives."""
        return self._connection if self._connection is not None and not self._connection.broken else None

    async def start(self, what: str) -> Connection:
        """The engine. Raises ENGINE_CANNOT, with `what` that is not possible then, where the server allows rsync alone."""
        if self.connection is not None:
            return self.connection
        if self._refusal is None:
            # It ends with the engine that is tried, unless it is kept; rsync needs it on.
            self._line.kept = True
            try:
                self._connection = await self._open()
            except MediasyncError as error:
                if error.reason not in _ONLY_RSYNC:
                    raise
                self._refusal = error
            else:
                return self._connection
        raise MediasyncError(
            Reason.ENGINE_CANNOT,
            f"the engine rsync cannot {what}, and the server runs no other command for it: {self._refusal.message}",
            "Let the login run commands, or use a login for this source that may (engine: auto).",
        ) from self._refusal

    async def _open(self) -> Connection:
        try:
            launcher = SshLauncher(self._line, shell.agent_command())
            return await AgentConnection.open(launcher, [self._root], "ssh, beside rsync", self._folders)
        except MediasyncError as error:
            if error.reason is not Reason.SOURCE_WITHOUT_PYTHON:
                raise
        from mediasync.sources.posix.connection import PosixConnection

        launcher = SshLauncher(self._line, shell_posix.posix_command())
        return await PosixConnection.open(launcher, [self._root], "ssh, beside rsync", self._folders)

    async def close(self) -> None:
        """Ends it; the line ends when rsync lets go of it."""
        if self._connection is not None:
            await self._connection.close()
        self._line.kept = False
