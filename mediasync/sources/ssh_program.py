"""The system's own SSH client as the way to a host that is near.

Where the line is short, processor time is what limits a pull, and OpenSSH's `ssh` takes half of what a client in Python does for the same
bytes. It is used for nothing that it could decide otherwise than we do: it reads no configuration, asks nobody, is shown the keys of the
one host that we trust (those that `hostkeys` found) and offers the keys that `ssh_identities` would. What it cannot do in this way (jump
hosts, passwords, passphrases, ciphers that the user chose) stays with the client that is built in, as does whatever it fails at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh

from mediasync.sources import ssh_identities
from mediasync.sources.process import ChildLauncher
from mediasync.sources.secrets import Secrets
from mediasync.sources.ssh_login import CIPHERS, CONNECT_SECONDS, KEEPALIVE_SECONDS, KEEPALIVE_TRIES, Target

PROGRAM = "ssh"

_ALIAS = "mediasync"
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    f"HostKeyAlias={_ALIAS}",
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


@dataclass(frozen=True)
class Program:
    """The client, and what it is given: the lines of a known_hosts file, and files with keys."""

    path: str
    known_hosts: bytes
    key_files: tuple[str, ...]


def find(target: Target, secrets: Secrets) -> Program | None:
    """The client, if it is installed and would log in to this target as we would. Reads files, so that it belongs into a thread."""
    needs_us = target.jumps or secrets.password or secrets.passphrase or target.configured & {"Ciphers", "HostKeyAlgorithms"}
    path = None if needs_us else shutil.which(PROGRAM)
    known_hosts = _known_hosts(target) if path else b""
    key_files = ssh_identities.plain_files(target.identities) if known_hosts else ()
    return Program(path, known_hosts, key_files) if path and key_files else None


class ProgramLauncher(ChildLauncher):
    """Starts a command at the host by way of the client. Nothing on its command line is secret."""

    def __init__(self, program: Program, target: Target, command: str) -> None:
        # A file without a name, which ends with this process; the client reads it before it logs in.
        self._keys = os.memfd_create("known_hosts")
        os.write(self._keys, program.known_hosts)
        arguments = [program.path, "-F", "none", "-T", "-p", str(target.host.port), "-l", target.user]
        for option in (f"UserKnownHostsFile=/proc/{os.getpid()}/fd/{self._keys}", "IdentityAgent=none", *_OPTIONS):
            arguments += ["-o", option]
        for name in program.key_files:
            arguments += ["-i", name]
        super().__init__([*arguments, "--", target.host.name, command], target.place)

    def close(self) -> None:
        """To be called once the client is logged in, or gone."""
        os.close(self._keys)


def _known_hosts(target: Target) -> bytes:
    """What we trust, as lines of a known_hosts file; empty where that is nothing."""
    hosts, authorities, revoked, *_ = target.keys.trusted(target.host)
    lines = [*_lines("", hosts), *_lines("@cert-authority ", authorities)]
    return b"".join((*lines, *_lines("@revoked ", revoked))) if lines else b""


def _lines(marker: str, keys: Sequence[asyncssh.SSHKey]) -> list[bytes]:
    return [f"{marker}{_ALIAS} ".encode() + key.export_public_key("openssh").strip() + b"\n" for key in keys]
