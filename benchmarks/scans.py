"""Looking at a source where nothing changed: exact and quick scans against `rsync -a`, over the same OpenSSH server, in one run.

    python -m benchmarks.scans                                 # 1,000,000 files in 1,000 folders, 5 rounds
    python -m benchmarks.scans --directories 100 --work /dev/shm/scans

The source is made once below `--work` and used again by the next run, with a copy of it for rsync to compare with. Files are empty:
none of the contestants reads any. Ours is a whole sync through the transfer worker: library checked, far side scanned, compared,
remembered. What it has on record is written from one full scan, as if it had brought everything.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from mediasync.model import SshConnection, SyncOptions, SyncSpec
from mediasync.sources.base import DirectoryScanned, ScanFinished, ScanRequest
from mediasync.sources.factory import open_source
from mediasync.sources.selection import Selection
from mediasync.storage.database import Database
from services.transfer import schema
from services.transfer.diff import directory_of, name_of
from services.transfer.manifest_store import ManifestStore
from services.transfer.scanning import digest_of
from services.transfer.schema import MIGRATIONS
from services.transfer.worker import TransferWorker
from tests.fixtures.ssh import SshServer, start_sshd

FILES_A_DIRECTORY = 1000


def make_source(root: Path, directories: int) -> None:
    """Empty files in folders by date. Takes a minute for a million."""
    for number in range(directories):
        folder = root / f"{number // 31:02}" / f"2026-{number % 31:02}-{number:04}"
        folder.mkdir(parents=True)
        descriptor = os.open(folder, os.O_RDONLY)
        for index in range(FILES_A_DIRECTORY):
            name = f"{index:05}-{number * FILES_A_DIRECTORY + index:09}.png"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor))
        os.close(descriptor)


class Ours:
    """A transfer worker that has brought everything."""

    def __init__(self, work: Path, server: SshServer) -> None:
        (work / "library").mkdir()
        (work / "home").mkdir()
        self._database = Database.open(f"sqlite:///{work}/home/transfer.db", MIGRATIONS)
        self._open = partial(open_source, home=work / "home")
        self._worker = TransferWorker(self._database, work / "home", self._open)
        source = server.spec()
        assert isinstance(source.connection, SshConnection)
        self._source = source
        self._library = work / "library"
        self._manifest = ManifestStore(self._database)
        self.known: dict[bytes, int] = {}
        self.started_ns = 0
        self._syncs = 0

    async def sync(self, *, full: bool = False) -> None:
        """One sync of everything."""
        self._syncs += 1
        spec = SyncSpec(self._source, str(self._library), options=SyncOptions(full_scan=full))
        summary = await self._worker.sync_folder(f"sync_{self._syncs}", spec, b"", lambda tally: None, lambda files, size: None)
        if summary.files_transferred or summary.files_failed or (self.known and not summary.files_unchanged):
            raise SystemExit(f"nothing had changed, and yet: {summary}")

    async def quick(self) -> None:
        """One quick scan, as watching does where the far side cannot tell."""
        spec = SyncSpec(self._source, str(self._library))
        async with self._worker._pools.pool(self._source, spec.options.parallel_transfers).connection() as connection:
            request = ScanRequest(b"", self.started_ns + 1, self.known, quick=True)
            moved = [record async for record in connection.scan(request) if isinstance(record, DirectoryScanned)]
        if moved:
            raise SystemExit(f"nothing had changed, and yet {len(moved)} directories were listed")

    async def remember(self) -> int:
        """Scans everything and writes it down as brought. Returns how many files there are."""
        await self._worker.check_library(str(self._library))
        (library,) = await self._manifest.libraries()
        origin = await self._manifest.origin(self._source.key, self._source.label, library)
        connection = await self._open(self._source).connect()
        files = 0
        async for record in connection.scan(ScanRequest()):
            if isinstance(record, DirectoryScanned):
                self.known[record.path] = record.inode
                rows = [
                    {
                        "origin": origin.key,
                        "directory": directory_of(entry.path),
                        "name": name_of(entry.path),
                        "size_bytes": entry.size_bytes,
                        "mtime_ns": entry.mtime_ns,
                        "ctime_ns": entry.ctime_ns,
                        "inode": entry.inode,
                        "sha256": bytes(32),
                        "library_path": entry.path,
                        "incomplete": False,
                        "vanished": False,
                        "sync_id": "sync_0",
                    }
                    for entry in record.files
                ]
                files += len(rows)
                if rows:
                    await self._database.write(lambda connection, rows=rows: connection.execute(sa.insert(schema.manifest), rows))
            elif isinstance(record, ScanFinished):
                self.started_ns = record.started_ns
        await connection.close()
        digest = digest_of(Selection.of(SyncOptions()))
        await self._manifest.finish_scan(origin, b"", self.started_ns, self.known, full=True, selection=digest)
        return files

    async def close(self) -> None:
        await self._worker.close()
        await self._database.close()


def rsync(server: SshServer, target: Path, *options: str) -> None:
    """A real `rsync -a` into its copy."""
    shell = (
        f"ssh -p {server.port} -i {server.identity_file} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        " -c aes128-gcm@openssh.com"
    )
    subprocess.run(["rsync", "-a", *options, "-e", shell, f"{server.user}@127.0.0.1:{server.root}/", f"{target}/"], check=True)


async def measure(options: argparse.Namespace) -> None:
    """Prints medians and ratios."""
    source, copy = options.work / "source", options.work / "copy"
    if not source.exists():
        make_source(source, options.directories)
    if not copy.exists():
        copy.mkdir()
        subprocess.run(["rsync", "-a", f"{source}/", f"{copy}/"], check=True)
    with tempfile.TemporaryDirectory(prefix="mediasync-bench-", dir=options.work) as folder:
        work = Path(folder)
        server = start_sshd(work / "sshd", source)
        try:
            ours = Ours(work, server)
            files = await ours.remember()
            contestants: dict[str, Callable[[], Awaitable[None]]] = {
                "rsync -a": lambda: asyncio.to_thread(rsync, server, copy),
                "rsync -a --dry-run": lambda: asyncio.to_thread(rsync, server, copy, "--dry-run"),
                "ours, exact": ours.sync,
                "ours, full": lambda: ours.sync(full=True),
                "ours, quick": ours.quick,
            }
            seconds: dict[str, list[float]] = {name: [] for name in contestants}
            for _ in range(options.rounds):
                for name, contestant in contestants.items():
                    started = time.perf_counter()
                    await contestant()
                    seconds[name].append(time.perf_counter() - started)
            await ours.close()
        finally:
            server.stop()
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(source)], capture_output=True, text=True, check=True).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(f"{files:,} files in {options.directories:,} folders on {kind}, {options.rounds} rounds; {machine}")
    peer = statistics.median(seconds["rsync -a"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:>20}: median {median:7.3f} s ({min(times):.3f}-{max(times):.3f}), {peer / median:6.2f} x as fast as rsync -a")
    print(f"the worker's process at its largest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directories", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("/tmp/bench-million"), help="folder that keeps the source and rsync's copy")
    parser.add_argument("--remove", action="store_true", help="remove the source and the copy afterwards")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    asyncio.run(measure(options))
    if options.remove:
        shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
