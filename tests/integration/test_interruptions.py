"""Lines that break and users who change their mind: nothing half-written is seen, what happened is told, and the next sync goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.installation import Result
from tests.fixtures.mistakes import Case, refused
from tests.fixtures.proxy import ChaosProxy, StartProxy

pytestmark = pytest.mark.needs_sshd

FILES = 40
FILE_BYTES = 250_000
IMPATIENT = {"MEDIASYNC_SYNC__RETRY_ATTEMPTS": "1", "MEDIASYNC_SYNC__RETRY_DELAY_SECONDS": "0"}


@pytest.fixture
async def line(case: Case, start_proxy: StartProxy) -> tuple[Case, ChaosProxy]:
    """Ten megabytes at the far end of a line that can be cut."""
    for number in range(FILES - 1):
        case.write(f"big/{number:02}.bin", os.urandom(FILE_BYTES))
    proxy = await start_proxy(case.server.port)
    return case.at(case.server.through(proxy.port)), proxy


async def finished(process: subprocess.Popen[str]) -> Result:
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return Result(process.returncode, out, err)


async def some_landed(case: Case, proxy: ChaosProxy) -> None:
    """Waits until the line stands still and some files have landed."""
    async with asyncio.timeout(60):
        await proxy.stalled.wait()
        while not list(case.library.glob("big/*.bin")):
            await asyncio.sleep(0.02)


def begun(case: Case) -> list[Path]:
    """What came in part of large files."""
    return [path for path in (case.library / ".mediasync" / "partial").rglob("*") if path.is_file()]


def whole(case: Case) -> int:
    """How many files of the source are in the library, after a look that each is whole and nothing else takes room there."""
    there = case.hashes(case.library)
    there.pop(b"kept.txt")
    source = case.hashes(case.source)
    assert there == {path: source[path] for path in there}
    assert list((case.library / ".mediasync" / "staging").iterdir()) == []
    return len(there)


async def test_a_line_that_is_cut_once_comes_back_for_what_is_left(line: tuple[Case, ChaosProxy]) -> None:
    case, proxy = line
    proxy.stall_after_bytes = 3_000_000
    process = case.start("sync", case.url, case.library, *case.login, "--json", **IMPATIENT)
    async with asyncio.timeout(60):
        await proxy.stalled.wait()
    proxy.cut()
    proxy.resume()
    result = await finished(process)
    assert result.code == 0, result.err
    assert (result.json["state"], result.json["files_transferred"]) == ("complete", FILES)
    assert whole(case) == FILES


async def test_a_line_that_stays_cut_fails_the_sync_and_the_same_command_brings_the_rest(line: tuple[Case, ChaosProxy]) -> None:
    case, proxy = line
    proxy.cut_after_bytes = 3_000_000
    result = await asyncio.to_thread(case.sync, **IMPATIENT)
    said = (
        f"127.0.0.1 port {proxy.port}",
        "; tried 2 times",
        "Run the same command again: it goes on with what is left.",
    )
    refused(result, 3, "CONNECTION_LOST", *said)
    landed = whole(case)
    assert 0 < landed < FILES
    assert (result.json["files_transferred"], result.json["files_failed"]) == (landed, 0)
    assert result.json["bytes_transferred"] == sum(
        path.stat().st_size for path in case.library.glob("*/*.*") if path.parent.name != ".mediasync"
    )

    proxy.cut_after_bytes = None
    again = await asyncio.to_thread(case.complete)
    assert (again.json["files_transferred"], again.json["files_unchanged"]) == (FILES - landed, landed)


async def test_the_first_ctrl_c_cancels_and_keeps_what_has_landed(line: tuple[Case, ChaosProxy]) -> None:
    case, proxy = line
    case.write("last/large.bin", os.urandom(18 << 20))
    proxy.stall_after_bytes = FILES * FILE_BYTES + (9 << 20)
    process = case.start("sync", case.url, case.library, *case.login, "--json")
    await some_landed(case, proxy)
    assert begun(case) != []
    process.send_signal(signal.SIGINT)
    result = await finished(process)
    assert result.code == 5, result.err
    assert begun(case) == [], "nothing is left but finished files"
    assert "Cancelling; what has landed stays. Ctrl-C again leaves at once." in result.err
    landed = whole(case)
    assert 0 < landed < FILES
    assert (result.json["state"], result.json["files_transferred"], result.json["errors"]) == ("cancelled", landed, [])
    proxy.resume()
    assert (await asyncio.to_thread(case.complete)).json["files_transferred"] == FILES + 1 - landed


async def test_the_second_ctrl_c_leaves_at_once_and_the_services_end_by_themselves(line: tuple[Case, ChaosProxy], tmp_path: Path) -> None:
    case, proxy = line
    alone = replace(case, environ=case.environ | {"MEDIASYNC_HOME": str(tmp_path / "home")})
    proxy.stall_after_bytes = 3_000_000
    process = alone.start("sync", alone.url, alone.library, *alone.login, "--json")
    await some_landed(alone, proxy)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "Ctrl-C again leaves at once" in await asyncio.to_thread(process.stderr.readline)
    process.send_signal(signal.SIGINT)
    result = await finished(process)
    refused(result, 5, "CANCELLED")
    await asyncio.to_thread(alone.ended)
    assert alone.services() == {}
    landed = whole(alone)
    assert 0 < landed < FILES
    proxy.resume()
    assert (await asyncio.to_thread(alone.complete)).json["files_transferred"] == FILES - landed


async def test_ctrl_c_before_anything_has_begun_ends_the_command(case: Case, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(case.server.port)
    proxy.stall()
    slow = case.at(case.server.through(proxy.port))
    process = slow.start("sync", slow.url, slow.library, *slow.login, "--json")
    async with asyncio.timeout(60):
        while not proxy.connections:
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    result = await finished(process)
    assert result.code == 5, result.err
    assert (result.json["state"], result.json["files_transferred"]) == ("cancelled", 0)
    assert case.hashes(case.library).keys() == {b"kept.txt"}


async def test_a_line_that_broke_between_two_syncs_is_noticed_by_nobody(case: Case, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(case.server.port)
    there = case.at(case.server.through(proxy.port))
    await asyncio.to_thread(there.complete)
    proxy.cut()
    there.write("txt2img-images/00002.txt")
    assert (await asyncio.to_thread(there.complete)).json["files_transferred"] == 1
