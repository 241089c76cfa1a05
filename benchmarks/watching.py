"""A picture is written at the source: how long until it is in the library, and in the catalog, while the source is watched.

    python -m benchmarks.watching                  # 100 pictures over a real OpenSSH server, and a minute in which nothing happens
    python -m benchmarks.watching --files 20 --idle-seconds 20

Through the real services of one data folder and a real `sshd`. Each picture is written in pieces to its final name, as generators do; the
clock starts when its last byte is written. The library is asked every 2 ms, the catalog every 10 ms. Idle cost is the processor time of
all our services, and of the agents behind `sshd`, from the kernel's own sums.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.startup import _family
from benchmarks.trees import make_pictures
from mediasync.client import Client
from mediasync.errors import MediasyncError
from mediasync.model import SyncOptions, SyncSpec
from tests.fixtures.ssh import start_sshd

_BOUND_SECONDS = 60.0
_PIECES = 8


async def write_like_a_generator(path: Path, content: bytes) -> float:
    """Writes a picture piece by piece; returns when its last byte was there."""
    step = len(content) // _PIECES + 1
    with path.open("wb") as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            file.flush()
            if start + step < len(content):
                await asyncio.sleep(0.01)
        return time.perf_counter()


async def until_in_library(path: Path) -> float:
    """When the file was there."""
    deadline = time.perf_counter() + _BOUND_SECONDS
    while not path.exists():
        if time.perf_counter() > deadline:
            raise SystemExit(f"{path} did not come within {_BOUND_SECONDS:.0f} s")
        await asyncio.sleep(0.002)
    return time.perf_counter()


async def until_in_catalog(client: Client, path: bytes) -> float:
    """When the catalog knew the file."""
    deadline = time.perf_counter() + _BOUND_SECONDS
    while time.perf_counter() < deadline:
        try:
            await client.get_file(path)
            return time.perf_counter()
        except MediasyncError:
            await asyncio.sleep(0.01)
    raise SystemExit(f"{path!r} was not in the catalog within {_BOUND_SECONDS:.0f} s")


def busy_seconds(pids: list[int]) -> float:
    """Processor time of processes so far."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def services_of(home: Path) -> dict[int, str]:
    """The processes that work in a data folder, and what each is."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environ, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if b"MEDIASYNC_HOME=" + os.fsencode(home) + b"\0" in environ:
            found[int(folder.name)] = next((word for word in command if word.startswith(("services.", "mediasync."))), "helpers")
    return found


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all are not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def measure(options: argparse.Namespace, work: Path) -> None:
    """Prints what was measured."""
    source, library, pictures = work / "source", work / "library", work / "pictures"
    for folder in (source, library, pictures):
        folder.mkdir()
    make_pictures(pictures, options.files + 1, options.size)
    contents = [path.read_bytes() for path in sorted(pictures.rglob("*.png"))]
    folder = source / "txt2img-images" / "2026-11-21"
    folder.mkdir(parents=True)
    server = start_sshd(work / "sshd", source)
    try:
        async with Client(home=work / "home") as client:
            job = await client.start_sync(SyncSpec(server.spec(), str(library), options=SyncOptions(watch=True)))
            landed, known = [], []
            for number, content in enumerate(contents):
                name = f"txt2img-images/2026-11-21/{number:05}.png"
                ended = await write_like_a_generator(source / name, content)
                there = await until_in_library(library / name)
                catalogued = await until_in_catalog(client, name.encode())
                if number:  # the first one waits for the watch to begin
                    landed.append(there - ended)
                    known.append(catalogued - ended)
                await asyncio.sleep(options.pause_seconds)
            await asyncio.sleep(5)
            ours, theirs = services_of(work / "home"), _family(server.pid)
            before = {pid: busy_seconds([pid]) for pid in ours}
            far_before = busy_seconds(theirs)
            await asyncio.sleep(options.idle_seconds)
            far = busy_seconds(theirs) - far_before
            each = {pid: busy_seconds([pid]) - before[pid] for pid in ours}
            await client.cancel_job(job.job_id)
            await job.result()
    finally:
        server.stop()
    print(
        f"{options.files} pictures of {len(contents[0]):,} bytes; {os.cpu_count()} cores, {platform.machine()},"
        f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    for name, values in (("in the library", landed), ("in the catalog", known)):
        print(f"{name}: median {statistics.median(values):.3f} s, p99 {percentile(values, 0.99):.3f} s, longest {max(values):.3f} s")
    idle = options.idle_seconds
    print(f"idle for {idle:.0f} s: the far side {100 * far / idle:.2f} % of a core, ours {100 * sum(each.values()) / idle:.2f} %")
    for pid, seconds in sorted(each.items(), key=lambda item: -item[1]):
        print(f"    {ours[pid]:<34} {100 * seconds / idle:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--size", type=int, default=290_000, help="bytes of one picture, about")
    parser.add_argument("--pause-seconds", type=float, default=0.3, help="between two pictures")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mediasync-bench-") as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
