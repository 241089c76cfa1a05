"""The page on the Python API is run as it is written."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from tests.fixtures.installation import Installation
from tests.fixtures.peer import Cli, PeerServer

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "python-api.md"


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


def test_the_complete_program_brings_pictures_with_services_of_its_own(installation: Installation) -> None:
    link = re.search(r"\((\.\./examples/\S+\.py)\)", PAGE.read_text())
    assert link
    program = (PAGE.parent / link[1]).resolve()
    installation.write("day/1.txt", b"one")
    server = installation.server
    login = ["--port", str(server.port), "--user", server.user, *installation.login]
    command = [sys.executable, "-P", str(program), server.host, str(installation.source), str(installation.library), *login]
    for expected in ("complete: 1 new, 0 unchanged", "complete: 0 new, 1 unchanged"):
        ended = subprocess.run(command, env=installation.environ, cwd=installation.folder, capture_output=True, text=True, timeout=90)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert expected in ended.stdout.splitlines()
        if "1 new" in expected:
            assert "  b'day/1.txt'  3 bytes  seed None" in ended.stdout.splitlines()
    assert (installation.library / "day" / "1.txt").read_bytes() == b"one"
    assert installation.services() == {}
    command[4] = "/nowhere/at/all"
    wrong = subprocess.run(command, env=installation.environ, cwd=installation.folder, capture_output=True, text=True, timeout=90)
    assert wrong.returncode == 1
    assert "  SOURCE_ROOT_MISSING: " in wrong.stdout


def test_every_call_that_the_page_names_is_there() -> None:
    from mediasync import Client

    named = set(re.findall(r"`?(?:await )?client\.(\w+)\(|`(\w+)\(", PAGE.read_text()))
    calls = {name for pair in named for name in pair if name} - {"Client"}
    assert {"start_sync", "watch", "list_files", "trust_host_key"} <= calls
    assert [name for name in calls if not hasattr(Client, name)] == []
