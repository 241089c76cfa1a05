from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.context import bound, sync_id
from mediasync.storage import database as module
from mediasync.storage.database import Database, Migration

ONE = Migration(1, ("CREATE TABLE item (name TEXT PRIMARY KEY) STRICT", "CREATE TABLE part (item TEXT NOT NULL REFERENCES item) STRICT"))
BOUND_SECONDS = 20


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(url(tmp_path), [ONE])
    yield opened
    await opened.close()


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'test.db'}"


def add(name: str) -> Any:
    return lambda connection: connection.execute(text("INSERT INTO item VALUES (:name)"), {"name": name})


def names(connection: sqlalchemy.Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM item ORDER BY name")).scalars())


def pragma(name: str) -> Any:
    return lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


async def test_what_was_written_is_read_also_after_opening_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        database = Database.open(url(tmp_path), [ONE])
        await database.write(add(name))
        await database.close()
        await database.close()
    database = Database.open(url(tmp_path), [ONE])
    assert await database.read(names) == ["a", "b"]
    await database.close()
    assert os.listdir(tmp_path) == ["test.db"]


async def test_work_returns_its_result(database: Database) -> None:
    assert await database.write(lambda connection: 7) == 7


async def test_work_that_raises_leaves_nothing_behind(database: Database) -> None:
    def half(connection: sqlalchemy.Connection) -> None:
        add("a")(connection)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.write(half)
    assert await database.read(names) == []
    await database.write(add("b"))
    assert await database.read(names) == ["b"]


async def test_a_mistake_in_a_statement_passes_as_it_is(database: Database) -> None:
    await database.write(add("a"))
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        await database.write(add("a"))
    with pytest.raises(sqlalchemy.exc.OperationalError, match="no such table"):
        await database.read(lambda connection: connection.exec_driver_sql("SELECT * FROM absent"))


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        await database.write(lambda connection: connection.exec_driver_sql("INSERT INTO part VALUES ('nobody')"))


async def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError, match="readonly"):
        await database.read(add("a"))


async def test_the_raw_connection_works_in_the_same_transaction(database: Database) -> None:
    def bulk(connection: sqlalchemy.Connection) -> None:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.executemany("INSERT INTO item VALUES (?)", [(str(number),) for number in range(1000)])
        raise KeyError("roll it back")

    with pytest.raises(KeyError):
        await database.write(bulk)
    assert await database.read(names) == []


async def test_readers_go_on_while_a_writer_is_busy_and_see_what_was_before(database: Database) -> None:
    await database.write(add("a"))
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlalchemy.Connection) -> None:
        add("b")(connection)
        inside.set()
        go_on.wait(BOUND_SECONDS)

    writing = asyncio.ensure_future(database.write(slow))
    await asyncio.to_thread(inside.wait, BOUND_SECONDS)
    assert await database.read(names) == ["a"]
    go_on.set()
    await writing
    assert await database.read(names) == ["a", "b"]


