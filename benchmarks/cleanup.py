"""Emptying a source over a real OpenSSH server, every deletion verified on both sides, against `sha256sum` over the same files, in one run.

    python -m benchmarks.cleanup                                # 10,000 pictures, 2.9 GB, at 0 ms and over a line of 100 ms and 1 Gbit/s
    python -m benchmarks.cleanup --only 0ms --rounds 5 --cached
    python -m benchmarks.cleanup --listed 1000000               # also: so many files listed, of which 1,000 are due

Ours is a whole job through the running services: from the request to its summary, with the login, the listing, a journal that is flushed,
each copy read from the library's disk and each file hashed at the source before it goes. `sha256sum` hashes the source's files once, on
the machine where they are, and does nothing else. Before each of them all files are put out of the page cache, or with `--cached` those of
the source are read into it; the library's copies are never read from there. After each clean-up the source's files are there again: hard
links to the same ones, as they were synced.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.pulling import surroundings
from benchmarks.transfer import LINES, Line, proxied
from benchmarks.trees import make_pictures
from mediasync.client import Client
from mediasync.model import CleanupPolicy, CleanupSummary, JobState, SourceSpec, SyncOptions, SyncSpec
from tests.fixtures.ssh import SshServer, start_sshd

_OLD = 1_790_000_000
_FILES_A_FOLDER = 1000
_KEPT = "stays.txt"


@dataclass
class Rounds:
    """Seconds of ours and of sha256sum, by round."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)


class Bench:
    """A source that can be filled again, and its library. What a clean-up deletes is kept in `work` under second names."""

    def __init__(self, work: Path, server: SshServer, source: Path) -> None:
        self._server = server
        self._source = source
        self._library = work / "library"
        self._library.mkdir()
        self._second_names = work / "second names"
        # Something that was synced is always there: a source of which nothing is on record would be refused.
        (source / _KEPT).write_text("synced, and preserved")
        self._due = [path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.name != _KEPT]
        for path in self._due:
            (self._second_names / path).parent.mkdir(parents=True, exist_ok=True)
            (self._second_names / path).hardlink_to(source / path)
        self.size_bytes = sum((source / path).stat().st_size for path in self._due)

    @property
    def files(self) -> int:
        """How many a clean-up deletes."""
        return len(self._due)

    def source(self, host: str, port: int) -> SourceSpec:
        """The source by that way."""
        return self._server.spec(host=host, port=port, known_hosts_files=(), accept_new_host_key=True)

    def fill(self) -> None:
        """What was deleted is there again."""
        for path in self._due:
            if not (self._source / path).exists():
                (self._source / path).parent.mkdir(parents=True, exist_ok=True)
                (self._source / path).hardlink_to(self._second_names / path)

    def settle(self, *, cached: bool) -> None:
        """The page cache as it should be."""
        os.sync()
        for folder in (self._source, self._library):
            for path in self._due:
                with contextlib.suppress(FileNotFoundError), (folder / path).open("rb") as file:
                    if cached and folder is self._source:
                        file.read()
                    else:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    async def sync(self, client: Client, source: SourceSpec) -> None:
        """Brings everything, or finds by its hash that it is there."""
        spec = SyncSpec(source, str(self._library), options=SyncOptions(min_free_space_gb=0.0, extract_metadata=False))
        result = await (await client.start_sync(spec)).result()
        if result.state is not JobState.COMPLETE:
            raise SystemExit(f"the sync ended as {result.state.value}: {result.problem or result.summary.problems}")

    async def clean(self, client: Client, source: SourceSpec, *, dry_run: bool = False) -> tuple[float, CleanupSummary]:
        """One clean-up; how long it took."""
        policy = CleanupPolicy(keep_counter=False, force_cap=True, preserve_patterns=(_KEPT,), dry_run=dry_run)
        started = time.perf_counter()
        job = await client.start_cleanup(SyncSpec(source, str(self._library), cleanup=policy))
        result = await job.result()
        seconds = time.perf_counter() - started
        summary = result.summary.cleanup
        if result.state is not JobState.COMPLETE or summary is None or summary.files_deleted != self.files:
            raise SystemExit(f"the clean-up ended as {result.state.value}: {result.problem or summary}")
        return seconds, summary

    def sha256sum(self) -> float:
        """How long it takes over the same files."""
        command = f"find . -type f ! -name {_KEPT} -print0 | xargs -0 sha256sum > /dev/null"
        started = time.perf_counter()
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self._source, check=True)
        return time.perf_counter() - started


