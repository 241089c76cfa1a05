"""Random schedules of faults against the real worker, real receivers and a real OpenSSH server.

A schedule is drawn from its number alone: a tree, and a few attempts at syncing it, each with a fault of its own, with changes at the
source in between. After each attempt the invariants are checked from outside; after the last, which nothing disturbs, the library must be
what it would have been had nothing gone wrong. `SCHEDULES=5000` runs so many, `SCHEDULES=17:18` that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.schedules import checker
from tests.fixtures.proxy import ChaosProxy
from tests.fixtures.ssh import SshServer, start_sshd

IN_ONE_RUN = 5
NAMES = (b"a.txt", b"-rf", b"new\nline.txt", b"caf\xe9.txt", b"$(touch x).txt", b"a b.txt", b"..a", b"%41.txt", b"[x].txt", b"~a.txt")
FOLDERS = (b"", b"txt2img-images", b"txt2img-images/2026-11-21", b"-x/y..", b"\xff\xfe")
WORKER_POINTS = (
    "transfer.after_intent",
    "transfer.after_rename",
    "transfer.before_commit",
    "transfer.after_commit",
    "receiver.mid_file",
    "receiver.before_telling",
)
LARGE_BYTES = 9 << 20


def _numbers() -> range:
    said = os.environ.get("SCHEDULES", str(IN_ONE_RUN))
    first, colon, last = said.partition(":")
    return range(int(first), int(last)) if colon else range(int(first))


@dataclass
class Schedule:
    """One number's faults, and the source they happen to."""

    number: int
    folder: Path
    server: SshServer
    proxy: ChaosProxy
    draw: random.Random = field(init=False)
    contents: Any = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.number)
        # No two files ever have the same content, so that one that came twice is seen.
        self.contents = (b"%d %d " % (self.number, serial) for serial in itertools.count())
        for name in ("source", "library", "home", "outside"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "outside" / "sentinel").write_bytes(b"untouched")
        for _ in range(self.draw.randint(3, 25)):
            self.write(self.path())
        if self.draw.random() < 0.25:
            self.write(b"video.bin", LARGE_BYTES)

    def path(self) -> bytes:
        folder = self.draw.choice(FOLDERS)
        name = self.draw.choice(NAMES) if self.draw.random() < 0.4 else b"%05d.txt" % self.draw.randint(0, 99)
        # A leading dot marks what programs hide, which is no result.
        return (folder + b"/" if folder else b"") + name.lstrip(b".")

    def write(self, path: bytes, size: int = 0) -> None:
        content = next(self.contents)
        content += self.draw.randbytes(size or self.draw.choice((0, 10, 1000, 70_000, 400_000)))
        absolute = os.fsencode(self.folder / "source") + b"/" + path
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        # As generators do it: complete the moment it has its name.
        with open(absolute + b".tmp", "wb") as file:
            file.write(content)
        os.rename(absolute + b".tmp", absolute)

    def change_the_source(self) -> None:
        """A generator goes on, and people tidy up."""
        present = sorted(checker.files_below(self.folder / "source"))
        for _ in range(self.draw.randint(0, 4)):
            kind = self.draw.random()
            if kind < 0.5 or not present:
                self.write(self.path())
            elif kind < 0.8:
                self.write(self.draw.choice(present))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.fsencode(self.folder / "source") + b"/" + self.draw.choice(present))

    def wish(self, attempt: int) -> dict[str, Any]:
        """An attempt without a fault."""
        through = self.server.through(self.proxy.port)
        return {
            "home": str(self.folder / "home"),
            "port": self.proxy.port,
            "user": self.server.user,
            "identity_file": str(self.server.identity_file),
            "known_hosts": str(through.known_hosts),
            "root": str(self.folder / "source"),
            "library": str(self.folder / "library"),
            "sync_id": f"sync_{self.number}_{attempt}",
            "receivers": self.draw.random() < 0.6,
            "crash_at": "",
            "disk": None,
        }


