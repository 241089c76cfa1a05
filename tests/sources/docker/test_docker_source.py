"""Containers of a real engine as sources: how they are found, what reads them, and what is said when they cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import uvloop

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, Engine, SourceSpec, SourceType
from mediasync.sources.base import Connection, ReadStatus
from mediasync.sources.factory import open_source
from tests.fixtures.docker import DockerEngine
from tests.fixtures.docker_backends import Line
from tests.fixtures.sources import Collector, read, scan, want
from tests.fixtures.ssh import start_sshd


def spec(engine: DockerEngine, container: str, root: Path | str, by: Engine = Engine.AUTO, url: str = "") -> SourceSpec:
    return SourceSpec(DockerConnection(container, engine_url=url or engine.url), os.fsencode(root), SourceType.DOCKER, engine=by)


async def connect(source: SourceSpec, tmp_path: Path) -> Connection:
    return await open_source(source, home=tmp_path / "home").connect()


async def refused(source: SourceSpec, tmp_path: Path) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught:
        await connect(source, tmp_path)
    return caught.value


@contextlib.asynccontextmanager
async def connected(source: SourceSpec, tmp_path: Path) -> AsyncIterator[Connection]:
    connection = await connect(source, tmp_path)
    try:
        yield connection
    finally:
        await connection.close()


async def takes(connection: Connection, path: bytes, content: bytes) -> None:
    """Asserts that a file is found and read."""
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[path], settle_seconds=0)], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files[path] == content


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "x.txt").write_bytes(b"content")
    os.utime(folder / "x.txt", (1e9, 1e9))
    return folder


@pytest.mark.parametrize(
    ("image", "python", "running", "engine"),
    [
        ("plain", True, True, "docker, agent on cpython"),
        ("plain", False, True, "docker, posix with busybox tools"),
        ("bare", False, True, "docker, archive"),
        ("plain", True, False, "docker, archive"),
    ],
)
async def test_auto_takes_the_best_that_is_there(
    docker_engine: DockerEngine, tmp_path: Path, outputs: Path, image: str, python: bool, running: bool, engine: str
) -> None:
    docker_engine.create("any", image=image, python=python, binds=(f"{outputs}:/out",))
    if running:
        docker_engine.start("any")
    # An engine behind a port may be anywhere: nothing is read past it.
    async with (
        Line(docker_engine.folder / "tcp.sock", docker_engine.socket, tcp=True) as line,
        connected(spec(docker_engine, "any", "/out", url=f"tcp://127.0.0.1:{line.port}"), tmp_path) as connection,
    ):
        assert connection.probe.engine.startswith(engine)
        assert connection.probe.root == b"/out"
        await takes(connection, b"x.txt", b"content")


def test_the_services_own_event_loop_serves_too(docker_engine: DockerEngine, tmp_path: Path, outputs: Path) -> None:
    docker_engine.create("any", python=True, binds=(f"{outputs}:/out",))
    docker_engine.start("any")

    async def run() -> None:
        for engine in (Engine.AGENT, Engine.ARCHIVE):
            async with connected(spec(docker_engine, "any", "/out", engine), tmp_path) as connection:
                await takes(connection, b"x.txt", b"content")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_a_container_is_found_by_its_label_and_by_its_compose_service(
    docker_engine: DockerEngine, tmp_path: Path, outputs: Path
) -> None:
    compose = {"com.docker.compose.service": "forge", "com.docker.compose.project": "ai", "com.docker.compose.container-number": "1"}
    docker_engine.create("one", binds=(f"{outputs}:/out",), labels={"role": "gen", **compose})
    docker_engine.create("two", labels={**compose, "com.docker.compose.container-number": "2"})
    docker_engine.create("three", labels={"role": "other", **compose, "com.docker.compose.project": "test"})
    for wanted in ("one", "label:role=gen", "service:ai:forge"):
        async with connected(spec(docker_engine, wanted, "/out"), tmp_path) as connection:
            await takes(connection, b"x.txt", b"content")
    for wanted, said in (
        ("service:forge", "service:forge stands for 3 containers: one (project ai), three (project test), two (project ai)"),
        ("label:role", "label:role stands for 2 containers: one, three"),
        ("label:role=gne", "there is no container with the label role=gne"),
        ("service:ai:forg", "there is no service forg"),
        ("on", "the nearest is one"),
    ):
        error = await refused(spec(docker_engine, wanted, "/out"), tmp_path)
        assert error.reason is Reason.CONTAINER_NOT_FOUND
        assert said in error.message
        assert error.remedy


async def test_a_root_that_is_missing_is_told(docker_engine: DockerEngine, tmp_path: Path) -> None:
    docker_engine.create("any")
    error = await refused(spec(docker_engine, "any", "/nowhere"), tmp_path)
    assert error.reason is Reason.SOURCE_ROOT_MISSING
    assert "/nowhere in the container any" in error.message
    docker_engine.start("any")
    error = await refused(spec(docker_engine, "any", "/nowhere"), tmp_path)
    assert error.reason is Reason.SOURCE_ROOT_MISSING


async def test_the_home_of_the_containers_user_is_found_without_running_it(
    docker_engine: DockerEngine, tmp_path: Path, outputs: Path
) -> None:
    docker_engine.create("any", user="ann", binds=(f"{outputs}:/home/ann/out",))
    async with connected(spec(docker_engine, "any", "~/out"), tmp_path) as connection:
        assert connection.probe.root == b"/home/ann/out"
        await takes(connection, b"x.txt", b"content")


async def test_a_container_that_does_not_run_is_told_where_a_program_has_to(docker_engine: DockerEngine, tmp_path: Path) -> None:
    docker_engine.create("any", python=True)
    for engine in (Engine.AGENT, Engine.POSIX):
        error = await refused(spec(docker_engine, "any", "/tmp", engine), tmp_path)
        assert (error.reason, error.message) == (Reason.CONTAINER_STOPPED, "the container any does not run (created)")
    docker_engine.create("bare", image="bare")
    docker_engine.start("bare")
    assert (await refused(spec(docker_engine, "bare", "/tmp", Engine.AGENT), tmp_path)).reason is Reason.SOURCE_WITHOUT_PYTHON


async def test_a_restart_breaks_the_connection_and_the_next_one_works(docker_engine: DockerEngine, tmp_path: Path, outputs: Path) -> None:
    docker_engine.create("any", python=True, binds=(f"{outputs}:/out",))
    docker_engine.start("any")
    source = open_source(spec(docker_engine, "any", "/out"), home=tmp_path / "home")
    connection = await source.connect()
    await asyncio.to_thread(docker_engine.stop, "any")
    with pytest.raises(MediasyncError) as caught:
        await scan(connection)
    assert caught.value.reason is Reason.CONNECTION_LOST
    await connection.close()
    # It ran before, and is waited for; an archive would be taken of one that was never seen to run.
    with pytest.raises(MediasyncError) as caught:
        await source.connect()
    assert caught.value.reason is Reason.CONTAINER_STOPPED
    assert caught.value.retryable
    await asyncio.to_thread(docker_engine.start, "any")
    again = await source.connect()
    await takes(again, b"x.txt", b"content")
    await again.close()


async def test_hard_links_are_found_in_archives(docker_engine: DockerEngine, tmp_path: Path, outputs: Path) -> None:
    os.link(outputs / "x.txt", outputs / "y.txt")
    docker_engine.create("any", binds=(f"{outputs}:/out",))
    async with connected(spec(docker_engine, "any", "/out"), tmp_path) as connection:
        found = await scan(connection)
        assert {path: entry.size_bytes for path, entry in found.files.items()} == {b"x.txt": 7, b"y.txt": 7}
        sinks = Collector()
        await read(connection, [want(entry) for entry in found.files.values()], sinks)
        assert sinks.files == {b"x.txt": b"content", b"y.txt": b"content"}


async def test_many_files_are_taken_out_of_one_archive_in_any_order(docker_engine: DockerEngine, tmp_path: Path, outputs: Path) -> None:
    for number in range(12):
        (outputs / f"{number:02}").mkdir()
        (outputs / f"{number:02}" / "f.txt").write_bytes(b"%d" % number)
        os.utime(outputs / f"{number:02}" / "f.txt", (1e9, 1e9))
    docker_engine.create("any", binds=(f"{outputs}:/out",))
    async with connected(spec(docker_engine, "any", "/out"), tmp_path) as connection:
        found = await scan(connection)
        entries = sorted(found.files.values(), key=lambda entry: entry.path, reverse=True)
        mixed = [*entries[::2], *entries[1::2]]
        sinks = Collector()
        outcomes = await read(connection, [want(entry) for entry in mixed], sinks)
        assert [outcome.wanted.path for outcome in outcomes] == [entry.path for entry in mixed]
        assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
        assert {path: bytes(data) for path, data in sinks.files.items()} == {
            path: (outputs / os.fsdecode(path)).read_bytes() for path in found.files
        }


async def test_an_engine_that_is_not_there_is_told_with_who_chose_it(
    docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (f"unix://{tmp_path}/none.sock", "tcp://127.0.0.1:1"):
        error = await refused(spec(docker_engine, "any", "/out", url=url), tmp_path)
        assert error.reason is Reason.DOCKER_UNREACHABLE
        assert error.message.startswith(f"the Docker engine at {url} (chosen by docker_host) cannot be reached: ")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/other.sock")
    error = await refused(SourceSpec(DockerConnection("any"), b"/out", SourceType.DOCKER), tmp_path)
    assert "(chosen by DOCKER_HOST)" in error.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_user_who_may_not_use_the_engine_is_told_about_the_group(docker_engine: DockerEngine, tmp_path: Path) -> None:
    os.chmod(docker_engine.folder, 0o755)
    os.seteuid(65_534)
    try:
        error = await refused(spec(docker_engine, "any", "/out"), tmp_path)
    finally:
        os.seteuid(0)
    assert error.reason is Reason.DOCKER_DENIED
    assert "permission denied" in error.message
    assert "group `docker`" in error.remedy


def certificates(folder: Path) -> ssl.SSLContext:
    """A CA and what it signed for both ends, as DOCKER_CERT_PATH has it; returns the engine's side."""
    folder.mkdir()

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *new_key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        key = "key.pem" if name == "client" else "server-key.pem"
        certificate = "cert.pem" if name == "client" else "server.pem"
        run("req", *new_key, "-keyout", key, "-out", "request", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-out", certificate,
            "-days", "2", "-extfile", "names")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
