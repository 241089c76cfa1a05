"""The catalog in PostgreSQL as other programs see it: `media_files` as existing installations have it, and JSON that can be queried."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import catalog_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest.subscribers.catalog.convert import file_event_from_pb
from services.ingest.subscribers.catalog.media_files_store import file_path
from services.ingest.subscribers.catalog.metadata import MAX_DEPTH, metadata_json
from services.ingest.subscribers.catalog.postgres_store import PostgresCatalogStore
from tests.fixtures.ingest import BOUND_SECONDS, LIBRARY, StartIngest, file_event
from tests.fixtures.postgres import Postgres

DOCS = Path(__file__).parents[3] / "docs"
# As it was before, with a row, and things of its owner's.
TABLE = """CREATE TABLE media_files (
    id SERIAL PRIMARY KEY, sync_id VARCHAR(64), file_path VARCHAR(600) UNIQUE NOT NULL, file_size BIGINT, file_hash VARCHAR(64),
    metadata JSONB, synced_at TIMESTAMP DEFAULT now(), rating INTEGER DEFAULT 3, CHECK (file_path NOT LIKE '%forbidden%'))"""
OLD = "INSERT INTO media_files (sync_id, file_path, file_hash, rating) VALUES ('old', '/media/library/old.png', 'x', 5)"
ROWS = "SELECT sync_id, file_path, file_size, file_hash, metadata->>'prompt', synced_at::text FROM media_files ORDER BY file_path"


async def take(store: PostgresCatalogStore, *events: pb.Event) -> dict[str, str]:
    return dict(await store.take([file_event_from_pb(pb.Event.FromString(event.SerializeToString())) for event in events]))


def processed(path: bytes, **told: Any) -> pb.Event:
    return file_event(path, pb.EVENT_TYPE_FILE_PROCESSED, metadata=pb.GenerationMetadata(**told))


def moved(event: pb.Event, path: bytes, second: int) -> pb.Event:
    """The event that a file was found at another path."""
    result = pb.Event()
    result.CopyFrom(event)
    result.event_id = f"moved to {path!r}"
    result.time.seconds += second
    result.file.moved_from.CopyFrom(event.file.library_path)
    result.file.library_path.raw = path
    return result


async def test_where_there_was_no_table_programs_find_a_view(postgres: Postgres) -> None:
    for _ in range(2):
        store = PostgresCatalogStore.open(postgres.url)
        event = processed(b"a \\ b.png", prompt="a \0 cat")
        assert await take(store, event, file_event(b"\xff\\.png")) == {}
        await store.close()
    digest = event.file.digest.value.hex()
    assert postgres.query(ROWS) == [
        ("sync_20260921_120000_00000001", f"{LIBRARY}//\\xff\\\\.png", 7, digest, None, "2026-09-21 14:13:20+00"),
        ("sync_20260921_120000_00000001", f"{LIBRARY}/a \\ b.png", 7, digest, "a \ufffd cat", "2026-09-21 14:13:20+00"),
    ]
    assert postgres.query("SELECT relkind::text FROM pg_class WHERE oid = 'public.media_files'::regclass") == [("v",)]
    (statements,) = re.findall("```sql\n(.*?)```", (DOCS / "operations.md").read_text(), re.DOTALL)
    assert [len(postgres.query(statement)) for statement in statements.strip().split("\n")] == [0, 2]


async def test_a_table_that_was_there_keeps_its_rows_and_gets_ours(postgres: Postgres) -> None:
    postgres.query(TABLE)
    postgres.query(OLD)
    store = PostgresCatalogStore.open(postgres.url)
    first = file_event(b"a.png")
    await take(store, first, file_event(b"old.png", content=b"12345"))
    await take(store, processed(b"a.png", prompt="cat"))
    await take(store, first, file_event(b"a.png", pb.EVENT_TYPE_FILE_DELETED, second=1))
    await store.close()
    assert [(path, size, prompt) for _, path, size, _, prompt, _ in postgres.query(ROWS)] == [
        (f"{LIBRARY}/a.png", 7, "cat"),
        (f"{LIBRARY}/old.png", 5, None),
    ]
    # The rest of a row is its owner's; its number too, which other tables may name.
    assert postgres.query("SELECT id, rating FROM media_files ORDER BY file_path") == [(2, 3), (1, 5)]
    assert postgres.query("SELECT DISTINCT synced_at::text FROM media_files") == [("2026-09-21 14:13:20",)]


async def test_a_file_that_moved_takes_its_row_along(postgres: Postgres) -> None:
    postgres.query(TABLE)
    store = PostgresCatalogStore.open(postgres.url)
    a, b = file_event(b"a.png", content=b"a"), file_event(b"b.png", content=b"b")
    await take(store, a, b, file_event(b"c.png", content=b"c"))
    postgres.query("UPDATE media_files SET rating = id")
    await take(store, moved(a, b"c.png", 60))
    assert postgres.query("SELECT file_path, rating FROM media_files ORDER BY 1") == [(f"{LIBRARY}/b.png", 2), (f"{LIBRARY}/c.png", 1)]
    # They change places, by way of a third one.
    at_c = file_event(b"c.png", content=b"a", second=60)
    await take(store, moved(at_c, b"x.png", 1), moved(b, b"c.png", 70), moved(file_event(b"x.png", content=b"a", second=61), b"b.png", 80))
    sizes = {path: digest for _, path, _, digest, _, _ in postgres.query(ROWS)}
    assert sizes == {f"{LIBRARY}/b.png": a.file.digest.value.hex(), f"{LIBRARY}/c.png": b.file.digest.value.hex()}
    await store.close()


async def test_what_a_table_of_theirs_does_not_take_is_said_of_that_event_alone(postgres: Postgres) -> None:
    postgres.query(TABLE)
    store = PostgresCatalogStore.open(postgres.url)
    events = [file_event(name) for name in (b"a.png", b"forbidden.png", b"long" * 60 + b"/" + b"x" * 250 + b"/" + b"y" * 250, b"b.png")]
    refused = await take(store, *events)
    assert set(refused) == {events[1].event_id, events[2].event_id}
    assert "violates check constraint" in refused[events[1].event_id]
    assert "too long" in refused[events[2].event_id]
    found = [path for _, path, *_ in postgres.query(ROWS)]
    assert found == [f"{LIBRARY}/a.png", f"{LIBRARY}/b.png"]
    assert [(file.number) for file, _ in (await store.export(0, "")).files] == sorted(
        number for (number,) in postgres.query("SELECT number FROM mediasync_catalog.files")
    )
    no_path = file_event(b"c.png")
    no_path.file.library_root = "/media\0"
    assert "NUL" in (await take(store, no_path))[no_path.event_id]
    await store.close()


async def test_a_table_that_changed_while_it_was_filled_is_waited_for(postgres: Postgres) -> None:
    postgres.query(TABLE)
    store = PostgresCatalogStore.open(postgres.url)
    postgres.query("ALTER TABLE media_files DROP COLUMN file_hash")
    with pytest.raises(MediasyncError, match="file_hash") as caught:
        await take(store, file_event(b"a.png"))
    assert caught.value.reason is Reason.DATABASE_UNREACHABLE
    postgres.query("ALTER TABLE media_files ADD COLUMN file_hash TEXT")
    assert await take(store, file_event(b"a.png")) == {}
    await store.close()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("CREATE TABLE media_files (file_path TEXT UNIQUE, metadata JSONB)", "no column sync_id, file_size, file_hash, synced_at"),
        (TABLE.replace("UNIQUE", ""), "no unique or exclusion constraint"),
        (TABLE.replace("sync_id VARCHAR(64)", "sync_id UUID"), "sync_id"),
    ],
)
async def test_a_table_that_cannot_be_filled_is_named_at_the_start(postgres: Postgres, table: str, said: str) -> None:
    postgres.query(table)
    with pytest.raises(MediasyncError, match=said) as caught:
        PostgresCatalogStore.open(postgres.url)
    assert caught.value.reason is Reason.DATABASE_UNUSABLE
    assert caught.value.remedy


async def test_a_view_of_their_own_is_left_alone(postgres: Postgres) -> None:
    postgres.query("CREATE VIEW media_files AS SELECT 1 AS one")
    store = PostgresCatalogStore.open(postgres.url)
    assert await take(store, file_event(b"a.png")) == {}
    await store.close()
    assert postgres.query("SELECT * FROM media_files") == [(1,)]


async def test_events_wait_for_a_database_that_is_gone_and_for_one_that_is_not_there_yet(
    postgres: Postgres, start_ingest: StartIngest, quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIASYNC_INGEST__CONNECTION_STRING", postgres.url)
    postgres.go()
    ingest, _ = await start_ingest()
    await ingest.publish([file_event(b"a.png")])
    with pytest.raises(MediasyncError, match="does not answer") as caught, rpc_errors("the catalog"):
        await ingest.catalog.List(catalog_pb2.CatalogListRequest(), timeout=BOUND_SECONDS)
    assert caught.value.reason is Reason.DATABASE_UNREACHABLE
    postgres.come_back()
    await ingest.delivered(1)
    postgres.go()
    await ingest.publish([file_event(b"b.png")])
    postgres.come_back()
    await ingest.delivered(2)
    assert postgres.query("SELECT file_path FROM media_files ORDER BY 1") == [(f"{LIBRARY}/a.png",), (f"{LIBRARY}/b.png",)]
    assert not (ingest.home.path / "catalog.db").exists()


def test_metadata_is_json_that_every_database_takes() -> None:
    deep = b"[" * (MAX_DEPTH + 5) + b"]" * (MAX_DEPTH + 5)
    record = pb.FileRecord(
        media_type="image/png",
        metadata=pb.GenerationMetadata(
            prompt="\0 \\u0000 \\\0 \U0010ffff",
            seed=2**64 - 1,
            cfg_scale=float("inf"),
            loras=["a", "\0"],
            fields=[pb.MetadataField(name="a", value="1"), pb.MetadataField(name="a", value="2")],
            prompt_json=b'{"n": [NaN, -Infinity, 1e400, ' + b"9" * 5000 + b', 7, 0.5], "t": "\\u0000\\ud800\\\\ud800\\ud83d\\ude00"}',
            workflow_json=deep,
        ),
    )
    told = json.loads(metadata_json(record.SerializeToString()))
    assert told == {
        "media_type": "image/png",
        "prompt": "\ufffd \\u0000 \\\ufffd \U0010ffff",
        "seed": 2**64 - 1,
        "cfg_scale": None,
        "loras": ["a", "\ufffd"],
        "fields": {"a": "1"},
        "prompt_json": {"n": [None, None, None, None, 7, 0.5], "t": "\ufffd\ufffd\\ud800\U0001f600"},
        "workflow_json": deep.decode(),
    }
    for text in (b"no json", b"[" * 100_000, b"\xff{"):
        record.metadata.workflow_json = text
        assert json.loads(metadata_json(record.SerializeToString()))["workflow_json"] == text.decode("utf-8", "replace")


def test_no_two_paths_are_the_same_text() -> None:
    paths = [b"a\\xff", b"a\xff", b"a\\\\xff", b"a\xff\\", b"a\xff\\\\", b"a"]
    assert len({file_path("/m", path) for path in paths}) == len(paths)
    assert file_path("/", b"a") == "/a"
