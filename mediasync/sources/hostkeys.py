"""Which host keys are known, and remembering new ones.

Files are OpenSSH's known_hosts: hashed names, `[host]:port`, patterns, @revoked and @cert-authority work. A line that cannot be
read is skipped, as OpenSSH does, rather than making every host unknown. A key is `CHANGED` when the host has
another one on record: no option accepts that.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKeyTrust, SshConnection

SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
DEFAULT_PORT = 22
MAX_LINE = 64 * 1024


_Trusted = tuple[
    list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[object], list[object], list[object], list[object]
]


class Kind(enum.Enum):
    """What a line says of its key."""

    HOST = "host"
    HOST_AT_DEFAULT_PORT = "host at the default port"
    """The line has no port but the host has: good enough to trust the same key, as OpenSSH does, but another server may
    well listen on another port with another key."""
    AUTHORITY = "authority"
    REVOKED = "revoked"


@dataclass(frozen=True)
class KnownKey:
    """A line of a known_hosts file that speaks of a host."""

    file: str
    line: int
    key: asyncssh.SSHKey
    kind: Kind


@dataclass(frozen=True)
class Host:
    """A host as known_hosts files name it. `alias` is ssh_config's HostKeyAlias."""

    name: str
    port: int
    alias: str = ""

    @property
    def known_as(self) -> str:
        """How a line for it begins."""
        name = self.plain_name
        return name if self.alias or self.port == DEFAULT_PORT else f"[{name}]:{self.port}"

    @property
    def plain_name(self) -> str:
        """The same without a port."""
        return (self.alias or self.name).lower()


class HostKeys:
    """The known_hosts files of one source. `store` is where accepted keys go; it is among `files`."""

    def __init__(self, files: Sequence[str], store: str) -> None:
        self._files = [str(Path(file).expanduser()) for file in files]
        self._store = str(Path(store).expanduser())

    @property
    def store(self) -> str:
        """File that accepted keys go to."""
        return self._store

    def known(self, host: Host) -> list[KnownKey]:
        """Every line that speaks of `host`."""
        return [known for file in self._files for known in _lines_of(file, host)]

    def trusted(self, host: Host) -> _Trusted:
        """What asyncssh's `known_hosts` wants: host keys, authorities' keys and revoked keys; X.509 is not used."""
        known = self.known(host)
        hosts = [item.key for item in known if item.kind in (Kind.HOST, Kind.HOST_AT_DEFAULT_PORT)]
        return hosts, _keys(known, Kind.AUTHORITY), _keys(known, Kind.REVOKED), [], [], [], []

    def trust(self, host: Host, key: asyncssh.SSHKey) -> tuple[HostKeyTrust, KnownKey | None]:
        """Whether `key` is on record for `host`, and the line that says so or contradicts."""
        known = self.known(host)
        same = [item for item in known if item.key == key and item.kind is not Kind.AUTHORITY]
        others = [item for item in known if item.kind is Kind.HOST]
        for item in same:
            if item.kind is Kind.REVOKED:
                return HostKeyTrust.CHANGED, item
        if same:
            return HostKeyTrust.TRUSTED, same[0]
        return (HostKeyTrust.CHANGED, others[0]) if others else (HostKeyTrust.UNKNOWN, None)

    def remember(self, host: Host, key: asyncssh.SSHKey) -> str:
        """Writes `key` down unless it is there; returns the file. Raises HOST_KEY_CHANGED if another one is on record, and
        CONFIGURATION_INVALID if the file cannot be written."""
        algorithm, blob = key.export_public_key("openssh").split()[:2]
        try:
            os.makedirs(os.path.dirname(self._store) or ".", mode=0o700, exist_ok=True)
            with open(self._store, "a+b") as file:
                # Several connections may meet the host at once: one writes, the others find it.
                fcntl.flock(file, fcntl.LOCK_EX)
                trust, known = self.trust(host, key)
                if known is not None:
                    if trust is HostKeyTrust.CHANGED:
                        raise changed(host, key, known)
                    return known.file
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(host.known_as.encode() + b" " + algorithm + b" " + blob + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MediasyncError(
                Reason.CONFIGURATION_INVALID,
                f"the host's key cannot be written to {self._store}: {error.strerror}",
                "Make the file writable, or name another one with --known-hosts.",
            ) from error
        return self._store


def _keys(known: Sequence[KnownKey], kind: Kind) -> list[asyncssh.SSHKey]:
    return [item.key for item in known if item.kind is kind]


def _lines_of(file: str, host: Host) -> Iterator[KnownKey]:
    with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_LINE or not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                entry = asyncssh.import_known_hosts(line)
            except ValueError:
                continue
            keys, authorities, revoked, *_ = entry.match(host.known_as, "", None)
            found = [(Kind.HOST, keys), (Kind.AUTHORITY, authorities), (Kind.REVOKED, revoked)]
            if host.known_as != host.plain_name:
                keys_without_port, authorities, revoked, *_ = entry.match(host.plain_name, "", None)
                found += [(Kind.HOST_AT_DEFAULT_PORT, keys_without_port), (Kind.AUTHORITY, authorities), (Kind.REVOKED, revoked)]
            for kind, of_kind in found:
                for key in of_kind:
                    yield KnownKey(file, number, key, kind)


def fingerprint(key: asyncssh.SSHKey) -> str:
    """`SHA256:…` as ssh-keygen prints it."""
    return key.get_fingerprint()


def unknown(host: Host, key: asyncssh.SSHKey, spelled: SshConnection) -> MediasyncError:
    """The error for a host that nobody vouched for. `spelled` is how the user reaches it."""
    print_ = fingerprint(key)
    where = "".join(f" --known-hosts {shlex.quote(file)}" for file in spelled.known_hosts_files)
    return MediasyncError(
        Reason.HOST_KEY_UNKNOWN,
        f"the key of {host.known_as} is not known: {key.get_algorithm()} {print_}",
        f"If that is the host's key, accept it with `mediasync sources trust ssh://{spelled.address} --fingerprint {print_}{where}`, "
        "or run the same command with --accept-new-host-key.",
        metadata={"host": host.known_as, "algorithm": key.get_algorithm(), "fingerprint": print_},
    )


def changed(host: Host, key: asyncssh.SSHKey, known: KnownKey) -> MediasyncError:
    """The error for a host with another key than is on record."""
    print_ = fingerprint(key)
    if known.kind is Kind.REVOKED:
        message = f"the key of {host.known_as}, {key.get_algorithm()} {print_}, is revoked in {known.file} line {known.line}"
        remedy = "Ask whoever runs the host for its new key."
    else:
        message = (
            f"the key of {host.known_as} has changed: it shows {key.get_algorithm()} {print_}, "
            f"but {known.file} line {known.line} has {known.key.get_algorithm()} {fingerprint(known.key)}"
        )
        remedy = (
            "Somebody may be listening in. If you know that the host was set up anew, forget the old key with "
            f"`ssh-keygen -f {shlex.quote(known.file)} -R {shlex.quote(host.known_as)}` and run the same command again."
        )
    return MediasyncError(
        Reason.HOST_KEY_CHANGED,
        message,
        remedy,
        metadata={
            "host": host.known_as,
            "algorithm": key.get_algorithm(),
            "fingerprint": print_,
            "known_hosts_file": known.file,
            "known_hosts_line": str(known.line),
        },
    )
