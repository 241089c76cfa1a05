"""The Python client against a coordinator that does what the contract allows."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

import mediasync
from mediasync import Client, MediasyncError, SyncConfig
from mediasync.errors import Reason
from mediasync.following import Forward
from mediasync.model import (
    FolderProgress,
    HostKeyTrust,
    JobProgress,
    JobState,
    PreviewDecision,
    PreviewedFile,
    PreviewSummary,
    SourceOrigin,
    SourceSpec,
    SshConnection,
    SyncSpec,
)
from mediasync.v1 import types_pb2
from tests.fixtures.peer import FINGERPRINT, PeerServer


def spec(root: bytes = b"/ok", dest: str = "/media") -> SyncSpec:
    return SyncSpec(SourceSpec(SshConnection("forge.lan"), root), dest)


async def test_a_sync_is_started_followed_and_its_result_told(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        job = await client.start_sync(spec())
        assert (job.job_id, job.sync_id) == ("job_1", "sync_1")
        percents = [progress.percent async for progress in client.watch(job)]
        result = await job.result()
    assert percents == [50.0]
    assert result.state is JobState.COMPLETE
    assert result.summary.files_transferred == 3
    assert peer.peer.metadata["x-request-id"]


async def test_a_sync_config_is_understood(peer: PeerServer, tmp_path: Path) -> None:
    config = SyncConfig(
        source_type="forge", source_host="forge.lan", dest_path=str(tmp_path), folders=["txt2img-images"], parallel_transfers=5
    )
    async with Client(peer.address) as client:
        await client.start_sync(config)
    sent = peer.peer.requests[0].spec
    assert (sent.source.ssh.host, sent.source.type, sent.dest_path) == ("forge.lan", types_pb2.SOURCE_TYPE_FORGE, str(tmp_path))
    assert [folder.raw for folder in sent.folders] == [b"txt2img-images"]
    assert sent.options.parallel_transfers == 5


async def test_a_name_alone_leaves_everything_to_the_named_source(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        await client.add_source("forge", spec())
        job = await client.start_sync("forge")
        assert (await job.result()).spec.dest_path == "/media"
    assert not peer.peer.requests[0].spec.HasField("options")


async def test_i10_a_start_that_is_repeated_keeps_its_request_id(peer: PeerServer) -> None:
    peer.peer.unavailable = 2
    async with Client(peer.address) as client:
        await client.start_sync(spec())
        await client.start_sync(spec())
    first, second, third, other = (request.request_id for request in peer.peer.requests)
    assert first == second == third != other


async def test_i9_a_watch_that_is_cut_goes_on_after_its_token_and_never_back(peer: PeerServer) -> None:
    peer.peer.cuts = 3
    async with Client(peer.address) as client, asyncio.timeout(30):
        job = await client.start_sync(spec())
        seen = [progress async for progress in job.watch()]
        assert (await job.result()).state is JobState.COMPLETE
    assert peer.peer.tokens == ["", "2", "2", "2"]
    assert [progress.percent for progress in seen] == [50.0] * 4
    assert {progress.files_done for progress in seen} == {3}


async def test_i9_an_expired_token_is_dropped_for_a_new_snapshot(peer: PeerServer) -> None:
    peer.peer.cuts = 1
    peer.peer.expire_tokens = True
    async with Client(peer.address) as client, asyncio.timeout(30):
        job = await client.start_sync(spec())
        assert (await job.result()).state is JobState.COMPLETE
    assert peer.peer.tokens == ["", "2", ""]


async def test_i9_a_watch_survives_a_restart_of_the_coordinator(peer: PeerServer) -> None:
    async with Client(peer.address) as client, asyncio.timeout(60):
        job = await client.start_sync(spec(b"/hang"))
        result = asyncio.create_task(job.result())
        await peer.peer.watched.get()
        await peer.restart()
        await peer.peer.watched.get()
        await job.cancel()
        assert (await result).state is JobState.CANCELLED


async def test_a_coordinator_that_stays_away_is_given_up(peer: PeerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediasync.client.PATIENCE_SECONDS", 0.5)
    async with Client(peer.address) as client, asyncio.timeout(60):
        job = await client.start_sync(spec(b"/hang"))
        await peer.stop()
        with pytest.raises(MediasyncError) as caught:
            await job.result()
        assert caught.value.reason is Reason.SERVICES_UNREACHABLE
        with pytest.raises(MediasyncError):
            await client.get_job(job.job_id)


async def test_nobody_at_the_address_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediasync.client.CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:  # listens, and never answers
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MediasyncError, match=f"nobody answers at {address}") as caught:
            async with Client(address):
                raise AssertionError("there is nobody")
    assert caught.value.exit_code == 6
    assert "--coordinator" in caught.value.remedy


async def test_the_address_may_come_from_the_environment(peer: PeerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASYNC_COORDINATOR_ADDRESS", peer.address)
    async with Client() as client:
        assert client.address == peer.address


async def test_errors_keep_their_reason_and_every_wrong_field(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        with pytest.raises(MediasyncError) as caught:
            await client.start_sync(spec(dest="/refused"))
        assert caught.value.reason is Reason.INVALID_ARGUMENT
        assert [field.field for field in caught.value.fields] == ["spec.dest_path", "spec.folders"]
        with pytest.raises(MediasyncError) as caught:
            await client.attach("job_x")
        assert caught.value.reason is Reason.JOB_NOT_FOUND


async def test_jobs_are_listed_over_all_pages(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        handles = [await client.start_sync(spec()) for _ in range(5)]
        await handles[0].result()
        assert [job.job_id async for job in client.list_jobs()] == ["job_5", "job_4", "job_3", "job_2", "job_1"]
        assert [job.job_id async for job in client.list_jobs([JobState.COMPLETE])] == ["job_1"]


async def test_a_watch_of_an_ended_job_ends_at_once(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        job = await client.start_sync(spec())
        await job.result()
        assert [progress async for progress in job.watch()] == []
        assert [progress.percent async for progress in client.watch(job.sync_id)] == [50.0]
        assert (await job.result()).state is JobState.COMPLETE


async def test_sources_are_named_listed_tested_and_forgotten(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        added = await client.add_source("forge", spec())
        assert (added.origin, added.spec.dest_path) == (SourceOrigin.ADDED, "/media")
        await client.add_source("comfy", spec())
        assert [source.name async for source in client.list_sources()] == ["comfy", "forge"]
        assert (await client.get_source("forge")).spec.source.name == "forge"
        report = await client.test_source("forge", [b"a"])
        assert (report.files, report.folders) == (7, (b"a", b"b\n"))
        await client.remove_source("forge")
        with pytest.raises(MediasyncError, match="nearest"):
            await client.get_source("forge")


async def test_a_hosts_key_is_asked_for_and_trusted_by_its_fingerprint(peer: PeerServer) -> None:
    source = SourceSpec(SshConnection("forge.lan"), b"/x")
    async with Client(peer.address) as client:
        key = await client.host_key(source)
        assert (key.fingerprint, key.trust) == (FINGERPRINT, HostKeyTrust.UNKNOWN)
        assert await client.trust_host_key(source, key.fingerprint) == "/home/me/known_hosts"
        with pytest.raises(MediasyncError, match="another one"):
            await client.trust_host_key(source, "SHA256:other")


async def test_files_are_read_from_the_catalog(peer: PeerServer) -> None:
    peer.peer.files = 5
    async with Client(peer.address) as client:
        files = [file async for file in client.list_files(sync_id="sync_1", path_prefix=b"a/", source="forge")]
        assert [file.library_path for file in files] == [b"a/\xff%d.png" % number for number in range(5)]
        file = await client.get_file(b"a/\xff0.png")
        assert (file.sha256, file.width, file.metadata and file.metadata.seed) == ("ab" * 32, 1024, 0)
        with pytest.raises(MediasyncError) as caught:
            await client.get_file(b"b")
        assert caught.value.reason is Reason.FILE_NOT_FOUND


def test_i9_numbers_never_go_down_whatever_comes() -> None:
    forward = Forward()
    first = forward.step(JobProgress("s", percent=40, files_done=4, folders=(FolderProgress(b"a", 9, 4),)))
    assert first.files_done == 4
    second = forward.step(
        JobProgress("s", percent=10, files_done=1, files_total=9, folders=(FolderProgress(b"a", 9, 1), FolderProgress(b"b", 2, 1)))
    )
    assert (second.percent, second.files_done, second.files_total) == (40, 4, 9)
    assert [row.files_done for row in second.folders] == [4, 1]


def test_the_package_offers_its_names_without_loading_them() -> None:
    assert {"Client", "SyncConfig", "MediasyncError"} <= set(dir(mediasync))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = mediasync.Nothing


async def test_a_job_is_held_limited_and_tried_again(peer: PeerServer) -> None:
    async with Client(peer.address) as client:
        job = await client.start_sync(spec(b"/errors"))
        await job.pause()
        assert (await client.get_job(job.job_id)).state is JobState.PAUSED
        await job.resume()
        assert (await client.limit_job(job.job_id, 20.0)).limit_mbps == 20.0
        assert (await client.limit_job(job.job_id, None)).limit_mbps is None
        await job.result()
        again = await client.retry_job(job.sync_id)
        assert (await again.result()).retry_of == job.job_id
        with pytest.raises(MediasyncError) as caught:
            await job.pause()
    assert caught.value.reason is Reason.JOB_ENDED


async def test_a_preview_tells_of_each_file_and_starts_nothing(peer: PeerServer) -> None:
    peer.peer.previewed = [[PreviewedFile(b"a\xff.png", 5, PreviewDecision.TAKE, "new")]]
    async with Client(peer.address) as client:
        found = [item async for item in client.preview_sync(spec())]
    assert found[0] == PreviewedFile(b"a\xff.png", 5, PreviewDecision.TAKE, "new")
    assert isinstance(found[1], PreviewSummary)
    assert (found[1].files_to_take, peer.peer.jobs) == (1, {})
