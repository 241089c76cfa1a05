"""Watching: what comes is taken as it comes, and nothing is believed for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.agent.connection import AgentConnection
from mediasync.sources.base import FileEntry, ScanRequest
from mediasync.sources.factory import open_source
from mediasync.storage.database import Database
from services.transfer import watching
from services.transfer.schema import MIGRATIONS
from services.transfer.taking import Unfinished
from services.transfer.watching import Activity, next_look
from services.transfer.worker import TransferWorker
from tests.fixtures.sources import PNG
from tests.fixtures.ssh import SshServer
from tests.fixtures.transfer_worker import ChildSource, WorkerBench

_BOUND_SECONDS = 30.0


@dataclass
class Watch:
    """A watch under way, and what it said."""

    bench: WorkerBench
    task: asyncio.Task[object] | None = None
    activities: list[Activity] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def said(self, activity: Activity) -> None:
        self.activities.append(activity)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition on what the watch says and brings. Every file and every word wakes it."""
        assert self.task is not None
        async with asyncio.timeout(_BOUND_SECONDS):
            while not condition():
                self.changed.clear()
                waiting = asyncio.ensure_future(self.changed.wait())
                done, _ = await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self.task in done:
                    self.task.result()

    async def until_brought(self, **files: bytes) -> None:
        """Waits until the library holds these contents under these names (with `.png`)."""
        wanted = {os.fsencode(name) + b".png": content for name, content in files.items()}
        await self.until(lambda: all(self.bench.visible().get(path) == content for path, content in wanted.items()))

    async def until_watching(self) -> None:
        await self.until(lambda: bool(self.activities) and self.activities[-1].text == "watching")


@asynccontextmanager
async def watch(bench: WorkerBench) -> AsyncIterator[Watch]:
    """A watch of the bench's source that is under way."""
    found = Watch(bench)
    spec = bench.sync_spec(replace(bench.options, watch=True))
    found.task = asyncio.create_task(
        bench.worker.sync_folder("sync_1", spec, b"", lambda tally: found.changed.set(), lambda files, size: None, found.said)
    )
    try:
        await found.until_watching()
        yield found
    finally:
        found.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await found.task


