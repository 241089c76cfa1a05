"""What the contract suite of sources shares. Which backends it runs on is said in tests/fixtures/backends.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mediasync.sources.base import Connection
from tests.fixtures.sources import FarSide


@pytest.fixture
async def connection(far: FarSide) -> AsyncIterator[Connection]:
    """One connection to the far side."""
    connection = await far.connect()
    yield connection
    await connection.close()
