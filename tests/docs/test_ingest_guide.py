"""The guide for writers of subscribers is followed to the letter: its programs are taken out of it and run against real services."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from mediasync.runtime.home import Home
from mediasync.v1 import media_ingest_pb2 as pb
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, StartProcess, file_event, file_events, sync_event

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "ingest-guide.md").read_text()


def block(label: str) -> str:
    """The code block after `<!-- label -->`."""
    found = re.search(rf"<!-- {re.escape(label)} -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL)
    assert found, f"the guide has no block {label!r}"
    return found[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(label: str, port: int) -> list[str]:
    """A command line of the guide, with this interpreter and a port that is free here."""
    words = shlex.split(block(label).strip().replace("50061", str(port)))
    return [sys.executable, *words[1:]] if words[0] == "python" else words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which everything that the guide says to save is saved."""
    folder = tmp_path / "follower"
    folder.mkdir()
    for name in ("subscriber.py", "follow.py", "status.py"):
        (folder / name).write_text(block(f"file: {name}"))
    return folder


@contextlib.asynccontextmanager
async def subscriber(folder: Path, port: int) -> AsyncIterator[None]:
    """The guide's subscriber, running as the guide says."""
    process = await asyncio.create_subprocess_exec(*command("run: subscriber", port), cwd=folder)
    try:
        async with asyncio.timeout(BOUND_SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
        yield
    finally:
        process.terminate()
        await process.wait()


async def run(folder: Path, words: list[str], home: Home) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        cwd=folder,
        env={"MEDIASYNC_HOME": str(home.path), "PATH": "/usr/bin:/bin"},
        timeout=BOUND_SECONDS,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "pictures.db")) as connection:
        return connection.execute(query).fetchall()


def test_the_guides_subscriber_is_the_example_and_short() -> None:
    code = block("file: subscriber.py")
    assert code == (ROOT / "examples" / "subscriber_python" / "subscriber.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 40


async def test_following_the_guide_ends_with_every_picture_in_the_readers_own_table(
    folder: Path, tmp_path: Path, start_process: StartProcess
) -> None:
    home, port = Home(tmp_path / "home"), free_port()
    await start_process("services.ingest", home.path)
    ingest = Ingest(home)
    early = file_events(3)
    await ingest.publish(early)
    async with subscriber(folder, port):
        await run(folder, command("run: follow", port), home)
        metadata = pb.GenerationMetadata(prompt="a 'cat'\0", seed=2**64 - 1)
        odd = b"odd \n\xff'; DROP TABLE pictures; --.png"
        processed = file_event(odd, pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)
        gone = file_event(early[0].file.library_path.raw, pb.EVENT_TYPE_FILE_DELETED, content=b"0")
        await ingest.publish([file_event(odd), processed, gone, sync_event()])
        await ingest.delivered(7, "pictures")
        said = await run(folder, [sys.executable, "status.py"], home)
    await ingest.close()
    assert said.splitlines() == ["catalog: at 7, 0 behind ", "pictures: at 7, 0 behind "]
    assert rows(folder, "SELECT path, prompt, seed, at_source FROM pictures ORDER BY path DESC") == [
        *((event.file.library_path.raw, None, None, int(event is not early[0])) for event in reversed(early)),
        (odd, "a 'cat'\0", "18446744073709551615", 1),
    ]
    # The guide's way to look needs the sqlite3 program, which not every machine has; its query is what counts.
    query = command("run: look", port)
    assert query[:2] == ["sqlite3", "pictures.db"]
    assert len(rows(folder, query[2].replace("CAST(path AS TEXT)", "path"))) == 4


async def test_the_guides_configuration_brings_every_event_from_the_oldest_on_also_after_a_kill_of_the_services(
    folder: Path, tmp_path: Path, start_process: StartProcess
) -> None:
    home, port = Home(tmp_path / "home"), free_port()
    configuration = tmp_path / "config.yaml"
    configuration.write_text(block("configuration").replace("50061", str(port)))
    first = await start_process("services.ingest", home.path)
    ingest = Ingest(home)
    await ingest.publish(file_events(120))
    assert await first.stop() == 0
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CONFIG": str(configuration)})
    async with subscriber(folder, port):
        await ingest.delivered(50, "pictures")
        await doomed.kill()
        await start_process("services.ingest", home.path, {"MEDIASYNC_CONFIG": str(configuration)})
        await ingest.delivered(120, "pictures")
    await ingest.close()
    assert rows(folder, "SELECT count(*), count(DISTINCT sha256) FROM pictures") == [(120, 120)]


def test_the_guides_command_for_other_programs_generates_all_they_need(tmp_path: Path) -> None:
    install, generate = block("run: generate").strip().splitlines()
    assert install.startswith("pip install ")
    words = [sys.executable, *shlex.split(generate.replace("-I protos", f"-I {ROOT}/protos").replace(" protos/", f" {ROOT}/protos/"))[1:]]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=BOUND_SECONDS)
    program = "import mediasync.v1.media_ingest_pb2_grpc as rpc; print(rpc.__file__)"
    # Without our package, which -S leaves out together with everything that is installed: protobuf is put back by hand.
    site = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = ['.']; sys.path.append({site!r}); {program}"],
        cwd=tmp_path,
        check=True,
        timeout=BOUND_SECONDS,
        capture_output=True,
        text=True,
    )
    assert Path(tmp_path, done.stdout.strip()).resolve() == tmp_path / "mediasync" / "v1" / "media_ingest_pb2_grpc.py"
