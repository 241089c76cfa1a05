"""A source that is reached over SSH, with the agent at its far side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKey, HostKeyTrust, SourceSpec
from mediasync.profiles import PROFILES
from mediasync.sources import hostkeys, shell, ssh_errors
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.channel import Launched, Receiver, Window
from mediasync.sources.secrets import secrets_of
from mediasync.sources.ssh_login import Gate, Login, Target

PACKET_BYTES = 128 * 1024
SESSION_SECONDS = 30.0  # some servers run accounting and mounts before they let a session begin
EOF_SECONDS = 5.0


class SshSource:
    """Files on a host with an SSH server. Implements `mediasync.sources.base.Source`."""

    def __init__(self, spec: SourceSpec, home: Path, window: Window, folders: Sequence[bytes] = ()) -> None:
        self._spec = spec
        self._gate = Gate(home, PROFILES[spec.type], lambda: secrets_of(spec))
        self._window = window
        self._folders = NamedFolders(folders)

    async def connect(self) -> AgentConnection:
        """Logs in and starts the agent. Raises MediasyncError; nothing is left open then."""
        roots = (self._spec.root,) if self._spec.root else PROFILES[self._spec.type].roots
        if not roots:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                f"{self._spec.label} says no folder to sync from",
                "Add the path to the source, such as ssh://host/path/to/outputs.",
            )
        target = await self._gate.resolve(self._spec.connection)
        launcher = SshLauncher(self._gate, target, self._window)
        return await AgentConnection.open(launcher, roots, "ssh", self._folders)

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
        target = await self._gate.resolve(self._spec.connection)
        return target, await self._gate.ask_host_key(target)


class SshLauncher:
    """Starts the agent's loader in a session of its own SSH connection."""

    def __init__(self, gate: Gate, target: Target, window: Window) -> None:
        self._gate = gate
        self._target = target
        self._window = window

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return self._target.place

    async def launch(self, receiver: Receiver) -> Launched:
        """Logs in and runs the one command of `mediasync.sources.shell`."""
        login = await self._gate.log_in(self._target)
        try:
            window_bytes = await self._window()
        except BaseException:
            await login.close()
            raise
        began = time.perf_counter()
        session = _Session(receiver, self.place)
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                await login.connection.create_session(
                    lambda: session,
                    shell.agent_command(),
                    encoding=None,
                    env=None,
                    send_env=None,
                    request_pty=False,
                    window=window_bytes,
                    max_pktsize=PACKET_BYTES,
                )
        except (asyncssh.Error, OSError) as error:
            await login.close()
            reason = error.reason if isinstance(error, asyncssh.ChannelOpenError) else str(error) or "it did not answer"
            raise MediasyncError(
                Reason.SOURCE_PROTOCOL,
                f"{self.place} lets us log in, but run no command: {ssh_errors.printable(reason)}",
                "Log in as a user with a shell.",
            ) from error
        except BaseException:
            await login.close()
            raise
        # The channel was confirmed after one round trip, the command after another; neither had to wait for a program to start. The
        # shorter counts: servers delay one or the other for reasons of their own.
        started = time.perf_counter()
        return Launched(SshChannel(login, session), min(session.opened - began, started - session.opened), window_bytes)


class _Session(asyncssh.SSHClientSession[bytes]):
    """Passes on what arrives, in the callback that brought it."""

    def __init__(self, receiver: Receiver, place: str) -> None:
        self._receiver = receiver
        self._place = place
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._exit_status: int | None = None
        self._give_up: asyncio.TimerHandle | None = None
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self.opened = 0.0

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = chan
        self.opened = time.perf_counter()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is None:
            self._receiver.data_received(data)
        else:
            self._receiver.noise_received(data)

    def eof_received(self) -> bool:
        # Nothing more can come. The exit status usually follows; a server that keeps the channel open instead is not waited for.
        if self.channel is not None:
            self._give_up = asyncio.get_running_loop().call_later(EOF_SECONDS, self.channel.close)
        return True

    def exit_status_received(self, status: int) -> None:
        self._exit_status = status

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
        self._may_write.set()
        self._receiver.channel_closed(self._exit_status, ssh_errors.line_lost(exc, self._place))

    async def drained(self) -> None:
        await self._may_write.wait()


class SshChannel:
    """A session's streams, and the connection that carries them."""

    def __init__(self, login: Login, session: _Session) -> None:
        assert session.channel is not None
        self._login = login
        self._session = session
        self._channel = session.channel

    def write(self, data: bytes) -> None:
        """Sends to the program's stdin."""
        with contextlib.suppress(BrokenPipeError):  # closed: `channel_closed` tells
            self._channel.write(data)

    async def drain(self) -> None:
        """Returns once what was written is mostly on its way."""
        await self._session.drained()

    def pause_reading(self) -> None:
        """Lets at most a window's worth arrive."""
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Takes everything again."""
        self._channel.resume_reading()

    async def close(self) -> None:
        """Ends the session and the connection."""
        # Not close(), which would wait for what was not read yet.
        self._channel.abort()
        await self._login.close()
