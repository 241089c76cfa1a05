"""Holding a full scan against the manifest: 10,000 and 1,000,000 files in folders of 1,000, unchanged, and with a moved one in each folder.

    python -m benchmarks.diff

Timed is what the transfer worker does for each frame that the agent sends in a full scan: it is read and checked, and compared with the
rows of its directory, which are read from the database each time. The memory is that of this process, less what it held before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mediasync.sources.agent import scanned, wire
from mediasync.sources.agent.program.scanning import columns
from mediasync.sources.agent.program.tree import ENTRY
from mediasync.sources.base import DirectoryScanned, FileEntry
from mediasync.sources.packed import PackedFiles
from mediasync.storage.database import Database
from services.transfer.diff import DirectoryDiff, diff_directory, name_of
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


def frame(number: int, moved: int) -> bytes:
    """What the agent sends of a directory, with the mtimes of its first `moved` files moved since."""
    files = [
        name_of(entry.path) + b"\0" + ENTRY.pack(entry.size_bytes, entry.mtime_ns + (index < moved), entry.ctime_ns, entry.inode)
        for index, entry in enumerate(entries(number))
    ]
    path = directory_name(number)
    head = struct.pack(">BH", 1, len(path)) + path + struct.pack(">QI", number, len(files))
    return head + b"".join(columns(files)) + struct.pack(">I", 0)


async def difference(store: ManifestStore, origin: Origin, payload: bytes) -> DirectoryDiff:
    """What a frame means."""
    record = scanned.scan_record(wire.Answer.DIRECTORY, payload)
    assert isinstance(record, DirectoryScanned)
    files = record.files
    if isinstance(files, PackedFiles) and await store.holds(origin, record.path, None, None, files):
        return DirectoryDiff([], [], [], files)
    rows = await store.states(origin, record.path, None, None, PAGE_ROWS)
    return diff_directory(record.path, files, rows, complete=True)


async def compare(store: ManifestStore, origin: Origin, directories: int, moved: int) -> tuple[float, float]:
    """Seconds that comparing takes, reading the records and the rows included: as they pass, and of processor time."""
    spent = busy = 0.0
    for first in range(0, directories, 10):
        payloads = [frame(number, moved) for number in range(first, first + 10)]
        started, used = time.perf_counter(), time.process_time()
        differences = [await difference(store, origin, payload) for payload in payloads]
        spent += time.perf_counter() - started
        busy += time.process_time() - used
        for found in differences:
            if (len(found.unchanged), len(found.doubtful)) != (FILES_A_DIRECTORY - moved, moved):
                raise SystemExit(f"{len(found.doubtful)} files of a folder have moved, not {moved}")
    return spent, busy


async def measure(rounds: int, work: Path) -> None:
    """Prints medians."""
    for directories in (10, 1000):
        path = work / f"{directories}.db"
        database = Database.open(f"sqlite:///{path}", MIGRATIONS)
        await asyncio.to_thread(fill, path, directories)
        store, origin = ManifestStore(database), Origin(1, "name:bench", "bench", None)  # type: ignore[arg-type] - not looked at
        for moved in (0, 1):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            results = [await compare(store, origin, directories, moved) for _ in range(rounds)]
            seconds = [spent for spent, _ in results]
            busy = statistics.median(used for _, used in results)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            median = statistics.median(seconds)
            what = f"{directories * FILES_A_DIRECTORY:>9,} files, {'one moved in every folder' if moved else 'unchanged'}"
            spread = f"{min(seconds) * 1e3:.1f}-{max(seconds) * 1e3:.1f}"
            print(f"{what}: median {median * 1e3:.1f} ms ({spread}), {busy * 1e3:.1f} ms of a core, {grown:.0f} MB more")
        await database.close()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"this process at its largest: {largest:.0f} MB; {os.cpu_count()} cores, load {load}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mediasync-bench-") as folder:
        asyncio.run(measure(options.rounds, Path(folder)))


if __name__ == "__main__":
    main()
