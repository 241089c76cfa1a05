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
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from mediasync.config import load
from mediasync.runtime.home import Home
from mediasync.v1 import media_ingest_pb2 as pb
from tests.fixtures.event_peer import Ran, Run
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, StartProcess, file_event, file_events, sync_event

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "ingest-guide.md").read_text()


ALL = "SELECT path, prompt, seed, at_source FROM pictures ORDER BY path DESC"


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
    for name in ("subscriber.py", "pull.py"):
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


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "pictures.db")) as connection:
        return connection.execute(query).fetchall()


def test_the_guides_subscriber_is_the_example_and_short() -> None:
    code = block("file: subscriber.py")
    assert code == (ROOT / "examples" / "subscriber_python" / "subscriber.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 40


def test_every_block_of_the_guide_is_taken_out_by_a_test() -> None:
    labels = re.findall(r"^(?:<!-- (.*?) -->\n)?```\w+$", GUIDE, re.MULTILINE)
    used = {*re.findall(r'block\("([^"{]+)"\)|command\("([^"]+)"|follow\("([^"]+)"', Path(__file__).read_text())}
    assert set(labels) == {word for words in used for word in words if word} | {"file: pull.py", "run: subscriber"}


async def test_following_the_guide_ends_with_every_picture_in_the_readers_own_table(
    folder: Path, tmp_path: Path, start_process: StartProcess, run: Run
) -> None:
    home, port = Home(tmp_path / "home"), free_port()
    await start_process("services.ingest", home.path)
    await start_process("services.coordinator", home.path)
    ingest = Ingest(home)
    early = file_events(3)
    await ingest.publish(early)

    async def follow(label: str) -> list[Ran]:
        """What the commands of a block say, each of which ends well."""
        lines = block(label).strip().replace("50061", str(port)).splitlines()
        said = [await asyncio.to_thread(run, *shlex.split(line)[1:]) for line in lines]
        assert [(ran.code, ran.err) for ran in said if ran.code] == [], said
        return said

    async with subscriber(folder, port):
        await follow("run: check")
        with contextlib.closing(sqlite3.connect(folder / "pictures.db")) as connection, connection:
            connection.execute("DELETE FROM pictures")
        await follow("run: add")
        metadata = pb.GenerationMetadata(prompt="a 'cat'\0", seed=2**64 - 1)
        odd = b"odd \n\xff'; DROP TABLE pictures; --.png"
        processed = file_event(odd, pb.EVENT_TYPE_FILE_PROCESSED, metadata=metadata)
        gone = file_event(early[0].file.library_path.raw, pb.EVENT_TYPE_FILE_DELETED, content=b"0")
        await ingest.publish([file_event(odd), processed, gone, sync_event()])
        await ingest.delivered(7, "pictures")
        await ingest.delivered(7)
        expected = [
            *((event.file.library_path.raw, None, None, int(event is not early[0])) for event in reversed(early)),
            (odd, "a 'cat'\0", "18446744073709551615", 1),
        ]
        assert rows(folder, ALL) == expected
        listed, shown, tail, _ = await follow("run: status")
        assert ("pictures" in listed.out, "catalog" in listed.out, "active" in shown.out) == (True, True, True)
        assert len(tail.out.splitlines()) >= 5
        await follow("run: letters")
        await follow("run: hold")
        await follow("run: replay")
        await ingest.delivered(7, "pictures")
        # What somebody lost on their side is found, and comes again.
        with contextlib.closing(sqlite3.connect(folder / "pictures.db")) as connection, connection:
            connection.execute("DELETE FROM pictures")
        (verified,) = await follow("run: verify")
        assert "4" in verified.out
        await until(lambda: rows(folder, ALL) == expected)
    words = [sys.executable, *shlex.split(block("run: pull"))[1:]]
    environment = {"MEDIASYNC_HOME": str(home.path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    said = [await asyncio.to_thread(subprocess.check_output, words, cwd=folder, env=environment, text=True) for _ in range(2)]
    assert said == ["5 a 'cat'\0\n", ""]
    await ingest.close()
    # The guide's way to look needs the sqlite3 program, which not every machine has; its query is what counts.
    query = command("run: look", port)
    assert query[:2] == ["sqlite3", "pictures.db"]
    assert len(rows(folder, query[2].replace("CAST(path AS TEXT)", "path"))) == 4


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another process does to its table."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_guides_way_to_another_machine_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".config" / "mediasync"
    folder.mkdir(parents=True)
    for name in ("nas-ca.pem", "nas.token"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o600)
    (folder / "config.yaml").write_text(block("configuration: tls"))
    (nas,) = load(folder / "config.yaml").ingest.subscribers
    assert (nas.address, nas.tls_ca_file, nas.token_file) == ("nas.lan:50061", folder / "nas-ca.pem", folder / "nas.token")


async def test_the_guides_configuration_brings_every_event_from_the_oldest_on_also_after_a_kill_of_the_services(
    folder: Path, tmp_path: Path, start_process: StartProcess
) -> None:
    home, port = Home(tmp_path / "home"), free_port()
    configuration = tmp_path / "config.yaml"
    configuration.write_text(block("configuration: subscriber").replace("50061", str(port)))
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
