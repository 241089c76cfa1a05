"""Timing one pull after the other into empty folders: ours through the running services, others as commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from mediasync.client import Client
from mediasync.model import Durability, JobState, ProgressStatus, SourceSpec, SyncOptions, SyncSpec

OURS = {"ours": Durability.FULL, "ours, durability: fast": Durability.FAST}
_SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class Timing:
    """Seconds until the last file was in the library, and until the job had ended; `memory_bytes` is the most that our transfer worker and
    its receivers held at a time, each page counted once."""

    landed: float
    job: float
    memory_bytes: int = 0


class Bench:
    """Files below `root`, and libraries below `work` to pull them into."""

    def __init__(self, work: Path, root: Path) -> None:
        self._work = work
        self._pulls = 0
        self._expected = _listing(root)

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

    async def peer(self, pull: Callable[[Path], None]) -> Timing:
        """One pull by another program."""
        target = self._target()
        started = time.perf_counter()
        await asyncio.to_thread(pull, target)
        seconds = time.perf_counter() - started
        self._check(target)
        return Timing(seconds, seconds)

    async def ours(self, client: Client, source: SourceSpec, options: SyncOptions) -> Timing:
        """One pull by ours, with the services running."""
        target = self._target()
        # A name of its own makes it a first sync each time.
        spec = SyncSpec(replace(source, name=f"bench-{self._pulls}"), str(target), options=replace(options, min_free_space_gb=0.0))
        memory = _Memory()
        sampling = asyncio.create_task(memory.sample())
        started = time.perf_counter()
        job = await client.start_sync(spec)
        landed = 0.0
        async for progress in job.watch():
            if not landed and progress.status in (ProgressStatus.PROCESSING, ProgressStatus.COMPLETE):
                landed = time.perf_counter() - started
        result = await job.result()
        seconds = time.perf_counter() - started
        sampling.cancel()
        if result.state is not JobState.COMPLETE:
            raise SystemExit(f"the sync ended as {result.state.value}: {result.problem or result.summary.problems}")
        self._check(target)
        return Timing(landed or seconds, seconds, memory.most_bytes)


class _Memory:
    """What the transfer worker and its receivers hold."""

    def __init__(self) -> None:
        self.most_bytes = 0

    async def sample(self) -> None:
        """Looks a few times a second, until cancelled."""
        while True:
            self.most_bytes = max(
                self.most_bytes, sum(_pss_bytes(pid) for pid in await asyncio.to_thread(lambda: list(_transfer_processes())))
            )
            await asyncio.sleep(_SAMPLE_SECONDS)


def _held_bytes() -> int:
    return sum(_pss_bytes(pid) for pid in _transfer_processes())


def _transfer_processes() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                if b"services.transfer.receiving" in command or command.rstrip(b"\0").endswith((b"services.transfer", b"serve\0transfer")):
                    yield int(name)


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _listing(root: Path) -> dict[str, int]:
    """Size by path of every file but our own."""
    return {
        str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file() and ".mediasync" not in path.parts
    }


def table(title: str, results: dict[str, list[Timing]], size_bytes: int, ideal_seconds: float = 0.0) -> Table:
    """Medians, and how many times as fast ours are. With `ideal_seconds` also the share of what the line could do."""
    shown = Table(title=title, title_justify="left")
    headings = ("landed: median s", "min-max", "MB/s", "of the line", "ours is x times as fast", "fast is", "job: median s", "memory MB")
    for heading in ("", *headings):
        shown.add_column(heading, justify="left" if not heading else "right")
    full, fast = (statistics.median(timing.landed for timing in results[name]) for name in OURS)
    for name, timings in results.items():
        landed = [timing.landed for timing in timings]
        median = statistics.median(landed)
        # Receivers of the pull before live on for half a minute; a pull that had none of them around tells.
        memory = min(timing.memory_bytes for timing in timings)
        shown.add_row(
            name,
            f"{median:.2f}",
            f"{min(landed):.2f}-{max(landed):.2f}",
            f"{size_bytes / median / 1e6:.0f}",
            f"{ideal_seconds / median:.0%}" if ideal_seconds else "",
            "" if name in OURS else f"{median / full:.2f}",
            "" if name in OURS else f"{median / fast:.2f}",
            f"{statistics.median(timing.job for timing in timings):.2f}",
            f"{memory / 1e6:.0f}" if memory else "",
        )
    return shown


def surroundings(work: Path) -> str:
    """The machine, in words."""
    system = subprocess.run(["stat", "-f", "-c", "%T", str(work)], capture_output=True, text=True, check=True).stdout.strip()
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}; library on {system}; load {os.getloadavg()[0]:.1f}"