class Worker:
    """The program that makes attempts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def attempt(self, wish: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        line = await self._process.stdout.readline()
        result: dict[str, Any] = json.loads(line)
        assert "bug" not in result, result["bug"]
        return result


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[Worker]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.schedules.worker_program", stdin=pipe, stdout=pipe, limit=1 << 20
    )
    yield Worker(process)
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    folder = tmp_path_factory.mktemp("sshd")
    started = start_sshd(folder, folder)
    yield started
    started.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(server: SshServer) -> AsyncIterator[ChaosProxy]:
    chaos = ChaosProxy(server.port)
    await chaos.start()
    yield chaos
    await chaos.close()


def _agents(server: SshServer) -> list[int]:
    """Processes below sshd that run our program."""
    parents = {server.pid}
    table = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                table.append((int(name), int(fields[1]), Path(f"/proc/{name}/cmdline").read_bytes()))
    for _ in range(8):
        parents |= {pid for pid, parent, _ in table if parent in parents}
    return [pid for pid, _, command in table if pid in parents and b"zlib.decompress" in command and b"for p in" not in command]


async def _kill_far_side(schedule: Schedule) -> None:
    await schedule.proxy.stalled.wait()
    for pid in _agents(schedule.server):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    schedule.proxy.resume()


async def _disturbed(schedule: Schedule, worker: Worker, attempt: int) -> dict[str, Any]:
    """An attempt with a fault."""
    draw, proxy = schedule.draw, schedule.proxy
    wish = schedule.wish(attempt)
    # Past the login and the program, which take some 6 kB; sometimes not.
    reached = proxy.bytes_to_client + draw.choice((1_000, 7_000, 9_000, 50_000, 300_000, 2_000_000))
    killer: asyncio.Task[None] | None = None
    kind = draw.choice(("kill", "kill", "cut", "cut", "far side", "full disk", "bad disk", "unmounted", "slow"))
    marker = schedule.folder / "library" / ".mediasync" / "library.json"
    unmounted = kind == "unmounted" and marker.exists()
    if kind == "kill":
        point = draw.choice(WORKER_POINTS)
        wish["crash_at"] = f"{point}:{draw.choice((1, 1, 2, 5))}"
    elif kind == "cut":
        proxy.cut_after_bytes = reached
    elif kind == "far side":
        proxy.stall_after_bytes = reached
        proxy.stalled.clear()
        killer = asyncio.create_task(_kill_far_side(schedule))
    elif kind in ("full disk", "bad disk"):
        wish["receivers"] = False  # the fault is in the worker's own process
        wish["disk"] = [
            draw.choice((0, 100, 50_000, 1_000_000)),
            draw.choice((errno.ENOSPC, errno.EDQUOT)) if kind == "full disk" else errno.EIO,
        ]
    elif kind == "slow":
        proxy.delay_seconds = 0.002
    if unmounted:
        marker.rename(schedule.folder / "marker")
    try:
        result = await worker.attempt(wish)
    finally:
        proxy.cut_after_bytes = proxy.stall_after_bytes = None
        proxy.delay_seconds = 0.0
        proxy.resume()
        if killer is not None:
            killer.cancel()
            await asyncio.wait({killer})
        if unmounted:
            (schedule.folder / "marker").rename(marker)
        for crashed in (schedule.folder / "home" / "run").glob("crashed.*"):
            crashed.unlink()
    if unmounted:
        assert result["reason"] == "LIBRARY_MARKER_MISSING", "I4"
    return result


@pytest.mark.needs_sshd
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", _numbers())
async def test_i1_i2_i4_i5_i7_whatever_goes_wrong_the_library_ends_as_if_nothing_had(
    worker: Worker, server: SshServer, proxy: ChaosProxy, tmp_path: Path, number: int
) -> None:
    schedule = Schedule(number, tmp_path / "schedule", server, proxy)
    library, database = schedule.folder / "library", schedule.folder / "home" / "transfer.db"
    before: checker.Files = {}
    attempts = schedule.draw.randint(1, 4)
    for attempt in range(attempts):
        await _disturbed(schedule, worker, attempt)
        if database.exists():
            checker.check_visible_files_are_on_record(library, database)
        now = checker.files_below(library)
        checker.check_nothing_was_replaced(before, now)
        before = now
        schedule.change_the_source()
    result = await worker.attempt(schedule.wish(attempts))
    assert result.get("failed") == 0, result
    assert result["unsettled"] == 0, result
    checker.check_nothing_was_replaced(before, checker.files_below(library))
    checker.check_end(schedule.folder / "source", library, database)
    assert sorted(path.name for path in schedule.folder.iterdir()) == ["home", "library", "outside", "source"], "I7"
    assert [path.read_bytes() for path in (schedule.folder / "outside").iterdir()] == [b"untouched"], "I7"
    shutil.rmtree(schedule.folder)
