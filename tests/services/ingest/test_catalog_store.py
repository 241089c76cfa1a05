"""The catalog's database does what `files.changes` says, and a database of an earlier version goes on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediasync.storage.database import Database
from services.ingest.subscribers.catalog.files import CatalogFile, Change, Facts, FileEvent, Wanted, changes
from services.ingest.subscribers.catalog.sqlite_store import _SELECT, MIGRATIONS, SqliteCatalogStore, _file

LIBRARIES = 60
PATHS = (b"a.png", b"b.png", b"c.png", b"not-utf8-\xff.png")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path}/catalog.db", MIGRATIONS)
    yield opened
    await opened.close()


def some_events(draw: random.Random, root: str) -> list[FileEvent]:
    """The life of a small library: files come, are looked into, move, change places, vanish; and some of it is told again."""
    events: list[FileEvent] = []
    for number in range(draw.randrange(1, 25)):
        if events and draw.random() < 0.3:
            events.append(draw.choice(events))
            continue
        change = draw.choice(list(Change))
        content = draw.randrange(3)
        record = f"{content}.{number}".encode()
        processed = change is Change.PROCESSED
        facts = Facts(
            content,
            b"%d" % content,
            -1,
            "image/png",
            1,
            2,
            draw.random() < 0.5,
            "",
            "",
            "",
            "",
            None,
            1.5,
            "\0",
            "",
            record,
            b"B" * processed,
        )
        path, old = draw.sample(PATHS, 2)
        moves = change is Change.SYNCED and draw.random() < 0.5
        events.append(
            FileEvent(
                f"{root}-{number}",
                change,
                draw.randrange(10),
                "sync",
                "s",
                root,
                path,
                facts,
                old if moves else b"",
                b"+" if moves else b"",
            )
        )
    return events


async def files_of(database: Database, root: str) -> list[CatalogFile]:
    """What the database has of a library."""

    def work(connection: object) -> list[CatalogFile]:
        raw = connection.connection.driver_connection  # type: ignore[attr-defined]
        files = [_file(row) for row in raw.execute(f"{_SELECT} ({', '.join('?' * len(PATHS))})", (root, *PATHS))]
        bulk = dict(raw.execute("SELECT number, content FROM bulk").fetchall())
        return [file._replace(facts=file.facts._replace(bulk=bulk.get(file.number, b""))) for file in files]

    return await database.read(work)


async def test_any_batches_make_of_the_database_what_the_events_make_of_the_files(database: Database) -> None:
    draw = random.Random(5)
    store = SqliteCatalogStore(database)
    for number in range(LIBRARIES):
        root = f"/library/{number}"
        events = some_events(draw, root)
        rest = list(events)
        while rest:
            size = draw.randrange(1, 9)
            assert await store.take(rest[:size]) == {}
            del rest[:size]
        expected = sorted(changes([], events).added)
        found = await files_of(database, root)
        assert len({file.number for file in found}) == len(found)
        assert sorted(file._replace(number=0) for file in found) == expected, events
        there = await store.exist([Wanted(path, b"", root) for path in PATHS])
        assert dict(zip(PATHS, there, strict=True)) == {path: any(file.library_path == path for file in expected) for path in PATHS}


async def test_a_catalog_of_before_moves_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    old = Database.open(url, MIGRATIONS[:1])
    columns = (
        "library_root, library_path, sync_id, source, sync_time_ns, processed, synced_id, processed_id, deleted_id, size_bytes, sha256"
    )
    more = "modify_time_ns, media_type, width, height, incomplete, generator, model, seed, sampler, prompt, negative_prompt, record"
    values = "'/m', x'61', 's', 'forge', 1, 0, 'id', '', '', 3, x'00', 1, 'image/png', 0, 0, 0, '', '', '', '', '', '', x'52'"
    await old.write(lambda connection: connection.exec_driver_sql(f"INSERT INTO files ({columns}, {more}) VALUES ({values})"))
    await old.close()
    database = Database.open(url, MIGRATIONS)
    store = SqliteCatalogStore(database)
    nothing = ("", "", "", "", None, None, "", "")
    facts = Facts(3, b"\0", 1, "image/png", 0, 0, False, *nothing, b"R", b"")
    await store.take([FileEvent("move", Change.SYNCED, 5, "s", "forge", "/m", b"b", facts, b"a", b"+b")])
    page = await store.export(0, "/m")
    assert [(file.number, file.record, bulk) for file, bulk in page.files] == [(1, b"R+b", b"")]
    await database.close()
