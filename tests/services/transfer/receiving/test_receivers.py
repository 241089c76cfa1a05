"""Receivers against a real OpenSSH server: processes with a connection each, that may die at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncOptions
from mediasync.sources.base import DirectoryScanned, ScanRequest
from mediasync.sources.factory import open_source
from mediasync.sources.selection import EVERYTHING
from services.transfer.bandwidth import Limits
from services.transfer.entities import StagedFile
from services.transfer.flow import WantedFlow
from services.transfer.pool import ConnectionPool
from services.transfer.pull import Pull
from services.transfer.receiving.frames import Open
from services.transfer.receiving.lanes import Lanes
from services.transfer.receiving.receiver import Receiver
from services.transfer.receiving.receivers import Receivers
from services.transfer.spool import WantedSpool
from services.transfer.staging import RESUMABLE_BYTES, Staging
from tests.fixtures.proxy import StartProxy
from tests.fixtures.ssh import SshServer

OLD_NS = 1_700_000_000_000_000_000


@dataclass
class ReceivingBench:
    """A source folder behind sshd, a staging folder, and what pulls from one into the other."""

    server: SshServer
    root: Path
    library: Path
    home: Path
    receivers: Receivers
    limits: Limits
    options: SyncOptions

    def write(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(OLD_NS, OLD_NS))
        return path

    def lanes(self, server: SshServer | None = None, options: SyncOptions | None = None) -> Lanes:
        spec = (server or self.server).spec(self.root)
        pool = ConnectionPool(open_source(spec, home=self.home), 3)
        return Lanes(spec, options or self.options, "sync_1", EVERYTHING, pool, self.limits, self.receivers)

    async def wanted(self, lanes: Lanes) -> WantedSpool:
        """Everything that is there."""
        spool = WantedSpool(self.home)
        async with lanes.pool.connection() as connection:
            async for record in connection.scan(ScanRequest()):
                if isinstance(record, DirectoryScanned):
                    for entry in record.files:
                        spool.add(entry)
        return spool

    async def pull(
        self,
        lanes: Lanes,
        wanted: WantedSpool | WantedFlow,
        on_staged: Callable[[StagedFile], None],
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Pulls, and hands over each file while it is in staging."""

        async def staged(file: StagedFile) -> None:
            on_staged(file)

        staging = Staging(os.fsencode(self.library))
        try:
            pull = Pull(
                lanes,
                staging,
                "forge",
                on_staged=staged,
                on_other=_unexpected,
                on_bytes=lambda wanted, count: on_bytes(count),
                on_stage=lambda text: None,
            )
            await pull.run(wanted if isinstance(wanted, WantedFlow) else WantedFlow.of(wanted, self.options))
        finally:
            if isinstance(wanted, WantedSpool):
                wanted.close()
            staging.close()
            await lanes.pool.close()


async def _unexpected(outcome: object) -> None:
    raise AssertionError(outcome)


@pytest_asyncio.fixture
async def bench(sshd: SshServer, tmp_path: Path) -> AsyncIterator[ReceivingBench]:
    root, library, home = tmp_path / "outputs", tmp_path / "library", tmp_path / "home"
    for folder in (root, library, home):
        folder.mkdir()
    receivers = Receivers(home)
    options = SyncOptions(settle_seconds=0, retry_delay_seconds=0.01, retry_attempts=3)
    yield ReceivingBench(sshd, root, library, home, receivers, Limits(), options)
    await receivers.close()
    assert not receivers.pids


class Taken:
    """What came, read as long as it is there."""

    def __init__(self) -> None:
        self.contents: dict[bytes, bytes] = {}

    def __call__(self, file: StagedFile) -> None:
        assert file.entry.path not in self.contents, "taken twice"
        self.contents[file.entry.path] = Path(os.fsdecode(file.staged_path)).read_bytes()


async def test_many_files_come_whole_over_several_processes(bench: ReceivingBench) -> None:
    contents = {f"folder-{number % 7}/{number:05}.bin".encode(): b"%d" % number * (number % 50) for number in range(1500)}
    for name, content in contents.items():
        bench.write(name.decode(), content)
    lanes = bench.lanes()
    taken = Taken()
    wanted = await bench.wanted(lanes)
    received = 0

    def count(size: int) -> None:
        nonlocal received
        received += size

    await bench.pull(lanes, wanted, taken, count)
    assert taken.contents == contents
    assert received == wanted.size_bytes
    assert len(bench.receivers.pids) == 2, "they are kept for the next pull"


async def test_a_small_pull_starts_no_process(bench: ReceivingBench) -> None:
    bench.write("a.bin", b"a")
    lanes = bench.lanes()
    taken = Taken()
    await bench.pull(lanes, await bench.wanted(lanes), taken)
    assert taken.contents == {b"a.bin": b"a"}
    assert not bench.receivers.pids


async def test_receivers_are_used_again_and_one_that_died_meanwhile_is_not(bench: ReceivingBench) -> None:
    for number in range(1200):
        bench.write(f"{number}.bin", b"x")
    lanes = bench.lanes()
    wanted = await bench.wanted(lanes)
    await bench.pull(lanes, wanted, Taken())
    first = set(bench.receivers.pids)
    os.kill(min(first), signal.SIGKILL)
    lanes = bench.lanes()
    taken = Taken()
    await bench.pull(lanes, await bench.wanted(lanes), taken)
    assert len(taken.contents) == 1200
    assert max(first) in bench.receivers.pids
    assert min(first) not in bench.receivers.pids


