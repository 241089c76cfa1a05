"""rsync as an engine: what is special about it; what it promises like any other is in tests/contract/sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Engine, SourceSpec, SshConnection
from mediasync.sources import shell_rsync
from mediasync.sources.base import Connection, Pace, ReadStatus, WantedFile
from mediasync.sources.factory import discard_partials, open_source
from mediasync.sources.rsync import listing
from mediasync.sources.rsync.receiving import Places
from tests.fixtures.proxy import StartProxy
from tests.fixtures.rsync_backends import ONLY_RSYNC
from tests.fixtures.sources import Collector, batches_of, read, scan, want
from tests.fixtures.ssh import AsyncsshServers, SshServer, start_sshd

pytestmark = pytest.mark.needs_sshd
OLD = (1e9, 1e9)
SIZE = 24 << 20


@pytest.fixture
def restricted(tmp_path: Path) -> Iterator[SshServer]:
    """A server whose key only reads below a folder, as rsync's own `rrsync` restricts it."""
    (tmp_path / "source").mkdir()
    server = start_sshd(tmp_path / "sshd", tmp_path / "source")
    rrsync = shutil.which("rrsync")
    if rrsync is None:
        pytest.skip("needs rrsync, which comes with rsync")
    keys = tmp_path / "sshd" / "authorized_keys"
    keys.write_text(f'command="{rrsync} -ro {tmp_path}/source",restrict {keys.read_text()}')
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    """A server that only sends by rsync."""
    (tmp_path / "source").mkdir()
    server = start_sshd(tmp_path / "sshd", tmp_path / "source", ONLY_RSYNC)
    yield server
    server.stop()


async def opened(spec: SourceSpec, tmp_path: Path) -> Connection:
    return await open_source(spec, home=tmp_path / "home").connect()


async def failure(spec: SourceSpec, tmp_path: Path) -> MediasyncError:
    with pytest.raises(MediasyncError) as raised:
        await opened(spec, tmp_path)
    assert raised.value.remedy
    return raised.value


def put(server: SshServer, name: str, data: bytes) -> Path:
    file = server.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    os.utime(file, OLD)
    return file