async def test_an_engine_behind_tls_is_used_with_the_certificates_of_the_environment(
    docker_engine: DockerEngine, tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_engine.create("any", python=True, binds=(f"{outputs}:/out",))
    docker_engine.start("any")
    async with Line(docker_engine.folder / "tls.sock", docker_engine.socket, tls=certificates(tmp_path / "pki")) as line:
        url = f"tcp://127.0.0.1:{line.port}"
        error = await refused(spec(docker_engine, "any", "/out", url=url), tmp_path)
        assert error.reason in (Reason.DOCKER_UNREACHABLE, Reason.SOURCE_PROTOCOL)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "pki"))
        async with connected(spec(docker_engine, "any", "/out", url=url), tmp_path) as connection:
            assert "agent" in connection.probe.engine
            await takes(connection, b"x.txt", b"content")
        async with connected(spec(docker_engine, "any", "/out", Engine.ARCHIVE, url), tmp_path) as connection:
            await takes(connection, b"x.txt", b"content")
        certificates(tmp_path / "other")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "other"))
        error = await refused(spec(docker_engine, "any", "/out", url=url), tmp_path)
        assert error.reason is Reason.DOCKER_DENIED
        assert "do not trust each other" in error.message


@pytest.mark.needs_sshd
@pytest.mark.skipif(shutil.which("docker") is None, reason="needs the docker command (package docker.io)")
async def test_an_engine_behind_ssh_is_used_as_the_docker_command_does(
    docker_engine: DockerEngine, tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_engine.create("any", python=True, binds=(f"{outputs}:/out",))
    docker_engine.start("any")
    run = 'ForceCommand PATH="$PATH:/usr/bin:/usr/local/bin" DOCKER_HOST={} exec sh -c "$SSH_ORIGINAL_COMMAND"'
    server = start_sshd(tmp_path / "sshd", outputs, run.format(docker_engine.url))
    silent = start_sshd(tmp_path / "silent", outputs, run.format(f"unix://{tmp_path}/none.sock"))
    try:
        home = tmp_path / "user"
        (home / ".ssh").mkdir(parents=True)
        lines = []
        for name, one in (("far", server), ("silent", silent)):
            lines.append(f"Host {name}\n HostName 127.0.0.1\n Port {one.port}\n User {one.user}\n IdentityFile {one.identity_file}")
            lines.append(f" UserKnownHostsFile {one.known_hosts}")
        (home / ".ssh" / "config").write_text("\n".join(lines))
        monkeypatch.setenv("HOME", str(home))
        large = os.urandom(3_000_000)
        (outputs / "large.bin").write_bytes(large)
        async with connected(spec(docker_engine, "any", "/out", url="ssh://far"), tmp_path) as connection:
            assert "agent" in connection.probe.engine
            await takes(connection, b"large.bin", large)
        async with connected(spec(docker_engine, "any", "/out", Engine.ARCHIVE, "ssh://far"), tmp_path) as connection:
            await takes(connection, b"x.txt", b"content")
        error = await refused(spec(docker_engine, "any", "/out", url="ssh://silent"), tmp_path)
        assert error.reason is Reason.DOCKER_UNREACHABLE
        assert "`docker system dial-stdio` does not work there" in error.message
        silent.know(asyncssh.generate_private_key("ssh-ed25519"))
        error = await refused(spec(docker_engine, "any", "/out", url="ssh://silent"), tmp_path)
        assert error.reason is Reason.HOST_KEY_CHANGED
    finally:
        server.stop()
        silent.stop()
