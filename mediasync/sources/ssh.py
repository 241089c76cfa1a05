"""A source that is reached over SSH, by one of several engines.

With the engine `auto` the agent is tried first; the POSIX tools where there is no Python; SFTP where no command may be run, or
the tools are not there. That is found out on one SSH connection, and remembered for the source's next ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Engine, HostKey, HostKeyTrust, SourceSpec, SshConnection
from mediasync.profiles import PROFILES
from mediasync.sources import hostkeys, shell, shell_posix, ssh_errors
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import Connection
from mediasync.sources.channel import Window
from mediasync.sources.secrets import secrets_of
from mediasync.sources.sftp.sightings import Sightings
from mediasync.sources.ssh_line import SshLauncher, SshLine
from mediasync.sources.ssh_login import Gate, Target


@dataclass(frozen=True)
class Attempt:
    """What an engine is opened with. `home` is the data folder, `source_key` names the source in it."""

    line: SshLine
    roots: tuple[bytes, ...]
    folders: NamedFolders
    home: Path
    source_key: str
    compress: bool
    sightings: Sightings


async def _agent(attempt: Attempt) -> Connection:
    launcher = SshLauncher(attempt.line, shell.agent_command())
    return await AgentConnection.open(launcher, attempt.roots, "ssh", attempt.folders)


# The others are loaded when they are used: a process for one connection should begin at once.


async def _posix(attempt: Attempt) -> Connection:
    from mediasync.sources.posix.connection import PosixConnection

    launcher = SshLauncher(attempt.line, shell_posix.posix_command())
    return await PosixConnection.open(launcher, attempt.roots, "ssh", attempt.folders)


async def _sftp(attempt: Attempt) -> Connection:
    from mediasync.sources.sftp.connection import SftpConnection

    return await SftpConnection.open(attempt.line, attempt.roots, attempt.folders, attempt.sightings)


async def _rsync(attempt: Attempt) -> Connection:
    from mediasync.sources.rsync.connection import RsyncConnection
    from mediasync.sources.rsync.receiving import Places

    places = Places.of(attempt.home, attempt.source_key)
    return await RsyncConnection.open(attempt.line, attempt.roots, attempt.folders, places, attempt.compress)


Opener = Callable[[Attempt], Awaitable[Connection]]

OPENERS: Mapping[Engine, Opener] = {Engine.AGENT: _agent, Engine.POSIX: _posix, Engine.SFTP: _sftp, Engine.RSYNC: _rsync}
"""The engines that a host with an SSH server can have."""

_NEXT: Mapping[tuple[Engine, Reason], Engine] = {
    (Engine.AGENT, Reason.SOURCE_WITHOUT_PYTHON): Engine.POSIX,
    (Engine.AGENT, Reason.SOURCE_PROTOCOL): Engine.SFTP,
    (Engine.POSIX, Reason.ENGINE_CANNOT): Engine.SFTP,
    (Engine.POSIX, Reason.SOURCE_PROTOCOL): Engine.SFTP,
}
"""What `auto` tries after an engine that failed for a reason."""


class SshSource:
    """Files on a host with an SSH server. Implements `mediasync.sources.base.Source`."""

    def __init__(self, spec: SourceSpec, home: Path, window: Window, folders: Sequence[bytes] = ()) -> None:
        assert isinstance(spec.connection, SshConnection)
        self._spec = spec
        self._reached_by = spec.connection
        self._gate = Gate(home, PROFILES[spec.type], lambda: secrets_of(spec))
        self._home = home
        self._window = window
        self._folders = NamedFolders(folders)
        self._sightings = Sightings()
        self._engine: Engine | None = None if spec.engine is Engine.AUTO else spec.engine

    async def connect(self) -> Connection:
        """Logs in and starts an engine. Raises MediasyncError; nothing is left open then."""
        roots = (self._spec.root,) if self._spec.root else PROFILES[self._spec.type].roots
        if not roots:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                f"{self._spec.label} says no folder to sync from",
                "Add the path to the source, such as ssh://host/path/to/outputs.",
            )
        target = await self._gate.resolve(self._reached_by)
        line = SshLine(self._gate, target, self._window)
        attempt = Attempt(line, roots, self._folders, self._home, self._spec.key, self._spec.compress, self._sightings)
        if self._engine is not None:
            return await self._opener(self._engine)(attempt)
        return await self._find(attempt)

    def _opener(self, engine: Engine) -> Opener:
        if engine not in OPENERS:
            raise MediasyncError(
                Reason.ENGINE_CANNOT,
                f"{self._spec.label} is reached over SSH, where there is no engine {engine}",
                f"Set engine to one of auto, {', '.join(OPENERS)}.",
            )
        return OPENERS[engine]

    async def _find(self, attempt: Attempt) -> Connection:
        """Tries one engine after the other, on one line."""
        first: MediasyncError | None = None
        engine: Engine | None = Engine.AGENT
        try:
            while engine is not None:
                attempt.line.kept = True
                try:
                    connection = await self._opener(engine)(attempt)
                except MediasyncError as error:
                    following = _NEXT.get((engine, error.reason))
                    if following is None and first is None:
                        raise
                    # What is no better than the first engine's trouble is not told instead of it, but for what a person has to see to.
                    if following is None and error.reason not in (Reason.SOURCE_PROTOCOL, Reason.ENGINE_CANNOT):
                        raise
                    first, engine = first or error, following
                else:
                    self._engine = engine
                    attempt.line.kept = False
                    return connection
            assert first is not None
            raise first
        except BaseException:
            attempt.line.kept = False
            await attempt.line.close()
            raise

    async def host_key(self) -> HostKey:
        """Asks for the host's key without logging in."""
        target, key = await self._ask()
        trust, known = target.keys.trust(target.host, key)
        file = known.file if known is not None else target.keys.store
        return HostKey(target.host.known_as, key.get_algorithm(), hostkeys.fingerprint(key), trust, file)

    async def trust_host_key(self, fingerprint: str) -> str:
        """Remembers the host's key if its fingerprint is `fingerprint`; returns the file that holds it now. Raises HOST_KEY_CHANGED if
        it has another one, or another key is on record."""
        target, key = await self._ask()
        shown = hostkeys.fingerprint(key)
        trust, known = target.keys.trust(target.host, key)
        if trust is HostKeyTrust.CHANGED and known is not None:
            raise hostkeys.changed(target.host, key, known)
        if shown.removeprefix("SHA256:") != fingerprint.strip().removeprefix("SHA256:").rstrip("="):
            raise MediasyncError(
                Reason.HOST_KEY_CHANGED,
                f"{target.host.known_as} shows the key {key.get_algorithm()} {shown}, not {ssh_errors.printable(fingerprint)}",
                "Compare the fingerprint with what `ssh-keygen -lf` says of the key in /etc/ssh at the host itself.",
                metadata={"host": target.host.known_as, "fingerprint": shown},
            )
        return target.keys.remember(target.host, key)

    async def _ask(self) -> tuple[Target, asyncssh.SSHKey]:
        target = await self._gate.resolve(self._reached_by)
        return target, await self._gate.ask_host_key(target)
