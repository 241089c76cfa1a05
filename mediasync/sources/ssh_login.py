"""Logging in: ssh_config, jump hosts, host keys, and the user's keys.

What `~/.ssh/config` says is used as `ssh` would, except that nothing there weakens the check of the host's key:
`StrictHostKeyChecking no` has no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKeyTrust, SshConnection
from mediasync.profiles import Profile
from mediasync.sources import hostkeys, ssh_errors
from mediasync.sources.hostkeys import Host, HostKeys

CONNECT_SECONDS = 15.0
LOGIN_SECONDS = 30.0
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_TRIES = 2
CLOSE_SECONDS = 2.0
MAX_JUMPS = 8

# In OpenSSH's order. Given in full, because asyncssh would otherwise offer only the kinds on record: a host with
# a new kind of key could not be told from one without any common algorithm.
_HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
# The cheapest cipher on both sides first; chacha20 costs about twice as much.
_CIPHERS = "^aes128-gcm@openssh.com"


@dataclass(frozen=True)
class Target:
    """A host to log in to, after ssh_config was asked. `spelled` is how the user reaches it."""

    spelled: SshConnection
    host: Host
    user: str
    jumps: str
    keys: HostKeys
    configured: frozenset[str]

    @property
    def place(self) -> str:
        """The far side, for messages."""
        name = self.spelled.host if self.spelled.host == self.host.name else f"{self.spelled.host} ({self.host.name})"
        return name if self.host.port == hostkeys.DEFAULT_PORT else f"{name} port {self.host.port}"


class Login:
    """A connection that is logged in, with the jump hosts under it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, below: Login | None, target: Target) -> None:
        self.connection = connection
        self.target = target
        self._below = below

    async def close(self) -> None:
        """Ends it, and the jumps after it. Bounded in time."""
        self.connection.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.connection.wait_closed()
        except TimeoutError:
            self.connection.abort()
        finally:
            if self._below is not None:
                await self._below.close()


