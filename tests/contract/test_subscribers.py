"""What every MediaIngest implementation has to do, played against real processes: the built-in catalog and the guide's example.

The plays are those of `mediasync subscribers check`. An implementation may leave calls out; what it does answer has to be right.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mediasync.conformance import perform
from mediasync.conformance.plays import PLAYS
from mediasync.runtime.channels import open_channel
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestStub
from tests.fixtures.ingest import BOUND_SECONDS, StartProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "subscriber_python" / "subscriber.py"


@dataclass
class Implementation:
    """One implementation, running as a process, with its records in a folder that outlives it."""

    stub: Any
    restart: Callable[[], Awaitable[None]]


@pytest.fixture(params=["catalog", "catalog in PostgreSQL", "example"])
async def subscriber(request: pytest.FixtureRequest, tmp_path: Path, start_process: StartProcess) -> AsyncIterator[Implementation]:
    running: list[Any] = []

    async def start_catalog() -> None:
        running.append(await start_process("services.ingest.subscribers.catalog", tmp_path / "home", environment))

    async def start_example() -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDIASYNC_")}
        command = [sys.executable, str(EXAMPLE), address, str(tmp_path / "pictures.db")]
        running.append(await asyncio.create_subprocess_exec(*command, env=environment))

    async def kill() -> None:
        process = getattr(running[-1], "process", running[-1])
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def restart() -> None:
        await kill()
        await start()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {"MEDIASYNC_LISTEN": address}
    if request.param == "catalog in PostgreSQL":
        environment["MEDIASYNC_INGEST__CONNECTION_STRING"] = request.getfixturevalue("postgres").url
    start = start_example if request.param == "example" else start_catalog
    await start()
    async with open_channel(address) as channel, asyncio.timeout(BOUND_SECONDS):
        await channel.channel_ready()
        yield Implementation(MediaIngestStub(channel), restart)
    await kill()


async def test_every_play_goes_well_also_the_one_that_kills_it(subscriber: Implementation) -> None:
    played = [one async for one in perform(subscriber.stub, PLAYS, b"mediasync-check/", subscriber.restart)]
    assert [one.name for one in played] == [name for name, _ in PLAYS]
    assert [one for one in played if not one.ok] == []
