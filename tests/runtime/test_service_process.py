"""The life of a real service process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediasync import __version__
from mediasync.runtime.channels import open_channel
from mediasync.runtime.home import Home
from mediasync.runtime.lock import FileLock
from mediasync.runtime.records import LogFilter, read_logs
from mediasync.v1 import progress_pb2, progress_pb2_grpc
from tests.fixtures.runtime import PROGRESS_NAME

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("tiny_service.py")
BOUND_SECONDS = 30


@dataclass
class Tiny:
    """A running `tiny` service. `ready` is what it said on its descriptor, None when it ended without."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any] | None

    async def exit_code(self) -> int:
        async with asyncio.timeout(BOUND_SECONDS):
            return await self.process.wait()

    async def stderr(self) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(BOUND_SECONDS):
            return (await self.process.stderr.read()).decode()


Start = Callable[..., Awaitable[Tiny]]


@pytest.fixture
async def start(data_home: Home) -> AsyncIterator[Start]:
    """Starts a tiny service on the test's data folder and waits until it is ready, or has ended."""
    started: list[asyncio.subprocess.Process] = []

    async def begin(oddity: str = "", *, wait: bool = True, **environment: str) -> Tiny:
        reading, writing = os.pipe()
        settings = {"MEDIASYNC_HOME": str(data_home.path), "MEDIASYNC_READY_FD": str(writing), "TINY": oddity, "PYTHONPATH": str(ROOT)}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MEDIASYNC_", "LOG_BASE", "OTEL_"))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(PROGRAM)),
            env=kept | settings | environment,
            pass_fds=[writing],
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            line = (await asyncio.wait_for(asyncio.to_thread(pipe.readline), BOUND_SECONDS)) if wait else ""
        return Tiny(process, json.loads(line) if line else None)

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def logged(home: Home, level: str = "") -> list[str]:
    return [line.message for line in read_logs(home.logs, LogFilter(service="tiny", level=level))]


async def ask(address: str, what: str = "plain") -> str:
    async with open_channel(address) as channel:
        answer = await progress_pb2_grpc.ProgressStub(channel).GetProgress(progress_pb2.GetProgressRequest(sync_id=what), timeout=10)
        return str(answer.progress.current_stage)


async def test_it_says_when_it_serves_and_where(start: Start, data_home: Home) -> None:
    tiny = await start(MEDIASYNC_LISTEN="127.0.0.1:0")
    assert tiny.ready is not None
    unix, tcp = tiny.ready.pop("addresses")
    assert tiny.ready == {"service": "tiny", "pid": tiny.process.pid, "version": __version__}
    assert unix == data_home.socket_address("tiny")
    assert tcp.startswith("127.0.0.1:") and not tcp.endswith(":0")
    assert await ask(unix) and await ask(tcp)


@pytest.mark.parametrize("address", ["localhost:0", "[::1]:0"])
async def test_every_way_to_write_loopback_works(start: Start, address: str) -> None:
    tiny = await start(MEDIASYNC_LISTEN=address)
    assert tiny.ready is not None
    assert await ask(tiny.ready["addresses"][1])


async def test_health_is_known_for_each_service_and_for_all(start: Start, data_home: Home) -> None:
    await start()
    async with open_channel(data_home.socket_address("tiny")) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", PROGRESS_NAME):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="no service 'other' here"):
            await health.Check(health_pb2.HealthCheckRequest(service="other"))
        assert set((await health.List(health_pb2.HealthListRequest())).statuses) == {"", PROGRESS_NAME}