async def test_i5_receivers_that_are_killed_in_the_middle_lose_and_double_nothing(bench: ReceivingBench) -> None:
    noise = random.Random(5).randbytes(64 << 20)
    contents = {f"{number:03}.bin".encode(): noise[number << 18 : (number << 18) + (1 << 19)] for number in range(120)}
    for name, content in contents.items():
        bench.write(name.decode(), content)
    lanes = bench.lanes()
    taken = Taken()
    kills = 0

    def take(file: StagedFile) -> None:
        nonlocal kills
        taken(file)
        if len(taken.contents) in (3, 40, 80):
            for pid in bench.receivers.pids:
                os.kill(pid, signal.SIGKILL)
                kills += 1

    await bench.pull(lanes, await bench.wanted(lanes), take)
    assert taken.contents == contents
    assert kills >= 3


async def test_a_large_file_goes_on_where_a_cut_line_stopped_it(bench: ReceivingBench, start_proxy: StartProxy) -> None:
    size = 5 * RESUMABLE_BYTES
    content = random.Random(6).randbytes(size)
    bench.write("video.bin", content)
    proxy = await start_proxy(bench.server.port)
    lanes = bench.lanes(bench.server.through(proxy.port))
    wanted = await bench.wanted(lanes)
    taken = Taken()
    cuts = 0
    received = 0

    def count(size_bytes: int) -> None:
        nonlocal received, cuts
        received += size_bytes
        if received > (2 + cuts) * RESUMABLE_BYTES and cuts < 2:
            cuts += 1
            proxy.cut()

    await bench.pull(lanes, wanted, taken, count)
    assert taken.contents == {b"video.bin": content}
    assert cuts == 2
    assert proxy.bytes_to_client < size + 2 * RESUMABLE_BYTES, "most of what had come did not come again"


async def test_what_is_cancelled_ends_its_processes_at_once_and_keeps_only_beginnings_of_large_files(
    bench: ReceivingBench, start_proxy: StartProxy
) -> None:
    bench.write("video.bin", bytes(8 * RESUMABLE_BYTES))
    proxy = await start_proxy(bench.server.port)
    lanes = bench.lanes(bench.server.through(proxy.port))
    wanted = await bench.wanted(lanes)
    flowing = asyncio.Event()
    proxy.stall_after_bytes = 2 * RESUMABLE_BYTES
    task = asyncio.create_task(bench.pull(lanes, wanted, Taken(), lambda count: flowing.set()))
    await flowing.wait()
    await proxy.stalled.wait()
    pids = bench.receivers.pids
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert os.listdir(bench.library / ".mediasync" / "staging") == []
    assert len(os.listdir(bench.library / ".mediasync" / "partial")) <= 1


async def test_a_source_that_is_gone_for_good_fails_with_its_own_reason(bench: ReceivingBench, start_proxy: StartProxy) -> None:
    for number in range(1100):
        bench.write(f"{number}.bin", b"x")
    proxy = await start_proxy(bench.server.port)
    lanes = bench.lanes(bench.server.through(proxy.port))
    wanted = await bench.wanted(lanes)
    await proxy.close()
    with pytest.raises(MediasyncError, match="source was lost") as caught:
        await bench.pull(lanes, wanted, Taken())
    assert caught.value.reason is Reason.CONNECTION_LOST


async def test_a_library_whose_disk_is_full_ends_the_pull(bench: ReceivingBench, tiny_disk: Path) -> None:
    bench.write("video.bin", bytes(4 * RESUMABLE_BYTES + (1 << 20)))
    lanes = bench.lanes()
    bench.library = tiny_disk
    with pytest.raises(MediasyncError, match="no space left") as caught:
        await bench.pull(lanes, await bench.wanted(lanes), Taken())
    assert caught.value.reason is Reason.LIBRARY_NO_SPACE
    assert str(tiny_disk) in caught.value.message


async def test_warm_receivers_are_the_ones_that_are_used(bench: ReceivingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1100):
        bench.write(f"{number}.bin", b"x")
    started = 0
    start = Receiver.start

    async def counted(order: Open) -> Receiver:
        nonlocal started
        started += 1
        return await start(order)

    monkeypatch.setattr(Receiver, "start", counted)
    lanes = bench.lanes()
    lanes.warm()
    wanted = await bench.wanted(lanes)
    taken = Taken()
    await bench.pull(lanes, wanted, taken)
    assert len(taken.contents) == 1100
    assert started == bench.options.parallel_transfers, "none beside those that were begun ahead"


async def test_receivers_that_wait_for_a_scan_let_go_of_what_they_brought(bench: ReceivingBench) -> None:
    for number in range(6):
        (bench.root / f"{number}.txt").write_bytes(b"%d" % number * (8 << 20))
    lanes = bench.lanes()
    wanted = await bench.wanted(lanes)
    entries = list(wanted.entries())
    wanted.close()
    flow = WantedFlow(lanes.options)
    for entry in entries[:5]:
        assert flow.offer(entry)
    assert flow.begun
    staged: list[StagedFile] = []
    brought = asyncio.Event()

    def came(file: StagedFile) -> None:
        staged.append(file)
        flow.settled(1)
        if len(staged) == 5:
            brought.set()

    pulling = asyncio.create_task(bench.pull(lanes, flow, came))
    # The list is not complete, and still everything that was asked for is heard of.
    await asyncio.wait({pulling, asyncio.ensure_future(brought.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await flow.settle()
    assert not pulling.done()
    rest = WantedSpool(bench.home)
    rest.add(entries[5])
    flow.complete(rest)
    await pulling
    rest.close()
    assert sorted(file.entry.path for file in staged) == [b"%d.txt" % number for number in range(6)]
