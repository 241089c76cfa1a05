"""Holding a full scan against the manifest: 10,000 and 1,000,000 unchanged files in folders of 1,000.

    python -m benchmarks.diff

Timed is what the transfer worker does for each directory that a full scan reports: its rows are read from the database and compared. The
records of the scan are made beforehand, as reading them is the scan's part (`benchmarks.scans`); the memory is that of this process, less
what it held before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mediasync.sources.base import FileEntry
from mediasync.storage.database import Database
from services.transfer.diff import diff_directory, name_of
from services.transfer.entities import Origin
from services.transfer.manifest_store import ManifestStore
from services.transfer.schema import MIGRATIONS

FILES_A_DIRECTORY = 1000
MTIME_NS = 1_790_000_000_000_000_000
PAGE_ROWS = 5000


def directory_name(number: int) -> bytes:
    """The path of a directory."""
    return b"txt2img-images/%02d/%05d" % (number // 100, number)


def entries(number: int) -> list[FileEntry]:
    """The files of a directory."""
    folder, first = directory_name(number), number * FILES_A_DIRECTORY
    return [
        FileEntry(b"%s/%05d-%010d.png" % (folder, index, first + index), 300_000 + index, MTIME_NS + index, MTIME_NS + index, first + index)
        for index in range(FILES_A_DIRECTORY)
    ]


def fill(database: Path, directories: int) -> None:
    """Writes the manifest rows of that many directories, as a sync would have."""
    import sqlite3

    def rows() -> Iterator[tuple[object, ...]]:
        for number in range(directories):
            for entry in entries(number):
                name = name_of(entry.path)
                digest = entry.inode.to_bytes(32, "big")
                state = (entry.size_bytes, entry.mtime_ns, entry.ctime_ns, entry.inode)
                yield (1, directory_name(number), name, *state, digest, entry.path, 0, 0, "sync_1")

    connection = sqlite3.connect(database)
    columns = "origin, directory, name, size_bytes, mtime_ns, ctime_ns, inode, sha256, library_path, incomplete, vanished, sync_id"
    with connection:
        connection.executemany(f"INSERT INTO manifest ({columns}) VALUES ({', '.join('?' * 12)})", rows())
    connection.close()


async def compare(store: ManifestStore, origin: Origin, directories: int) -> tuple[float, float]:
    """Seconds that comparing takes, reading the rows included: as they pass, and of processor time."""
    spent = busy = 0.0
    for number in range(directories):
        folder, files = directory_name(number), entries(number)
        started, used = time.perf_counter(), time.process_time()
        rows = await store.states(origin, folder, None, None, PAGE_ROWS)
        difference = diff_directory(folder, files, rows, complete=True)
        spent += time.perf_counter() - started
        busy += time.process_time() - used
        if len(difference.unchanged) != FILES_A_DIRECTORY:
            raise SystemExit(f"{len(difference.wanted)} files of {folder!r} are not as they are on record")
    return spent, busy


async def measure(rounds: int, work: Path) -> None:
    """Prints medians."""
    for directories in (10, 1000):
        path = work / f"{directories}.db"
        database = Database.open(f"sqlite:///{path}", MIGRATIONS)
        await asyncio.to_thread(fill, path, directories)
        store, origin = ManifestStore(database), Origin(1, "name:bench", "bench", None)  # type: ignore[arg-type] - not looked at
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results = [await compare(store, origin, directories) for _ in range(rounds)]
        seconds = [spent for spent, _ in results]
        busy = statistics.median(used for _, used in results)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        median = statistics.median(seconds)
        files = directories * FILES_A_DIRECTORY
        spread = f"{min(seconds) * 1e3:.1f}-{max(seconds) * 1e3:.1f}"
        print(f"{files:>9,} files: median {median * 1e3:.1f} ms ({spread}), {busy * 1e3:.1f} ms of a core, {grown:.0f} MB more")
        await database.close()
    print(f"this process at its largest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB; {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mediasync-bench-") as folder:
        asyncio.run(measure(options.rounds, Path(folder)))


if __name__ == "__main__":
    main()
