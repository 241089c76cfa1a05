"""Reading the catalog: pages, filters, one file; and what its columns hold."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from mediasync.convert import file_path, to_unix_ns
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import catalog_pb2, types_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestStub
from tests.fixtures.ingest import BOUND_SECONDS, LIBRARY, START_NS, Ingest, file_event


async def publish(ingest: Ingest, *events: pb.Event) -> None:
    await ingest.delivered(max(await ingest.publish(events)))


async def listed(ingest: Ingest, **fields: Any) -> list[bytes]:
    """Paths of all pages."""
    request = catalog_pb2.CatalogListRequest(**fields)
    paths: list[bytes] = []
    while True:
        response = await ingest.catalog.List(request, timeout=BOUND_SECONDS)
        paths += [found.file.library_path.raw for found in response.files]
        if not response.next_page_token:
            return paths
        assert response.files
        request.page_token = response.next_page_token


async def get(ingest: Ingest, path: bytes, root: str = "") -> catalog_pb2.CatalogFile:
    with rpc_errors("the catalog"):
        request = catalog_pb2.CatalogGetRequest(library_path=path, library_root=root)
        return (await ingest.catalog.Get(request, timeout=BOUND_SECONDS)).file


RICH = pb.GenerationMetadata(
    generator="ComfyUI",
    prompt="a \0 cat",
    negative_prompt="dogs",
    model="flux.safetensors",
    seed=2**64 - 1,
    sampler="euler",
    steps=20,
    cfg_scale=float("nan"),
    fields=[pb.MetadataField(name="Lora hashes", value="x: y")],
    prompt_json=b'{"is_changed": [NaN]}',
    workflow_json=b'{"text": "\\u0000\\ud800"}',
)


async def test_a_file_comes_back_complete_and_lists_leave_out_what_is_bulky(ingest: Ingest) -> None:
    synced = file_event(b"txt2img-images/a.png")
    processed = file_event(b"txt2img-images/a.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=RICH)
    await publish(ingest, synced, processed)
    found = await get(ingest, b"txt2img-images/a.png", LIBRARY)
    # As bytes: a message with NaN in it is not equal to itself.
    assert found.file.SerializeToString(deterministic=True) == processed.file.SerializeToString(deterministic=True)
    assert (found.sync_id, found.source, found.processed) == (synced.sync_id, "forge", True)
    assert to_unix_ns(found.sync_time) == START_NS
    assert not found.HasField("source_delete_time")

    (light,) = (await ingest.catalog.List(catalog_pb2.CatalogListRequest(), timeout=BOUND_SECONDS)).files
    assert (light.file.metadata.prompt, light.file.metadata.seed) == ("a \0 cat", 2**64 - 1)
    assert not (light.file.metadata.fields or light.file.metadata.prompt_json or light.file.metadata.workflow_json)

    await publish(ingest, file_event(b"txt2img-images/a.png", pb.EVENT_TYPE_FILE_DELETED, second=5))
    found = await get(ingest, b"txt2img-images/a.png")
    assert found.file.metadata.workflow_json == RICH.workflow_json
    assert to_unix_ns(found.source_delete_time) == START_NS + 5_000_000_000


async def test_other_programs_find_the_columns_they_want(ingest: Ingest) -> None:
    await publish(ingest, file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=RICH, content=b"12345"))
    with sqlite3.connect(f"file:{ingest.home.path}/catalog.db?mode=ro", uri=True) as connection:
        row = connection.execute(
            "SELECT prompt, negative_prompt, model, seed, sampler, steps, cfg_scale, size_bytes, hex(sha256), library_root FROM files"
        ).fetchone()
    connection.close()
    digest = "5994471ABB01112AFCC18159F6CC74B4F511B99806DA59B3CAF5A9C173CACFC5"
    assert row == ("a \0 cat", "dogs", "flux.safetensors", "18446744073709551615", "euler", 20, None, 5, digest, LIBRARY)


async def test_files_are_listed_newest_first_and_ties_by_arrival(ingest: Ingest) -> None:
    events = [file_event(f"{number}.png".encode(), second=second) for number, second in enumerate((5, 9, 5, 5, 1))]
    await publish(ingest, *events)
    expected = [b"1.png", b"3.png", b"2.png", b"0.png", b"4.png"]
    assert await listed(ingest) == expected
    for size in (1, 2, 4, 5, 6):
        assert await listed(ingest, page_size=size) == expected


async def test_a_page_token_still_fits_when_files_come_in_between(ingest: Ingest) -> None:
    await publish(ingest, *(file_event(f"{number}.png".encode(), second=number) for number in range(4)))
    first = await ingest.catalog.List(catalog_pb2.CatalogListRequest(page_size=2), timeout=BOUND_SECONDS)
    await publish(ingest, file_event(b"new.png", second=9))
    assert await listed(ingest, page_size=2, page_token=first.next_page_token) == [b"1.png", b"0.png"]


async def test_files_are_filtered_by_sync_source_and_path(ingest: Ingest) -> None:
    await publish(
        ingest,
        file_event(b"txt2img-images/a.png", sync_id="sync_1", second=4),
        file_event(b"txt2img-images-old/b.png", sync_id="sync_1", source="nas", second=3),
        file_event(b"\xff\xff/c.png", sync_id="sync_2", second=2),
        file_event(b"\xff/d_100%.png", sync_id="sync_2", second=1),
    )
    assert await listed(ingest, sync_id="sync_1") == [b"txt2img-images/a.png", b"txt2img-images-old/b.png"]
    assert await listed(ingest, source="nas") == [b"txt2img-images-old/b.png"]
    assert await listed(ingest, path_prefix=b"txt2img-images/") == [b"txt2img-images/a.png"]
    assert await listed(ingest, path_prefix=b"\xff") == [b"\xff\xff/c.png", b"\xff/d_100%.png"]
    assert await listed(ingest, path_prefix=b"\xff/d_") == [b"\xff/d_100%.png"]
    assert await listed(ingest, sync_id="sync_2", path_prefix=b"txt2img") == []


async def test_a_page_of_large_records_is_shorter_and_loses_nothing(ingest: Ingest) -> None:
    prompt = "cat " * (1 << 19)
    for number in range(4):
        metadata = pb.GenerationMetadata(prompt=prompt)
        await publish(ingest, file_event(f"{number}.png".encode(), pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata, second=number))
    first = await ingest.catalog.List(catalog_pb2.CatalogListRequest(), timeout=BOUND_SECONDS)
    assert 0 < len(first.files) < 4
    assert await listed(ingest) == [b"3.png", b"2.png", b"1.png", b"0.png"]


async def test_one_path_in_two_libraries_is_two_files(ingest: Ingest) -> None:
    here, there = file_event(b"a.png", second=1), file_event(b"a.png", content=b"another", second=2)
    there.file.library_root = "/mnt/nas"
    await publish(ingest, here, there)
    assert (await get(ingest, b"a.png", LIBRARY)).file.library_root == LIBRARY
    assert (await get(ingest, b"a.png")).file.library_root == "/mnt/nas"


async def test_times_that_no_clock_shows_do_no_harm(ingest: Ingest) -> None:
    event = file_event(b"a.png")
    event.file.modify_time.seconds = 253402300799
    event.time.seconds = -(2**62)
    await publish(ingest, event)
    assert (await get(ingest, b"a.png")).file.modify_time.seconds == 253402300799


async def test_a_file_that_is_not_there_is_not_found(ingest: Ingest) -> None:
    with pytest.raises(MediasyncError, match=r"no file a\\n.png in /media/library") as caught:
        await get(ingest, b"a\n.png", LIBRARY)
    assert caught.value.reason is Reason.FILE_NOT_FOUND


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_token": "nonsense"}, {"page_token": "WyJhIiwgMV0="}])
async def test_a_page_that_cannot_be_is_refused_by_the_catalog(ingest: Ingest, fields: dict[str, Any]) -> None:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the catalog"):
        await ingest.catalog.List(catalog_pb2.CatalogListRequest(**fields), timeout=BOUND_SECONDS)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def ask(ingest: Ingest, name: str, request: Any) -> Any:
    return await getattr(MediaIngestStub(ingest.channels[1]), name)(request, timeout=BOUND_SECONDS)


async def test_what_can_never_be_taken_is_rejected_with_a_reason_and_the_rest_is_taken(ingest: Ingest) -> None:
    nameless, outside, unfiled = file_event(b"a.png"), file_event(b"b.png"), file_event(b"c.png")
    nameless.event_id = ""
    outside.file.library_path.raw = b"../b.png"
    unfiled.ClearField("file")
    events = [nameless, outside, unfiled, file_event(b"d.png")]
    results = (await ask(ingest, "OnBatchSynced", pb.OnBatchSyncedRequest(events=events))).results
    assert [result.verdict for result in results] == [pb.EVENT_VERDICT_REJECTED] * 3 + [pb.EVENT_VERDICT_ACCEPTED]
    assert [result.reason for result in results] == [
        "it has no event_id",
        "its library_path is no path below the library's root",
        "it has no file",
        "",
    ]
    assert await listed(ingest) == [b"d.png"]


async def test_an_event_in_the_wrong_call_is_rejected(ingest: Ingest) -> None:
    response = await ask(ingest, "OnFileDeleted", pb.OnFileDeletedRequest(event=file_event(b"a.png")))
    assert (response.result.verdict, response.result.reason) == (pb.EVENT_VERDICT_REJECTED, "this call is for FILE_DELETED")


async def test_a_batch_over_the_limit_is_refused_by_the_catalog(ingest: Ingest) -> None:
    with pytest.raises(MediasyncError) as caught, rpc_errors("the catalog"):
        await ask(ingest, "OnBatchSynced", pb.OnBatchSyncedRequest(events=[file_event(b"a.png")] * 1001))
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_a_hash_of_another_kind_is_not_on_record(ingest: Ingest) -> None:
    await publish(ingest, file_event(b"a.png"))
    request = pb.VerifyFileExistsRequest(library_path=file_path(b"a.png"), digest=types_pb2.Digest(value=b"?"))
    assert not (await ask(ingest, "VerifyFileExists", request)).exists


async def test_events_offered_one_by_one_are_taken_like_a_batch(ingest: Ingest) -> None:
    for name, kind in (("FileSynced", pb.EVENT_TYPE_FILE_SYNCED), ("FileProcessed", pb.EVENT_TYPE_FILE_PROCESSED)):
        request = getattr(pb, f"On{name}Request")(event=file_event(b"a.png", kind))
        assert (await ask(ingest, f"On{name}", request)).result.verdict == pb.EVENT_VERDICT_ACCEPTED
    found = await get(ingest, b"a.png")
    assert found.processed
    later = file_event(b"b.png")
    later.type = 99  # type: ignore[assignment]
    results = (await ask(ingest, "OnBatchSynced", pb.OnBatchSyncedRequest(events=[later]))).results
    assert [result.verdict for result in results] == [pb.EVENT_VERDICT_ACCEPTED]
    assert await listed(ingest) == [b"a.png"]
    known = pb.VerifyFileExistsRequest(library_path=file_path(b"a.png"), digest=found.file.digest)
    assert (await ask(ingest, "VerifyFileExists", known)).exists
