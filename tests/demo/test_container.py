"""The stand-in for a container."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from demo.container import StandIn


@asynccontextmanager
async def login(container: StandIn) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncio.timeout(30):
        async with asyncssh.connect(
            container.host,
            container.port,
            username=container.user,
            client_keys=[str(container.identity_file)],
            known_hosts=str(container.known_hosts_file),
            config=None,
        ) as connection:
            yield connection


async def test_real_commands_run_in_its_home(tmp_path: Path) -> None:
    async with StandIn(tmp_path) as container, login(container) as connection:
        (container.home / "note.txt").write_text("hello")
        done = await connection.run("pwd; cat ~/note.txt; echo oops >&2; exit 3")
        assert done.stdout == f"{container.home}\nhello"
        assert done.stderr == "oops\n"
        assert done.exit_status == 3
        assert container.url(container.home) == f"ssh://{container.user}@127.0.0.1:{container.port}{container.home}"


async def test_bytes_go_both_ways_unchanged_and_an_end_is_passed_on(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    async with StandIn(tmp_path) as container, login(container) as connection:
        done = await connection.run("cat", input=data, encoding=None)
        assert done.stdout == data


async def test_a_session_without_a_command_is_a_shell(tmp_path: Path) -> None:
    async with StandIn(tmp_path, greeting="Welcome\n") as container, login(container) as connection:
        done = await connection.run(input="echo $HOME\n")
        assert done.stdout == f"Welcome\n{container.home}\n"


async def test_a_command_that_reads_nothing_may_end_before_its_input(tmp_path: Path) -> None:
    async with StandIn(tmp_path) as container, login(container) as connection:
        done = await connection.run("true", input=b"x" * 10_000_000, encoding=None)
        assert done.exit_status == 0


async def test_a_command_that_is_killed_says_by_what(tmp_path: Path) -> None:
    async with StandIn(tmp_path) as container, login(container) as connection:
        done = await connection.run("kill -KILL $$")
        assert done.exit_signal is not None
        assert done.exit_signal[0] == "KILL"


async def test_only_its_own_key_is_let_in_and_only_its_own_host_key_is_shown(tmp_path: Path) -> None:
    async with StandIn(tmp_path / "one") as one, StandIn(tmp_path / "two") as two:
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                one.host, one.port, client_keys=[str(two.identity_file)], known_hosts=str(one.known_hosts_file), config=None
            )
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await asyncssh.connect(
                one.host, one.port, client_keys=[str(one.identity_file)], known_hosts=str(two.known_hosts_file), config=None
            )


async def test_a_command_ends_with_its_connection(tmp_path: Path) -> None:
    async with StandIn(tmp_path) as container:
        async with login(container) as connection:
            process = await connection.create_process("echo $$; exec sleep 300")
            pid = int(await process.stdout.readline())
            connection.abort()
        async with asyncio.timeout(20):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.02)


async def test_its_keys_stay_the_same_when_it_is_started_again(tmp_path: Path) -> None:
    async with StandIn(tmp_path) as container:
        first = container.known_hosts_file.read_text().split()[1:]
        assert container.identity_file.stat().st_mode & 0o077 == 0
    async with StandIn(tmp_path) as container, login(container) as connection:
        assert container.known_hosts_file.read_text().split()[1:] == first
        assert (await connection.run("true")).exit_status == 0


async def test_its_line_is_as_slow_as_asked(tmp_path: Path) -> None:
    async with StandIn(tmp_path, bytes_per_second=2_000_000) as container, login(container) as connection:
        start = time.monotonic()
        done = await connection.run("head -c 1000000 /dev/zero", encoding=None)
        assert len(done.stdout or b"") == 1_000_000
        assert time.monotonic() - start >= 0.45


async def test_as_a_process_it_prints_where_it_is_and_ends_on_a_signal(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.container", str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        told = json.loads(await process.stdout.readline())
        async with asyncssh.connect(
            told["host"],
            told["port"],
            username=told["user"],
            client_keys=[told["identity_file"]],
            known_hosts=told["known_hosts_file"],
            config=None,
        ) as connection:
            assert (await connection.run("pwd")).stdout == told["home"] + "\n"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