async def measure(options: argparse.Namespace, work: Path, console: Console) -> dict[str, Rounds]:
    """Each line's contestants in turn, and a table of medians."""
    source = work / "source"
    source.mkdir()
    make_pictures(source, options.files)
    results: dict[str, Rounds] = {}
    with ExitStack() as stack:
        server = start_sshd(work / "sshd", source)
        stack.callback(server.stop)
        bench = Bench(work, server, source)
        cache = "the source's files in the page cache" if options.cached else "nothing in the page cache"
        console.print(f"{bench.files} files, {bench.size_bytes / 1e9:.2f} GB, {options.rounds} rounds, {cache}; {surroundings(work)}")
        async with Client(home=work / "home") as client:
            for line in _lines(options.only):
                host, port = stack.enter_context(proxied(server, line)) if line.rate_mbit else (server.host, server.port)
                spec = bench.source(host, port)
                bench.fill()
                await bench.sync(client, spec)
                # The service is started by whoever needs it first.
                await bench.clean(client, spec, dry_run=True)
                rounds = results[line.name] = Rounds()
                for _ in range(options.rounds):
                    bench.fill()
                    bench.settle(cached=options.cached)
                    rounds.peer.append(bench.sha256sum())
                    bench.settle(cached=options.cached)
                    rounds.ours.append((await bench.clean(client, spec))[0])
    console.print(_table(results, bench.size_bytes))
    return results


async def measure_listing(options: argparse.Namespace, work: Path, console: Console) -> tuple[list[float], int]:
    """A source with very many files of which few are due; seconds of each round, and the most bytes that the service held."""
    source = work / "source"
    for number in range(options.due):
        path = source / f"{number:04}" / "old.txt"
        path.parent.mkdir(parents=True)
        path.write_text(f"{number}")
        os.utime(path, (_OLD + number, _OLD + number))
    server = start_sshd(work / "sshd", source)
    try:
        bench = Bench(work, server, source)
        async with Client(home=work / "home") as client:
            spec = bench.source(server.host, server.port)
            await bench.sync(client, spec)
            await bench.clean(client, spec, dry_run=True)
            listed = _fill_up(source, options.listed)
            seconds = []
            for _ in range(options.rounds):
                bench.fill()
                took, summary = await bench.clean(client, spec)
                seconds.append(took)
                if summary.files_scanned != listed:
                    raise SystemExit(f"{summary.files_scanned} files were listed, and there are {listed}")
            (most,) = [_peak_bytes(pid) for pid in _services("cleanup", work / "home")]
    finally:
        server.stop()
    console.print(
        f"{listed:,} files listed, {bench.files:,} of them due and deleted: median {statistics.median(seconds):.2f} s"
        f" ({min(seconds):.2f}-{max(seconds):.2f}), the service at its largest {most / 1e6:.0f} MB; {surroundings(work)}"
    )
    return seconds, most


def _fill_up(source: Path, listed: int) -> int:
    """Adds new, empty files until there are so many. Returns how many there are: a multiple of what a folder takes may be missed."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    total = len(folders) + 1
    for number, folder in enumerate(folders):
        wanted = (listed - total) // (len(folders) - number)
        descriptor = os.open(folder, os.O_RDONLY)
        for index in range(wanted):
            os.close(os.open(f"{index:05}-{index}.png", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor))
        os.close(descriptor)
        total += wanted
    return total


def _lines(only: str) -> list[Line]:
    return [line for line in LINES if line.name.startswith(only)]


def _table(results: dict[str, Rounds], size_bytes: int) -> Table:
    table = Table()
    for heading in ("line", "ours: median s", "min-max", "MB/s", "sha256sum: median s", "min-max", "ours takes"):
        table.add_column(heading, justify="left" if heading == "line" else "right")
    for name, rounds in results.items():
        ours, peer = statistics.median(rounds.ours), statistics.median(rounds.peer)
        spans = [f"{min(times):.2f}-{max(times):.2f}" for times in (rounds.ours, rounds.peer)]
        table.add_row(name, f"{ours:.2f}", spans[0], f"{size_bytes / ours / 1e6:.0f}", f"{peer:.2f}", spans[1], f"{ours / peer:.2f} x")
    return table


def _services(name: str, home: Path) -> Iterator[int]:
    """Process ids of a service of that data folder."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                mine = f"MEDIASYNC_HOME={home}\0".encode() in Path(f"/proc/{entry}/environ").read_bytes()
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                if mine and f"services.{name}".encode() in words:
                    yield int(entry)


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"the kernel does not say how large {pid} was")


async def run(options: argparse.Namespace, work: Path) -> None:
    """Everything that was asked for, each in a folder of its own."""
    console = Console()
    for name, wanted, part in (("files", options.files, measure), ("listing", options.listed, measure_listing)):
        if wanted:
            (folder := work / name).mkdir()
            await part(options, folder, console)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many pictures of 290 kB; 0 for none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only the line whose name starts so")
    parser.add_argument("--cached", action="store_true", help="the source's files are in the page cache, as those are that were just made")
    parser.add_argument("--listed", type=int, default=0, metavar="N", help="also clean up a source of so many files, of which few are due")
    parser.add_argument("--due", type=int, default=1000, help="how many are, one in each folder")
    parser.add_argument("--work", type=Path, help="folder to work in, on the disk to be measured; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="mediasync-bench-") as folder:
        asyncio.run(run(options, Path(folder)))


if __name__ == "__main__":
    main()