async def test_sigterm_drains_calls_finish_watches_see_it_and_callbacks_run(start: Start, data_home: Home) -> None:
    tiny = await start()
    async with open_channel(data_home.socket_address("tiny")) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        stream = progress_pb2_grpc.ProgressStub(channel).Watch(progress_pb2.ProgressWatchRequest(sync_id="drain"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await stream.read()).resume_token == "1"
        tiny.process.terminate()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.read() == grpc.aio.EOF
        assert (await stream.read()).resume_token == "2"
        assert await stream.read() == grpc.aio.EOF
    assert await tiny.exit_code() == 0
    assert (data_home.path / "stopped").read_text() == "tiny"
    assert not data_home.socket_path("tiny").exists()
    assert logged(data_home)[-2:] == ["Draining", "Stopped"]
    assert (data_home.logs / "tiny.spans.jsonl").read_text().count("Progress/Watch") == 1


async def test_a_second_sigterm_ends_it_at_once(start: Start, data_home: Home) -> None:
    tiny = await start()
    async with open_channel(data_home.socket_address("tiny")) as channel:
        stream = progress_pb2_grpc.ProgressStub(channel).Watch(progress_pb2.ProgressWatchRequest(sync_id="wait"))
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await stream.read()
        await health.read()
        tiny.process.terminate()
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        tiny.process.terminate()
        assert await tiny.exit_code() == 128 + signal.SIGTERM
    assert not (data_home.path / "stopped").exists()


async def test_ctrl_c_drains_one_that_runs_by_itself(start: Start) -> None:
    tiny = await start()
    tiny.process.send_signal(signal.SIGINT)
    assert await tiny.exit_code() == 0
    assert "Draining" in await tiny.stderr()


async def test_under_a_supervisor_the_end_of_stdin_drains_and_ctrl_c_does_not(start: Start, data_home: Home) -> None:
    tiny = await start(MEDIASYNC_SUPERVISED="1")
    tiny.process.send_signal(signal.SIGINT)
    assert await ask(data_home.socket_address("tiny"))
    assert tiny.process.stdin is not None
    tiny.process.stdin.close()
    assert await tiny.exit_code() == 0
    assert (data_home.path / "stopped").exists()
    assert await tiny.stderr() == ""


async def test_without_a_supervisor_the_end_of_stdin_means_nothing(start: Start, data_home: Home) -> None:
    tiny = await start()
    assert tiny.process.stdin is not None
    tiny.process.stdin.close()
    await tiny.process.stdin.wait_closed()
    assert await ask(data_home.socket_address("tiny"))


async def test_one_that_still_waits_for_something_ends_when_told(start: Start, data_home: Home) -> None:
    tiny = await start("waits", wait=False)
    async with asyncio.timeout(BOUND_SECONDS):
        while not (data_home.path / "waiting").exists():
            await asyncio.sleep(0.02)
    tiny.process.terminate()
    assert await tiny.exit_code() == 0


async def test_a_second_one_on_the_same_data_folder_is_refused_and_names_the_first(start: Start, data_home: Home) -> None:
    with FileLock(data_home.run / "tiny.lock") as lock:
        lock.acquire("The test")
        tiny = await start()
        assert tiny.ready is None
        assert await tiny.exit_code() == 2
    assert f"(process {os.getpid()})" in (await tiny.stderr()).splitlines()[-1]


async def test_it_takes_over_from_one_that_is_just_ending(start: Start, data_home: Home) -> None:
    with FileLock(data_home.run / "tiny.lock") as lock:
        lock.acquire("The test")
        tiny = await start(wait=False)
        async with asyncio.timeout(BOUND_SECONDS):
            while not any(os.path.realpath(fd) == str(lock.path) for fd in Path(f"/proc/{tiny.process.pid}/fd").iterdir()):
                await asyncio.sleep(0.02)
    async with open_channel(data_home.socket_address("tiny")) as channel:
        request = health_pb2.HealthCheckRequest()
        await health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True, timeout=BOUND_SECONDS)


async def test_one_that_was_killed_leaves_nothing_in_the_way(start: Start, data_home: Home) -> None:
    first = await start()
    first.process.kill()
    assert await first.exit_code() == -signal.SIGKILL
    assert data_home.socket_path("tiny").exists()
    second = await start()
    assert second.ready is not None
    assert await ask(data_home.socket_address("tiny"))


async def test_a_channel_finds_a_restarted_service_again(start: Start, data_home: Home) -> None:
    first = await start()
    async with open_channel(data_home.socket_address("tiny")) as channel:
        stub = progress_pb2_grpc.ProgressStub(channel)
        request = progress_pb2.GetProgressRequest(sync_id="plain")
        await stub.GetProgress(request)
        first.process.kill()
        await first.exit_code()
        pending = asyncio.ensure_future(stub.GetProgress(request, wait_for_ready=True, timeout=BOUND_SECONDS))
        await start()
        assert (await pending).progress.current_stage


