"""The page on the Python API is run as it is written."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.fixtures.peer import Cli, PeerServer

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"


async def test_the_first_program_of_the_page_runs(peer: PeerServer, cli: Cli) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert program
    environ = {**cli.environ, "MEDIASYNC_COORDINATOR_ADDRESS": peer.address}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program[1], env=environ, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        stdout, stderr = await process.communicate()
    assert (process.returncode, stderr) == (0, b"")
    assert stdout.decode().splitlines() == ["50 % transferring", "complete 3"]
    assert [folder.raw for folder in peer.peer.requests[0].spec.folders] == [b"txt2img-images"]


def test_every_call_that_the_page_names_is_there() -> None:
    from mediasync import Client

    named = set(re.findall(r"`?(?:await )?client\.(\w+)\(|`(\w+)\(", PAGE.read_text()))
    calls = {name for pair in named for name in pair if name} - {"Client"}
    assert {"start_sync", "watch", "list_files", "trust_host_key"} <= calls
    assert [name for name in calls if not hasattr(Client, name)] == []
