"""Whether the system's own SSH client would log in to a source as we do, so that it may (`ssh_program`).

It may not decide anything otherwise: what it cannot do with options alone (jump hosts, passwords, passphrases, certificates, ciphers or
kinds of host keys that the user chose) stays with the client that is built in, as does a host whose key is not on record yet.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from mediasync.model import Engine, SourceSpec, SshConnection
from mediasync.profiles import PROFILES
from mediasync.sources import ssh_identities
from mediasync.sources.secrets import secrets_of
from mediasync.sources.ssh_login import Gate, Target
from mediasync.sources.ssh_program import HOST_ALIAS, Program

PROGRAM = "ssh"


async def find_program(spec: SourceSpec, home: Path) -> Program | None:
    """The client with all that it needs to log in to `spec`; None where that is not for it. `home` is the data folder. Raises
    MediasyncError for settings that cannot be read."""
    connection = spec.connection
    roots = (spec.root,) if spec.root else PROFILES[spec.type].roots
    if not isinstance(connection, SshConnection) or spec.engine not in (Engine.AUTO, Engine.AGENT) or not roots:
        return None
    target = await Gate(home, PROFILES[spec.type]).resolve(connection)
    return await asyncio.to_thread(_found, spec, target, roots)


def _found(spec: SourceSpec, target: Target, roots: tuple[bytes, ...]) -> Program | None:
    secrets = secrets_of(spec)
    needs_us = target.jumps or secrets.password or secrets.passphrase or target.configured & {"Ciphers", "HostKeyAlgorithms"}
    path = None if needs_us else shutil.which(PROGRAM)
    known_hosts = _known_hosts(target) if path else b""
    key_files = ssh_identities.plain_files(target.identities) if known_hosts else ()
    if not path or not key_files:
        return None
    return Program(path, target.host.name, target.host.port, target.user, target.place, roots, known_hosts, key_files)


def _known_hosts(target: Target) -> bytes:
    """What we trust, as lines of a known_hosts file; empty where that is nothing."""
    hosts, authorities, revoked, *_ = target.keys.trusted(target.host)
    lines = [*_lines("", hosts), *_lines("@cert-authority ", authorities)]
    return b"".join((*lines, *_lines("@revoked ", revoked))) if lines else b""


def _lines(marker: str, keys: Sequence[asyncssh.SSHKey]) -> list[bytes]:
    return [f"{marker}{HOST_ALIAS} ".encode() + key.export_public_key("openssh").strip() + b"\n" for key in keys]