async def test_writers_take_turns(database: Database) -> None:
    def one_more(connection: sqlalchemy.Connection) -> None:
        add(f"{len(names(connection)):03}")(connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(database.write(one_more))
    assert await database.read(names) == [f"{number:03}" for number in range(50)]


async def test_closing_waits_for_work_that_has_begun(tmp_path: Path) -> None:
    database = Database.open(url(tmp_path), [ONE])
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(database.write(add(str(number))))
        await asyncio.sleep(0)
        group.create_task(database.close())
    database = Database.open(url(tmp_path), [ONE])
    assert len(await database.read(names)) == 20
    await database.close()


async def test_work_knows_the_sync_it_is_done_for(database: Database) -> None:
    with bound("sync_1"):
        assert await database.write(lambda connection: sync_id.get()) == "sync_1"
        assert await database.read(lambda connection: sync_id.get()) == "sync_1"


async def test_a_commit_that_may_be_lost_is_not_flushed_and_the_next_one_is(tmp_path: Path) -> None:
    database = Database.open(url(tmp_path), [ONE], durable=True)

    def failing(connection: sqlalchemy.Connection) -> None:
        raise ZeroDivisionError

    assert await database.write(pragma("synchronous"), durable=False) == 1
    assert await database.write(pragma("synchronous")) == 2
    with pytest.raises(ZeroDivisionError):
        await database.write(failing, durable=False)
    assert await database.write(pragma("synchronous")) == 2
    await database.write(add("a"), durable=False)
    assert await database.read(names) == ["a"]
    await database.close()


async def test_a_checkpoint_brings_what_was_committed_into_the_file_itself(tmp_path: Path) -> None:
    database = Database.open(url(tmp_path), [ONE], cache_mib=8, checkpoint_pages=100_000)
    assert await database.write(pragma("cache_size")) == -8192
    await database.write(add("x" * 100_000))
    before = (tmp_path / "test.db").stat().st_size
    await database.checkpoint()
    assert (tmp_path / "test.db").stat().st_size >= before + 100_000
    await database.write(add("b"))
    await database.close()


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_a_durable_database_flushes_each_commit(tmp_path: Path, durable: bool, synchronous: int) -> None:
    database = Database.open(url(tmp_path), [ONE], durable=durable)
    assert await database.write(pragma("synchronous")) == synchronous
    assert await database.read(pragma("journal_mode")) == "wal"
    await database.close()


async def test_the_file_is_private_and_its_path_may_be_odd(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20ü?#&"
    folder.mkdir()
    database = Database.open(url(folder), [ONE])
    await database.write(add("a"))
    assert (folder / "test.db").stat().st_mode & 0o777 == 0o600
    await database.close()


# Migrations


async def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    def fill(connection: sqlalchemy.Connection) -> None:
        connection.execute(text("INSERT INTO item SELECT 'old'"))

    await Database.open(url(tmp_path), [ONE]).close()
    migrations = [ONE, Migration(2, fill), Migration(5, ("UPDATE item SET name = name || '!'",))]
    for _ in range(2):
        database = Database.open(url(tmp_path), migrations)
        assert await database.read(names) == ["old!"]
        versions = await database.read(lambda connection: list(connection.exec_driver_sql("SELECT version FROM schema_version").scalars()))
        assert versions == [1, 2, 5]
        await database.close()


async def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError):
        Database.open(url(tmp_path), [ONE, Migration(2, ("INSERT INTO item VALUES ('half')", "NONSENSE"))])
    database = Database.open(url(tmp_path), [ONE])
    assert await database.read(names) == []
    await database.close()


def test_migrations_out_of_order_are_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not in order: \[2, 1\]"):
        Database.open(url(tmp_path), [Migration(2, ()), Migration(1, ())])


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    await Database.open(url(tmp_path), [ONE, Migration(7, ("INSERT INTO item VALUES ('new')",))]).close()
    with pytest.raises(MediasyncError, match=r"version 7; this one knows up to 1") as caught:
        Database.open(url(tmp_path), [ONE])
    assert caught.value.reason is Reason.DATA_FOLDER_NEWER


PROGRAM = """
import asyncio, sys
from mediasync.storage.database import Database, Migration
migrations = [Migration(number, (f"CREATE TABLE t{number} (x TEXT) STRICT",)) for number in range(1, 20)]
asyncio.run(Database.open(sys.argv[1], migrations).close())
"""


def test_two_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM, url(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


# What a person can do something about


def refused(folder: Path) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught:
        Database.open(url(folder), [ONE])
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE
    assert "test.db" in caught.value.message
    return caught.value


def test_a_file_that_is_no_database_is_named_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"not a database, but long enough to be read as one " * 50)
    assert "damaged" in refused(tmp_path).remedy
    assert (tmp_path / "test.db").read_bytes().startswith(b"not a database")


async def test_a_damaged_page_is_told_when_it_is_met(tmp_path: Path) -> None:
    database = Database.open(url(tmp_path), [ONE])
    await database.write(lambda connection: [add(str(number) * 200)(connection) for number in range(200)])
    await database.close()
    whole = bytearray((tmp_path / "test.db").read_bytes())
    whole[8192:] = b"\xa5" * (len(whole) - 8192)
    (tmp_path / "test.db").write_bytes(whole)
    database = Database.open(url(tmp_path), [ONE])
    with pytest.raises(MediasyncError) as caught:
        await database.read(names)
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE
    await database.close()


def test_a_database_that_another_program_holds_is_told_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert "Another program holds it" in refused(tmp_path).remedy
    holder.close()


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing").message


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "test.db").mkdir()
    assert "Is a directory" in refused(tmp_path).message


async def test_a_full_disk_is_told(database: Database) -> None:
    def fill(connection: sqlalchemy.Connection) -> None:
        # What a full disk answers, brought about by a limit on the file's size.
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        for number in range(1000):
            add(str(number) * 100)(connection)

    with pytest.raises(MediasyncError) as caught:
        await database.write(fill)
    assert "free some space" in caught.value.remedy


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(MediasyncError) as caught:
        Database.open("postgresql://x", [])
    assert caught.value.reason is Reason.CONFIGURATION_INVALID
