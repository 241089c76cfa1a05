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
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers import PEERS, Way, installed, pull
from benchmarks.trees import TREES
from mediasync.client import Client
from mediasync.model import Durability, JobState, ProgressStatus, SyncOptions, SyncSpec
from tests.fixtures.ssh import SshServer, start_sshd

OURS = {"ours": Durability.FULL, "ours, durability: fast": Durability.FAST}


@dataclass(frozen=True)
class Line:
    """A way to the server."""

    name: str
    round_trip_ms: float = 0.0
    rate_mbit: float = 0.0


LINES = (Line("0ms"), Line("100ms 1Gbit", 100.0, 1000.0))


class Bench:
    """A server with files, and the ways to pull them."""

    def __init__(self, work: Path, server: SshServer) -> None:
        self._work = work
        self._server = server
        self._pulls = 0
        self._expected = _listing(server.root)

    def _target(self) -> Path:
        self._pulls += 1
        target = self._work / f"library-{self._pulls}"
        target.mkdir()
        os.sync()  # what earlier pulls left to be written is not this one's
        return target

    def _check(self, target: Path) -> None:
        got = _listing(target)
        if self._expected != got:
            raise SystemExit(f"{target} has {len(got)} of {len(self._expected)} files, or others")
        shutil.rmtree(target)

    async def peer(self, name: str, way: Way) -> dict[str, float]:
        """One pull by another program."""
        target = self._target()
        peer = next(peer for peer in PEERS if peer.name == name)
        started = time.perf_counter()
        await asyncio.to_thread(pull, peer, way, target)
        seconds = time.perf_counter() - started
        self._check(target)
        return {"landed": seconds, "job": seconds}

    async def ours(self, client: Client, way: Way, connections: int, durability: Durability) -> dict[str, float]:
        """One pull by ours, with the services running."""
        target = self._target()
        source = self._server.spec()
        connection = replace(source.connection, host=way.host, port=way.port, known_hosts_files=(), accept_new_host_key=True)  # type: ignore[type-var]
        # A name of its own makes it a first sync each time.
        source = replace(source, connection=connection, name=f"bench-{self._pulls}")
        options = SyncOptions(parallel_transfers=connections, durability=durability, min_free_space_gb=0.0)
        started = time.perf_counter()
        job = await client.start_sync(SyncSpec(source, str(target), options=options))
        landed = 0.0
        async for progress in job.watch():
            if not landed and progress.status in (ProgressStatus.PROCESSING, ProgressStatus.COMPLETE):
                landed = time.perf_counter() - started
        result = await job.result()
        seconds = time.perf_counter() - started
        if result.state is not JobState.COMPLETE:
            raise SystemExit(f"the sync ended as {result.state.value}: {result.problem or result.summary.problems}")
        self._check(target)
        return {"landed": landed or seconds, "job": seconds}


def _listing(root: Path) -> dict[str, int]:
    """Size by path of every file but our own."""
    return {
        str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file() and ".mediasync" not in path.parts
    }


async def measure(options: argparse.Namespace, work: Path) -> None:
    """Runs every line's contestants in turn, and prints a table of medians."""
    tree = next(tree for tree in TREES if tree.name == options.tree)
    files = options.files or tree.files
    source = work / "source"
    source.mkdir()
    size_bytes = tree.make(source, files)
    console = Console()
    console.print(
        f"{files} files ({tree.name}), {size_bytes / 1e9:.2f} GB, {options.rounds} rounds; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, {_version('rsync')}, {_version('ssh')}; library on {_file_system(work)}; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    peers = [peer.name for peer in PEERS if peer.name.startswith(tuple(options.peers.split(","))) and installed(peer)]
    with ExitStack() as stack:
        server = start_sshd(work / "sshd", source)
        stack.callback(server.stop)
        bench = Bench(work, server)
        async with Client(home=work / "home") as client:
            for line in LINES:
                if options.only and not line.name.startswith(options.only):
                    continue
                way = Way(server, server.host, server.port)
                if line.rate_mbit:
                    way = stack.enter_context(_Proxy(server, line)).way
                results: dict[str, list[dict[str, float]]] = {name: [] for name in (*OURS, *peers)}
                for _ in range(options.rounds):
                    for name, durability in OURS.items():
                        results[name].append(await bench.ours(client, way, options.connections, durability))
                    for name in peers:
                        results[name].append(await bench.peer(name, way))
                console.print(_table(line, results, size_bytes))


def _table(line: Line, results: dict[str, list[dict[str, float]]], size_bytes: int) -> Table:
    ideal = size_bytes * 8 / (line.rate_mbit * 1e6) if line.rate_mbit else 0.0
    title = f"{line.name}" + (f" (the line alone: {ideal:.1f} s)" if ideal else "")
    table = Table(title=title, title_justify="left")
    for heading in ("", "landed: median s", "min-max", "MB/s", "of the line", "ours is x times as fast", "fast is", "job: median s"):
        table.add_column(heading, justify="left" if not heading else "right")
    full, fast = (statistics.median(result["landed"] for result in results[name]) for name in OURS)
    for name, rounds in results.items():
        landed = [result["landed"] for result in rounds]
        median = statistics.median(landed)
        table.add_row(
            name,
            f"{median:.2f}",
            f"{min(landed):.2f}-{max(landed):.2f}",
            f"{size_bytes / median / 1e6:.0f}",
            f"{ideal / median:.0%}" if ideal else "",
            "" if name in OURS else f"{median / full:.2f}",
            "" if name in OURS else f"{median / fast:.2f}",
            f"{statistics.median(result['job'] for result in rounds):.2f}",
        )
    return table


class _Proxy:
    """The long line, in a process of its own. Not on loopback where this machine has another address: a far host is what it stands for."""

    def __init__(self, server: SshServer, line: Line) -> None:
        self._server = server
        self._host = _own_address()
        command = [sys.executable, "-m", "benchmarks.line", "--to", f"{server.host}:{server.port}", "--listen", self._host]
        command += ["--round-trip-ms", str(line.round_trip_ms), "--rate-mbit", str(line.rate_mbit)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def __enter__(self) -> _Proxy:
        assert self._process.stdout is not None
        self.way = Way(self._server, self._host, int(self._process.stdout.readline()))
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


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


def _file_system(folder: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True).stdout.strip()


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
