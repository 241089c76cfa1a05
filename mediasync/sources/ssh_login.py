"""Logging in: ssh_config, jump hosts, host keys, and what is shown to be let in.

What `~/.ssh/config` says is used as `ssh` would, except that nothing there weakens the check of the host's key:
`StrictHostKeyChecking no` has no effect. A source's password is for its own host: jump hosts on the way never get it. A passphrase
opens keys here, also those that a jump host is shown.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SshConnection
from mediasync.profiles import Profile
from mediasync.sources import hostkeys, ssh_errors, ssh_first_key, ssh_identities
from mediasync.sources.hostkeys import Host, HostKeys
from mediasync.sources.secrets import Secrets
from mediasync.sources.ssh_client import Client
from mediasync.sources.ssh_identities import Identities, Wish
from mediasync.sources.ssh_terms import CIPHERS, CONNECT_SECONDS, KEEPALIVE_SECONDS, KEEPALIVE_TRIES

LOGIN_SECONDS = 30.0
CLOSE_SECONDS = 2.0
MAX_JUMPS = 8
_AGENT_VARIABLE = "SSH_AUTH_SOCK"

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


@dataclass(frozen=True)
class Target:
    """A host to log in to, after ssh_config was asked. `spelled` is how the user reaches it."""

    spelled: SshConnection
    host: Host
    user: str
    jumps: str
    keys: HostKeys
    configured: frozenset[str]
    identities: Wish = field(default_factory=Wish)

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
    """Decides about hosts: which keys they must show, and what is tried to log in. `secrets` is called in a thread, once a login."""

    def __init__(self, home: Path, profile: Profile, secrets: Callable[[], Secrets] = Secrets) -> None:
        self._home = home
        self._profile = profile
        self._secrets = secrets

    async def resolve(self, spelled: SshConnection) -> Target:
        """Fills in what `~/.ssh/config` and the source's type say. Raises CONFIGURATION_INVALID for a config that cannot be read."""
        try:
            options = await asyncssh.SSHClientConnectionOptions.construct(
                config=(), host=spelled.host, port=spelled.port or (), username=spelled.user or (), client_keys=None, known_hosts=b""
            )
        except (ValueError, OSError) as error:
            raise ssh_errors.config_unusable(error) from error
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
        wish = _wish(spelled, cast("asyncssh.config.SSHConfig", config))
        return Target(spelled, host, user, jumps, self._host_keys(spelled, config), configured, wish)

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
        secrets = await asyncio.to_thread(self._secrets)
        below = await self._jump(target, depth)
        try:
            connection = await self._connect(target, below, Client(target, secrets.password), secrets.passphrase)
        except BaseException:
            if below is not None:
                await below.close()
            raise
        return Login(connection, below, target)

    async def ask_host_key(self, target: Target) -> asyncssh.SSHKey:
        """The key that the host shows; nobody is logged in."""
        below = await self._jump(target, 0)
        client = Client(target, only_ask=True)
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
                    passphrase = (await asyncio.to_thread(self._secrets)).passphrase
                    connection = await self._connect(hop_target, below, Client(hop_target), passphrase)
                    below = Login(connection, below, hop_target)
                else:
                    below = await self._plain().log_in(hop_target, depth + 1)
            except BaseException:
                if below is not None:
                    await below.close()
                raise
        return below

    def _plain(self) -> Gate:
        # A jump host has nothing of the container's type, and is not told its password.
        return Gate(self._home, Profile(), lambda: replace(self._secrets(), password=""))

    async def _connect(self, target: Target, below: Login | None, client: Client, passphrase: str = "") -> asyncssh.SSHClientConnection:
        identities = Identities() if client.only_ask else await ssh_identities.gather(target.identities, passphrase, target.user)
        client.begins_with_key = not client.has_password and ssh_first_key.may_begin(identities.pairs)
        try:
            options = await self._options(target, client, identities)
            # Said here and not among the options, or asyncssh would follow ssh_config's ProxyJump on its own.
            tunnel = below.connection if below is not None else None
            return await asyncssh.connect(target.spelled.host, target.host.port, tunnel=tunnel, options=options)
        except asyncssh.HostKeyNotVerifiable as error:
            raise client.refusal or ssh_errors.host_not_verified(target.host.known_as, error) from error
        except asyncssh.PermissionDenied as error:
            raise ssh_errors.not_let_in(target.host.name, target.host.port, target.user, client, identities) from error
        except (OSError, asyncssh.Error) as error:
            if client.refusal is not None:
                raise client.refusal from error
            if ssh_errors.too_many_tries(error):
                raise ssh_errors.not_let_in(target.host.name, target.host.port, target.user, client, identities, cut=True) from error
            raise ssh_errors.cannot_connect(error, target.host.name, target.host.port, CONNECT_SECONDS) from error
        finally:
            await identities.close()

    async def _options(self, target: Target, client: Client, identities: Identities) -> asyncssh.SSHClientConnectionOptions:
        known = target.keys.known(target.host)
        trusted = target.keys.trusted(target.host)
        nothing_known: tuple[list[object], ...] = ([], [], [], [], [], [], [])
        arguments: dict[str, object] = {}
        if "Ciphers" not in target.configured:
            arguments["encryption_algs"] = CIPHERS
        if "HostKeyAlgorithms" not in target.configured:
            arguments["server_host_key_algs"] = _algorithms(known)
        try:
            options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
                config=(),
                host=target.spelled.host,
                port=target.host.port,
                username=target.user,
                # Left to itself, asyncssh would load them in another order and fail at the first that does not open.
                client_keys=list(identities.pairs) or None,
                client_certs=[],
                agent_path=None,
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
        except (ValueError, OSError) as error:
            raise ssh_errors.config_unusable(error) from error
        return options


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


def _wish(spelled: SshConnection, config: asyncssh.config.SSHConfig) -> Wish:
    """Where the source and ssh_config say that keys are."""
    of_config = cast("Sequence[str] | None", config.get("IdentityFile"))
    files = spelled.identity_files or (ssh_identities.DEFAULT_FILES if of_config is None else tuple(of_config))
    return Wish(
        files,
        bool(spelled.identity_files),
        tuple(cast(Sequence[str], config.get("CertificateFile") or ())),
        _agent_path(cast("str | None", config.get("IdentityAgent", _AGENT_VARIABLE))),
        bool(config.get("IdentitiesOnly")),
    )


def _agent_path(configured: str | None) -> str:
    """The socket of the agent that ssh_config means; None is its `none`."""
    if configured is None:
        return ""
    if configured == _AGENT_VARIABLE:
        return os.environ.get(_AGENT_VARIABLE, "")
    if configured.startswith("$"):
        return os.environ.get(configured[1:].strip("{}"), "")
    return str(Path(configured).expanduser())
