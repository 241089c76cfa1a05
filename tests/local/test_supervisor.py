"""The supervisor as a real process over real children."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.local.control import SOCKET_NAME, ControlClient
from mediasync.local.supervisor import EXIT_LOST_RACE
from mediasync.runtime.home import Home

PROGRAM = str(Path(__file__).with_name("supervisor_program.py"))
NAMES = ["progress", "ingest", "transfer", "cleanup", "coordinator"]
AT_ONCE = [name for name in NAMES if name != "cleanup"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


class Running:
    """A supervisor under test."""

    def __init__(self, process: asyncio.subprocess.Process, home: Home) -> None:
        self.process = process
        self.home = home
        self.clients: list[ControlClient] = []

    async def control(self) -> ControlClient:
        async with asyncio.timeout(20):
            while True:
                try:
                    client = await ControlClient.connect(str(self.home.run / SOCKET_NAME))
                    self.clients.append(client)
                    return client
                except OSError:
                    await asyncio.sleep(0.01)

    async def ready(self) -> ControlClient:
        control = await self.control()
        await control.ask({"op": "ready"})
        return control

    async def status_until(self, wanted: Callable[[dict], bool]) -> dict:
        control = await self.control()
        async with asyncio.timeout(20):
            while not wanted(status := await control.ask({"op": "status"})):
                await asyncio.sleep(0.01)
            return status

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()

    def notes(self) -> list[str]:
        return (self.home.path / "notes").read_text().splitlines()


@asynccontextmanager
async def supervisor(home: Home, *arguments: str, environ: Mapping[str, str] | None = None, **keywords: object) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        PROGRAM,
        *arguments,
        env={**os.environ, "MEDIASYNC_HOME": str(home.path), **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **keywords,
    )
    running = Running(process, home)
    try:
        yield running
    finally:
        for client in running.clients:
            await client.close()
        if process.returncode is None:
            process.kill()
        await process.communicate()


def child(status: dict, name: str) -> dict:
    return next(child for child in status["children"] if child["name"] == name)


async def test_everything_starts_and_is_described(home: Home) -> None:
    async with supervisor(home, "--listen", "127.0.0.1:0") as running:
        control = await running.ready()
        status = await control.ask({"op": "status"})
        assert [row["name"] for row in status["children"]] == NAMES
        assert {row["state"] for row in status["children"]} == {"ready"}
        assert {row["version"] for row in status["children"]} == {"9.9"}
        assert child(status, "coordinator")["addresses"] == ["127.0.0.1:0"]
        assert status["supervisor"]["address"] == "127.0.0.1:0"
        assert status["supervisor"]["pid"] == running.process.pid
        assert status["supervisor"]["ephemeral"] is False
        assert status["holds"] == {"client": 0, "jobs": 0}
        greeting = (await running.process.stdout.readuntil(b"Ctrl-C")).decode()
        assert "127.0.0.1:0" in greeting and str(home.path) in greeting and "mediasync sync" in greeting
        assert await running.stop() == 0


async def test_the_ready_message_can_be_json(home: Home) -> None:
    async with supervisor(home, "--json") as running:
        async with asyncio.timeout(20):
            status = json.loads(await running.process.stdout.readline())
        assert status["supervisor"]["home"] == str(home.path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_drains_the_children_the_asker_first(home: Home, number: int) -> None:
    async with supervisor(home) as running:
        await running.ready()
        assert await running.stop(number) == 0
        ended = [note.split()[0] for note in running.notes() if note.endswith(" ended")]
        assert ended == NAMES[::-1]
        assert not (home.run / SOCKET_NAME).exists()


async def test_a_child_that_dies_is_started_again_and_that_is_said(home: Home) -> None:
    async with supervisor(home) as running:
        control = await running.ready()
        before = child(await control.ask({"op": "status"}), "transfer")
        os.kill(before["pid"], signal.SIGKILL)
        after = child(await running.status_until(lambda status: child(status, "transfer")["restarts"] == 1), "transfer")
        await control.ask({"op": "ready"})
        after = child(await control.ask({"op": "status"}), "transfer")
        assert after["state"] == "ready" and after["pid"] not in (0, before["pid"])
        line = (await running.process.stderr.readline()).decode()
        assert "transfer was killed by SIGKILL; starting it again in 0.05 s" in line
        log = [json.loads(text) for text in (home.logs / "supervisor.log.jsonl").read_text().splitlines()]
        assert any(row["level"] == "warning" and row.get("child") == "transfer" and row["exit_code"] == -9 for row in log)


async def test_restarts_wait_longer_and_longer(home: Home) -> None:
    async with supervisor(home) as running:
        control = await running.ready()
        (home.path / "ingest.crash").touch()
        os.kill(child(await control.ask({"op": "status"}), "ingest")["pid"], signal.SIGKILL)
        await running.status_until(lambda status: child(status, "ingest")["restarts"] >= 4)
        said = [line async for line in _lines_until(running, b"0.2 s")]
        delays = [line.rsplit(" in ", 1)[1].strip() for line in said if "starting it again" in line]
        assert delays == ["0.05 s", "0.1 s", "0.2 s"]
        (home.path / "ingest.crash").unlink()
        await control.ask({"op": "ready"})


async def _lines_until(running: Running, end: bytes) -> AsyncIterator[str]:
    async with asyncio.timeout(20):
        while True:
            line = await running.process.stderr.readline()
            yield line.decode()
            if end in line:
                return


async def test_a_child_that_refuses_its_configuration_at_first_start_ends_it_with_the_childs_words(home: Home) -> None:
    (home.path / "transfer.refuse").write_text("transfer.slots is not a number")
    async with supervisor(home) as running:
        async with asyncio.timeout(20):
            _, stderr = await running.process.communicate()
        assert running.process.returncode == 2
        assert "error: transfer cannot start: error: transfer.slots is not a number" in stderr.decode()
        assert running.notes().count("transfer started") == 1


async def test_what_a_child_says_keeps_it_from_starting_is_passed_on_with_its_reason_and_remedy(home: Home) -> None:
    error = {"reason": "DATA_FOLDER_NEWER", "message": "transfer.db is too new", "remedy": "Upgrade.", "exit_code": 2}
    (home.path / "transfer.error").write_text(json.dumps(error))
    async with supervisor(home) as running:
        async with asyncio.timeout(20):
            _, stderr = await running.process.communicate()
        assert running.process.returncode == 2
        assert stderr.decode() == "error: transfer.db is too new\n  → Upgrade.\n"
        assert running.notes().count("transfer started") == 1


async def test_a_child_that_never_gets_ready_is_given_up_after_some_starts(home: Home) -> None:
    (home.path / "progress.crash").touch()
    async with supervisor(home) as running:
        async with asyncio.timeout(20):
            _, stderr = await running.process.communicate()
        assert running.process.returncode == 6
        assert "progress cannot start: Traceback: it broke" in stderr.decode()
        assert running.notes().count("progress started") == 3


async def test_a_child_that_hangs_while_starting_is_killed(home: Home) -> None:
    (home.path / "progress.silent").touch()
    async with supervisor(home, environ={"TEST_READY_SECONDS": "1"}) as running:
        control = await running.control()
        status = await control.ask({"op": "status"})
        assert child(status, "progress")["state"] == "starting"
        assert "progress was killed by SIGKILL" in (await running.process.stderr.readline()).decode()


async def test_a_child_that_does_not_end_is_killed_after_the_grace(home: Home) -> None:
    (home.path / "transfer.stubborn").touch()
    async with supervisor(home) as running:
        await running.ready()
        assert await running.stop() == 0
        stderr = (await running.process.stderr.read()).decode()
        assert "transfer has not ended 1 s after it was asked to; killing it" in stderr
        drained = [note.split()[0] for note in running.notes() if note.endswith(" ended")]
        assert drained == [name for name in reversed(NAMES) if name != "transfer"]


async def test_a_second_signal_kills_what_still_runs(home: Home) -> None:
    (home.path / "coordinator.stubborn").touch()
    async with supervisor(home) as running:
        await running.ready()
        running.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await running.process.stderr.readuntil(b"once more kills them")
        began = time.monotonic()
        assert await running.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 1


async def test_no_child_survives_a_killed_supervisor(home: Home) -> None:
    async with supervisor(home) as running:
        await running.ready()
        await running.stop(signal.SIGKILL)
        async with asyncio.timeout(20):
            while sum(note.endswith(" ended") for note in running.notes()) < len(NAMES):
                await asyncio.sleep(0.01)
        assert "transfer saw the end of its stdin" in running.notes()


async def test_a_second_one_on_the_same_data_folder_is_refused_and_names_the_first(home: Home) -> None:
    async with supervisor(home, "--listen", "127.0.0.1:0") as first:
        await first.ready()
        await first.process.stdout.readline()
        async with supervisor(home) as second:
            async with asyncio.timeout(20):
                _, stderr = await second.process.communicate()
        assert second.process.returncode == 2
        text = stderr.decode()
        assert f"pid {first.process.pid}" in text and "127.0.0.1:0" in text and f"since {time.strftime('%Y-')}" in text
        assert (await (await first.control()).ask({"op": "status"}))["children"]


async def test_an_up_beside_the_services_of_a_command_is_refused_and_says_what_they_are(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as first:
        await (await first.ready()).ask({"hold": "client"})
        async with supervisor(home) as second:
            async with asyncio.timeout(20):
                _, stderr = await second.process.communicate()
        assert second.process.returncode == 2
        assert "a `mediasync` command that is still under way" in stderr.decode()


async def test_a_port_that_is_taken_is_said_before_anything_starts(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with supervisor(home, "--listen", f"127.0.0.1:{port}") as running, asyncio.timeout(20):
            _, stderr = await running.process.communicate()
    assert running.process.returncode == 2
    assert f"cannot listen at 127.0.0.1:{port}: another program listens there" in stderr.decode()
    assert "--listen 127.0.0.1:0" in stderr.decode()
    assert not (home.path / "notes").exists()


@pytest.mark.parametrize("listen", ["7171", "127.0.0.1:", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_refused(home: Home, listen: str) -> None:
    async with supervisor(home, "--listen", listen) as running, asyncio.timeout(20):
        _, stderr = await running.process.communicate()
    assert running.process.returncode == 2
    assert "is not an address to listen at" in stderr.decode()


async def test_stop_over_the_socket_ends_everything_and_then_the_connection(home: Home) -> None:
    async with supervisor(home) as running:
        control = await running.ready()
        assert await control.ask({"op": "stop"}) == {"stopping": True}
        async with asyncio.timeout(20):
            await control.wait_closed()
            assert await running.process.wait() == 0


async def test_one_that_stays_is_idle_when_nobody_holds_it_any_more(home: Home) -> None:
    def processor_ticks() -> int:
        fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    async with supervisor(home) as running:
        control = await running.ready()
        await control.ask({"hold": "client"})
        assert await control.ask({"op": "release"}) == {"ending": False}
        before = processor_ticks()
        # Longer than one that is ephemeral would linger.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await running.process.wait()
        assert processor_ticks() - before <= 3


async def test_an_ephemeral_one_ends_when_its_last_holder_lets_go(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as running:
        first, second = await running.ready(), await running.ready()
        await first.ask({"hold": "client"})
        await second.ask({"hold": "jobs"})
        assert (await first.ask({"op": "status"}))["holds"] == {"client": 1, "jobs": 1}
        assert await first.ask({"op": "release"}) == {"ending": False}
        async with asyncio.timeout(20):
            assert await second.ask({"op": "release"}) == {"ending": True}
            await second.wait_closed()
            assert await running.process.wait() == 0
        assert sum(note.endswith(" ended") for note in running.notes()) == len(AT_ONCE)


async def test_an_ephemeral_one_ends_when_its_holder_is_killed(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as running:
        control = await running.ready()
        await control.ask({"hold": "client"})
        await control.close()
        async with asyncio.timeout(20):
            assert await running.process.wait() == 0


async def test_who_comes_while_it_ends_is_told_to_wait(home: Home) -> None:
    (home.path / "transfer.stubborn").touch()
    async with supervisor(home) as running:
        control = await running.ready()
        await control.ask({"op": "stop"})
        late = await running.control()
        assert (await late.ask({"op": "status"}))["supervisor"]["stopping"]
        assert await late.ask({"hold": "client"}) == {"held": False}
        async with asyncio.timeout(20):
            await late.wait_closed()


async def test_what_is_started_on_demand_is_started_when_it_is_needed_and_once(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as running:
        control = await running.ready()
        await control.ask({"hold": "client"})
        assert [row["name"] for row in (await control.ask({"op": "status"}))["children"]] == AT_ONCE
        other = await running.control()
        answers = await asyncio.gather(*(client.ask({"op": "need", "service": "cleanup"}) for client in (control, other)))
        assert answers == [{"ready": True}] * 2
        status = await control.ask({"op": "status"})
        assert [row["name"] for row in status["children"]] == NAMES
        assert child(status, "cleanup")["state"] == "ready"
        assert running.notes().count("cleanup started") == 1
        with pytest.raises(MediasyncError, match=r"'laundry'; expected one of progress, .*cleanup"):
            await control.ask({"op": "need", "service": "laundry"})
        assert await control.ask({"op": "release"}) == {"ending": True}
        async with asyncio.timeout(20):
            await running.process.wait()
        assert "cleanup ended" in running.notes()


async def test_what_cannot_be_started_on_demand_is_an_error_of_who_asked_alone(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as running:
        control = await running.ready()
        await control.ask({"hold": "client"})
        (home.path / "cleanup.refuse").write_text("no room")
        with pytest.raises(MediasyncError, match="cleanup cannot start: error: no room") as caught:
            await control.ask({"op": "need", "service": "cleanup"})
        assert caught.value.reason is Reason.SERVICE_FAILED_TO_START
        await control.ask({"op": "ready"})
        (home.path / "cleanup.refuse").unlink()
        assert await control.ask({"op": "need", "service": "cleanup"}) == {"ready": True}
        assert [row["name"] for row in (await control.ask({"op": "status"}))["children"]] == NAMES


async def test_what_was_started_on_demand_is_started_again_when_it_dies(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as running:
        control = await running.ready()
        await control.ask({"hold": "client"})
        await control.ask({"op": "need", "service": "cleanup"})
        os.kill(child(await control.ask({"op": "status"}), "cleanup")["pid"], signal.SIGKILL)
        await running.status_until(lambda status: child(status, "cleanup")["restarts"] == 1)
        assert await control.ask({"op": "need", "service": "cleanup"}) == {"ready": True}


async def test_without_commands_everything_runs_and_is_only_waited_for(home: Home) -> None:
    async with supervisor(home) as running:
        control = await running.control()
        assert await control.ask({"op": "need", "service": "cleanup"}) == {"ready": True}
        assert running.notes().count("cleanup started") == 1


async def test_an_ephemeral_one_that_nobody_attaches_to_ends(home: Home) -> None:
    async with supervisor(home, "--ephemeral", environ={"TEST_UNATTACHED_SECONDS": "0.3"}) as running, asyncio.timeout(20):
        assert await running.process.wait() == 0


async def test_an_ephemeral_one_outlives_the_restart_of_the_child_that_held_it(home: Home) -> None:
    async with supervisor(home, "--ephemeral") as running:
        control = await running.ready()
        await control.ask({"hold": "jobs"})
        pid = child(await control.ask({"op": "status"}), "coordinator")["pid"]
        os.kill(pid, signal.SIGKILL)
        await control.close()  # as the kernel does for the dead coordinator
        await running.status_until(lambda status: child(status, "coordinator")["restarts"] == 1)
        again = await running.ready()
        await again.ask({"hold": "jobs"})
        async with asyncio.timeout(20):
            assert await again.ask({"op": "release"}) == {"ending": True}


async def test_an_ephemeral_one_that_lost_the_race_says_so_by_its_exit_code(home: Home) -> None:
    async with supervisor(home) as first:
        await first.ready()
        async with supervisor(home, "--ephemeral") as second, asyncio.timeout(20):
            assert await second.process.wait() == EXIT_LOST_RACE


async def test_an_ephemeral_one_that_cannot_start_says_why_on_stdout(home: Home) -> None:
    (home.path / "ingest.refuse").write_text("no")
    async with supervisor(home, "--ephemeral") as running, asyncio.timeout(20):
        stdout, _ = await running.process.communicate()
    error = json.loads(stdout)["error"]
    assert error["reason"] == "SERVICE_FAILED_TO_START" and "ingest cannot start: error: no" in error["message"] and error["exit_code"] == 2


async def test_an_unknown_request_is_answered_and_a_broken_one_ends_the_connection(home: Home) -> None:
    async with supervisor(home) as running:
        control = await running.ready()
        with pytest.raises(Exception, match="does not know what it was asked"):
            await control.ask({"op": "dance"})
        reader, writer = await asyncio.open_unix_connection(str(home.run / SOCKET_NAME))
        writer.write(b"not json\n")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        assert await control.ask({"op": "ready"}) == {"ready": True}


def test_a_folder_called_services_in_the_callers_folder_does_not_shadow_ours(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "mediasync").mkdir()
    (tmp_path / "mediasync" / "__init__.py").write_text("raise SystemExit('shadowed')")
    code = (
        "import subprocess, sys\n"
        "from mediasync.local.children import service_commands\n"
        "import mediasync.local.launch as launch\n"
        "for argv in {c.argv[:2] for c in service_commands()} | {launch.EPHEMERAL[:2]}:\n"
        "    subprocess.run([*argv, '-c', 'import services, mediasync.local.supervisor'], check=True)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_the_supervisor_loads_nothing_heavy() -> None:
    code = "import mediasync.local.supervisor, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not {"grpc", "pydantic", "google.protobuf", "opentelemetry", "typer", "yaml"} & set(loaded)