class Gate:
    """Decides about hosts: which keys they must show, and what is tried to log in."""

    def __init__(self, home: Path, profile: Profile) -> None:
        self._home = home
        self._profile = profile

    async def resolve(self, spelled: SshConnection) -> Target:
        """Fills in what `~/.ssh/config` and the source's type say. Raises CONFIGURATION_INVALID for a config that cannot be read."""
        try:
            options = await asyncssh.SSHClientConnectionOptions.construct(
                config=(), host=spelled.host, port=spelled.port or (), username=spelled.user or (), client_keys=None, known_hosts=b""
            )
        except (ValueError, OSError) as error:
            raise MediasyncError(
                Reason.CONFIGURATION_INVALID, f"~/.ssh/config cannot be used: {ssh_errors.printable(error)}", "Correct the line."
            ) from error
        config = options.config
        configured = frozenset(name for name in ("Port", "User", "HostKeyAlgorithms", "Ciphers") if config.get(name) is not None)
        port, user = options.port, options.username
        if not spelled.port and "Port" not in configured and self._profile.port:
            port = self._profile.port
            spelled = replace(spelled, port=port)
        if not spelled.user and "User" not in configured and self._profile.user:
            user = self._profile.user
            spelled = replace(spelled, user=user)
        jumps = options.tunnel if isinstance(options.tunnel, str) and options.tunnel.lower() != "none" else ""
        host = Host(options.host, port, options.host_key_alias or "")
        return Target(spelled, host, user, jumps, self._host_keys(spelled, config), configured)

    def _host_keys(self, spelled: SshConnection, config: object) -> HostKeys:
        if spelled.known_hosts_files:
            return HostKeys(spelled.known_hosts_files, spelled.known_hosts_files[0])
        get = cast("asyncssh.config.SSHConfig", config).get
        users = cast(Sequence[str], get("UserKnownHostsFile") or ("~/.ssh/known_hosts", "~/.ssh/known_hosts2"))
        systems = cast(Sequence[str], get("GlobalKnownHostsFile") or hostkeys.SYSTEM_FILES)
        store = str(self._home / "known_hosts")
        return HostKeys([*users, *systems, store], store)

    async def log_in(self, target: Target, depth: int = 0) -> Login:
        """Connects, through jump hosts where there are some. Raises MediasyncError; nothing is left open then."""
        below = await self._jump(target, depth)
        try:
            connection = await self._connect(target, below, _Client(target))
        except BaseException:
            if below is not None:
                await below.close()
            raise
        return Login(connection, below, target)

    async def ask_host_key(self, target: Target) -> asyncssh.SSHKey:
        """The key that the host shows; nobody is logged in."""
        below = await self._jump(target, 0)
        client = _Client(target, only_ask=True)
        try:
            connection = await self._connect(target, below, client)
        except MediasyncError:
            if client.shown is None:
                raise
        else:
            connection.abort()
        finally:
            if below is not None:
                await below.close()
        if client.shown is None:
            raise MediasyncError(Reason.HOST_UNREACHABLE, f"{target.place} showed no host key")
        return client.shown

    async def _jump(self, target: Target, depth: int) -> Login | None:
        """Logs in to the jump hosts on the way to `target`; returns the last."""
        below: Login | None = None
        if target.jumps and depth >= MAX_JUMPS:
            raise MediasyncError(
                Reason.CONFIGURATION_INVALID,
                f"more than {MAX_JUMPS} jump hosts lead to {target.place}",
                "Look for a circle in ~/.ssh/config.",
            )
        for hop in target.jumps.split(",") if target.jumps else ():
            try:
                spelled = _parse_hop(hop.strip(), target.spelled)
                hop_target = await self._plain().resolve(spelled)
                if below is not None:
                    # Only the first hop's own ProxyJump counts: the others are reached from the one before.
                    hop_target = replace(hop_target, jumps="")
                    connection = await self._connect(hop_target, below, _Client(hop_target))
                    below = Login(connection, below, hop_target)
                else:
                    below = await self._plain().log_in(hop_target, depth + 1)
            except BaseException:
                if below is not None:
                    await below.close()
                raise
        return below

    def _plain(self) -> Gate:
        # A jump host has nothing of the container's type.
        return Gate(self._home, Profile())

    async def _connect(self, target: Target, below: Login | None, client: _Client) -> asyncssh.SSHClientConnection:
        spelled = target.spelled
        identities = await asyncio.to_thread(_readable, spelled.identity_files)
        known = target.keys.known(target.host)
        trusted = target.keys.trusted(target.host)
        nothing_known: tuple[list[object], ...] = ([], [], [], [], [], [], [])
        arguments: dict[str, object] = {}
        if identities:
            # An encrypted one is still good for picking the same key from the agent.
            arguments |= {"client_keys": identities, "ignore_encrypted": True}
        if "Ciphers" not in target.configured:
            arguments["encryption_algs"] = _CIPHERS
        if "HostKeyAlgorithms" not in target.configured:
            arguments["server_host_key_algs"] = _algorithms(known)
        try:
            options = await asyncssh.SSHClientConnectionOptions.construct(
                config=(),
                host=spelled.host,
                port=target.host.port,
                username=target.user,
                known_hosts=lambda host, addr, port: nothing_known if client.only_ask else trusted,
                client_factory=lambda: client,
                connect_timeout=CONNECT_SECONDS,
                login_timeout=LOGIN_SECONDS,
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=KEEPALIVE_TRIES,
                compression_algs=None,
                agent_forwarding=False,
                x11_forwarding=False,
                **arguments,
            )
        except asyncssh.KeyEncryptionError as error:
            raise ssh_errors.key_unusable(str(error), "it is encrypted; add it to the agent with ssh-add") from error
        except (asyncssh.KeyImportError, ValueError, OSError) as error:
            raise ssh_errors.key_unusable(", ".join(identities) or "of ~/.ssh/config", str(error)) from error
        try:
            # Said here and not among the options, or asyncssh would follow ssh_config's ProxyJump on its own.
            tunnel = below.connection if below is not None else None
            return await asyncssh.connect(spelled.host, target.host.port, tunnel=tunnel, options=options)
        except asyncssh.HostKeyNotVerifiable as error:
            raise client.refusal or ssh_errors.cannot_connect(error, target.host.name, target.host.port, CONNECT_SECONDS) from error
        except asyncssh.PermissionDenied as error:
            tried = await _tried(options, identities)
            raise ssh_errors.not_let_in(target.host.name, target.host.port, target.user, tried) from error
        except (OSError, asyncssh.Error) as error:
            if client.refusal is not None:
                raise client.refusal from error
            raise ssh_errors.cannot_connect(error, target.host.name, target.host.port, CONNECT_SECONDS) from error


