"""Named sources, those of the configuration file among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mediasync.convert import file_path
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import coordinator_pb2 as pb
from mediasync.v1 import types_pb2
from tests.fixtures.coordinator import BOUND_SECONDS, CoordinatorClient, Peers, sync_spec

CONFIGURATION = """
sources:
  comfy:
    type: comfyui
    host: comfy.lan
    destination: /media/comfy
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A configuration file with one source, where the coordinator looks for it."""
    file = tmp_path / "config" / "mediasync" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIGURATION)
    return file


async def create(client: CoordinatorClient, name: str, spec: types_pb2.SyncSpec | None = None, request_id: str = "") -> pb.Source:
    request = pb.CreateSourceRequest(request_id=request_id or f"create-{name}", source=pb.Source(name=name, spec=spec or sync_spec()))
    return (await client.stub.CreateSource(request, timeout=BOUND_SECONDS)).source


async def get(client: CoordinatorClient, name: str) -> pb.Source:
    return (await client.stub.GetSource(pb.GetSourceRequest(name=name), timeout=BOUND_SECONDS)).source


async def delete(client: CoordinatorClient, name: str, request_id: str) -> None:
    await client.stub.DeleteSource(pb.DeleteSourceRequest(request_id=request_id, name=name), timeout=BOUND_SECONDS)


async def names(client: CoordinatorClient, **fields: Any) -> tuple[list[str], str]:
    page = await client.stub.ListSources(pb.ListSourcesRequest(**fields), timeout=BOUND_SECONDS)
    return [source.name for source in page.sources], page.next_page_token


async def refused(call: Any) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the coordinator"):
        await call
    return caught.value


async def test_a_source_is_named_found_and_forgotten(coordinator: CoordinatorClient) -> None:
    made = await create(coordinator, "forge", sync_spec(b"txt2img-images"))
    assert (made.name, made.spec.source.name, made.origin) == ("forge", "forge", pb.SOURCE_ORIGIN_ADDED)
    assert made.HasField("create_time")
    assert await get(coordinator, "forge") == made
    await delete(coordinator, "forge", "d1")
    assert (await refused(get(coordinator, "forge"))).reason is Reason.SOURCE_NOT_FOUND


async def test_i10_a_repeated_creation_and_a_repeated_deletion_have_one_effect(coordinator: CoordinatorClient) -> None:
    made = await create(coordinator, "forge", request_id="c1")
    assert await create(coordinator, "forge", request_id="c1") == made
    assert (await refused(create(coordinator, "forge", request_id="c2"))).reason is Reason.SOURCE_EXISTS
    assert (await refused(create(coordinator, "forge", sync_spec(b"x"), "c1"))).reason is Reason.REQUEST_ID_REUSED
    await delete(coordinator, "forge", "d1")
    await delete(coordinator, "forge", "d1")
    assert (await refused(delete(coordinator, "forge", "d2"))).reason is Reason.SOURCE_NOT_FOUND
    assert await create(coordinator, "forge", request_id="c1") == made


async def test_an_unknown_source_names_the_nearest(coordinator: CoordinatorClient) -> None:
    error = await refused(get(coordinator, "forge"))
    assert error.message == "there is no source 'forge'; none has been named yet"
    await create(coordinator, "my-forge")
    await create(coordinator, "comfy")
    error = await refused(get(coordinator, "My-Frge"))
    assert error.message == "there is no source 'My-Frge'; the nearest is 'my-forge'"
    assert error.metadata["nearest"] == "my-forge"
    assert (await refused(get(coordinator, "zzz"))).message == "there is no source 'zzz'"


async def test_what_is_wrong_with_a_new_source_is_named_at_once(coordinator: CoordinatorClient) -> None:
    error = await refused(create(coordinator, "a b", sync_spec(name="other", host="", dest_path="x")))
    assert [violation.field for violation in error.fields] == [
        "source.name",
        "source.spec.source.ssh.host",
        "source.spec.dest_path",
        "source.spec.source.name",
    ]


async def test_sources_are_listed_by_name_in_pages(coordinator: CoordinatorClient, configuration: Path) -> None:
    for name in ("b", "a", "d"):
        await create(coordinator, name)
    first, token = await names(coordinator, page_size=2)
    second, end = await names(coordinator, page_size=2, page_token=token)
    assert (first, second, end) == (["a", "b"], ["comfy", "d"], "")


async def test_a_source_of_the_configuration_is_read_only(coordinator: CoordinatorClient, configuration: Path) -> None:
    found = await get(coordinator, "comfy")
    assert (found.origin, found.spec.source.ssh.host, found.spec.dest_path) == (
        pb.SOURCE_ORIGIN_CONFIGURATION,
        "comfy.lan",
        "/media/comfy",
    )
    assert found.spec.source.name == "comfy"
    assert not found.HasField("create_time")
    assert (await refused(delete(coordinator, "comfy", "d1"))).reason is Reason.SOURCE_IN_CONFIGURATION
    error = await refused(create(coordinator, "comfy"))
    assert error.reason is Reason.SOURCE_EXISTS
    assert "configuration file" in error.message


async def test_a_change_of_the_configuration_needs_no_restart(coordinator: CoordinatorClient, configuration: Path) -> None:
    await get(coordinator, "comfy")
    configuration.write_text(CONFIGURATION.replace("comfy:", "other:", 1))
    assert await names(coordinator) == (["other"], "")


async def test_a_broken_configuration_is_said_with_its_line(coordinator: CoordinatorClient, configuration: Path) -> None:
    configuration.write_text("sources: {comfy: {hots: x}}")
    error = await refused(names(coordinator))
    assert error.reason is Reason.CONFIGURATION_INVALID
    assert "hots" in error.message


async def test_a_sync_by_name_takes_what_the_source_says_unless_it_says_otherwise(
    coordinator: CoordinatorClient, configuration: Path, peers: Peers
) -> None:
    by_name = types_pb2.SyncSpec(source=types_pb2.SourceSpec(name="comfy"))
    job = await coordinator.start(by_name)
    assert (job.spec.source.ssh.host, job.spec.dest_path, job.spec.options.parallel_transfers) == ("comfy.lan", "/media/comfy", 3)
    by_name.dest_path = "/elsewhere"
    by_name.options.parallel_transfers = 2
    by_name.folders.append(file_path(b"video"))
    other = await coordinator.start(by_name)
    assert (other.spec.dest_path, other.spec.options.parallel_transfers, other.spec.folders[0].raw) == ("/elsewhere", 2, b"video")
    for started in (job, other):
        await coordinator.finished(started.job_id)
    nobody = types_pb2.SyncSpec(source=types_pb2.SourceSpec(name="comfi"))
    assert (await refused(coordinator.start(nobody))).metadata["nearest"] == "comfy"


async def test_a_source_is_tested_by_the_worker(coordinator: CoordinatorClient, configuration: Path, peers: Peers) -> None:
    request = pb.TestSourceRequest(source=types_pb2.SourceSpec(name="comfy"), folders=[file_path(b"video")])
    report = (await coordinator.stub.TestSource(request, timeout=BOUND_SECONDS)).report
    assert (report.engine, report.files) == ("agent", 7)
    [asked] = peers.transfer.requests
    # The library is only looked at, and what the name says of the rest counts.
    assert (asked.source.ssh.host, asked.count_files, asked.survey, asked.dest_path) == ("comfy.lan", True, True, "/media/comfy")
    assert asked.folders[0].raw == b"video"
    peers.transfer.failures[b"probe"] = [MediasyncError(Reason.HOST_NOT_FOUND, "no such host")]
    assert (await refused(coordinator.stub.TestSource(request, timeout=BOUND_SECONDS))).reason is Reason.HOST_NOT_FOUND
    wrong = pb.TestSourceRequest(source=types_pb2.SourceSpec(), folders=[file_path(b"..")])
    error = await refused(coordinator.stub.TestSource(wrong, timeout=BOUND_SECONDS))
    assert [violation.field for violation in error.fields] == ["source.ssh.host", "folders[0]"]


async def test_a_host_key_is_shown_and_trusted_by_the_worker_once(coordinator: CoordinatorClient, peers: Peers) -> None:
    source = sync_spec().source
    key = (await coordinator.stub.GetHostKey(pb.GetHostKeyRequest(source=source), timeout=BOUND_SECONDS)).host_key
    assert (key.host, key.fingerprint) == ("forge.lan", "SHA256:abc")
    request = pb.TrustHostKeyRequest(request_id="t1", source=source, fingerprint=key.fingerprint)
    for _ in range(2):
        answer = await coordinator.stub.TrustHostKey(request, timeout=BOUND_SECONDS)
        assert answer.known_hosts_file == "/home/ann/known_hosts"
    assert peers.transfer.trusted == ["SHA256:abc"]
    wrong = pb.TrustHostKeyRequest(request_id="t2", source=source, fingerprint="SHA256:xyz")
    error = await refused(coordinator.stub.TrustHostKey(wrong, timeout=BOUND_SECONDS))
    assert (error.reason, error.metadata["fingerprint"]) == (Reason.HOST_KEY_CHANGED, "SHA256:abc")
    empty = pb.TrustHostKeyRequest(source=source)
    error = await refused(coordinator.stub.TrustHostKey(empty, timeout=BOUND_SECONDS))
    assert [violation.field for violation in error.fields] == ["request_id", "fingerprint"]
