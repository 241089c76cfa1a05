"""Pulling files over a real OpenSSH server: ours and the programs that people use today, in turn, in one run.

    make bench                                          # 5,000 pictures at 0 ms and over a line of 100 ms and 1 Gbit/s
    python -m benchmarks.transfer --tree small --only 0ms --rounds 5
    python -m benchmarks.transfer --tree large --work /dev/shm --peers rsync

Ours is timed from the request to the moment when the last file is in the library, hashed and committed (`landed`), and to the end of
the job, when every picture was also decoded and described (`job`); once with every file flushed as it lands, and once with
`durability: fast`. The others are timed as commands; of them only `rsync --fsync` promises what ours does at its full durability.
Each pull goes into an empty folder.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.peers import PEERS, Way, installed, pull
from benchmarks.pulling import OURS, Bench, Timing, surroundings, table
from benchmarks.trees import TREES
from mediasync.client import Client
from mediasync.model import SyncOptions
from tests.fixtures.ssh import SshServer, start_sshd


@dataclass(frozen=True)
class Line:
    """A way to the server."""

    name: str
    round_trip_ms: float = 0.0
    rate_mbit: float = 0.0


LINES = (Line("0ms"), Line("100ms 1Gbit", 100.0, 1000.0))


async def measure(options: argparse.Namespace, work: Path) -> None:
    """Runs every line's contestants in turn, and prints a table of medians."""
    tree = next(tree for tree in TREES if tree.name == options.tree)
    files = options.files or tree.files
    source = work / "source"
    source.mkdir()
    size_bytes = tree.make(source, files)
    console = Console()
    programs = ", ".join(_version(program) for program in ("rsync", "ssh"))
    console.print(f"{files} files ({tree.name}), {size_bytes / 1e9:.2f} GB, {options.rounds} rounds; {programs}; {surroundings(work)}")
    peers = {peer.name: peer for peer in PEERS if peer.name.startswith(tuple(options.peers.split(","))) and installed(peer)}
    with ExitStack() as stack:
        server = start_sshd(work / "sshd", source, "Subsystem sftp internal-sftp")
        stack.callback(server.stop)
        bench = Bench(work, source)
        async with Client(home=work / "home") as client:
            for line in LINES:
                if options.only and not line.name.startswith(options.only):
                    continue
                way = Way(server, server.host, server.port)
                if line.rate_mbit:
                    way = Way(server, *stack.enter_context(proxied(server, line)))
                spec = server.spec(host=way.host, port=way.port, known_hosts_files=(), accept_new_host_key=True)
                results: dict[str, list[Timing]] = {name: [] for name in (*OURS, *peers)}
                for _ in range(options.rounds):
                    for name, durability in OURS.items():
                        wishes = SyncOptions(parallel_transfers=options.connections, durability=durability)
                        results[name].append(await bench.ours(client, spec, wishes))
                    for name, peer in peers.items():
                        results[name].append(await bench.peer(functools.partial(pull, peer, way)))
                ideal = size_bytes * 8 / (line.rate_mbit * 1e6) if line.rate_mbit else 0.0
                title = f"{line.name}" + (f" (the line alone: {ideal:.1f} s)" if ideal else "")
                console.print(table(title, results, size_bytes, ideal))


@contextmanager
def proxied(server: SshServer, line: Line) -> Iterator[tuple[str, int]]:
    """The long line, in a process of its own: the host and the port of its near end. Not on loopback where this machine has another
    address: a far host is what it stands for."""
    host = _own_address()
    command = [sys.executable, "-m", "benchmarks.line", "--to", f"{server.host}:{server.port}", "--listen", host]
    command += ["--round-trip-ms", str(line.round_trip_ms), "--rate-mbit", str(line.rate_mbit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield host, int(process.stdout.readline())
        finally:
            process.kill()


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _version(program: str) -> str:
    result = subprocess.run([program, "-V" if program == "ssh" else "--version"], capture_output=True, text=True, check=True)
    return (result.stdout or result.stderr).splitlines()[0].split(",")[0].replace("  ", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=[tree.name for tree in TREES], default="pictures", help="what there is to pull")
    parser.add_argument("--files", type=int, default=0, help="how many; by default as many as the tree has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--peers", default="rsync,rclone,scp,tar", help="beginnings of the names of those to compare with")
    parser.add_argument("--only", default="", help="only the line whose name starts so")
    parser.add_argument("--work", type=Path, help="folder to work in, on the disk to be measured; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="mediasync-bench-") as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
