"""The agent on its own, as the process it is at a far side."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import hashlib
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason, FollowSymlinks
from mediasync.sources import shell
from mediasync.sources.agent import assembly, program, requests, wire
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.agent.program import frames, selecting
from mediasync.sources.base import DeleteStatus, DoomedFile, Partial, ReadStatus, ScanRequest, WantedFile
from mediasync.sources.process import ChildLauncher
from mediasync.sources.selection import EVERYTHING, Selection, rules
from tests.fixtures.sources import COMPLETE, Collector, batches_of, read, scan, want
from tests.fixtures.ssh import without_override

FOLDER = Path(program.__file__).parent


def _pythons() -> list[str]:
    """Every Python 3.6 or later that is installed here, the one that runs the tests first."""
    found = [sys.executable]
    for minor in range(6, 20):
        places = [*sorted(Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*/bin/python3")), shutil.which(f"python3.{minor}")]
        found += [str(place) for place in places if place][:1]
    return list(dict.fromkeys(found))


def _shells() -> list[list[str]]:
    names = ("sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh", "ash")
    found = [[path] for name in names if (path := shutil.which(name))]
    return [*found, *([[busybox, "sh"]] if (busybox := shutil.which("busybox")) else [])]


async def connect(root: Path | str | bytes | Sequence[bytes], arguments: Sequence[str] = (), *folders: bytes) -> AgentConnection:
    roots = [os.fsencode(root)] if isinstance(root, str | bytes | Path) else list(root)
    return await AgentConnection.open(ChildLauncher(arguments), roots, "child", NamedFolders(folders))


def test_it_needs_no_more_than_python_3_6() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    checked = subprocess.run([vermin, "-t=3.6-", "--no-tips", "--violations", FOLDER], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_it_fits_into_one_small_write() -> None:
    assert len(assembly.program()) < 24 * 1024


def test_both_ends_hold_the_same_numbers() -> None:
    assert (frames.VERSION, frames.MARKER, frames.MAX_FRAME) == (wire.VERSION, wire.MARKER, wire.MAX_FRAME)
    for kind in (*wire.Request, *wire.Answer):
        assert getattr(frames, kind.name) == kind
    for reason in FilterReason:
        assert getattr(selecting, reason.name) == reason.value
    # A scan counts what is no result by these numbers.
    assert [reason.value for reason in FilterReason] == list(range(1, selecting.OUTSIDE + 1))


def test_every_part_is_sent_and_no_name_of_one_hides_anothers() -> None:
    assert {f"{part}.py" for part in program.PARTS} | {"__init__.py"} == {file.name for file in FOLDER.glob("*.py")}
    names: list[str] = []
    for part in program.PARTS:
        for statement in ast.parse((FOLDER / f"{part}.py").read_text()).body:
            if isinstance(statement, ast.ClassDef | ast.FunctionDef):
                names.append(statement.name)
            elif isinstance(statement, ast.Assign):
                names += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    assert len(names) == len(set(names))
    assert "mediasync.sources" not in assembly.text()


@pytest.mark.parametrize("python", _pythons(), ids=lambda path: Path(path).parent.parent.name + "-" + Path(path).name)
async def test_it_scans_and_reads_on_every_python_there_is(python: str, tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "source")
    contents = {b"plain.txt": b"plain", b"a/in\xffvalid\n.txt": b"odd", b"a/large.bin": bytes(range(256)) * 20_000}
    contents |= {f"b/x.{kind}".encode(): data for kind, data in COMPLETE.items()}
    for path, data in contents.items():
        file = os.path.join(root, path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as target:
            target.write(data)
        os.utime(file, (1e9, 1e9))
    for environment in ({}, {"LC_ALL": "C"}):
        arguments = ["env", *(f"{name}={value}" for name, value in environment.items()), *shell.agent_arguments(python)]
        connection = await connect(root, arguments)
        found = await scan(connection)
        assert set(found.files) == set(contents)
        assert await connection.list_folders() == [b"a", b"b"]
        assert await connection.missing_folders([b"a", b"c"]) == [b"c"]
        sinks = Collector()
        outcomes = await read(connection, map(want, found.files.values()), sinks)
        assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
        assert {path: bytes(data) for path, data in sinks.files.items()} == contents
        newest = max(entry.ctime_ns for entry in found.files.values())
        assert (await scan(connection, b"", newest + 1, found.known)).files == {}
        await _does_everything_else(connection, Path(os.fsdecode(root)), newest + 1)


async def _does_everything_else(connection: AgentConnection, root: Path, since: int) -> None:
    (root / "link.txt").symlink_to("plain.txt")
    (root / "plain.txt").write_bytes(b"plain")
    os.utime(root / "plain.txt", (1e9, 1e9))
    chosen = Selection(FollowSymlinks.ALL, extensions=(b".txt",), excluded=rules(["b/", "[!a-m]*.txt"]))
    found = await scan(connection, selection=chosen, explain=True)
    assert set(found.files) == {b"link.txt", b"a/in\xffvalid\n.txt"}
    assert found.filtered[b"plain.txt"] is FilterReason.EXCLUDED
    digest = hashlib.sha256(b"plain").digest()
    (hashed,) = [outcome async for outcome in connection.hash_files(batches_of([want(found.files[b"link.txt"])]), selection=chosen)]
    assert hashed.sha256 == digest
    sinks = Collector()
    entry = (await scan(connection)).files[b"plain.txt"]
    await read(connection, [replace(want(entry), partial=Partial(2, hashlib.sha256(b"pl").digest()))], sinks)
    assert (sinks.offsets, sinks.files) == ({b"plain.txt": 2}, {b"plain.txt": b"ain"})

    async def doomed() -> AsyncIterator[list[DoomedFile]]:
        yield [DoomedFile(b"plain.txt", entry.size_bytes, entry.mtime_ns, entry.inode, digest)]

    assert [outcome.status async for outcome in connection.delete_unchanged(doomed())] == [DeleteStatus.DELETED]
    assert "python" in (await connection.surroundings()).tools[0]
    known = (await scan(connection)).known
    assert (await scan(connection, b"", since, known, quick=True)).gone == []
    watching = connection.watch(ScanRequest(known_directories=known))
    assert await anext(watching) == frozenset()
    (root / "a" / "new.txt").touch()
    told: set[bytes] = set()
    while b"a" not in told:
        told |= await anext(watching)
    await watching.aclose()  # type: ignore[attr-defined]
    (root / "a" / "new.txt").unlink()
    (root / "link.txt").unlink()
    (root / "plain.txt").write_bytes(b"plain")
    os.utime(root / "plain.txt", (1e9, 1e9))


@pytest.mark.parametrize("login_shell", _shells(), ids=lambda words: Path(words[0]).name)
async def test_any_login_shell_starts_it(login_shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    connection = await connect(tmp_path, [*login_shell, "-c", shell.agent_command()])
    assert await connection.list_folders() == [b"a"]
    await connection.close()


def test_the_command_is_one_word_for_sh_in_every_shell() -> None:
    prefix, script = shell.agent_command().split("'", 1)
    assert prefix == "exec sh -c "
    assert script.endswith("'")
    assert not set(script[:-1]) & set("'\\!\n")


async def test_the_next_python_is_tried_when_one_is_too_old_or_a_placeholder(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text("#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for file in tools.iterdir():
        file.chmod(0o755)
    connection = await connect(tmp_path, ["env", f"PATH={tools}:/usr/bin:/bin", "sh", "-c", shell.agent_command()])
    await connection.close()


def test_a_python_that_is_too_old_says_so_before_it_reads_anything() -> None:
    # The version is all that the loader looks at first, so a made-up one stands for an old interpreter.
    arguments = shell.agent_arguments(sys.executable)
    loader = arguments[-1].replace("sys.version_info<", "(2,7)<")
    done = subprocess.run([*arguments[:-1], loader], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (87, b"", b"")


async def test_files_in_the_login_folder_stand_in_for_no_module(tmp_path: Path) -> None:
    for name in ("zlib", "struct", "stat", "os", "io", "time", "fcntl"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    connection = await connect(tmp_path, ["env", "-C", str(tmp_path), f"PYTHONPATH={tmp_path}", *shell.agent_arguments(sys.executable)])
    await connection.close()


async def test_it_ends_when_its_stdin_ends(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *shell.agent_arguments(sys.executable), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        stdout, _ = await process.communicate(assembly.program() + requests.hello(b"nonce", [os.fsencode(tmp_path)], EVERYTHING))
    assert process.returncode == 0
    assert stdout.startswith(wire.MARKER + b"nonce\n")


async def test_it_ends_when_nobody_reads_its_stdout(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(8_000_000))
    status = (tmp_path / "x.bin").stat()
    wanted = WantedFile(b"x.bin", status.st_size, status.st_mtime_ns, status.st_ino, 0.0, 0.0)
    process = await asyncio.create_subprocess_exec(
        *shell.agent_arguments(sys.executable),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(
        assembly.program() + requests.hello(b"nonce", [os.fsencode(tmp_path)], EVERYTHING) + b"".join(requests.read([wanted], []))
    )
    async with asyncio.timeout(20):
        await process.stdout.readuntil(b"nonce\n")
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        assert await process.wait() == 0
        assert await process.stderr.read() == b""
    process.stdin.close()


async def test_a_broken_request_is_answered_and_ends_it(tmp_path: Path) -> None:
    for request in (wire.frame(99, b""), wire.frame(wire.Request.SCAN, b"\0"), b"\6\xff\xff\xff\xff"):
        process = await asyncio.create_subprocess_exec(
            *shell.agent_arguments(sys.executable), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20):
            stdout, _ = await process.communicate(assembly.program() + requests.hello(b"n", [os.fsencode(tmp_path)], EVERYTHING) + request)
        assert process.returncode == 1
        kind, payload = _last_frame(stdout)
        assert kind == wire.Answer.FAILED
        error = wire.failed(payload, "there")
        assert error.reason is Reason.SOURCE_PROTOCOL


def _last_frame(stdout: bytes) -> tuple[int, bytes]:
    rest = memoryview(stdout[stdout.index(b"\n") + 1 :])
    last = (0, b"")
    while len(rest):
        found = wire.FrameParser().next(rest)
        assert found is not None
        last, rest = found[:2], found[2]
    return last


# The root


async def test_the_first_root_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "third").mkdir()
    connection = await connect([os.fsencode(tmp_path / name) for name in ("first", "second", "third")])
    assert connection.probe.root == os.fsencode(tmp_path / "second")
    await connection.close()


async def test_a_root_below_the_home_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "Comfy UI" / "output").mkdir(parents=True)
    for root in (b"~/Comfy UI/output", b"Comfy UI/output", b"~/Comfy UI/../Comfy UI/output/"):
        connection = await connect(root, ["env", f"HOME={tmp_path}", *shell.agent_arguments(sys.executable)])
        assert connection.probe.root == os.fsencode(tmp_path / "Comfy UI" / "output")
        await connection.close()


async def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    connection = await connect(tmp_path / "link")
    assert connection.probe.root == os.fsencode(tmp_path / "link")
    assert await connection.list_folders() == [b"below"]
    await connection.close()


async def test_a_missing_root_is_answered_with_what_is_there(tmp_path: Path) -> None:
    for name in ("outputs", "models", "x\ny"):
        (tmp_path / "forge" / name).mkdir(parents=True)
    with pytest.raises(MediasyncError) as raised:
        await connect(tmp_path / "forge" / "output" / "2026")
    assert raised.value.reason is Reason.SOURCE_ROOT_MISSING
    assert str(tmp_path / "forge" / "output" / "2026") in raised.value.message
    assert f"{tmp_path}/forge holds models, outputs, x\\ny" in raised.value.message
    assert raised.value.remedy


async def test_missing_roots_of_a_profile_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MediasyncError) as raised:
        await connect([os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "file")])
    assert raised.value.reason is Reason.SOURCE_ROOT_MISSING
    assert raised.value.message.count(f"{tmp_path} holds file") == 1
    assert f"{tmp_path}/a nor {tmp_path}/file" in raised.value.message


async def test_names_beside_a_missing_root_are_bounded(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}").mkdir()
    with pytest.raises(MediasyncError, match="11 and 18 more"):
        await connect(tmp_path / "nowhere")


async def test_a_root_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    root = tmp_path / "closed"
    root.mkdir(mode=0o000)
    with pytest.raises(MediasyncError) as raised:
        await connect([os.fsencode(tmp_path / "nowhere"), os.fsencode(root)], [*without_override(), *shell.agent_arguments(sys.executable)])
    root.chmod(0o755)
    assert raised.value.reason is Reason.SOURCE_UNREADABLE
    assert f"{root} at this machine cannot be read: Permission denied" in raised.value.message


async def test_a_root_that_went_away_meanwhile_is_missing_and_not_empty(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    connection = await connect(root)
    root.rmdir()
    with pytest.raises(MediasyncError) as raised:
        await scan(connection)
    assert raised.value.reason is Reason.SOURCE_ROOT_MISSING


async def test_a_root_that_was_replaced_is_the_new_one(tmp_path: Path) -> None:
    root = tmp_path / "source"
    (root / "old").mkdir(parents=True)
    connection = await connect(root)
    shutil.rmtree(root)
    (root / "new").mkdir(parents=True)
    assert await connection.list_folders() == [b"new"]
    await connection.close()


# Files


async def test_a_named_folder_in_another_is_followed_and_an_unnamed_one_is_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "x.txt").write_text("x")
    os.utime(outside / "deep" / "x.txt", (1e9, 1e9))
    root = tmp_path / "source"
    (root / "a").mkdir(parents=True)
    (root / "a" / "linked").symlink_to(outside)
    status = (outside / "deep" / "x.txt").stat()
    wanted = WantedFile(b"a/linked/deep/x.txt", 1, status.st_mtime_ns, status.st_ino)
    for folders, expected in (((b"a",), ReadStatus.VANISHED), ((b"a", b"a/linked"), ReadStatus.OK)):
        connection = await connect(root, (), *folders)
        (outcome,) = await read(connection, [wanted])
        assert outcome.status is expected
        await connection.close()


async def test_names_that_are_too_long_for_us_are_said_and_left(tmp_path: Path) -> None:
    # 4095 bytes are not reached by a path, only step by step.
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir(b"d" * 250, dir_fd=directory)
        below = os.open(b"d" * 250, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    (tmp_path / "x.txt").write_text("x")
    connection = await connect(tmp_path)
    found = await scan(connection)
    await connection.close()
    assert set(found.files) == {b"x.txt"}
    assert ["too long" in message for message in found.unreadable.values()] == [True]
    shutil.rmtree(tmp_path / ("d" * 250), ignore_errors=True)


async def test_a_file_that_was_written_this_instant_is_looked_at_twice(tmp_path: Path) -> None:
    connection = await connect(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(COMPLETE["png"])
        found = await scan(connection)
        (outcome,) = await read(connection, [want(found.files[f"{number}.png".encode()])])
        assert outcome.status is ReadStatus.OK
    await connection.close()


# The second thread


def test_it_says_that_it_lives_while_it_waits_for_a_disk_but_not_in_a_files_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ALIVE_SECONDS", 0.01)
    theirs, stdout = os.pipe()
    output = frames.Output(stdout)
    output.busy = True
    thread = threading.Thread(target=output.say_alive)
    thread.start()
    alive = wire.frame(wire.Answer.ALIVE, b"")
    assert os.read(theirs, len(alive)) == alive
    with output.lock:
        output.raw = True
        os.set_blocking(theirs, False)
        with contextlib.suppress(BlockingIOError):
            os.read(theirs, 1 << 16)
    # As long as it would take for several.
    assert select.select([theirs], [], [], 0.1)[0] == []
    output.raw = False
    assert select.select([theirs], [], [], 20)[0] == [theirs]
    os.close(theirs)
    thread.join(20)
    assert not thread.is_alive()
    os.close(stdout)