async def test_an_address_in_use_is_named_with_what_to_do(start: Start, data_home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        tiny = await start(MEDIASYNC_LISTEN=address)
        assert tiny.ready is None
        assert await tiny.exit_code() == 2
    last = (await tiny.stderr()).splitlines()[-1]
    assert last.startswith(f"mediasync tiny: The address {address} is already in use") and "MEDIASYNC_LISTEN" in last
    assert any(address in message for message in logged(data_home, "error"))
    assert (data_home.path / "stopped").exists()


async def test_two_services_never_share_a_port(start: Start, data_home: Home, tmp_path: Path) -> None:
    first = await start(MEDIASYNC_LISTEN="127.0.0.1:0")
    assert first.ready is not None
    other = Home(tmp_path / "other")
    second = await start(MEDIASYNC_LISTEN=first.ready["addresses"][1], MEDIASYNC_HOME=str(other.path))
    assert second.ready is None
    assert await second.exit_code() == 2


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0:7171", "Refusing to listen on 0.0.0.0:7171"),
        ("example.org:7171", "Refusing to listen on example.org:7171"),
        ("[::]:7171", "Refusing to listen"),
        ("7171", "is not HOST:PORT"),
        ("127.0.0.1:http", "is not HOST:PORT"),
        ("127.0.0.1:65536", "is not HOST:PORT"),
    ],
)
async def test_an_address_that_others_could_reach_or_nobody_understands_is_refused(start: Start, address: str, words: str) -> None:
    tiny = await start(MEDIASYNC_LISTEN=address)
    assert (tiny.ready, await tiny.exit_code()) == (None, 2)
    assert words in await tiny.stderr()


async def test_what_keeps_it_from_starting_is_one_line_with_the_remedy(start: Start) -> None:
    tiny = await start("refuses")
    assert (tiny.ready, await tiny.exit_code()) == (None, 2)
    assert (await tiny.stderr()).splitlines()[-1] == "mediasync tiny: The key x is wrong. Remove it."


async def test_what_keeps_it_from_starting_is_told_to_a_supervisor_as_it_is(start: Start) -> None:
    tiny = await start("refuses", MEDIASYNC_SUPERVISED="1")
    error = {"reason": "CONFIGURATION_INVALID", "message": "The key x is wrong.", "remedy": "Remove it.", "exit_code": 2}
    assert (tiny.ready, await tiny.exit_code()) == ({"service": "tiny", "error": error}, 2)
    assert await tiny.stderr() == ""


async def test_a_bug_at_the_start_ends_it_with_70_and_a_traceback_in_the_log(start: Start, data_home: Home) -> None:
    tiny = await start("bug", MEDIASYNC_SUPERVISED="1")
    assert (tiny.ready, await tiny.exit_code()) == (None, 70)
    assert (await tiny.stderr()).count("\n") == 1
    (line,) = [line for line in read_logs(data_home.logs, LogFilter(level="error")) if line.exception]
    assert "KeyError: 'x'" in line.exception


async def test_a_background_task_that_fails_takes_the_process_down(start: Start, data_home: Home) -> None:
    tiny = await start("task-fails")
    assert await tiny.exit_code() == 70
    assert "The background task failing failed" in logged(data_home, "error")
    assert (data_home.path / "stopped").exists()


async def test_a_data_folder_of_a_newer_version_is_refused(start: Start, data_home: Home) -> None:
    (data_home.path / "data-version").write_text("99\n")
    tiny = await start()
    assert (tiny.ready, await tiny.exit_code()) == (None, 2)
    assert "written by a newer mediasync" in await tiny.stderr()


async def test_one_process_can_serve_under_two_names(start: Start, data_home: Home) -> None:
    tiny = await start("two")
    assert tiny.ready is not None
    assert tiny.ready["addresses"] == [data_home.socket_address("tiny"), data_home.socket_address("second")]
    assert await ask(data_home.socket_address("second"))
    tiny.process.terminate()
    assert await tiny.exit_code() == 0
    assert not data_home.socket_path("second").exists()


async def test_an_odd_path_of_the_data_folder_is_no_obstacle(start: Start, tmp_path: Path) -> None:
    home = Home(tmp_path / "a b%20ü?#&")
    tiny = await start(MEDIASYNC_HOME=str(home.path))
    assert tiny.ready is not None
    assert await ask(home.socket_address("tiny"))


async def test_it_dies_at_a_named_point_once_and_goes_on_after_a_restart(start: Start, data_home: Home) -> None:
    first = await start("crashes", MEDIASYNC_CRASH_AT="tiny.here:2")
    assert (first.ready, await first.exit_code()) == (None, -signal.SIGKILL)
    assert (data_home.run / "crashed.tiny.here").exists()
    second = await start("crashes", MEDIASYNC_CRASH_AT="tiny.here:2")
    assert second.ready is not None


async def test_a_point_that_is_passed_less_often_than_asked_does_nothing(start: Start, data_home: Home) -> None:
    tiny = await start("crashes", MEDIASYNC_CRASH_AT="tiny.here:4")
    assert tiny.ready is not None
    assert not (data_home.run / "crashed.tiny.here").exists()
