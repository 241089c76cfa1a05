"""The programs that people use today, each with its quickest ordinary options, and the same cipher as ours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.ssh import SshServer


@dataclass(frozen=True)
class Way:
    """How to reach the files: a host and a port on the way to `server`."""

    server: SshServer
    host: str
    port: int

    @property
    def options(self) -> str:
        """What the OpenSSH programs need to be told, but for the port."""
        known = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        return f"-i {self.server.identity_file} {known} -c aes128-gcm@openssh.com"

    @property
    def ssh(self) -> str:
        """The command that logs in."""
        return f"ssh -p {self.port} {self.options} {self.server.user}@{self.host}"

    @property
    def remote(self) -> str:
        """The folder as rsync and scp spell it."""
        return f"{self.server.user}@{self.host}:{self.server.root}"


@dataclass(frozen=True)
class Peer:
    """A program. `command(way, target)` is what a shell runs; `durable` says that it flushes what it wrote."""

    name: str
    command: Callable[[Way, Path], str]
    durable: bool = False


def _rsync(way: Way, target: Path, options: str = "") -> str:
    return f"rsync -aW {options} -e 'ssh -p {way.port} {way.options}' {way.remote}/ {target}/"


def _rclone(way: Way, target: Path) -> str:
    place = f":sftp,host={way.host},user={way.server.user},port={way.port},key_file={way.server.identity_file}:{way.server.root}"
    return f"rclone copy --config /dev/null --transfers 8 --quiet '{place}' {target}"


PEERS = (
    Peer("rsync -aW", _rsync),
    Peer("rsync -aW --fsync", lambda way, target: _rsync(way, target, "--fsync"), durable=True),
    Peer("rclone copy (sftp)", _rclone),
    Peer("scp -r", lambda way, target: f"scp -q -r -P {way.port} {way.options} {way.remote}/. {target}/"),
    Peer("tar | ssh", lambda way, target: f"{way.ssh} 'tar -C {way.server.root} -cf - .' | tar -C {target} -xf -"),
)


def installed(peer: Peer) -> bool:
    """Whether its program is here."""
    return shutil.which(peer.name.split()[0]) is not None


def pull(peer: Peer, way: Way, target: Path) -> None:
    """One pull. Raises CalledProcessError when the program says that it failed."""
    subprocess.run(["bash", "-o", "pipefail", "-c", peer.command(way, target)], check=True)