class _Client(asyncssh.SSHClient):
    """Hears of a host key that is not on record."""

    def __init__(self, target: Target, only_ask: bool = False) -> None:
        self._target = target
        self.only_ask = only_ask
        self.shown: asyncssh.SSHKey | None = None
        self.refusal: MediasyncError | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key
        if self.only_ask:
            return False
        target = self._target
        trust, known = target.keys.trust(target.host, key)
        if trust is HostKeyTrust.CHANGED and known is not None:
            self.refusal = hostkeys.changed(target.host, key, known)
        elif trust is HostKeyTrust.UNKNOWN and target.spelled.accept_new_host_key:
            try:
                target.keys.remember(target.host, key)
            except MediasyncError as error:
                self.refusal = error
        elif trust is HostKeyTrust.UNKNOWN:
            self.refusal = hostkeys.unknown(target.host, key, target.spelled)
        return self.refusal is None


def _algorithms(known: Sequence[hostkeys.KnownKey]) -> list[str]:
    """Kinds of host keys to ask for: those on record first, so that a host with several shows the known one."""
    on_record = [algorithm.decode() for item in known if item.kind is not hostkeys.Kind.REVOKED for algorithm in item.key.sig_algorithms]
    plain = sorted(_HOST_KEY_ALGORITHMS, key=lambda name: name not in on_record)
    if any(item.kind is hostkeys.Kind.AUTHORITY for item in known):
        return [f"{name}-cert-v01@openssh.com" for name in _HOST_KEY_ALGORITHMS] + plain
    return plain


def _parse_hop(hop: str, onward: SshConnection) -> SshConnection:
    user, _, address = hop.removeprefix("ssh://").rpartition("@")
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = address, "0"
    if not host or not port.isdigit():
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID, f"the jump host {ssh_errors.printable(hop)} cannot be read", "Write user@host:port."
        )
    return SshConnection(
        host.strip("[]"), int(port), user, known_hosts_files=onward.known_hosts_files, accept_new_host_key=onward.accept_new_host_key
    )


def _readable(files: Sequence[str]) -> list[str]:
    paths = [str(Path(file).expanduser()) for file in files]
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ssh_errors.key_unusable(path, error.strerror or str(error)) from error
    return paths


async def _tried(options: asyncssh.SSHClientConnectionOptions, identities: Sequence[str]) -> list[str]:
    """The keys that were offered, for a message."""
    tried = []
    if options.agent_path:
        try:
            async with asyncssh.connect_agent(options.agent_path) as agent, asyncio.timeout(CLOSE_SECONDS):
                tried += [f"{key.get_algorithm()} {key.get_comment() or '(no comment)'} (agent)" for key in await agent.get_keys()]
        except (OSError, TimeoutError, asyncssh.Error):
            pass
    loaded = list(options.client_keys or ())
    tried += [f"{pair.get_algorithm()} {pair.get_comment() or '(no comment)'}" for pair in loaded]
    if identities and not loaded:
        tried.extend(f"{file} (encrypted: add it to the agent with ssh-add)" for file in identities)
    return [ssh_errors.printable(item) for item in tried]