@pytest.fixture(params=["told", "asked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The far side tells what moved, or has to be asked."""
    if request.param == "asked":

        async def cannot(self: AgentConnection, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
            raise MediasyncError(Reason.ENGINE_CANNOT, "no watching here")
            yield

        monkeypatch.setattr(AgentConnection, "watch", cannot)
    return str(request.param)


async def test_what_is_written_and_what_was_there_is_brought(worker_bench: WorkerBench, way: str) -> None:
    worker_bench.write("before.png", PNG)
    async with watch(worker_bench) as found:
        assert set(worker_bench.visible()) == {b"before.png"}
        worker_bench.write("after.png", PNG)
        await found.until_brought(after=PNG)
        worker_bench.write("new/folder/deep.png", PNG)
        await found.until(lambda: b"new/folder/deep.png" in worker_bench.visible())
        worker_bench.write("new/folder/again.png", PNG)
        await found.until(lambda: b"new/folder/again.png" in worker_bench.visible())


async def test_a_picture_is_taken_when_its_last_byte_is_there_although_its_folder_does_not_move(
    worker_bench: WorkerBench, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_bench.options = replace(worker_bench.options, settle_seconds=2.0)
    looked: list[bytes] = []
    async with watch(worker_bench) as found:

        def look(*arguments: Any) -> Any:
            looked.append(arguments[1].entry.path)
            found.changed.set()
            return next_look(*arguments)

        monkeypatch.setattr(watching, "next_look", look)
        with (worker_bench.source_root / "slow.png").open("wb") as file:
            file.write(PNG[:10])
            file.flush()
            await found.until(lambda: len(looked) >= 2)
            file.write(PNG[10:40])
            file.flush()
            seen = len(looked)
            await found.until(lambda: len(looked) >= seen + 2)
            file.write(PNG[40:])
            file.flush()
            # The writer has not closed it: nothing but another look can tell.
            await found.until_brought(slow=PNG)


async def test_a_rename_into_place_and_a_deletion_are_seen(worker_bench: WorkerBench) -> None:
    worker_bench.write("old.png", PNG)
    async with watch(worker_bench) as found:
        half = worker_bench.write("new.png.tmp", PNG)
        half.rename(worker_bench.source_root / "new.png")
        await found.until_brought(new=PNG)
        (worker_bench.source_root / "old.png").unlink()
        worker_bench.write("old.png", PNG + PNG)
        await found.until(lambda: PNG + PNG in worker_bench.visible().values())


async def test_a_change_in_place_is_found_by_the_exact_scan(worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    file = worker_bench.write("a.txt", b"old")
    monkeypatch.setattr(watching, "EXACT_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(watching, "_SHARE", 1)
    async with watch(worker_bench) as found:
        before = file.stat()
        file.write_bytes(b"new")
        os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
        await found.until(lambda: b"new" in worker_bench.visible().values())
        assert worker_bench.visible()[b"a.txt"] == b"old"


async def test_a_source_that_goes_away_and_comes_back_is_watched_again(worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(watching, "_LONGEST_RETRY_SECONDS", 0.05)
    async with watch(worker_bench) as found:
        source = next(iter(worker_bench.sources.values()))
        source.gone = True
        source.kill()
        await found.until(lambda: found.activities[-1].gone_since > 0)
        assert "gone" in found.activities[-1].text
        assert found.activities[-1].next_try > found.activities[-1].gone_since
        worker_bench.write("meanwhile.png", PNG)
        source.gone = False
        await found.until_brought(meanwhile=PNG)
        await found.until_watching()
        assert found.activities[-1].gone_since == 0
        worker_bench.write("afterwards.png", PNG)
        await found.until_brought(afterwards=PNG)


async def test_a_source_that_was_never_there_fails_the_watch(worker_bench: WorkerBench) -> None:
    with pytest.raises(MediasyncError) as caught:
        worker_bench.sources[worker_bench.spec] = source = ChildSource(worker_bench.spec.root)
        source.gone = True
        async with watch(worker_bench):
            raise AssertionError("there is nothing to watch")
    assert caught.value.reason in (Reason.HOST_UNREACHABLE, Reason.CONNECTION_LOST)


async def test_i4_a_library_that_is_unmounted_ends_the_watch(worker_bench: WorkerBench) -> None:
    with pytest.raises(MediasyncError) as caught:
        async with watch(worker_bench) as found:
            (worker_bench.library_root / ".mediasync" / "library.json").unlink()
            worker_bench.write("a.png", PNG)
            await found.until(lambda: False)
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISSING
    assert worker_bench.visible() == {}


async def test_an_explicit_sync_of_the_same_folder_is_not_held_up_by_a_watch(worker_bench: WorkerBench) -> None:
    async with watch(worker_bench):
        worker_bench.write("a.txt")
        async with asyncio.timeout(_BOUND_SECONDS):
            await worker_bench.sync("sync_2")
        assert set(worker_bench.visible()) == {b"a.txt"}


async def test_the_library_is_not_held_open_while_nothing_moves(worker_bench: WorkerBench) -> None:
    async with watch(worker_bench):
        assert worker_bench.staged() == []
        links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
        held = [os.readlink(link) for link in links if os.path.exists(link)]
        assert not [path for path in held if path.startswith(str(worker_bench.library_root))]


def _found(size: int, seen: float) -> Unfinished:
    return Unfinished(FileEntry(b"a", size, 0, 0, 0), seen)


def test_a_file_that_grows_is_looked_at_often_and_one_that_stands_still_more_and_more_rarely() -> None:
    look = next_look(None, _found(1, 100.0), 2.0)
    assert look.due == pytest.approx(100.05)
    for size in range(2, 10):
        look = next_look(look, _found(size, look.due), 2.0)
    assert look.delay == 0.4
    still = look.entry.size_bytes
    waits = []
    for _ in range(14):
        seen = look.due
        look = next_look(look, _found(still, seen), 2.0)
        waits.append(look.due - seen)
    assert max(waits) == 60.0
    assert waits[-1] == 60.0


def test_a_file_is_looked_at_when_it_counts_as_settled() -> None:
    look = next_look(None, _found(1, 100.0), 2.0)
    seen = []
    while look.due < 103:
        seen.append(look.due)
        look = next_look(look, _found(1, look.due), 2.0)
    assert any(102.0 < moment < 102.1 for moment in seen)


@pytest_asyncio.fixture
async def ssh_bench(sshd: SshServer, tmp_path: Path) -> AsyncIterator[WorkerBench]:
    """A worker whose source is behind a real SSH server."""
    for name in ("library", "home"):
        (tmp_path / name).mkdir()
    database = Database.open(f"sqlite:///{tmp_path}/home/transfer.db", MIGRATIONS)
    worker = TransferWorker(database, tmp_path / "home", partial(open_source, home=tmp_path / "home"))
    bench = WorkerBench(sshd.root, tmp_path / "library", worker, database, {})
    yield bench
    await worker.close()
    await database.close()


async def test_a_picture_comes_over_a_real_ssh_server_as_it_is_written(
    ssh_bench: WorkerBench, sshd: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerBench, "spec", sshd.spec())
    async with watch(ssh_bench) as found:
        for number in range(3):
            ssh_bench.write(f"{number}.png", PNG)
            await found.until_brought(**{str(number): PNG})
