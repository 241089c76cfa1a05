"""What every source promises (`mediasync.sources.base`), on every way to one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import (
    Connection,
    DirectoryScanned,
    FileEntry,
    ReadStatus,
    ScanFinished,
    ScanRequest,
    WantedFile,
)
from mediasync.sources.factory import open_source
from mediasync.sources.process import ChildChannel, ChildLauncher
from tests.fixtures.proxy import StartProxy
from tests.fixtures.sources import (
    COMPLETE,
    PNG,
    Collector,
    FarSide,
    batches_of,
    clock_tick,
    read,
    scan,
    status_of,
    want,
)
from tests.fixtures.ssh import AsyncsshServers, start_sshd, without_override

# Small, so that a far side is still sending a large file when its first bytes arrive.
WINDOW_BYTES = 256 * 1024
LARGE = 48 * 1024 * 1024

# The program from its module, so that coverage sees it run; what was sent is skipped. The others run what was sent.
AS_MODULE = (
    "import io, sys; stdin = io.BufferedReader(sys.stdin.buffer.raw, 1); stdin.read(int(stdin.read(8), 16)); "
    "from mediasync.sources.agent.program import main; sys.exit(main())"
)

ODD_NAMES = [
    b" leading and trailing ",
    b"quote'\"`",
    b"new\nline",
    b"-rf",
    b"--help",
    b"$(touch pwned)",
    b"; exit 1 #",
    b"back\\slash",
    b"tab\tbell\a",
    b"invalid \xff\xfe utf-8",
    b"latin-\xe4",
    "ümläut 图像 \N{PARTY POPPER}".encode(),
    b"*?[a]",
    b"~root",
    b"%s%n",
    b"%d{}",
    b"\x01\x7f",
    b"n" * 255,
    b"a..b",
    b"con:prn|<>",
]


def _child(arguments: Sequence[str], root: Path) -> FarSide:
    folders = NamedFolders()
    pids: dict[int, int] = {}

    class Launcher(ChildLauncher):
        pid = 0

        async def launch(self, receiver):  # type: ignore[no-untyped-def]
            launched = await super().launch(receiver)
            assert isinstance(launched.channel, ChildChannel)
            self.pid = launched.channel.pid
            return launched

    async def connect() -> Connection:
        launcher = Launcher(arguments)
        connection = await AgentConnection.open(launcher, [os.fsencode(root)], "child", folders, WINDOW_BYTES)
        pids[id(connection)] = launcher.pid
        return connection

    def cut(connection: Connection) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[id(connection)], signal.SIGKILL)

    return FarSide(root, connect, cut)


@pytest.fixture(params=["child", pytest.param("openssh", marks=pytest.mark.needs_sshd), "asyncssh"])
async def far(
    request: pytest.FixtureRequest, tmp_path: Path, ssh_servers: AsyncsshServers, start_proxy: StartProxy
) -> AsyncIterator[FarSide]:
    """A far side with an empty root; file modes count there."""
    root = tmp_path / "source"
    root.mkdir(exist_ok=True)
    prefix = without_override()
    if request.param == "child":
        yield _child([*prefix, sys.executable, "-c", AS_MODULE], root)
        return
    stop = None
    if request.param == "openssh":
        server = start_sshd(tmp_path / "sshd", root, prefix=prefix)
        stop = server.stop
    else:
        server = await ssh_servers.start(shell=[*prefix, "/bin/sh"])
    proxy = await start_proxy(server.port)
    source = open_source(server.through(proxy.port).spec(), home=tmp_path / "home", window_bytes=WINDOW_BYTES)

    async def connect() -> Connection:
        return await source.connect()

    yield FarSide(root, connect, lambda connection: proxy.cut())
    if stop is not None:
        stop()


@pytest.fixture
async def connection(far: FarSide) -> AsyncIterator[Connection]:
    connection = await far.connect()
    yield connection
    await connection.close()


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


# Probe and folders


async def test_a_probe_says_where_the_root_is_and_what_runs_there(far: FarSide, connection: Connection) -> None:
    assert connection.probe.root == os.fsencode(far.root)
    assert "python" in connection.probe.engine
    assert connection.probe.platform.startswith("Linux")
    assert abs(connection.probe.clock_offset_seconds) < 5
    assert 0 <= connection.probe.round_trip_seconds < 5


async def test_folders_of_the_root_are_listed_in_order_and_bounded(far: FarSide, connection: Connection) -> None:
    for name in (b"zeta", b"Alpha", b"beta \xff"):
        os.mkdir(os.path.join(os.fsencode(far.root), name))
    far.put("file.txt")
    (far.root / ".hidden").mkdir()
    (far.root / "linked").symlink_to("zeta")
    assert await connection.list_folders() == [b"Alpha", b"beta \xff", b"linked", b"zeta"]
    assert await connection.list_folders(2) == [b"Alpha", b"beta \xff"]


async def test_folders_that_are_missing_are_named_in_the_order_asked(far: FarSide, connection: Connection) -> None:
    (far.root / "there" / "below").mkdir(parents=True)
    (far.root / "linked").symlink_to("there")
    (far.root / "dangling").symlink_to("nowhere")
    far.put("file.txt")
    asked = [b"zzz", b"there", b"there/below", b"linked", b"dangling", b"file.txt", b"there/nope"]
    assert await connection.missing_folders(asked) == [b"zzz", b"dangling", b"file.txt", b"there/nope"]
    assert await connection.missing_folders([]) == []


# Full scans


async def test_a_full_scan_reports_every_file_sorted_within_its_directory(far: FarSide, connection: Connection) -> None:
    for name in ("b", "a", "a/2", "a/10", "Z", "a-b/x", "a/c/d/e"):
        if not name.endswith(("a", "/c/d")):
            far.put(name + ".txt", name.encode())
    found = await scan(connection)
    assert set(found.files) == {b"b.txt", b"Z.txt", b"a/2.txt", b"a/10.txt", b"a-b/x.txt", b"a/c/d/e.txt"}
    assert set(found.directories) == {b"", b"a", b"a-b", b"a/c", b"a/c/d"}
    for record in found.directories.values():
        paths = [entry.path for entry in record.files]
        assert paths == sorted(paths)
        assert record.complete
        assert not record.more
        assert record.names is None
    entry = found.files[b"a/10.txt"]
    status = os.stat(far.root / "a" / "10.txt")
    assert (entry.size_bytes, entry.mtime_ns, entry.ctime_ns, entry.inode) == (4, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert found.directories[b"a"].inode == os.stat(far.root / "a").st_ino
    assert isinstance(found.records[-1], ScanFinished)
    assert (found.finished.files_seen, found.finished.bytes_seen) == (6, sum(e.size_bytes for e in found.files.values()))
    assert abs(found.finished.started_ns - entry.ctime_ns) < 60e9


async def test_a_scan_of_one_folder_stays_in_it(far: FarSide, connection: Connection) -> None:
    far.put("in/x.txt")
    far.put("in/below/y.txt")
    far.put("inside/z.txt")
    far.put("w.txt")
    found = await scan(connection, b"in")
    assert set(found.files) == {b"in/x.txt", b"in/below/y.txt"}
    assert set(found.directories) == {b"in", b"in/below"}


@pytest.mark.parametrize("folder", [b"nowhere", b"nowhere/below", b"file.txt", b"dangling"])
async def test_a_scan_of_a_folder_that_does_not_exist_just_ends(far: FarSide, connection: Connection, folder: bytes) -> None:
    far.put("file.txt")
    (far.root / "dangling").symlink_to("nowhere")
    found = await scan(connection, folder)
    assert found.records == [found.finished]
    assert found.finished.files_seen == 0


async def test_an_empty_root_is_one_empty_directory(far: FarSide, connection: Connection) -> None:
    found = await scan(connection)
    assert list(found.directories) == [b""]
    assert found.directories[b""].files == ()


async def test_temporary_and_hidden_names_are_counted_and_not_reported(far: FarSide, connection: Connection) -> None:
    kept = ["a.png", "tmp", "part.png", "x.tmp.png", "tmp.tmpx"]
    dropped = [
        "a.tmp",
        "A.TMP",
        "b.part",
        "c.partial",
        "d.crdownload",
        "e.rsync-tmp",
        ".DS_Store",
        ".~tmp~",
        ".a.png.Xy12",
        "Thumbs.db",
        "f~",
    ]
    for name in kept + dropped:
        far.put(name)
    far.put(".hidden/inside.png")
    far.put("folder.tmp/inside.png")
    found = await scan(connection)
    assert set(found.files) == {name.encode() for name in kept} | {b"folder.tmp/inside.png"}
    # A hidden folder counts once: nobody looks into it.
    assert found.finished.files_filtered == len(dropped) + 1
    assert found.finished.files_seen == len(kept) + 1


async def test_links_and_special_files_are_counted_and_never_opened(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    far.put("real.txt")
    (far.root / "link.txt").symlink_to(outside / "secret.txt")
    (far.root / "linked").symlink_to(outside)
    (far.root / "loop").symlink_to(".")
    os.mkfifo(far.root / "fifo.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(far.root, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/socket.txt")
        os.close(directory)
        found = await scan(connection)
    assert set(found.files) == {b"real.txt"}
    assert found.finished.files_filtered == 5


async def test_a_folder_that_the_user_named_may_be_a_link(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    (outside / "2026").mkdir(parents=True)
    (outside / "2026" / "x.txt").write_text("linked")
    os.utime(outside / "2026" / "x.txt", (1e9, 1e9))
    (far.root / "named").symlink_to(outside)
    assert (await scan(connection)).files == {}
    found = await scan(connection, b"named")
    assert set(found.files) == {b"named/2026/x.txt"}
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[b"named/2026/x.txt"])], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files == {b"named/2026/x.txt": b"linked"}


async def test_a_very_large_directory_comes_in_pieces_that_follow_each_other(far: FarSide, connection: Connection) -> None:
    for number in range(2500):
        (far.root / f"{number:05}.txt").touch()
    (far.root / "below").mkdir()
    found = await scan(connection)
    pieces = [record for record in found.records if isinstance(record, DirectoryScanned) and record.path == b""]
    assert len(pieces) > 1
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert all(piece.complete for piece in pieces)
    paths = [entry.path for piece in pieces for entry in piece.files]
    assert paths == sorted(paths)
    assert len(set(paths)) == 2500


async def test_hundreds_of_folders_are_scanned_and_read(far: FarSide, connection: Connection) -> None:
    contents = {f"{number % 20}/{number}/{file}.txt".encode(): f"{number}-{file}".encode() for number in range(400) for file in range(2)}
    for path, content in contents.items():
        far.put(path, content)
    found = await scan(connection)
    assert set(found.files) == set(contents)
    assert len(found.directories) == 400 + 20 + 1
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [outcome.wanted.path for outcome in outcomes] == list(found.files)
    assert all(outcome.status is ReadStatus.OK for outcome in outcomes)
    assert {path: bytes(data) for path, data in sinks.files.items()} == contents


async def test_deep_folders_are_found(far: FarSide, connection: Connection) -> None:
    path = "/".join(["d" * 50] * 20) + "/x.txt"
    far.put(path)
    assert set((await scan(connection)).files) == {path.encode()}


async def test_a_folder_that_cannot_be_read_is_a_result_and_the_rest_goes_on(far: FarSide, connection: Connection) -> None:
    far.put("closed/x.txt")
    far.put("open/y.txt")
    (far.root / "closed").chmod(0)
    try:
        found = await scan(connection)
    finally:
        (far.root / "closed").chmod(0o755)
    assert set(found.files) == {b"open/y.txt"}
    assert list(found.unreadable) == [b"closed"]
    assert "denied" in found.unreadable[b"closed"]
    assert b"closed" not in found.directories


async def test_i7_odd_names_come_as_they_are(far: FarSide, connection: Connection) -> None:
    for name in ODD_NAMES:
        far.put(name + b"/" + name, name)
    found = await scan(connection)
    assert set(found.files) == {name + b"/" + name for name in ODD_NAMES}
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert {path: bytes(data) for path, data in sinks.files.items()} == {name + b"/" + name: name for name in ODD_NAMES}
    for name in ODD_NAMES:
        assert set((await scan(connection, name)).files) == {name + b"/" + name}
    assert not (far.root / "pwned").exists()


@pytest.mark.parametrize("path", [b"../x", b"/etc/passwd", b"a/../../x", b"a//b", b"", b"a\0b", b"."])
async def test_i7_a_path_that_leads_out_is_never_asked_for(far: FarSide, connection: Connection, path: bytes) -> None:
    with pytest.raises(MediasyncError) as raised:
        await read(connection, [WantedFile(path, 1, 1, 1)])
    assert raised.value.reason is Reason.FILE_NAME_UNSAFE


# Exact scans


async def _base(far: FarSide, connection: Connection, tmp_path: Path) -> tuple[int, dict[bytes, int]]:
    """A full scan, and a moment after it from which changes are asked for."""
    found = await scan(connection)
    newest = max([entry.ctime_ns for entry in found.files.values()] + [os.stat(far.root).st_ctime_ns])
    return clock_tick(tmp_path, newest), found.known


async def test_an_exact_scan_reports_nothing_where_nothing_moved(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    for number in range(5):
        far.put(f"a/{number}.txt", b"12345")
    since, known = await _base(far, connection, tmp_path)
    found = await scan(connection, b"", since, known)
    assert found.files == {}
    assert set(found.directories) == set(known)
    assert all(record.names is None and not record.complete for record in found.directories.values())
    assert (found.finished.files_seen, found.finished.bytes_seen) == (5, 25)


async def test_an_exact_scan_finds_an_added_file_and_the_names_beside_it(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/old.txt")
    far.put("b/old.txt")
    since, known = await _base(far, connection, tmp_path)
    far.put("a/new.txt")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/new.txt"}
    assert found.directories[b"a"].names == (b"new.txt", b"old.txt")
    assert not found.directories[b"a"].complete
    assert found.directories[b"b"].names is None


async def test_an_exact_scan_finds_a_file_changed_in_place_with_its_old_mtime(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    file = far.put("a/x.txt", b"before")
    far.put("a/y.txt")
    since, known = await _base(far, connection, tmp_path)
    before = file.stat()
    with file.open("r+b") as target:
        target.write(b"after!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/x.txt"}
    assert found.files[b"a/x.txt"].mtime_ns == before.st_mtime_ns
    assert found.directories[b"a"].names is None


async def test_an_exact_scan_finds_a_copy_that_kept_its_mtime(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    original = far.put("a/x.txt", age_seconds=1e8)
    since, known = await _base(far, connection, tmp_path)
    shutil.copy2(original, far.root / "a" / "copy.txt")
    assert set((await scan(connection, b"", since, known)).files) == {b"a/copy.txt"}


async def test_an_exact_scan_finds_a_file_renamed_into_a_folder(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    outside = tmp_path / "outside.txt"
    outside.write_text("old")
    os.utime(outside, (1e9, 1e9))
    since, known = await _base(far, connection, tmp_path)
    outside.rename(far.root / "a" / "moved.txt")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"a/moved.txt"}
    assert found.directories[b"a"].names == (b"moved.txt", b"x.txt")


async def test_an_exact_scan_reports_a_moved_in_directory_in_full(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "below" / "y.txt").write_text("old")
    (outside / "z.txt").write_text("old")
    since, known = await _base(far, connection, tmp_path)
    outside.rename(far.root / "b")
    found = await scan(connection, b"", since, known)
    assert set(found.files) == {b"b/z.txt", b"b/below/y.txt"}
    assert found.directories[b"b"].complete
    assert found.directories[b"b/below"].complete
    assert not found.directories[b"a"].complete


async def test_an_exact_scan_reports_swapped_directories_in_full(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt", b"from a")
    far.put("b/x.txt", b"from b!")
    since, known = await _base(far, connection, tmp_path)
    (far.root / "a").rename(tmp_path / "swap")
    (far.root / "b").rename(far.root / "a")
    (tmp_path / "swap").rename(far.root / "b")
    found = await scan(connection, b"", since, known)
    assert {path: entry.size_bytes for path, entry in found.files.items()} == {b"a/x.txt": 7, b"b/x.txt": 6}
    assert found.directories[b"a"].complete
    assert found.directories[b"b"].complete


async def test_an_exact_scan_shows_what_vanished_by_the_names_left(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/gone.txt")
    far.put("a/stays.txt")
    far.put("b/x.txt")
    far.put("c/x.txt")
    since, known = await _base(far, connection, tmp_path)
    (far.root / "a" / "gone.txt").unlink()
    (far.root / "b" / "x.txt").unlink()
    shutil.rmtree(far.root / "c")
    found = await scan(connection, b"", since, known)
    assert found.directories[b"a"].names == (b"stays.txt",)
    assert found.directories[b"b"].names == ()
    assert b"c" not in found.directories
    assert found.files == {}


async def test_an_exact_scan_of_a_moved_directory_too_large_for_one_record_is_complete(
    far: FarSide, connection: Connection, tmp_path: Path
) -> None:
    for number in range(1500):
        far.put(f"a/{number}.txt", b"")
    since, known = await _base(far, connection, tmp_path)
    far.put("a/new.txt")
    found = await scan(connection, b"", since, known)
    pieces = [record for record in found.records if isinstance(record, DirectoryScanned) and record.path == b"a"]
    assert all(piece.complete and piece.names is None for piece in pieces)
    assert len({entry.path for piece in pieces for entry in piece.files}) == 1501


async def test_many_known_directories_can_be_told(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/x.txt")
    since, known = await _base(far, connection, tmp_path)
    others = {b"nowhere/%06d" % number: number for number in range(30_000)}
    found = await scan(connection, b"", since, others | known)
    assert found.files == {}


# Reading


async def test_files_of_every_size_arrive_as_they_are_and_in_order(far: FarSide, connection: Connection) -> None:
    numbers = random.Random(1)
    sizes = [0, 1, 4095, 65_536, 262_143, 262_144, 262_145, 300_000, 1_048_577, LARGE, 0, 5]
    contents = {f"{index:02}.bin".encode(): numbers.randbytes(size) for index, size in enumerate(sizes)}
    for path, content in contents.items():
        far.put(path, content)
    found = await scan(connection)
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [outcome.wanted.path for outcome in outcomes] == sorted(contents)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert {path: digest(data) for path, data in sinks.files.items()} == {path: digest(data) for path, data in contents.items()}
    assert all(outcome.entry == found.files[outcome.wanted.path] for outcome in outcomes)


async def test_a_connection_does_one_thing_after_the_other(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt", b"one")
    for _ in range(3):
        found = await scan(connection)
        assert await connection.list_folders() == [b"a"]
        sinks = Collector()
        await read(connection, [want(entry) for entry in found.files.values()], sinks)
        assert sinks.files == {b"a/x.txt": b"one"}
    assert await read(connection, []) == []


async def test_the_next_batch_is_asked_for_while_the_last_one_streams(far: FarSide, connection: Connection) -> None:
    far.put("first.bin", bytes(LARGE))
    far.put("second.txt", b"second")
    found = await scan(connection)
    steps: list[str] = []

    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        for path in (b"first.bin", b"second.txt"):
            steps.append(f"asked for {path.decode()}")
            yield [want(found.files[path])]

    async for outcome in connection.read(batches(), Collector().open):
        steps += [f"got {outcome.wanted.path.decode()}"]
    assert steps == ["asked for first.bin", "asked for second.txt", "got first.bin", "got second.txt"]


async def test_a_batch_that_comes_late_is_read_when_it_comes(far: FarSide, connection: Connection) -> None:
    far.put("a.txt", b"a")
    far.put("b.txt", b"b")
    found = await scan(connection)
    got_first = asyncio.Event()

    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        yield [want(found.files[b"a.txt"])]
        await got_first.wait()
        yield []
        yield [want(found.files[b"b.txt"])]

    paths = []
    async with asyncio.timeout(20):
        async for outcome in connection.read(batches(), Collector().open):
            paths.append(outcome.wanted.path)
            got_first.set()
    assert paths == [b"a.txt", b"b.txt"]


async def test_a_file_that_changes_under_the_read_is_not_taken(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", bytes(LARGE))
    far.put("y.txt", b"after it")
    found = await scan(connection)

    def change(wanted: WantedFile) -> None:
        if not changed:
            changed.append(True)
            with file.open("r+b") as target:
                target.seek(LARGE - 5)
                target.write(b"other")

    changed: list[bool] = []
    sinks = Collector(change)
    outcomes = await read(connection, [want(found.files[b"x.bin"]), want(found.files[b"y.txt"])], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.CHANGED, ReadStatus.OK]
    assert outcomes[0].entry is not None
    assert outcomes[0].entry.mtime_ns == file.stat().st_mtime_ns
    assert sinks.files[b"y.txt"] == b"after it"


async def test_a_file_that_is_cut_under_the_read_keeps_its_announced_length(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", b"x" * LARGE)
    far.put("y.txt", b"after it")
    found = await scan(connection)
    cut: list[bool] = []

    def truncate(wanted: WantedFile) -> None:
        if not cut:
            cut.append(True)
            os.truncate(file, LARGE // 2)

    sinks = Collector(truncate)
    outcomes = await read(connection, [want(found.files[b"x.bin"]), want(found.files[b"y.txt"])], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.CHANGED, ReadStatus.OK]
    assert len(sinks.files[b"x.bin"]) == LARGE
    assert sinks.files[b"y.txt"] == b"after it"


async def test_a_file_deleted_under_the_read_is_still_taken(far: FarSide, connection: Connection) -> None:
    file = far.put("x.bin", b"x" * LARGE)
    found = await scan(connection)
    sinks = Collector(lambda wanted: file.unlink(missing_ok=True))
    (outcome,) = await read(connection, [want(found.files[b"x.bin"])], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files[b"x.bin"] == b"x" * LARGE


async def test_a_file_that_is_gone_is_vanished(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt")
    far.put("b/x.txt")
    found = await scan(connection)
    (far.root / "a" / "x.txt").unlink()
    shutil.rmtree(far.root / "b")
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [(outcome.status, outcome.entry) for outcome in outcomes] == [(ReadStatus.VANISHED, None)] * 2
    assert sinks.files == {}


async def test_a_file_that_is_not_what_the_scan_saw_is_not_sent(far: FarSide, connection: Connection) -> None:
    files = {name: far.put(f"{name}.txt", b"before") for name in ("grown", "touched", "replaced", "linked", "directory", "fifo")}
    found = await scan(connection)
    files["grown"].write_bytes(b"before and after")
    os.utime(files["touched"], (1e9, 1e9))
    for name in ("replaced", "linked", "directory", "fifo"):
        status = files[name].stat()
        files[name].rename(far.root / f"{name}.was")
        if name == "replaced":
            files[name].write_bytes(b"before")
            os.utime(files[name], ns=(status.st_atime_ns, status.st_mtime_ns))
        elif name == "linked":
            files[name].symlink_to(far.root / f"{name}.was")
        elif name == "directory":
            files[name].mkdir()
        else:
            os.mkfifo(files[name])
    sinks = Collector()
    async with asyncio.timeout(20):
        outcomes = {outcome.wanted.path: outcome for outcome in await read(connection, map(want, found.files.values()), sinks)}
    assert {outcome.status for outcome in outcomes.values()} == {ReadStatus.CHANGED}
    assert sinks.files == {}
    for name in ("grown", "touched", "replaced"):
        entry = outcomes[f"{name}.txt".encode()].entry
        assert entry is not None
        assert (entry.size_bytes, entry.inode) == (files[name].stat().st_size, files[name].stat().st_ino)
    for name in ("linked", "directory", "fifo"):
        assert outcomes[f"{name}.txt".encode()].entry is None


async def test_i7_a_folder_swapped_for_a_link_leads_nowhere(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/b/x.txt", b"inside")
    found = await scan(connection)
    outside = tmp_path / "outside"
    (far.root / "a").rename(outside)
    (far.root / "a").symlink_to(outside)
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[b"a/b/x.txt"])], sinks)
    assert outcome.status in (ReadStatus.VANISHED, ReadStatus.CHANGED)
    assert sinks.files == {}


async def test_a_file_that_cannot_be_read_is_a_result_and_the_rest_goes_on(far: FarSide, connection: Connection) -> None:
    far.put("closed.txt").chmod(0)
    far.put("open.txt", b"open")
    found = await scan(connection)
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.UNREADABLE, ReadStatus.OK]
    assert "denied" in outcomes[0].message
    assert sinks.files == {b"open.txt": b"open"}


@pytest.mark.parametrize("kind", list(COMPLETE))
async def test_a_known_format_is_taken_at_once_when_its_end_is_there(far: FarSide, connection: Connection, kind: str) -> None:
    far.put(f"x.{kind}", COMPLETE[kind], age_seconds=0)
    assert await status_of(connection, f"x.{kind}".encode()) is ReadStatus.OK


@pytest.mark.parametrize("kind", list(COMPLETE))
async def test_a_known_format_without_its_end_waits_and_is_taken_as_incomplete_in_the_end(
    far: FarSide, connection: Connection, kind: str
) -> None:
    half = COMPLETE[kind][:-1]
    far.put(f"new.{kind}", half, age_seconds=100)
    far.put(f"old.{kind}", half, age_seconds=5000)
    found = await scan(connection)
    sinks = Collector()
    new, old = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert (new.status, new.entry) == (ReadStatus.UNSETTLED, found.files[f"new.{kind}".encode()])
    assert (old.status, old.incomplete) == (ReadStatus.OK, True)
    assert sinks.files == {f"old.{kind}".encode(): half}


async def test_a_format_without_an_end_settles_by_its_age(far: FarSide, connection: Connection) -> None:
    far.put("new.txt", age_seconds=0)
    far.put("old.txt", age_seconds=30)
    assert await status_of(connection, b"new.txt", settle_seconds=20) is ReadStatus.UNSETTLED
    assert await status_of(connection, b"old.txt", settle_seconds=20) is ReadStatus.OK
    assert await status_of(connection, b"new.txt", settle_seconds=0) is ReadStatus.OK


async def test_an_mtime_in_the_future_waits_for_the_ctime_alone(far: FarSide, connection: Connection) -> None:
    far.put("x.txt", age_seconds=-86_400)
    assert await status_of(connection, b"x.txt", settle_seconds=3600) is ReadStatus.UNSETTLED
    assert await status_of(connection, b"x.txt", settle_seconds=0) is ReadStatus.OK


async def test_an_empty_file_opens_a_sink(far: FarSide, connection: Connection) -> None:
    far.put("empty.txt", b"")
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[b"empty.txt"])], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files == {b"empty.txt": b""}


# What breaks


async def test_a_sink_that_fails_ends_the_read_with_its_error(far: FarSide, connection: Connection) -> None:
    far.put("x.bin", bytes(LARGE))
    found = await scan(connection)

    def full(wanted: WantedFile) -> None:
        raise OSError(28, "No space left on device")

    async with asyncio.timeout(20):
        with pytest.raises(OSError, match="No space left"):
            await read(connection, [want(found.files[b"x.bin"])], Collector(full))
        with pytest.raises(MediasyncError) as raised:
            await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST


async def test_batches_that_fail_end_the_read_with_their_error(far: FarSide, connection: Connection) -> None:
    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        raise LookupError("no more batches")
        yield []

    with pytest.raises(LookupError):
        async for _ in connection.read(batches(), Collector().open):
            pass


async def test_a_cut_line_ends_a_read_once_and_for_all(far: FarSide, connection: Connection) -> None:
    far.put("x.bin", bytes(LARGE))
    found = await scan(connection)
    sinks = Collector(lambda wanted: far.cut(connection))
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            await read(connection, [want(found.files[b"x.bin"])], sinks)
        assert raised.value.reason is Reason.CONNECTION_LOST
        with pytest.raises(MediasyncError) as again:
            await scan(connection)
        assert again.value.reason is Reason.CONNECTION_LOST
        await connection.close()
        # A new connection works.
        fresh = await far.connect()
        try:
            assert set((await scan(fresh)).files) == {b"x.bin"}
        finally:
            await fresh.close()


async def test_a_cut_line_is_noticed_by_the_next_call(far: FarSide, connection: Connection) -> None:
    far.cut(connection)
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST


async def test_a_read_that_is_cancelled_closes_the_connection(far: FarSide, connection: Connection) -> None:
    far.put("x.bin", bytes(LARGE))
    found = await scan(connection)
    started = asyncio.Event()
    task = asyncio.create_task(read(connection, [want(found.files[b"x.bin"])], Collector(lambda wanted: started.set())))
    async with asyncio.timeout(20):
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(MediasyncError):
            await connection.list_folders()


async def test_a_scan_that_is_left_early_closes_the_connection(far: FarSide, connection: Connection) -> None:
    for number in range(3000):
        far.put(f"{number}.txt", b"")
    records = connection.scan(ScanRequest())
    async with asyncio.timeout(20):
        assert isinstance(await anext(records), DirectoryScanned)
        await records.aclose()  # type: ignore[attr-defined]
        with pytest.raises(MediasyncError):
            await connection.list_folders()


async def test_two_things_at_once_on_one_connection_are_refused(far: FarSide, connection: Connection) -> None:
    far.put("x.txt")
    records = connection.scan(ScanRequest())
    await anext(records)
    with pytest.raises(RuntimeError):
        await connection.list_folders()
    assert [type(record) async for record in records][-1] is ScanFinished
    assert await connection.list_folders() == []


async def test_closing_is_harmless_at_any_time_and_more_than_once(far: FarSide) -> None:
    connection = await far.connect()
    await asyncio.gather(connection.close(), connection.close())
    await connection.close()
    with pytest.raises(MediasyncError) as raised:
        await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST


async def test_several_connections_work_at_once(far: FarSide) -> None:
    entries: dict[bytes, FileEntry] = {}
    for number in range(4):
        far.put(f"{number}.bin", bytes([number]) * 3_000_000)
    connections = await asyncio.gather(*(far.connect() for _ in range(4)))
    try:
        entries = (await scan(connections[0])).files
        sinks = Collector()
        outcomes = await asyncio.gather(
            *(read(connection, [want(entries[f"{number}.bin".encode()])], sinks) for number, connection in enumerate(connections))
        )
        assert all(outcome.status is ReadStatus.OK for (outcome,) in outcomes)
        assert all(sinks.files[f"{number}.bin".encode()] == bytes([number]) * 3_000_000 for number in range(4))
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


async def test_a_consumer_that_lags_makes_the_far_side_wait(far: FarSide, connection: Connection) -> None:
    for number in range(1000):
        far.put(f"{number:04}.txt", PNG)
    found = await scan(connection)
    sinks = Collector()
    most_ahead = taken = 0
    async for _ in connection.read(batches_of([want(entry) for entry in found.files.values()]), sinks.open):
        taken += 1
        most_ahead = max(most_ahead, len(sinks.files) - taken)
        await asyncio.sleep(0)
    assert taken == 1000
    assert most_ahead < 1000
