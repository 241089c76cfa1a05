"""What there is to wait for, and what is used, when nothing has to be done.

    python -m benchmarks.startup                # 5 rounds
    python -m benchmarks.startup --rounds 3 --files 1000

Measured from outside, as processes: `--help`; `up` until it says that it is ready; `sync` of a source in which nothing is new, over
a real OpenSSH server, once with services of its own and once with those of `up`; the memory of all processes of `up` when they are
idle, just started and after a sync. CPU is user and system time of the command and all that it started and waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.trees import make_pictures
from tests.fixtures.ssh import start_sshd

_MEDIASYNC = str(Path(sys.executable).with_name("mediasync"))
_PICTURE_BYTES = 2_000
_QUIET_SECONDS = 2.0  # until memory is looked at


@dataclass
class Results:
    """Figures by what was measured, a list of rounds each."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory_bytes: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))


class Bench:
    """An installation in a folder of its own, and the commands on it."""

    def __init__(self, work: Path, results: Results) -> None:
        self._results = results
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith(("MEDIASYNC_", "MEDIA_BASE", "LOG_BASE"))}
        self._environ |= {"MEDIASYNC_HOME": str(work / "home"), "XDG_CONFIG_HOME": str(work / "config"), "COLUMNS": "100"}

    def command(self, name: str, *arguments: str) -> str:
        """Runs a command to its end, and returns what it printed. An empty name counts nothing."""
        before = os.times()
        started = time.perf_counter()
        done = subprocess.run([_MEDIASYNC, *arguments], env=self._environ, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        after = os.times()
        if done.returncode != 0:
            raise SystemExit(f"mediasync {arguments[0]} ended with exit code {done.returncode}: {done.stderr}")
        if name:
            self._results.seconds[name].append(seconds)
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            self._results.cpu_seconds[name].append(cpu)
        return done.stdout

    @contextmanager
    def up(self) -> Iterator[int]:
        """`mediasync up`, from when it is ready; its process id."""
        started = time.perf_counter()
        command = [_MEDIASYNC, "up", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit("mediasync up ended before it was ready")
            self._results.seconds["up, until ready"].append(time.perf_counter() - started)
            try:
                yield process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate()

    def look_at_memory(self, name: str, pid: int) -> dict[str, tuple[int, int]]:
        """Counts the memory of a process and of all below it; what each uses, by what it is."""
        time.sleep(_QUIET_SECONDS)
        each: dict[str, tuple[int, int]] = {}
        for one in _family(pid):
            rss, pss = _memory(one)
            what = _what(one)
            each[what] = (each.get(what, (0, 0))[0] + rss, each.get(what, (0, 0))[1] + pss)
        self._results.memory_bytes[name].append((sum(rss for rss, _ in each.values()), sum(pss for _, pss in each.values())))
        return each


def _family(pid: int) -> list[int]:
    members = [pid]
    for member in members:
        for task in Path(f"/proc/{member}/task").iterdir():
            members += [int(child) for child in (task / "children").read_text().split()]
    return members


def _memory(pid: int) -> tuple[int, int]:
    """Resident and proportional bytes, out of the kernel's own sums."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, value = line.partition(":")
        values[key] = int(value.split()[0]) * 1024
    return values["Rss"], values["Pss"]


def _what(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next((word for word in words if word.startswith(("services.", "mediasync."))), "helpers")


def measure(options: argparse.Namespace, work: Path) -> None:
    """All rounds, each thing in turn, and the tables."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    load = os.getloadavg()
    console.print(
        f"{options.files} files at the source, {options.rounds} rounds; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}; load {load[0]:.1f}"
    )
    source, library = work / "source", work / "library"
    source.mkdir()
    library.mkdir()
    make_pictures(source, options.files, _PICTURE_BYTES)
    results = Results()
    bench = Bench(work, results)
    server = start_sshd(work / "sshd", source)
    login = ["--identity-file", str(server.identity_file), "--known-hosts", str(server.known_hosts)]
    sync = ["sync", f"ssh://{server.user}@{server.host}:{server.port}{source}", str(library), *login, "--json"]
    each: dict[str, tuple[int, int]] = {}
    try:
        first = json.loads(bench.command("", *sync))
        if first["files_transferred"] != options.files:
            raise SystemExit(f"the first sync brought {first['files_transferred']} of {options.files} files")
        for _ in range(options.rounds):
            bench.command("--help", "--help")
            again = json.loads(bench.command("sync, nothing new, services of its own", *sync))
            if (again["files_transferred"], again["files_unchanged"]) != (0, options.files):
                raise SystemExit(f"not all was unchanged: {again}")
            with bench.up() as pid:
                bench.look_at_memory("up, just started", pid)
                bench.command("sync, nothing new, services of up", *sync)
                each = bench.look_at_memory("up, idle after a sync", pid)
    finally:
        server.stop()
    console.print(_times(results))
    console.print(_memories(results))
    for what, (rss, pss) in sorted(each.items(), key=lambda item: -item[1][1]):
        console.print(f"  {what:<34} {rss / 1e6:6.0f} MB resident  {pss / 1e6:6.0f} MB proportional", highlight=False)
    console.print(f"load at the end {os.getloadavg()[0]:.1f}")


def _times(results: Results) -> Table:
    table = Table(title="time", title_justify="left")
    for heading in ("", "median s", "min-max", "CPU: median s"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, rounds in results.seconds.items():
        cpu = results.cpu_seconds.get(name)
        table.add_row(
            name,
            f"{statistics.median(rounds):.2f}",
            f"{min(rounds):.2f}-{max(rounds):.2f}",
            f"{statistics.median(cpu):.2f}" if cpu else "",
        )
    return table


def _memories(results: Results) -> Table:
    table = Table(title="memory of all processes", title_justify="left")
    for heading in ("", "resident, summed: median MB", "proportional: median MB", "min-max"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, rounds in results.memory_bytes.items():
        pss = [pair[1] / 1e6 for pair in rounds]
        resident = statistics.median(pair[0] / 1e6 for pair in rounds)
        table.add_row(name, f"{resident:.0f}", f"{statistics.median(pss):.0f}", f"{min(pss):.0f}-{max(pss):.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder to work in, on the disk to be measured; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="mediasync-bench-") as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