class FileSinks:
    """Sinks as the transfer service has them: files that can take over what another program wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.fsencode(folder)
        self.adopted: dict[bytes, bytes] = {}
        self.came: dict[bytes, list[int]] = {}

    def open(self, wanted: WantedFile, offset: int) -> FileSinks._Sink:
        return self._Sink(self, wanted)

    class _Sink:
        def __init__(self, sinks: FileSinks, wanted: WantedFile) -> None:
            self._sinks = sinks
            self._wanted = wanted

        @property
        def folder(self) -> bytes:
            return self._sinks.folder

        def write(self, data: bytes) -> None:
            raise AssertionError("its bytes need not pass through here")

        def fileno(self) -> int:
            raise AssertionError("nothing is copied into it")

        def copied(self, count: int) -> None:
            raise AssertionError("nothing is copied into it")

        def coming(self, count: int) -> None:
            assert self._wanted.path not in self._sinks.adopted
            self._sinks.came.setdefault(self._wanted.path, []).append(count)

        def adopt(self, path: bytes) -> None:
            with open(path, "rb") as file:
                self._sinks.adopted[self._wanted.path] = file.read()
            os.unlink(path)


async def test_a_key_that_rrsync_restricts_is_enough(restricted: SshServer, tmp_path: Path) -> None:
    put(restricted, "a b/it's $(x).png", b"picture")
    connection = await opened(restricted.spec(b"/", engine=Engine.RSYNC), tmp_path)
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, map(want, found.files.values()), sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files == {b"a b/it's $(x).png": b"picture"}
    await connection.close()
    error = await failure(restricted.spec(b"/nowhere", engine=Engine.RSYNC), tmp_path)
    assert error.reason in (Reason.SOURCE_ROOT_MISSING, Reason.SOURCE_PROTOCOL)


@pytest.mark.parametrize("name", ["with blank", "it's", "-rf", "$(touch pwned)", "ümlaut", "a;b", "*?[x]", 'back\\slash"', "~tilde"])
async def test_i7_a_root_is_a_name_and_no_command(server: SshServer, tmp_path: Path, name: str) -> None:
    put(server, f"{name}/x.txt", b"found")
    connection = await opened(server.spec(server.root / name, engine=Engine.RSYNC), tmp_path)
    assert set((await scan(connection)).files) == {b"x.txt"}
    await connection.close()
    assert not list(tmp_path.rglob("pwned"))


async def test_a_root_with_a_line_break_is_refused(server: SshServer, tmp_path: Path) -> None:
    assert (await failure(server.spec(b"/a\nb", engine=Engine.RSYNC), tmp_path)).reason is Reason.INVALID_ARGUMENT


async def test_files_are_taken_over_whole_where_sinks_can(server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    contents = {f"f{number}/x.txt": b"%d" % number * 1000 for number in range(20)}
    for name, data in contents.items():
        put(server, name, data)
    connection = await opened(server.spec(engine=Engine.RSYNC), tmp_path)
    wanted = [want(entry) for entry in (await scan(connection)).files.values()]
    sinks = FileSinks(tmp_path / "staging")
    batches = batches_of(wanted[:5], wanted[5:])
    assert [outcome.status async for outcome in connection.read(batches, sinks.open)] == [ReadStatus.OK] * 20
    assert {path.decode(): data for path, data in sinks.adopted.items()} == contents
    await connection.close()
    # Nothing of ours is left, neither beside the library nor in the data folder.
    assert list((tmp_path / "staging").iterdir()) == []
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


async def test_what_a_cut_line_left_is_gone_on_from(server: SshServer, tmp_path: Path, start_proxy: StartProxy) -> None:
    data = os.urandom(SIZE)
    put(server, "large.bin", data)
    proxy = await start_proxy(server.port)
    spec = server.through(proxy.port).spec(engine=Engine.RSYNC)
    connection = await opened(spec, tmp_path)
    found = await scan(connection)
    proxy.cut_after_bytes = proxy.bytes_to_client + SIZE * 3 // 4
    with pytest.raises(MediasyncError) as raised:
        await read(connection, map(want, found.files.values()))
    assert raised.value.reason is Reason.CONNECTION_LOST
    (beginning,) = Places.of(tmp_path / "home", spec.key).partial.iterdir()
    assert beginning.stat().st_size > 0
    proxy.cut_after_bytes = None
    connection = await opened(spec, tmp_path)
    before = proxy.bytes_to_client
    sinks = Collector()
    (outcome,) = await read(connection, map(want, found.files.values()), sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files[b"large.bin"] == data
    assert proxy.bytes_to_client - before < SIZE * 3 // 4
    await connection.close()


def test_what_was_left_is_removed_where_nobody_means_to_go_on(tmp_path: Path) -> None:
    spec = SourceSpec(SshConnection("forge"), b"/outputs", engine=Engine.RSYNC)
    discard_partials(spec, tmp_path)
    places = Places.of(tmp_path, spec.key)
    places.prepare()
    (places.partial / "large.bin").write_bytes(b"half")
    discard_partials(replace(spec, root=b"/other"), tmp_path)
    discard_partials(replace(spec, engine=Engine.AGENT), tmp_path)
    assert len(list(places.partial.iterdir())) == 1
    discard_partials(spec, tmp_path)
    assert list(places.partial.iterdir()) == []


class HeldBack:
    """A pace that lets half of a file through, and the rest slowly until `enough`."""

    def __init__(self, size_bytes: int, enough: Callable[[], bool]) -> None:
        self._free = size_bytes // 2
        self._enough = enough

    def took(self, count: int) -> float:
        self._free -= count
        return 0.0 if self._free > 0 or self._enough() else 0.1


async def test_a_large_file_shows_how_much_has_come(server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    name = "file \r\n 5 50% \\#012 ü.bin"
    put(server, f"folder/{name}", bytes(SIZE))
    put(server, "small.bin", b"small")
    connection = await opened(server.spec(engine=Engine.RSYNC), tmp_path)
    wanted = [want(entry) for entry in (await scan(connection)).files.values()]
    sinks = FileSinks(tmp_path / "staging")
    path = f"folder/{name}".encode()
    pace = HeldBack(SIZE, lambda: path in sinks.came)
    # The first batch is copied from the data folder; the second lands beside the sinks.
    batches = batches_of([one for one in wanted if one.path != path], [one for one in wanted if one.path == path])
    assert [one.status async for one in connection.read(batches, sinks.open, pace=pace)] == [ReadStatus.OK] * 2
    assert len(sinks.adopted[path]) == SIZE
    assert list(sinks.came) == [path]
    assert len(sinks.came[path]) >= 2
    assert sum(sinks.came[path]) == SIZE
    await connection.close()


OLD_RSYNC = """#!/bin/sh
case "$*" in
--version) echo "rsync  version 3.0.9  protocol version 30" ;;
*--outbuf*) echo "rsync: --outbuf=N: unknown option" >&2; exit 1 ;;
*) exec {real} "$@" ;;
esac
"""
ODD_RSYNC = """#!/bin/sh
case "$*" in
--version) exec {real} --version ;;
*--progress*) {real} "$@" | tr % /; echo "file folder/x.bin"; printf '\\r  7 no'; exit 0 ;;
*) exec {real} "$@" ;;
esac
"""


@pytest.mark.parametrize("script", [OLD_RSYNC, ODD_RSYNC], ids=["an old one", "an odd one"])
async def test_an_rsync_that_does_not_show_it_transfers_all_the_same(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    (tmp_path / "staging").mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "rsync").write_text(script.replace("{real}", str(shutil.which("rsync"))))
    (programs / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    put(server, "x.bin", bytes(2 << 20))
    connection = await opened(server.spec(engine=Engine.RSYNC), tmp_path)
    wanted = [want(entry) for entry in (await scan(connection)).files.values()]
    sinks = FileSinks(tmp_path / "staging")
    assert [one.status async for one in connection.read(batches_of([], wanted), sinks.open)] == [ReadStatus.OK]
    assert (len(sinks.adopted[b"x.bin"]), sinks.came) == (2 << 20, {})
    await connection.close()


async def test_bytes_are_paced(server: SshServer, tmp_path: Path) -> None:
    put(server, "x.bin", bytes(100_000))

    class Counting:
        total = 0

        def took(self, count: int) -> float:
            self.total += count
            return 0.001

    pace: Pace = Counting()
    connection = await opened(server.spec(engine=Engine.RSYNC), tmp_path)
    found = await scan(connection)
    wanted = [want(entry) for entry in found.files.values()]
    assert [one.status async for one in connection.read(batches_of(wanted), Collector().open, pace=pace)] == [ReadStatus.OK]
    assert isinstance(pace, Counting)
    assert pace.total > 100_000
    await connection.close()


async def test_a_compressed_line_carries_less(server: SshServer, tmp_path: Path, start_proxy: StartProxy) -> None:
    put(server, "x.bin", bytes(4_000_000))
    proxy = await start_proxy(server.port)
    connection = await opened(replace(server.through(proxy.port).spec(engine=Engine.RSYNC), compress=True), tmp_path)
    sinks = Collector()
    await read(connection, map(want, (await scan(connection)).files.values()), sinks)
    assert sinks.files[b"x.bin"] == bytes(4_000_000)
    assert proxy.bytes_to_client < 400_000
    await connection.close()


async def test_rsync_that_is_missing_is_said_of_the_right_side(
    ssh_servers: AsyncsshServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    far = await ssh_servers.start(shell=["/usr/bin/env", f"PATH={empty}", "/bin/sh"])
    error = await failure(far.spec(engine=Engine.RSYNC), tmp_path)
    assert error.reason is Reason.ENGINE_CANNOT
    assert "rsync cannot be run at 127.0.0.1" in error.message
    monkeypatch.setenv("PATH", str(empty))
    error = await failure(far.spec(engine=Engine.RSYNC), tmp_path)
    assert error.reason is Reason.ENGINE_CANNOT
    assert "not installed on the services' machine" in error.message


async def test_a_greeting_on_the_line_is_told(ssh_servers: AsyncsshServers, tmp_path: Path) -> None:
    far = await ssh_servers.start(prelude=b"Welcome to your container!\n")
    error = await failure(far.spec(engine=Engine.RSYNC), tmp_path)
    assert error.reason is Reason.SOURCE_PROTOCOL
    assert "greeting" in error.remedy


async def test_nothing_of_the_users_settings_changes_what_is_asked(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, "x.txt", b"found")
    monkeypatch.setenv("RSYNC_RSH", "false")
    monkeypatch.setenv("TZ", "America/New_York")
    connection = await opened(server.spec(engine=Engine.RSYNC), tmp_path)
    found = await scan(connection)
    assert found.files[b"x.txt"].mtime_ns == 10**18
    await connection.close()


@given(st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..")))
def test_i7_every_name_is_read_back_from_a_list(name: bytes) -> None:
    # As rsync's filtered_fwrite writes it with --8-bit-output: control characters, and what would look like an escape.
    escaped = b""
    for position, character in enumerate(name):
        looks = name[position : position + 2] == b"\\#" and name[position + 2 : position + 5].isdigit() and len(name) >= position + 5
        hidden = (character < 0x20 and character != 0x09) or character == 0x7F or looks
        escaped += b"\\#%03o" % character if hidden else bytes([character])
    line = listing.parse(b"-rw-r--r--           7 2026/11/21 13:37:56 " + escaped)
    assert (line.kind, line.size_bytes, line.path) == ("-", 7, name)


@pytest.mark.parametrize("text", [b"", b"hello", b"-rw-r--r-- 7 2026/11/21 13:37:56 ../x", b"-rw-r--r-- 7 2026/11/21 13:37:56 /etc/passwd"])
def test_i7_a_line_that_is_none_is_a_broken_far_side(text: bytes) -> None:
    with pytest.raises(MediasyncError) as raised:
        listing.parse(text)
    assert raised.value.reason is Reason.SOURCE_PROTOCOL


@given(st.binary(min_size=1, max_size=30).filter(lambda root: not set(root) & {0, 0x0A} and not root.startswith(b"~") and root.strip(b"/")))
def test_i7_a_shell_reads_a_root_as_it_is(root: bytes) -> None:
    command = shell_rsync.server_command([b"printf", b"%s", shell_rsync.PLACEHOLDER], root)
    shown = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout
    plain = root if root.startswith(b"/") else b"./" + root
    assert shown == plain.rstrip(b"/") + b"/"


async def test_nothing_is_left_running_when_a_read_is_left(server: SshServer, tmp_path: Path) -> None:
    for number in range(3):
        put(server, f"{number}.bin", os.urandom(2_000_000))
    connection = await opened(server.spec(engine=Engine.RSYNC), tmp_path)
    wanted = [want(entry) for entry in (await scan(connection)).files.values()]

    async def batches() -> AsyncIterator[list[WantedFile]]:
        for one in wanted:
            yield [one]

    reading = connection.read(batches(), Collector().open)
    assert (await anext(reading)).status is ReadStatus.OK
    await reading.aclose()  # type: ignore[attr-defined]
    assert connection.broken
    assert list((tmp_path / "home" / "rsync" / "scratch").iterdir()) == []
