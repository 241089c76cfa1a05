"""`mediasync sync` as a process against a scripted coordinator: what it prints, and what it ends with."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from collections.abc import Sequence

import pytest

from mediasync import convert
from mediasync.model import Duplicates, Durability, FollowSymlinks, PreviewDecision, PreviewedFile, SyncOptions
from mediasync.v1 import types_pb2
from tests.fixtures.peer import Cli, PeerServer

KEYS = [
    "job_id",
    "sync_id",
    "state",
    "files_transferred",
    "bytes_transferred",
    "files_unchanged",
    "files_filtered",
    "files_filtered_by_reason",
    "files_unsettled",
    "files_failed",
    "duration_seconds",
    "errors",
    "errors_total",
    "cleanup",
]


def url(root: str) -> str:
    return f"ssh://me@forge.lan:2222/{root}"


async def test_json_is_one_object_with_exactly_the_promised_keys(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("sync", url("ok"), "lib", "--json", "--coordinator", peer.address)
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.count("\n") == 1
    result = json.loads(ended.stdout)
    assert list(result) == KEYS
    assert (result["job_id"], result["sync_id"], result["state"]) == ("job_1", "sync_1", "complete")
    assert (result["files_transferred"], result["bytes_transferred"], result["duration_seconds"]) == (3, 3_000_000, 1.5)
    assert (result["errors"], result["errors_total"]) == ([], 0)


async def test_what_was_typed_reaches_the_coordinator(peer: PeerServer, cli: Cli) -> None:
    (cli.folder / "key").touch()
    options = ["--folder", "a b", "--folder", "c/d", "--identity-file", "key", "--known-hosts", "hosts", "--accept-new-host-key"]
    ended = await cli("sync", url("ok"), "lib", *options, "--parallel-transfers", "7", "--full", "--json", "--coordinator", peer.address)
    assert ended.code == 0
    spec = peer.peer.requests[0].spec
    assert (spec.source.root, spec.source.ssh.user, spec.source.ssh.port) == (b"/ok", "me", 2222)
    assert spec.dest_path == str(cli.folder / "lib")
    assert [folder.raw for folder in spec.folders] == [b"a b", b"c/d"]
    assert list(spec.source.ssh.identity_files) == [str(cli.folder / "key")]
    assert list(spec.source.ssh.known_hosts_files) == [str(cli.folder / "hosts")]
    assert spec.source.ssh.accept_new_host_key
    assert (spec.options.parallel_transfers, spec.options.full_scan) == (7, True)


async def test_the_summary_is_for_people_and_progress_goes_to_stderr(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("sync", url("errors"), "lib", "--coordinator", peer.address)
    assert ended.code == 1
    for words in (
        "complete, but some files failed",
        "3 files, 3.0 MB",
        "5 files, taken earlier",
        "1 file, still being written",
        "skipped      1,203 files, not results: 1,200 too small, 1 links, 2 for other reasons",
        "120 files",
    ):
        assert words in ended.stdout
    assert "✗ a/\\xff0.png: file 0 cannot be read\n    → Make it readable." in ended.stdout
    assert ended.stdout.count("cannot be read") == 5
    assert "… and 115 more problems: mediasync jobs show job_1" in ended.stdout
    assert " 50 %  transferring, 3 of 6 files, 3.0 kB of 6.0 kB, 1.0 kB/s, 3 s left" in ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr


async def test_errors_in_json_are_capped_and_counted(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("sync", url("errors"), "lib", "--json", "--coordinator", peer.address)
    result = json.loads(ended.stdout)
    assert (ended.code, result["state"], result["files_failed"]) == (1, "complete_with_errors", 120)
    assert (len(result["errors"]), result["errors_total"]) == (100, 120)
    assert result["files_filtered_by_reason"] == {"too_small": 1200, "link": 1, "other": 2}
    assert result["errors"][0] == {"path": "a/\\xff0.png", "reason": "FILE_UNREADABLE", "message": "file 0 cannot be read"}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("HOST_NOT_FOUND", 3),
        ("HOST_KEY_CHANGED", 3),
        ("LIBRARY_MARKER_MISSING", 4),
        ("LIBRARY_NO_SPACE", 4),
        ("SYNC_IN_PROGRESS", 6),
        ("CONFIGURATION_INVALID", 2),
        ("INTERNAL", 70),
    ],
)
async def test_a_failed_job_ends_with_the_code_of_its_reason(peer: PeerServer, cli: Cli, reason: str, code: int) -> None:
    ended = await cli("sync", url(f"FAIL_{reason}"), "lib", "--json", "--coordinator", peer.address)
    assert ended.code == code
    result = json.loads(ended.stdout)
    assert (result["state"], result["errors_total"]) == ("failed", 1)
    assert result["errors"] == [{"path": None, "reason": reason, "message": f"it is FAIL_{reason}"}]
    assert ended.stderr == f"error: it is FAIL_{reason}\n  → Do something about it.\n"


async def test_detach_prints_the_job_and_returns(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("sync", url("hang"), "lib", "--detach", "--coordinator", peer.address)
    assert (ended.code, ended.stdout) == (0, "job_1\n")
    assert "mediasync jobs watch job_1" in ended.stderr
    ended = await cli("sync", url("hang"), "lib", "--detach", "--json", "--coordinator", peer.address)
    assert json.loads(ended.stdout) == {"job_id": "job_2", "sync_id": "sync_2"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_cancels_the_job_and_waits_for_its_end(peer: PeerServer, cli: Cli, number: int) -> None:
    process = await cli.start("sync", url("hang"), "lib", "--json", "--coordinator", peer.address)
    async with asyncio.timeout(60):
        assert process.stderr is not None
        await peer.peer.watched.get()
        # The signal may come before the first snapshot does, but not before the job is followed.
        await asyncio.to_thread(os.kill, process.pid, number)
        stdout, stderr = await process.communicate()
    assert process.returncode == 5
    assert json.loads(stdout)["state"] == "cancelled"
    assert "Ctrl-C again leaves at once" in stderr.decode()
    assert peer.peer.cancelled.is_set()


async def test_a_second_ctrl_c_leaves_at_once(peer: PeerServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer.peer.cancelled, "wait", asyncio.Event().wait)  # the job does not end
    process = await cli.start("sync", url("hang"), "lib", "--coordinator", peer.address)
    async with asyncio.timeout(60):
        await peer.peer.watched.get()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        await process.stderr.readuntil(b"leaves at once.\n")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 5
        await process.communicate()


async def test_ctrl_c_before_the_job_started_ends_the_command(cli: Cli) -> None:
    connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: connected.put_nowait(writer), "127.0.0.1", 0)  # takes a call, never answers
    process = await cli.start("sync", url("ok"), "lib", "--json", "--coordinator", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(60):
        writer = await connected.get()
        process.send_signal(signal.SIGINT)
        stdout, stderr = await process.communicate()
    writer.close()
    server.close()
    assert process.returncode == 5
    assert json.loads(stdout)["error"]["reason"] == "CANCELLED"
    assert stderr.decode() == "error: cancelled\n"


async def test_bars_are_drawn_on_a_terminal(peer: PeerServer, cli: Cli) -> None:
    ours, theirs = pty.openpty()
    cli.environ |= {"TERM": "xterm-256color", "COLUMNS": "150"}
    process = await cli.start("sync", url("hang"), "lib", "--coordinator", peer.address, stderr=theirs)
    os.close(theirs)
    seen = b""

    async def until(words: bytes) -> None:
        nonlocal seen
        while words not in seen:
            seen += await asyncio.to_thread(os.read, ours, 65536)

    async with asyncio.timeout(60):
        await until(b"3/6 files")
        process.send_signal(signal.SIGINT)
        await until(b"leaves at once")
        stdout, _ = await process.communicate()
    os.close(ours)
    text = seen.decode()
    for words in ("transferring", "50 %", "3.0 kB/6.0 kB", "1.0 kB/s", "3 s left", "a[b]", "━"):
        assert words in text
    assert process.returncode == 5
    assert "cancelled; what had landed stays" in stdout.decode()


async def run_wrong(cli: Cli, arguments: Sequence[str], code: int, *words: str) -> None:
    ended = await cli(*arguments)
    assert ended.code == code, ended
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    for word in words:
        assert word in ended.stderr
    as_json = await cli(*arguments, "--json")
    assert as_json.code == code
    error = json.loads(as_json.stdout)["error"]
    assert error["exit_code"] == code
    assert error["message"] in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sync", "forge.lan:/x", "lib"], ["did you mean `ssh://forge.lan/x`?"]),
        (["sync", url("ok")], ["there is no destination to sync to", "MEDIA_BASE"]),
        (["sync", url("ok"), "lib", "--profile", "comfi"], ["there is no profile 'comfi'", "did you mean `comfyui`?"]),
        (["sync", url("ok"), "lib", "--parallel-transfers", "99"], ["--parallel-transfers is 99; expected 1 to 16"]),
        (["sync", url("ok"), "lib", "--folder", "../x"], ["--folder '../x'", "a folder below the source's path"]),
        (["sync", url("ok"), "lib", "--identity-file", "nokey"], ["there is no file", "nokey"]),
        (["sync", url("ok"), "lib", "--config", "none.yaml"], ["there is no configuration file", "none.yaml"]),
        (["sync", url("ok"), "lib", "--sped"], ["--sped", "mediasync sync --help"]),
        (["sync"], ["missing argument"]),
        (["snyc"], ["Did you mean 'sync'?"]),
    ],
)
async def test_wrong_use_is_told_with_what_to_do_before_anything_is_started(cli: Cli, arguments: list[str], words: list[str]) -> None:
    await run_wrong(cli, arguments, 2, *words)
    assert not (cli.folder / "home" / "run").exists()


async def test_an_unknown_name_ends_with_2_and_the_nearest_one(peer: PeerServer, cli: Cli) -> None:
    await run_wrong(cli, ["sync", "frge", "lib", "--coordinator", peer.address], 2, "there is no source 'frge'; the nearest is 'forge'")


async def test_a_configured_name_comes_from_the_given_file(peer: PeerServer, cli: Cli) -> None:
    text = "sources:\n  forge: {type: forge, host: forge.lan, path: /ok, destination: {path: /from-file}, folders: [txt2img-images]}\n"
    (cli.folder / "my.yaml").write_text(text)
    ended = await cli("sync", "forge", "--config", "my.yaml", "--parallel-transfers", "2", "--json", "--coordinator", peer.address)
    assert ended.code == 0
    spec = peer.peer.requests[0].spec
    assert (spec.source.name, spec.source.ssh.host, spec.dest_path) == ("forge", "forge.lan", "/from-file")
    assert spec.options.parallel_transfers == 2


async def test_an_added_name_is_synced_with_options_over_its_own(peer: PeerServer, cli: Cli) -> None:
    added = await cli("sources", "add", "forge", url("ok"), "--dest", "lib", "--folder", "a", "--coordinator", peer.address)
    assert added.code == 0
    ended = await cli("sync", "forge", "--folder", "b", "--json", "--coordinator", peer.address)
    assert ended.code == 0
    spec = peer.peer.requests[-1].spec
    assert (spec.source.name, spec.dest_path, [folder.raw for folder in spec.folders]) == ("forge", str(cli.folder / "lib"), [b"b"])
    await run_wrong(cli, ["sync", "forge", "--profile", "forge", "--coordinator", peer.address], 2, "--profile goes with a URL")


async def test_media_base_is_the_default_destination(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIA_BASE"] = str(cli.folder / "base")
    assert (await cli("sync", url("ok"), "--json", "--coordinator", peer.address)).code == 0
    assert peer.peer.requests[0].spec.dest_path == str(cli.folder / "base")


async def test_nobody_at_the_coordinators_address_ends_with_6(cli: Cli) -> None:
    await run_wrong(cli, ["sync", url("ok"), "lib", "--coordinator", "127.0.0.1:1"], 6, "nobody answers at 127.0.0.1:1", "mediasync up")


async def test_a_broken_configuration_ends_with_2_and_every_mistake(cli: Cli) -> None:
    (cli.folder / "my.yaml").write_text("sync:\n  paralel_transfers: 3\n  retry_attempts: many\n")
    await run_wrong(cli, ["sync", url("ok"), "lib", "--config", "my.yaml"], 2, "paralel_transfers", "retry_attempts", "my.yaml", "line 2")


async def test_spans_of_the_command_are_recorded_with_the_sync(peer: PeerServer, cli: Cli) -> None:
    await cli("sync", url("ok"), "lib", "--json", "--coordinator", peer.address)
    spans = [json.loads(line) for line in (cli.folder / "home" / "logs" / "cli.spans.jsonl").read_text().splitlines()]
    root = next(span for span in spans if span["name"] == "mediasync sync")
    assert root["parent_id"] == "" and root["attributes"]["sync.id"] == "sync_1"
    assert {span["trace_id"] for span in spans} == {root["trace_id"]}
    assert peer.peer.metadata["traceparent"].split("-")[1] == root["trace_id"]


async def test_every_option_reaches_the_coordinator(peer: PeerServer, cli: Cli) -> None:
    options = [
        "--bandwidth-limit",
        "2.5MB",
        "--newest-first",
        "--compress",
        "--restore",
        "--duplicates",
        "hardlink",
        "--durability",
        "fast",
    ]
    options += ["--include", "a/**", "--include", "*.png", "--exclude", "temp/", "--ext", "png,webp", "--ext", ".mp4"]
    options += ["--min-size", "10kB", "--max-size", "1.5GB", "--min-age", "90s", "--max-age", "2w", "--follow-symlinks", "files"]
    ended = await cli("sync", url("ok"), "lib", *options, "--engine", "sftp", "--json", "--coordinator", peer.address)
    assert (ended.code, ended.stderr) == (0, "")
    source, sent = peer.peer.requests[0].spec.source, convert.options_from_pb(peer.peer.requests[0].spec.options)
    assert sent == SyncOptions(
        bandwidth_limit_mbps=20.0,
        newest_first=True,
        restore=True,
        duplicates=Duplicates.HARDLINK,
        durability=Durability.FAST,
        include_patterns=("a/**", "*.png"),
        excluded_patterns=("temp/",),
        allowed_extensions=("png", "webp", ".mp4"),
        min_size_bytes=10_000,
        max_size_bytes=1_500_000_000,
        min_age_minutes=1.5,
        max_age_days=14.0,
        follow_symlinks=FollowSymlinks.FILES,
    )
    assert (source.compress, source.engine) == (True, types_pb2.ENGINE_SFTP)


async def test_options_that_do_not_go_together_are_told_before_anything_is_asked(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("sync", url("ok"), "lib", "--dry-run", "--watch", "--coordinator", peer.address)
    assert ended.code == 2
    assert "--dry-run ends with its list, so it does not go with --watch" in ended.stderr
    assert peer.peer.requests == []


async def test_a_dry_run_lists_what_would_come_and_why_the_rest_would_not(peer: PeerServer, cli: Cli) -> None:
    peer.peer.previewed = [
        [PreviewedFile(b"a/\xff1.png", 1500, PreviewDecision.TAKE, "new")],
        [PreviewedFile(b"a/2.tmp", 0, PreviewDecision.FILTERED, "temporary name")],
    ]
    ended = await cli("sync", url("ok"), "lib", "--dry-run", "--ext", "png", "--coordinator", peer.address)
    assert (ended.code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[:2] == ["+   1.5 kB  a/\\xff1.png  (new)", "-           a/2.tmp  (temporary name)"]
    assert "Nothing was taken" in lines[2]
    assert "take       1 file, 1.5 kB" in ended.stdout
    assert "unchanged  4 files, taken earlier" in ended.stdout
    assert list(peer.peer.requests[0].spec.options.allowed_extensions) == ["png"]
    assert peer.peer.jobs == {}
    ended = await cli("sync", url("ok"), "lib", "--dry-run", "--json", "--coordinator", peer.address)
    result = json.loads(ended.stdout)
    assert result["files"][0] == {"path": "a/\\xff1.png", "size_bytes": 1500, "decision": "take", "reason": "new"}
    assert (len(result["files"]), result["summary"]["files_unchanged"]) == (2, 4)
    peer.peer.previewed = []
    ended = await cli("sync", url("ok"), "lib", "--dry-run", "--json", "--coordinator", peer.address)
    assert json.loads(ended.stdout)["files"] == []
    ended = await cli("sync", url("gone"), "lib", "--dry-run", "--coordinator", peer.address)
    assert (ended.code, ended.stdout) == (3, "")


async def test_ctrl_c_is_how_a_watch_ends(peer: PeerServer, cli: Cli) -> None:
    process = await cli.start("sync", url("hang"), "lib", "--watch", "--coordinator", peer.address)
    async with asyncio.timeout(60):
        await peer.peer.watched.get()
        process.send_signal(signal.SIGINT)
        stdout, stderr = await process.communicate()
    assert process.returncode == 0
    assert "Sync no longer watches" in stdout.decode()
    assert "Ending the watch; what has landed stays." in stderr.decode()
    assert "+ 3 files, 3.0 kB" in stderr.decode()
    assert peer.peer.requests[0].spec.options.watch


async def test_a_watch_that_somebody_else_cancels_was_cancelled(peer: PeerServer, cli: Cli) -> None:
    process = await cli.start("sync", url("hang"), "lib", "--watch", "--json", "--coordinator", peer.address)
    async with asyncio.timeout(60):
        await peer.peer.watched.get()
        peer.peer.cancelled.set()
        stdout, _ = await process.communicate()
    assert (process.returncode, json.loads(stdout)["state"]) == (5, "cancelled")
