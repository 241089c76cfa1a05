"""Containers on this machine, read past their engine: when that is done, and that nothing of this machine is read in place of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, Engine, FollowSymlinks, SourceSpec, SourceType
from mediasync.sources.base import Connection, DeleteStatus, DoomedFile, ReadStatus, Source
from mediasync.sources.docker import held
from mediasync.sources.docker.containers import Container, Mount, find
from mediasync.sources.docker.engine import Engine as DockerApi
from mediasync.sources.factory import open_source
from mediasync.sources.local.connection import FolderConnection
from mediasync.sources.selection import Selection
from tests.fixtures.docker import DockerEngine
from tests.fixtures.sources import Collector, read, scan, want

DIRECT = "docker, direct"


def source_of(engine: DockerEngine, root: Path | str, tmp_path: Path, by: Engine = Engine.AUTO, folders: Sequence[bytes] = ()) -> Source:
    spec = SourceSpec(DockerConnection("box", engine_url=engine.url), os.fsencode(root), SourceType.DOCKER, engine=by)
    return open_source(spec, home=tmp_path / "home", folders=folders)


@contextlib.asynccontextmanager
async def connected(source: Source) -> AsyncIterator[Connection]:
    connection = await source.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def content(connection: Connection, folder: bytes = b"") -> dict[bytes, bytes]:
    """Everything that is found and read."""
    found = await scan(connection, folder)
    sinks = Collector()
    outcomes = await read(connection, [want(entry, settle_seconds=0) for entry in found.files.values()], sinks)
    assert {outcome.status for outcome in outcomes} <= {ReadStatus.OK}
    return {path: bytes(data) for path, data in sinks.files.items()}


def put(folder: Path, text: str, name: str = "x.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    os.utime(folder / name, (1e9, 1e9))
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return put(tmp_path / "outputs", "mounted")


@pytest.fixture
def inside(docker_engine: DockerEngine, outputs: Path) -> Path:
    """A container's root as this machine sees it; `outputs` is its /out. It has Python."""
    docker_engine.create("box", python=True, binds=(f"{outputs}:/out",))
    docker_engine.start("box")
    pid = docker_engine.ask("GET", "/containers/box/json")["State"]["Pid"]
    return Path(f"/proc/{pid}/root")


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of containers may not be looked into, as by a user who is not root."""
    monkeypatch.setattr(held, "process_root", lambda container: None)


async def test_files_in_the_containers_own_layer_are_read(docker_engine: DockerEngine, inside: Path, tmp_path: Path) -> None:
    put(inside / "made/here", "own")
    async with connected(source_of(docker_engine, "/made/here", tmp_path)) as connection:
        assert (connection.probe.engine, connection.probe.root) == (DIRECT, b"/made/here")
        assert await content(connection) == {b"x.txt": b"own"}


async def test_it_needs_nothing_in_the_container(docker_engine: DockerEngine, outputs: Path, tmp_path: Path) -> None:
    docker_engine.create("box", image="bare", binds=(f"{outputs}:/root/out",))
    docker_engine.start("box")
    async with connected(source_of(docker_engine, "~/out", tmp_path)) as connection:
        assert (connection.probe.engine, connection.probe.root) == (DIRECT, b"/root/out")
        assert await content(connection) == {b"x.txt": b"mounted"}


async def test_a_file_is_the_same_one_to_every_engine(docker_engine: DockerEngine, inside: Path, tmp_path: Path) -> None:
    put(inside / "own/below", "own")
    seen = []
    for engine in (Engine.AUTO, Engine.AGENT):
        async with connected(source_of(docker_engine, "/own", tmp_path, engine)) as connection:
            found = await scan(connection)
            assert (connection.probe.engine == DIRECT) is (engine is Engine.AUTO)
            seen.append((found.files, found.known))
    assert seen[0] == seen[1]


@pytest.mark.usefixtures("no_processes")
async def test_a_mounted_folder_is_read_where_it_comes_from(
    docker_engine: DockerEngine, inside: Path, outputs: Path, tmp_path: Path
) -> None:
    put(outputs / "below", "deeper")
    async with connected(source_of(docker_engine, "/out/below", tmp_path)) as connection:
        assert connection.probe.engine == DIRECT
        assert await content(connection) == {b"x.txt": b"deeper"}
    async with connected(source_of(docker_engine, "/bin", tmp_path)) as connection:
        assert "agent" in connection.probe.engine


@pytest.mark.usefixtures("no_processes")
async def test_another_folder_of_that_name_here_is_not_taken_for_the_containers(
    docker_engine: DockerEngine, inside: Path, outputs: Path, tmp_path: Path
) -> None:
    outputs.rename(tmp_path / "moved")
    put(outputs, "of this machine")
    async with connected(source_of(docker_engine, "/out", tmp_path)) as connection:
        assert "agent" in connection.probe.engine
        assert await content(connection) == {b"x.txt": b"mounted"}


@pytest.mark.usefixtures("no_processes", "inside")
async def test_a_container_of_another_kernel_is_not_read_here(
    docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its disk may be a copy of this one's, inode by inode.
    monkeypatch.setattr(held, "boot_id", lambda: b"7b1d4f0e-0000-4000-8000-000000000000")
    async with connected(source_of(docker_engine, "/out", tmp_path)) as connection:
        assert "agent" in connection.probe.engine


@pytest.mark.usefixtures("no_processes")
async def test_a_mount_is_not_written_to_around_its_being_read_only(docker_engine: DockerEngine, outputs: Path, tmp_path: Path) -> None:
    docker_engine.create("box", python=True, binds=(f"{outputs}:/out:ro",))
    docker_engine.start("box")
    async with connected(source_of(docker_engine, "/out", tmp_path)) as connection:
        assert connection.probe.engine == DIRECT
        found = (await scan(connection)).files[b"x.txt"]

        async def doomed() -> AsyncIterator[Sequence[DoomedFile]]:
            yield [DoomedFile(found.path, found.size_bytes, found.mtime_ns, found.inode, bytes(32))]

        (outcome,) = [outcome async for outcome in connection.delete_unchanged(doomed())]
    assert outcome.status is DeleteStatus.REFUSED
    assert (outputs / "x.txt").exists()


def test_what_is_mounted_below_a_folder_makes_it_another_one_than_this_machines() -> None:
    def place(path: bytes, *mounts: Mount) -> held.Place | None:
        return held.mounted_place(Container("", "", "running", b"", "", "", 0, mounts), path)

    out = Mount(b"/out", b"/srv/out", True)
    assert place(b"/out", out) == held.Place(b"/srv/out", b".", True)
    assert place(b"/out/a/b", out) == held.Place(b"/srv/out", b"a/b", True)
    assert place(b"/out/a", out, Mount(b"/out/a", b"/srv/a")) == held.Place(b"/srv/a", b".", False)
    assert place(b"/out", out, Mount(b"/out/a", b"/srv/a")) is None
    assert place(b"/out", out, Mount(b"/out/a")) is None
    assert place(b"/out/a/b", out, Mount(b"/out/a")) is None
    assert place(b"/outer", out) is None


async def test_i7_a_link_in_the_container_leads_nowhere_on_this_machine(docker_engine: DockerEngine, inside: Path, tmp_path: Path) -> None:
    secret = put(tmp_path / "secret", "of this machine")
    up = "../" * 40
    targets = (str(secret), up + str(secret).lstrip("/"), f"/proc/1/root{secret}", f"/proc/self/cwd/{up}{secret}")
    (inside / "box").mkdir()
    for number, target in enumerate(targets):
        (inside / "box" / f"{number}").symlink_to(target)
        # As the root.
        with pytest.raises(MediasyncError) as caught:
            await source_of(docker_engine, f"/box/{number}", tmp_path).connect()
        assert caught.value.reason is Reason.SOURCE_ROOT_MISSING
    # As a folder that was named, and inside.
    async with connected(source_of(docker_engine, "/box", tmp_path)) as connection:
        assert connection.probe.engine == DIRECT
        assert await content(connection) == {}
        assert await connection.list_folders() == []
        names = [b"%d" % number for number in range(len(targets))]
        assert await connection.missing_folders(names) == names
        for name in names:
            assert await content(connection, name) == {}
        followed = await scan(connection, selection=Selection(FollowSymlinks.ALL))
        assert followed.files == {}


async def test_a_link_leads_where_it_does_in_the_container(docker_engine: DockerEngine, inside: Path, tmp_path: Path) -> None:
    there = put(tmp_path / "there", "of this machine")
    put(inside / str(there).lstrip("/"), "of the container")
    (inside / "linked").symlink_to(there)
    (inside / "box").mkdir()
    (inside / "box" / "named").symlink_to(there)
    async with connected(source_of(docker_engine, "/linked", tmp_path)) as connection:
        assert connection.probe.engine == DIRECT
        assert await content(connection) == {b"x.txt": b"of the container"}
    async with connected(source_of(docker_engine, "/box", tmp_path, folders=[b"named"])) as connection:
        assert connection.probe.engine == DIRECT
        assert await content(connection, b"named") == {b"named/x.txt": b"of the container"}
        assert await connection.list_folders() == [b"named"]


async def test_i7_a_folder_that_becomes_a_link_behind_the_look_is_not_followed(tmp_path: Path) -> None:
    secret = put(tmp_path / "secret", "of this machine")
    root = put(tmp_path / "root", "inside")
    put(root / "sub", "below")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    connection = await FolderConnection.open_held(folder, held.Unlinked())
    try:
        found = await scan(connection)
        (root / "sub").rename(tmp_path / "gone")
        (root / "sub").symlink_to(secret)
        assert (await scan(connection, b"sub")).files == {}
        sinks = Collector()
        outcomes = await read(connection, [want(replace(found.files[b"sub/x.txt"]))], sinks)
        assert [outcome.status for outcome in outcomes] != [ReadStatus.OK]
        assert sinks.files == {}
    finally:
        await connection.close()
        os.close(folder)


async def test_another_process_is_not_taken_for_the_containers(docker_engine: DockerEngine, inside: Path, tmp_path: Path) -> None:
    docker_engine.create("other", image="plain")
    docker_engine.start("other")
    engine = await DockerApi.open(DockerConnection("box", engine_url=docker_engine.url), tmp_path)
    try:
        box, other = await find(engine, "box"), await find(engine, "other")
    finally:
        await engine.close()
    root = held.process_root(box)
    assert root is not None
    assert os.path.samestat(os.fstat(root), os.stat(inside))
    os.close(root)
    for pid in (other.pid, os.getpid(), 1, 0):
        assert held.process_root(replace(box, pid=pid)) is None
    assert held.process_root(replace(box, id="")) is None


async def test_a_folder_that_takes_the_roots_place_breaks_the_connection(
    docker_engine: DockerEngine, inside: Path, outputs: Path, tmp_path: Path
) -> None:
    put(outputs / "run", "first")
    source = source_of(docker_engine, "/out/run", tmp_path)
    async with connected(source) as connection:
        assert await content(connection) == {b"x.txt": b"first"}
        (outputs / "run").rename(outputs / "old")
        put(outputs / "run", "second")
        with pytest.raises(MediasyncError) as caught:
            await scan(connection)
        assert caught.value.reason is Reason.CONNECTION_LOST
        assert connection.broken
    async with connected(source) as connection:
        assert connection.probe.engine == DIRECT
        assert await content(connection) == {b"x.txt": b"second"}


@pytest.mark.usefixtures("inside")
async def test_a_restart_ends_what_is_under_way_and_the_next_connection_is_direct_again(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    source = source_of(docker_engine, "/out", tmp_path)
    async with connected(source) as connection:
        assert await content(connection) == {b"x.txt": b"mounted"}
        await asyncio.to_thread(docker_engine.restart, "box")
        with pytest.raises(MediasyncError) as caught:
            await scan(connection)
        assert (caught.value.reason, caught.value.message) == (Reason.CONNECTION_LOST, "the container box stopped")
    async with connected(source) as connection:
        assert connection.probe.engine == DIRECT
        assert await content(connection) == {b"x.txt": b"mounted"}
