"""What the catalog's database does, on each database that it can be kept in."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest.subscribers.catalog import postgres_store, sqlite_store
from services.ingest.subscribers.catalog.convert import file_event_from_pb
from services.ingest.subscribers.catalog.files import FileEvent, Filter, ListedFile, Wanted
from services.ingest.subscribers.catalog.store import CatalogStore
from services.ingest.subscribers.catalog.wiring import open_at
from tests.fixtures.ingest import LIBRARY, file_event
from tests.fixtures.postgres import Postgres

KINDS = (pb.EVENT_TYPE_FILE_SYNCED, pb.EVENT_TYPE_FILE_PROCESSED, pb.EVENT_TYPE_FILE_DELETED)
PATHS = (b"a.png", b"b.png", b"not-utf8-\xff\\.png", b"deep/" * 100 + b"c.png")
HOSTILE = pb.GenerationMetadata(
    generator="ComfyUI",
    prompt="a \0 cat \u202e \U0010ffff",
    seed=2**64 - 1,
    steps=-(2**31),
    cfg_scale=float("nan"),
    loras=["\0"],
    fields=[pb.MetadataField(name="\0", value="\\u0000")] * 200,
    prompt_json=b'{"is_changed": [NaN], "seed": 1e400, "digits": ' + b"9" * 5000 + b', "text": "\\u0000 \\ud800 \\ud83d\\ude00 \\\\u0000"}',
    workflow_json=b'{"nodes": "' + b"n" * (10 << 20) + b'"}',
    parameters="p" * (1 << 20),
)


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CatalogStore]:
    if request.param == "postgres":
        opened = open_at(request.getfixturevalue("postgres").url)
    else:
        opened = open_at(f"sqlite:///{tmp_path}/catalog.db")
    yield opened
    await opened.close()


def known(*events: pb.Event) -> list[FileEvent]:
    # Copies: each is taken apart.
    return [file_event_from_pb(pb.Event.FromString(event.SerializeToString())) for event in events]


async def exported(store: CatalogStore) -> list[tuple[ListedFile, bytes]]:
    """Every file, from pages that go on behind the one before."""
    files: list[tuple[ListedFile, bytes]] = []
    while True:
        page = await store.export(files[-1][0].number if files else 0, "")
        files += page.files
        if page.last:
            return files
        assert page.files


async def test_any_events_leave_the_same_in_every_database(tmp_path: Path, postgres: Postgres) -> None:
    draw = random.Random(6)
    stores = [open_at(postgres.url), open_at(f"sqlite:///{tmp_path}/catalog.db")]
    told: list[pb.Event] = []
    for number in range(400):
        if told and draw.random() < 0.2:
            told.append(draw.choice(told[-30:]))
            continue
        path, old = draw.sample(PATHS, 2)
        kind = draw.choice(KINDS)
        metadata = pb.GenerationMetadata(prompt=str(number), workflow_json=b"{" * draw.randrange(2)) if kind == KINDS[1] else None
        event = file_event(path, kind, content=draw.choice((b"1", b"2", b"3")), second=draw.randrange(100), metadata=metadata)
        event.event_id = str(number)
        event.file.library_root = draw.choice(("/a", "/b"))
        if kind == KINDS[0] and draw.random() < 0.5:
            event.file.moved_from.raw = old
        told.append(event)
    events = known(*told)
    while events:
        size = draw.randrange(1, 20)
        for store in stores:
            assert await store.take(events[:size]) == {}
        del events[:size]
        ours, theirs = [[(file._replace(number=0), bulk) for file, bulk in await exported(store)] for store in stores]
        assert ours == theirs
    wanted = [Wanted(path, b"", root) for path in PATHS for root in ("/a", "/b", "", "/c")]
    assert await stores[0].exist(wanted) == await stores[1].exist(wanted)
    for store in stores:
        await store.close()


async def test_metadata_of_any_kind_comes_back_as_it_was(store: CatalogStore) -> None:
    event = file_event(b"huge.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=HOSTILE)
    for _ in range(2):
        assert await store.take(known(file_event(b"huge.png"), event)) == {}
    found = await store.get(b"huge.png", LIBRARY)
    assert found is not None
    record = pb.FileRecord.FromString(found[0].record + found[1])
    assert record.SerializeToString(deterministic=True) == event.file.SerializeToString(deterministic=True)
    assert await store.get(b"huge.png", "/elsewhere") is None


async def test_a_path_as_long_as_there_can_be_is_a_path(store: CatalogStore) -> None:
    parts = [random.Random(part).randbytes(250).replace(b"/", b"_").replace(b"\0", b"_") for part in range(16)]
    path = b"/".join(parts)
    for _ in range(2):
        assert await store.take(known(file_event(path))) == {}
    assert await store.exist([Wanted(path), Wanted(path[:-1]), Wanted(path, b"?")]) == [True, False, False]


async def test_pages_have_what_was_asked_for_newest_first(store: CatalogStore) -> None:
    names = [b"a/1.png", b"a/2.png", b"b/1.png", b"b\xff/1.png", b"b\xff\xff", b"c"]
    for second, name in enumerate(names):
        await store.take(known(file_event(name, second=second, sync_id=f"sync_{second % 2}", source="forge" if second < 3 else "")))

    async def listed(limit: int, **wanted: bytes | str) -> list[bytes]:
        paths: list[bytes] = []
        before = None
        while True:
            page = await store.page(Filter(**wanted), before, limit)  # type: ignore[arg-type]
            assert len(page.files) <= limit
            paths += [pb.FileRecord.FromString(file.record).library_path.raw for file in page.files]
            before = page.next_position
            if before is None:
                return paths

    assert await listed(100) == await listed(1) == await listed(3) == names[::-1]
    assert await listed(2, sync_id="sync_1") == names[5::-2]
    assert await listed(2, source="forge") == names[2::-1]
    assert await listed(2, path_prefix=b"b") == names[4:1:-1]
    assert await listed(2, path_prefix=b"b\xff") == names[4:2:-1]
    assert await listed(2, path_prefix=b"b\xff", source="forge") == []
    assert await listed(2, source="\0") == []


async def test_pages_end_where_they_would_be_too_large(store: CatalogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite_store, postgres_store):
        monkeypatch.setattr(module, "MAX_PAGE_BYTES", 1000)
    for size, name in enumerate((b"a", b"b", b"c", b"d")):
        event = file_event(
            name, pb.EVENT_TYPE_FILE_PROCESSED, metadata=pb.GenerationMetadata(prompt="p" * 700, workflow_json=b"w" * 600 * size)
        )
        await store.take(known(event))
    page = await store.page(Filter(), None, 100)
    assert [file.number for file in page.files] == [4]
    assert page.next_position == (page.files[-1].sync_time_ns, page.files[-1].number)
    pages = [await store.export(after, LIBRARY) for after in range(5)]
    assert [[file.number for file, _ in page.files] for page in pages] == [[1], [2], [3], [4], []]
    assert [page.last for page in pages] == [False, False, False, True, True]


async def test_files_in_an_export_are_complete_and_of_one_library_where_that_is_asked_for(store: CatalogStore) -> None:
    elsewhere = file_event(b"b.png")
    elsewhere.file.library_root = "/mnt/nas"
    processed = file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=pb.GenerationMetadata(workflow_json=b"{}"))
    await store.take(known(processed, elsewhere))
    page = await store.export(0, "/mnt/nas")
    assert ([bulk for _, bulk in page.files], page.last) == ([b""], True)
    ((file, bulk),) = (await store.export(0, LIBRARY)).files
    assert pb.FileRecord.FromString(file.record + bulk).metadata.workflow_json == b"{}"
    assert await store.exist([]) == []
    assert await store.take([]) == {}
