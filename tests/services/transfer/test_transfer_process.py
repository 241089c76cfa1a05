"""The transfer worker as a process, asked over the wire as the coordinator asks it, with a real sshd as its source."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from mediasync import convert
from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncOptions
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import transfer_pb2_grpc
from tests.fixtures.ingest import BOUND_SECONDS, StartProcess
from tests.fixtures.ssh import SshServer

pytestmark = pytest.mark.needs_sshd


@dataclass
class Asked:
    """A worker, a source with three files in two folders, and an empty library."""

    stub: transfer_pb2_grpc.TransferStub
    sshd: SshServer
    library: Path

    def request(self, folder: bytes = b"") -> pb.SyncFolderRequest:
        return pb.SyncFolderRequest(
            sync_id="sync_20261121_101112_00000001",
            source=convert.source_to_pb(self.sshd.spec()),
            dest_path=str(self.library),
            folder=convert.file_path(folder),
            options=convert.options_to_pb(SyncOptions()),
        )

    async def sync(self, folder: bytes = b"") -> list[pb.SyncFolderResponse]:
        return [response async for response in self.stub.SyncFolder(self.request(folder), timeout=BOUND_SECONDS)]


@pytest_asyncio.fixture
async def asked(tmp_path: Path, sshd: SshServer, start_process: StartProcess) -> AsyncIterator[Asked]:
    for name in ("a/1.txt", "a/2.txt", "b/3.txt"):
        path = sshd.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        os.utime(path, (1_790_000_000, 1_790_000_000))
    library = tmp_path / "library"
    library.mkdir()
    process = await start_process("services.transfer", tmp_path / "home")
    channel: grpc.aio.Channel = open_channel(process.addresses[0])
    yield Asked(transfer_pb2_grpc.TransferStub(channel), sshd, library)
    await channel.close()
    assert await process.stop() == 0


async def test_a_scan_counts_what_a_sync_would_take_and_takes_nothing(asked: Asked) -> None:
    request = pb.ScanFolderRequest(source=asked.request().source, dest_path=str(asked.library), options=asked.request().options)
    before = await asked.stub.ScanFolder(request, timeout=BOUND_SECONDS)
    assert (before.files_to_take, before.bytes_to_take, before.files_unchanged) == (3, 21, 0)
    assert [path.name for path in asked.library.iterdir()] == [".mediasync"]
    await asked.sync()
    after = await asked.stub.ScanFolder(request, timeout=BOUND_SECONDS)
    assert (after.files_to_take, after.files_unchanged) == (0, 3)


async def test_a_sync_says_what_it_found_and_ends_with_what_it_did(asked: Asked) -> None:
    responses = await asked.sync(b"a")
    assert [response.WhichOneof("event") for response in responses if not response.HasField("heartbeat")] == ["scanned", "done"]
    assert responses[-1].done.summary.files_transferred == 2
    landed = await asked.stub.CountLanded(pb.CountLandedRequest(sync_id=asked.request().sync_id), timeout=BOUND_SECONDS)
    assert landed.files == 2


async def test_a_probe_finds_folders_and_checks_the_library_first(asked: Asked) -> None:
    source = asked.request().source
    probed = await asked.stub.ProbeSource(pb.ProbeSourceRequest(source=source, count_files=True), timeout=BOUND_SECONDS)
    assert [unit.raw for unit in probed.units] == [b""]
    assert ([folder.raw for folder in probed.report.folders], probed.report.files) == ([b"a", b"b"], 3)
    with pytest.raises(MediasyncError) as caught, rpc_errors("the transfer worker"):
        await asked.stub.ProbeSource(pb.ProbeSourceRequest(source=source, dest_path=str(asked.library / "no")), timeout=BOUND_SECONDS)
    assert caught.value.reason is Reason.LIBRARY_MISSING


async def test_a_host_key_is_read_and_accepted_by_its_fingerprint(asked: Asked) -> None:
    source = asked.request().source
    key = (await asked.stub.ReadHostKey(pb.ReadHostKeyRequest(source=source), timeout=BOUND_SECONDS)).host_key
    assert key.fingerprint == asked.sshd.host_key.get_fingerprint()
    request = pb.AcceptHostKeyRequest(source=source, fingerprint=key.fingerprint)
    accepted = await asked.stub.AcceptHostKey(request, timeout=BOUND_SECONDS)
    assert accepted.known_hosts_file == str(asked.sshd.known_hosts)
