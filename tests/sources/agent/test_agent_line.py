"""A line that goes dead without a word, under the agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Engine
from mediasync.sources import ssh_terms
from mediasync.sources.agent import session
from mediasync.sources.base import ScanRequest
from mediasync.sources.factory import open_source
from tests.fixtures.proxy import ChaosProxy, StartProxy
from tests.fixtures.sources import Collector, FarSide, read, scan, want
from tests.fixtures.ssh import AsyncsshServers


@pytest.fixture
async def far(ssh_servers: AsyncsshServers, start_proxy: StartProxy, tmp_path: Path) -> tuple[FarSide, ChaosProxy]:
    """A far side, and the line to it."""
    server = await ssh_servers.start()
    proxy = await start_proxy(server.port)
    source = open_source(server.through(proxy.port).spec(engine=Engine.AGENT), home=tmp_path / "home")
    return FarSide(ssh_servers.root, source.connect, lambda connection: proxy.cut()), proxy


async def test_a_black_hole_ends_a_read(far: tuple[FarSide, ChaosProxy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LINE_SECONDS", 0.5)
    there, proxy = far
    there.put("x.bin", bytes(8_000_000))
    connection = await there.connect()
    found = await scan(connection)
    async with asyncio.timeout(30):
        with pytest.raises(MediasyncError) as raised:
            await read(connection, [want(found.files[b"x.bin"])], Collector(lambda wanted: proxy.stall()))
    assert raised.value.reason is Reason.CONNECTION_LOST
    assert "has sent nothing for" in raised.value.message
    proxy.resume()
    await connection.close()


async def test_a_black_hole_ends_a_watch(far: tuple[FarSide, ChaosProxy], monkeypatch: pytest.MonkeyPatch) -> None:
    there, proxy = far
    connection = await there.connect()
    watching = connection.watch(ScanRequest(known_directories={b"": 0}))
    async with asyncio.timeout(30):
        assert await anext(watching) == frozenset()
        monkeypatch.setattr(session, "LINE_SECONDS", 0.5)
        proxy.stall()
        with pytest.raises(MediasyncError) as raised:
            await anext(watching)
    assert raised.value.reason is Reason.CONNECTION_LOST
    proxy.resume()
    await connection.close()


def test_a_dead_line_is_noticed_within_half_a_minute() -> None:
    assert session.LINE_SECONDS * (1 + 1 / session.LOOKS) < 30
    assert ssh_terms.KEEPALIVE_SECONDS * (ssh_terms.KEEPALIVE_TRIES + 1) <= 30
