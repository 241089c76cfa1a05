"""How commands find the services of a data folder, or start them for their own length."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.local.control import SOCKET_NAME, ControlClient
from mediasync.local.launch import local_services
from mediasync.runtime.home import Home

PROGRAM = str(Path(__file__).with_name("supervisor_program.py"))
EPHEMERAL = (sys.executable, "-P", PROGRAM, "--ephemeral")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "a home")


async def test_services_are_started_for_the_length_of_a_command_and_gone_after_it(home: Home) -> None:
    async with local_services(home, command=EPHEMERAL) as services:
        assert services.ephemeral
        assert services.address == f"unix:{home.path}/coordinator.sock"
        assert (home.run / SOCKET_NAME).exists()
    assert not (home.run / SOCKET_NAME).exists()
    notes = (home.path / "notes").read_text().splitlines()
    assert sum(note.endswith(" ended") for note in notes) == 4


async def test_commands_that_start_at_once_share_one_set_of_services(home: Home) -> None:
    everybody_is_in = asyncio.Barrier(5)

    async def command() -> str:
        async with local_services(home, command=EPHEMERAL) as services:
            await everybody_is_in.wait()
            return services.address

    async with asyncio.timeout(60):
        assert len(set(await asyncio.gather(*(command() for _ in range(5))))) == 1
    notes = (home.path / "notes").read_text().splitlines()
    assert notes.count("coordinator started") == 1 and notes.count("coordinator ended") == 1


async def test_commands_one_after_another_each_get_services(home: Home) -> None:
    for _ in range(3):
        async with asyncio.timeout(30), local_services(home, command=EPHEMERAL):
            pass
    assert (home.path / "notes").read_text().splitlines().count("coordinator ended") == 3


async def test_a_command_that_comes_while_the_last_ones_services_end_gets_new_ones(home: Home) -> None:
    home.prepare()
    (home.path / "transfer.stubborn").touch()  # their end takes a second
    async with local_services(home, command=EPHEMERAL):
        control = await ControlClient.connect(str(home.run / SOCKET_NAME))
        await control.ask({"op": "stop"})
        async with asyncio.timeout(30), local_services(home, command=EPHEMERAL) as services:
            assert services.ephemeral
            assert (home.path / "notes").read_text().splitlines().count("transfer started") == 2
            (home.path / "transfer.stubborn").unlink()
        await control.close()


async def test_a_running_supervisor_is_used_and_left_alone(home: Home) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", PROGRAM, env={**os.environ, "MEDIASYNC_HOME": str(home.path)}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while not (home.run / SOCKET_NAME).exists():
                await asyncio.sleep(0.01)
            async with local_services(home, command=("/bin/false",)) as services:
                assert not services.ephemeral
        assert (home.run / SOCKET_NAME).exists()
        assert process.returncode is None
    finally:
        process.terminate()
        await process.wait()


async def test_a_coordinator_that_was_started_alone_is_used(home: Home) -> None:
    home.prepare()
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), home.socket_path("coordinator"))
    async with local_services(home, command=("/bin/false",)) as services:
        assert services.address == home.socket_address("coordinator")
    server.close()
    await server.wait_closed()


async def test_services_that_cannot_start_say_why_in_their_own_words(home: Home) -> None:
    home.prepare()
    (home.path / "transfer.refuse").write_text("no slots")
    with pytest.raises(MediasyncError, match="transfer cannot start: error: no slots") as caught:
        async with asyncio.timeout(30), local_services(home, command=EPHEMERAL):
            raise AssertionError("there are no services")
    assert caught.value.reason is Reason.SERVICE_FAILED_TO_START


async def test_a_child_whose_place_is_taken_is_not_taken_for_a_second_supervisor(home: Home) -> None:
    error = {
        "reason": "DATA_FOLDER_IN_USE",
        "message": "the service transfer runs already (process 7)",
        "remedy": "Stop it.",
        "exit_code": 2,
    }
    home.prepare()
    (home.path / "transfer.error").write_text(json.dumps(error))
    with pytest.raises(MediasyncError, match="transfer cannot start: the service transfer runs already") as caught:
        async with asyncio.timeout(30), local_services(home, command=EPHEMERAL):
            raise AssertionError("there are no services")
    assert (caught.value.reason, caught.value.remedy) == (Reason.SERVICE_FAILED_TO_START, "Stop it.")


async def test_a_supervisor_that_breaks_is_told_with_its_last_line(home: Home) -> None:
    with pytest.raises(MediasyncError, match="ended with 3: boom"):
        async with local_services(home, command=(sys.executable, "-c", "import sys; print('boom', file=sys.stderr); sys.exit(3)")):
            raise AssertionError("there are no services")


async def test_an_interrupted_command_lets_go_of_its_services(home: Home) -> None:
    inside = asyncio.Event()

    async def command() -> None:
        async with local_services(home, command=EPHEMERAL):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(command())
    async with asyncio.timeout(30):
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not (home.run / SOCKET_NAME).exists()


async def test_a_job_that_is_left_behind_keeps_the_services(home: Home) -> None:
    async with asyncio.timeout(30):
        async with local_services(home, command=EPHEMERAL):
            jobs = await ControlClient.connect(str(home.run / SOCKET_NAME))
            await jobs.ask({"hold": "jobs"})
        assert (await jobs.ask({"op": "status"}))["holds"] == {"client": 0, "jobs": 1}
        assert (await jobs.ask({"op": "release"}))["ending"]
        await jobs.wait_closed()
        await jobs.close()
