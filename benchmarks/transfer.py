"""Pulling pictures over a real OpenSSH server: ours and `rsync -aW`, in turn, in one run.

    make bench                                  # 5,000 files of 290 kB, 3 rounds, at 0 ms and over a line of 100 ms and 1 Gbit/s
    python -m benchmarks.transfer --files 1000 --rounds 5 --only 0ms

Ours is timed from the request to the moment when the last file is in the library, hashed, flushed and committed (`landed`), and
to the end of the job, when every picture was also decoded and described (`job`). rsync is timed as a command, with `--fsync` too:
only that promises what ours does. Each pull goes into an empty folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mediasync.client import Client
from mediasync.model import JobState, ProgressStatus, SyncOptions, SyncSpec
from tests.fixtures.ssh import SshServer, start_sshd


@dataclass(frozen=True)
class Line:
    """A way to the server."""

    name: str
    round_trip_ms: float = 0.0
    rate_mbit: float = 0.0


LINES = (Line("0ms"), Line("100ms 1Gbit", 100.0, 1000.0))


def make_pictures(folder: Path, files: int, size_bytes: int) -> int:
    """Writes valid pictures of noise, which no compression helps with, into dated folders. Returns their bytes."""
    random.seed(20261121)
    side = max(1, int((size_bytes / 3) ** 0.5))
    noise = random.randbytes(side * (3 * side) + files)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    total = 0
    for number in range(files):
        rows = b"".join(b"\0" + noise[number + row * 3 * side : number + (row + 1) * 3 * side] for row in range(side))
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        text = b"parameters\0a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: %d, Size: 512x512, Model: demo" % number
        data = chunk(b"IHDR", header) + chunk(b"tEXt", text) + chunk(b"IDAT", zlib.compress(rows, 0))
        content = b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")
        path = folder / "txt2img-images" / f"2026-11-{number * 28 // files + 1:02}" / f"{number:05}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_790_000_000 + number, 1_790_000_000 + number))
        total += len(content)
    return total


class Bench:
    """A server with pictures, and the ways to pull them."""

    def __init__(self, work: Path, server: SshServer) -> None:
        self._work = work
        self._server = server
        self._pulls = 0

    def _target(self) -> Path:
        self._pulls += 1
        target = self._work / f"library-{self._pulls}"
        target.mkdir()
        os.sync()  # what earlier pulls left to be written is not this one's
        return target

    def _check(self, target: Path) -> None:
        expected = sorted(path.relative_to(self._server.root) for path in self._server.root.rglob("*.png"))
        got = sorted(path.relative_to(target) for path in target.rglob("*.png"))
        if expected != got:
            raise SystemExit(f"{target} has {len(got)} of {len(expected)} files")
        shutil.rmtree(target)

    def rsync(self, port: int, *options: str) -> dict[str, float]:
        """One pull by rsync over the OpenSSH client, with its cheapest cipher."""
        target = self._target()
        shell = (
            f"ssh -p {port} -i {self._server.identity_file} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
            " -c aes128-gcm@openssh.com"
        )
        started = time.perf_counter()
        subprocess.run(
            ["rsync", "-aW", *options, "-e", shell, f"{self._server.user}@127.0.0.1:{self._server.root}/", f"{target}/"], check=True
        )
        seconds = time.perf_counter() - started
        self._check(target)
        return {"landed": seconds, "job": seconds}

    async def ours(self, client: Client, port: int, connections: int) -> dict[str, float]:
        """One pull by ours, with the services running."""
        target = self._target()
        source = self._server.spec()
        source = replace(source, connection=replace(source.connection, port=port, known_hosts_files=(), accept_new_host_key=True))
        options = SyncOptions(parallel_transfers=connections)
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


async def measure(options: argparse.Namespace, work: Path) -> None:
    """Runs every line's contestants in turn, and prints a table of medians."""
    source = work / "source"
    source.mkdir()
    size_bytes = make_pictures(source, options.files, options.size)
    console = Console()
    console.print(
        f"{options.files} pictures, {size_bytes / 1e9:.2f} GB, {options.rounds} rounds; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, {_version('rsync')}, {_version('ssh')}; library on {_file_system(work)}"
    )
    with ExitStack() as stack:
        server = start_sshd(work / "sshd", source)
        stack.callback(server.stop)
        bench = Bench(work, server)
        async with Client(home=work / "home") as client:
            for line in LINES:
                if options.only and not line.name.startswith(options.only):
                    continue
                port = server.port
                if line.rate_mbit:
                    port = stack.enter_context(_Proxy(server.port, line)).port
                results: dict[str, list[dict[str, float]]] = {"ours": [], "rsync -aW": [], "rsync -aW --fsync": []}
                for _ in range(options.rounds):
                    results["ours"].append(await bench.ours(client, port, options.connections))
                    results["rsync -aW"].append(await asyncio.to_thread(bench.rsync, port))
                    results["rsync -aW --fsync"].append(await asyncio.to_thread(bench.rsync, port, "--fsync"))
                console.print(_table(line, results, size_bytes))


def _table(line: Line, results: dict[str, list[dict[str, float]]], size_bytes: int) -> Table:
    ideal = size_bytes * 8 / (line.rate_mbit * 1e6) if line.rate_mbit else 0.0
    title = f"{line.name}" + (f" (the line alone: {ideal:.1f} s)" if ideal else "")
    table = Table(title=title, title_justify="left")
    for heading in ("", "landed: median s", "min-max", "MB/s", "ours is x times as fast", "job: median s"):
        table.add_column(heading, justify="left" if not heading else "right")
    ours = statistics.median(result["landed"] for result in results["ours"])
    for name, rounds in results.items():
        landed = [result["landed"] for result in rounds]
        median = statistics.median(landed)
        table.add_row(
            name,
            f"{median:.2f}",
            f"{min(landed):.2f}-{max(landed):.2f}",
            f"{size_bytes / median / 1e6:.0f}",
            "" if name == "ours" else f"{median / ours:.2f}",
            f"{statistics.median(result['job'] for result in rounds):.2f}",
        )
    return table


class _Proxy:
    """The long line, in a process of its own."""

    def __init__(self, port: int, line: Line) -> None:
        command = [sys.executable, "-m", "benchmarks.line", "--to", f"127.0.0.1:{port}"]
        command += ["--round-trip-ms", str(line.round_trip_ms), "--rate-mbit", str(line.rate_mbit)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def __enter__(self) -> _Proxy:
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


def _version(program: str) -> str:
    result = subprocess.run([program, "-V" if program == "ssh" else "--version"], capture_output=True, text=True, check=True)
    return (result.stdout or result.stderr).splitlines()[0].split(",")[0].replace("  ", " ")


def _file_system(folder: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--size", type=int, default=290_000, help="bytes of one file, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--only", default="", help="only the line whose name starts so")
    parser.add_argument("--work", type=Path, help="folder to work in, on the disk to be measured; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="mediasync-bench-") as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
