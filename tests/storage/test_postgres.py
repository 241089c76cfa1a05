from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.storage import postgres as module
from mediasync.storage.postgres import PostgresDatabase, PostgresMigration
from tests.fixtures.postgres import Postgres

ONE = PostgresMigration(1, ("CREATE TABLE item (name TEXT PRIMARY KEY)",))
TWO = PostgresMigration(2, ("ALTER TABLE item ADD COLUMN size BIGINT",))


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[PostgresDatabase]:
    opened = PostgresDatabase.open(postgres.url, "ours", [ONE])
    yield opened
    await opened.close()


def add(name: str) -> Any:
    return lambda connection: connection.execute("INSERT INTO item (name) VALUES (%s)", (name,))


def names(connection: Any) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY name")]


async def refusal(doing: Any) -> Reason:
    with pytest.raises(MediasyncError) as caught:
        await doing
    assert "geheim" not in f"{caught.value.message} {caught.value.remedy}"
    return caught.value.reason


async def test_what_was_written_is_there_after_opening_again_and_after_a_migration(postgres: Postgres) -> None:
    for number, migrations in enumerate(([ONE], [ONE], [ONE, TWO])):
        database = PostgresDatabase.open(postgres.url, "ours", migrations)
        assert await database.write(lambda connection: 7) == 7
        await database.write(add(str(number)))
        assert await database.read(names) == [str(one) for one in range(number + 1)]
        await database.close()
        await database.close()
    with pytest.raises(MediasyncError, match="newer mediasync") as caught:
        PostgresDatabase.open(postgres.url, "ours", [ONE])
    assert caught.value.reason is Reason.DATA_FOLDER_NEWER


async def test_work_that_raises_leaves_nothing_behind_and_a_savepoint_only_what_was_before(database: PostgresDatabase) -> None:
    def half(connection: Any) -> None:
        add("a")(connection)
        raise KeyError("no")

    def around(connection: Any) -> None:
        add("b")(connection)
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            add("c")(connection)
            add("b")(connection)

    with pytest.raises(KeyError):
        await database.write(half)
    await database.write(around)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await database.write(add("b"))
    assert await database.read(names) == ["b"]


async def test_reading_cannot_write(database: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await database.read(add("a"))


async def test_only_what_is_durable_waits_for_the_disk(database: PostgresDatabase) -> None:
    def setting(connection: Any) -> Any:
        return connection.execute("SHOW synchronous_commit").fetchone()[0]

    assert [await database.write(setting), await database.write(setting, durable=False)] == ["on", "off"]


async def test_a_server_that_was_started_again_is_not_noticed(postgres: Postgres, database: PostgresDatabase) -> None:
    await database.write(add("a"))
    assert await database.read(names) == ["a"]
    postgres.cut()
    await database.write(add("b"))
    assert await database.read(names) == ["a", "b"]


async def test_a_database_that_is_gone_is_unreachable_until_it_comes_back(postgres: Postgres, database: PostgresDatabase) -> None:
    await database.write(add("a"))
    postgres.go()
    assert await refusal(database.write(add("b"))) is Reason.DATABASE_UNREACHABLE
    assert await refusal(database.read(names)) is Reason.DATABASE_UNREACHABLE
    postgres.come_back()
    await database.write(add("c"))
    assert await database.read(names) == ["a", "c"]


async def test_work_that_was_cut_off_while_it_committed_is_not_done_twice(postgres: Postgres, database: PostgresDatabase) -> None:
    await database.write(add("a"))

    def cut_off(connection: Any) -> None:
        add("b")(connection)
        runs.append(1)
        connection.close()

    runs: list[int] = []
    assert await refusal(database.write(cut_off)) is Reason.DATABASE_UNREACHABLE
    assert len(runs) == 1
    assert await database.read(names) == ["a"]


async def test_a_database_that_does_not_answer_yet_is_opened_and_made_later(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    postgres.go()
    database = PostgresDatabase.open(postgres.url, "ours", [ONE])
    assert "What needs it waits" in caplog.text
    assert await refusal(database.write(add("a"))) is Reason.DATABASE_UNREACHABLE
    postgres.come_back()
    await database.write(add("a"))
    assert await database.read(names) == ["a"]
    await database.close()


async def test_one_process_alone_writes_a_schema_where_that_is_asked_for(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PostgresDatabase.open(postgres.url, "ours", [ONE], alone=True)
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.01)
    with pytest.raises(MediasyncError, match="Another mediasync uses schema ours") as caught:
        PostgresDatabase.open(postgres.url, "ours", [ONE], alone=True)
    assert caught.value.reason is Reason.DATABASE_UNUSABLE
    await first.write(add("a"))
    await first.close()
    second = PostgresDatabase.open(postgres.url, "ours", [ONE], alone=True)
    assert await second.read(names) == ["a"]
    await second.close()


async def test_writers_of_several_processes_wait_for_each_other(postgres: Postgres) -> None:
    databases = [PostgresDatabase.open(postgres.url, "ours", [PostgresMigration(1, ("CREATE TABLE count (n) AS SELECT 0",))]) for _ in "ab"]

    def count(connection: Any) -> None:
        (value,) = connection.execute("SELECT n FROM count").fetchone()
        connection.execute("UPDATE count SET n = %s", (value + 1,))

    await asyncio.gather(*(database.write(count) for database in databases * 10))
    assert await databases[0].read(lambda connection: connection.execute("SELECT n FROM count").fetchone()) == (20,)
    for database in databases:
        await database.close()


async def test_what_cannot_be_opened_says_so_without_the_password(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_at(url: str) -> None:
        await PostgresDatabase.open(url, "ours", [ONE]).close()

    assert await refusal(open_at("postgresql://user:geheim@[host/media")) is Reason.CONFIGURATION_INVALID
    postgres.query("CREATE ROLE guest LOGIN")
    guest = postgres.url.replace("mediasync@", "guest:geheim@")
    assert await refusal(open_at(guest)) is Reason.DATABASE_UNUSABLE
    latin = Postgres("latin", postgres.sockets)
    postgres.administer("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    assert await refusal(open_at(latin.url)) is Reason.DATABASE_UNUSABLE
    monkeypatch.setattr(module, "_OLDEST_SERVER", 990000)
    assert await refusal(open_at(postgres.url)) is Reason.DATABASE_UNUSABLE
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert await refusal(open_at(postgres.url)) is Reason.CONFIGURATION_INVALID
