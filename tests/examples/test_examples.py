"""The examples do what every subscriber has to do, and follow the real event log."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sqlite3
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from mediasync.conformance import perform
from mediasync.conformance.plays import PLAYS
from mediasync.ids import new_request_id
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from tests.fixtures.examples import EXAMPLES, ExampleProcess, ExampleSubscriber, example_subscriber, free_port, python_example
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, file_event, file_events, sync_event

PROTOS = EXAMPLES.parent / "protos"


def a_sync() -> list[pb.Event]:
    """Five files, one that was looked into, and the end."""
    metadata = pb.GenerationMetadata(prompt="a cat", model="sdxl", seed=2**64 - 1)
    return [*file_events(5), file_event(b"odd-\xff\n.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata), sync_event()]


async def follow_the_log(ingest: Ingest, example: ExampleSubscriber) -> None:
    """Publishes a sync, and waits until the example has taken all of it, and knows of every file."""
    await ingest.subscribe("example", example.address)
    sequences = await ingest.publish(a_sync())
    await ingest.delivered(sequences[-1], "example")
    for event in a_sync()[:-1]:
        assert await knows(example, event)


async def play_well(example: ExampleSubscriber, restart: Callable[[], Awaitable[None]] | None = None) -> None:
    """Performs every play; it is killed in the last one."""
    played = [one async for one in perform(example.stub, PLAYS, b"mediasync-check/", restart or example.running.restart)]
    assert [one for one in played if one.ok is not True] == []


async def knows(example: ExampleSubscriber, event: pb.Event) -> bool:
    file = event.file
    question = pb.VerifyFileExistsRequest(library_path=file.library_path, digest=file.digest, library_root=file.library_root)
    return bool((await example.stub.VerifyFileExists(question, timeout=BOUND_SECONDS)).exists)


async def test_the_one_in_typescript_follows_the_log_and_survives_a_kill(ingest: Ingest, node_example: Path, tmp_path: Path) -> None:
    file = tmp_path / "pictures.jsonl"
    tsx = ["node", "--import", "tsx", "subscriber.ts"]

    def command(address: str) -> list[str]:
        return ["env", "-C", str(node_example), *tsx, address, str(file), str(PROTOS)]

    async with example_subscriber(command) as example:

        async def restart() -> None:
            await example.running.kill()
            with file.open("a") as torn:
                torn.write('{"root": "cut o')
            await example.running.start()

        await follow_the_log(ingest, example)
        last = json.loads(file.read_text().splitlines()[-1])
        assert (last["shown"], last["prompt"], last["seed"]) == ("odd-\\xff\\n.png", "a cat", str(2**64 - 1))
        await play_well(example, restart)
        assert await knows(example, a_sync()[0])
        assert all(json.loads(line) for line in file.read_text().splitlines())


async def test_the_one_for_mongodb_follows_the_log_and_survives_a_kill(ingest: Ingest) -> None:
    url = os.environ.get("MONGODB_URL", "")
    if not url:
        pytest.skip("MONGODB_URL names no MongoDB server, which the example needs")
    if importlib.util.find_spec("pymongo") is None:
        pytest.skip("pymongo is not installed")
    import pymongo

    database = f"mediasync_test_{new_request_id()[:8]}"

    def command(address: str) -> list[str]:
        return python_example("subscriber_mongodb/subscriber.py", address, url, database)

    with pymongo.MongoClient(url) as client:
        try:
            async with example_subscriber(command) as example:
                await follow_the_log(ingest, example)
                await play_well(example)
            found = client[database]["pictures"].find_one({"_id.path": b"odd-\xff\n.png"})
            assert found is not None and (found["prompt"], found["seed"]) == ("a cat", str(2**64 - 1))
        finally:
            client.drop_database(database)


class Picky(BaseHTTPRequestHandler):
    """Will not have bodies that speak of the second picture."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if b"second" in body else 204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


async def test_the_webhook_posts_what_happens_and_waits_for_who_is_away(ingest: Ingest, tmp_path: Path, quick_retries: None) -> None:
    port, database, secret = free_port(), tmp_path / "events.db", {"WEBHOOK_SECRET": "between us"}
    receiver = ExampleProcess(python_example("webhook/receiver.py", str(port), str(database)), secret)

    def command(address: str) -> list[str]:
        return python_example("webhook/relay.py", address, f"http://127.0.0.1:{port}/events")

    async with example_subscriber(command, secret) as example:
        await ingest.subscribe("example", example.address)
        sequences = await ingest.publish(a_sync())
        async with asyncio.timeout(BOUND_SECONDS):
            while not (await ingest.subscription("example")).last_error:
                await asyncio.sleep(0.01)
        await receiver.start()  # nobody was there until now
        try:
            await ingest.delivered(sequences[-1], "example")
            with closing(sqlite3.connect(database)) as db:
                rows = db.execute("SELECT event_id, type, path FROM events").fetchall()
            assert sorted(row[0] for row in rows) == sorted(event.event_id for event in a_sync())
            assert ("EVENT_TYPE_FILE_PROCESSED", "odd-\\xff\\n.png") in [row[1:] for row in rows]
            await play_well(example)
            assert await asyncio.to_thread(post, port, {"X-Mediasync-Timestamp": "1", "X-Mediasync-Signature": "sha256=00"}) == 401
        finally:
            await receiver.kill()

        with HTTPServer(("127.0.0.1", port), Picky) as server:
            serving = asyncio.create_task(asyncio.to_thread(server.serve_forever, 0.01))
            sequences = await ingest.publish([file_event(name) for name in (b"first.png", b"second.png", b"third.png")])
            await ingest.delivered(sequences[-1], "example")
            server.shutdown()
            await serving
        letters = (await ingest.events.ListDeadLetters(events_pb2.ListDeadLettersRequest(), timeout=BOUND_SECONDS)).dead_letters
        assert [(letter.event.file.library_path.raw, letter.reason) for letter in letters] == [(b"second.png", "the webhook answered 400")]


def post(port: int, headers: dict[str, str]) -> int:
    """The status of an answer to somebody else's events."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=BOUND_SECONDS) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


async def test_the_notebook_reads_goes_on_where_it_was_and_needs_no_server(ingest: Ingest, tmp_path: Path) -> None:
    metadata = pb.GenerationMetadata(prompt="a cat", model="sdxl")
    await ingest.publish([*file_events(3), file_event(b"a.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)])
    environment = {
        **os.environ,
        "MEDIASYNC_COORDINATOR_ADDRESS": ingest.home.socket_address("ingest"),
        "MEDIASYNC_HOME": str(tmp_path / "h"),
    }

    async def read() -> str:
        process: Any = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLES / "notebook_pull.py"), env=environment, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(BOUND_SECONDS):
            stdout, _ = await process.communicate()
        assert process.returncode == 0
        return str(stdout.decode())

    assert await read() == "a.png | a cat\n{'sdxl': 1}\n"
    await ingest.publish([file_event(b"b.png", pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)])
    assert await read() == "b.png | a cat\n{'sdxl': 1}\n"
