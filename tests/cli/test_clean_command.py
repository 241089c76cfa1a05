"""`mediasync clean` and `mediasync schedules`, against a scripted coordinator; on a real terminal where a person is asked."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from mediasync.cli.main import _run
from mediasync.convert.cleaning import policy_from_pb
from mediasync.model import AgeBasis, CleanupPolicy
from tests.fixtures.peer import Cli, PeerServer

OK = "ssh://me@forge.lan:2222/ok"


def at(root: str) -> tuple[str, str, str, str]:
    return "clean", f"ssh://me@forge.lan:2222/{root}", "--library", "lib"


@dataclass
class Asked:
    """A command on a terminal: what that showed, and how it ended."""

    code: int
    seen: str


async def on_terminal(cli: Cli, peer: PeerServer, *arguments: str, answer: str | signal.Signals | None = None) -> Asked:
    """Runs a command on a terminal of its own, and types once it asks."""
    ours, theirs = pty.openpty()
    cli.environ |= {"TERM": "dumb", "COLUMNS": "120"}
    process = await cli.start(*arguments, "--coordinator", peer.address, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    async with asyncio.timeout(60):
        while True:
            try:
                seen += await asyncio.to_thread(os.read, ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            if b"[y/N]" in seen and answer is not None:
                if isinstance(answer, signal.Signals):
                    process.send_signal(answer)
                else:
                    os.write(ours, answer.encode())
                answer = None
        code = await process.wait()
    os.close(ours)
    return Asked(code, seen.decode().replace("\r\n", "\n"))


async def test_on_a_terminal_a_plan_comes_first_then_a_question_then_exactly_that_plan(peer: PeerServer, cli: Cli) -> None:
    ended = await on_terminal(cli, peer, *at("ok"), answer="y\n")
    assert ended.code == 0, ended.seen
    for words in (
        "3 files of forge would go, 3.0 MB",
        "a[b]",
        "7 younger than 24 h",
        "Delete 3 files, 3.0 MB? [y/N]",
        "✓ Clean-up complete",
    ):
        assert words in ended.seen, ended.seen
    assert ended.seen.index("would go") < ended.seen.index("[y/N]") < ended.seen.index("Clean-up complete")
    planned, started = peer.peer.requests
    assert planned.spec.cleanup.plan_id == "" and started.spec.cleanup.plan_id == "plan_1"


@pytest.mark.parametrize("answer", ["yesterday\n", "\x04", signal.SIGINT])
async def test_whatever_is_no_yes_deletes_nothing(peer: PeerServer, cli: Cli, answer: str | signal.Signals) -> None:
    ended = await on_terminal(cli, peer, *at("ok"), answer=answer)
    assert ended.code == 5, ended.seen
    assert "nothing was deleted" in ended.seen and "Traceback" not in ended.seen
    assert peer.peer.jobs == {}


async def test_where_nothing_is_due_nobody_is_asked(peer: PeerServer, cli: Cli) -> None:
    ended = await on_terminal(cli, peer, *at("nothing"))
    assert ended.code == 0
    assert "Nothing of forge would go" in ended.seen and "7 younger than 24 h" in ended.seen
    assert "[y/N]" not in ended.seen and peer.peer.jobs == {}


async def test_without_a_terminal_it_needs_a_yes_and_says_so_before_anything_is_asked_of_the_services(peer: PeerServer, cli: Cli) -> None:
    ended = await cli(*at("ok"), "--json", "--coordinator", peer.address)
    assert ended.code == 2
    assert "nobody to ask whether that is meant" in ended.stderr and "See what would go with --dry-run, then say --yes." in ended.stderr
    assert json.loads(ended.stdout)["error"]["fields"][0]["field"] == "--yes"
    assert peer.peer.requests == []


async def test_what_was_typed_reaches_the_coordinator_over_what_the_source_says(peer: PeerServer, cli: Cli) -> None:
    options = [
        "--older-than",
        "1m",
        "--basis",
        "created",
        "--free-to",
        "50GB",
        "--keep-last",
        "2",
        "--preserve",
        "*.mp4",
        "--ext",
        "png,webp",
    ]
    options += ["--min-size", "1kB", "--culled", "--force-cap", "--folder", "a b", "--yes", "--json", "--coordinator", peer.address]
    ended = await cli(*at("ok"), *options)
    assert ended.code == 0, ended.stderr
    (started,) = peer.peer.requests
    assert started.spec.dest_path == str(cli.folder / "lib")
    assert [folder.raw for folder in started.spec.folders] == [b"a b"]
    policy = policy_from_pb(started.spec.cleanup)
    assert policy == CleanupPolicy(
        age_hours=pytest.approx(1 / 60),
        age_basis=AgeBasis.CREATED,
        preserve_recent_minutes=pytest.approx(1.0),
        min_free_space_gb=50.0,
        target_free_space_gb=50.0,
        keep_last=2,
        preserve_patterns=("*.mp4",),
        allowed_extensions=("png", "webp"),
        min_size_bytes=1000,
        clean_culled=True,
        force_cap=True,
    )


async def test_a_named_source_keeps_its_own_policy_and_needs_no_library(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    await cli("sources", "add", "forge", OK)
    source = peer.peer.sources["forge"].spec
    source.cleanup.age_hours, source.cleanup.keep_last = 72, 4
    assert (await cli("clean", "forge", "--keep-last", "9", "--yes")).code == 0
    policy = policy_from_pb(peer.peer.requests[-1].spec.cleanup)
    assert (policy.age_hours, policy.keep_last) == (72, 9)
    # One that is called as a further command of `clean` is.
    await cli("sources", "add", "history", OK)
    assert (await cli("clean", "--yes", "--", "history")).code == 0
    assert peer.peer.requests[-1].spec.source.name == "history"


async def test_a_dry_run_lists_each_file_over_all_pages(peer: PeerServer, cli: Cli) -> None:
    ended = await cli(*at("ok"), "--dry-run", "--coordinator", peer.address)
    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line[0] for line in lines[:3]] == ["-", "-", "="]
    assert r"a\xff.png" in lines[0] and lines[1].endswith("(goes with the one above)") and "(cap: more is due" in lines[2]
    assert lines[3] == "Nothing was deleted. A clean-up would do this:"
    as_json = await cli(*at("ok"), "--dry-run", "--json", "--coordinator", peer.address)
    found = json.loads(as_json.stdout)
    assert (found["dry_run"], found["plan_id"], len(found["files"]), found["files"][2]["kept"]) == (True, "plan_1", 3, "cap")
    assert peer.peer.jobs == {}


@pytest.mark.parametrize(("root", "code", "errors"), [("ok", 0, 0), ("bad", 1, 1)])
async def test_json_is_one_object_with_the_promised_keys(peer: PeerServer, cli: Cli, root: str, code: int, errors: int) -> None:
    ended = await cli(*at(root), "--yes", "--json", "--coordinator", peer.address)
    assert (ended.code, ended.stdout.count("\n")) == (code, 1)
    found = json.loads(ended.stdout)
    assert (found["files_scanned"], found["files_deleted"], found["files_kept"], found["space_freed_bytes"]) == (10, 3, 7, 3_000_000)
    assert (found["errors"], found["dry_run"], found["kept_by_reason"]) == (errors, False, {"too_young": 7})


async def test_one_that_is_refused_ends_with_its_reason_planned_or_run(peer: PeerServer, cli: Cli) -> None:
    ended = await cli(*at("FAIL_CLEANUP_NOTHING_SYNCED"), "--dry-run", "--json", "--coordinator", peer.address)
    assert ended.code == 2, ended.stdout
    assert "Do something about it." in ended.stderr
    ended = await cli(*at("FAIL_LIBRARY_MARKER_MISSING"), "--yes", "--coordinator", peer.address)
    assert ended.code == 4 and "✗ Clean-up failed" in ended.stdout


async def test_the_history_turns_pages_and_says_why(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    ended = await cli("clean", "history", "--source", "forge", "--since", "2026-11-01", "--path", "a/", "--limit", "4")
    lines = ended.stdout.splitlines()
    assert len(lines) == 5 and lines[0].split() == ["WHEN", "WHAT", "SIZE", "SOURCE", "PATH", "WHY"]
    assert re.search(r"deleted +1\.0 MB +forge +a/\\xff0\.png +older than 24 h", lines[1])
    assert lines[2].endswith("its copy in the library is corrupt")
    asked = peer.peer.requests[-1]
    assert (asked.source, asked.path, asked.HasField("since")) == ("forge", "a/", True)
    found = json.loads((await cli("clean", "history", "--json")).stdout)["deletions"]
    assert len(found) == 5 and (found[1]["kept"], found[0]["sha256"]) == ("copy_corrupt", "ab" * 32)
    assert "No clean-up has deleted such files" in (await cli("clean", "history", "--source", "nobody")).stderr


async def test_the_history_of_a_folder_that_a_target_names_is_found_by_that_name(peer: PeerServer, cli: Cli, tmp_path: Path) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    file = tmp_path / "own.yaml"
    file.write_text("cleanup: {targets: [{name: outputs, path: /mnt/outputs}]}")
    cli.environ["MEDIASYNC_CONFIG"] = str(file)
    await cli("clean", "history", "--source", "outputs")
    assert peer.peer.requests[-1].source == "file:///mnt/outputs"


async def test_why_a_file_is_gone_is_told_with_where_its_copy_is(peer: PeerServer, cli: Cli) -> None:
    arguments = ("clean", "why", OK, "/ok/a/1.png", "--library", "lib", "--coordinator", peer.address)
    ended = await cli(*arguments)
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith(f"a/1.png is gone from {OK}: a clean-up deleted it\n")
    assert "/lib/a/1.png, read back first" in ended.stdout and "deleted: older than 24 h  (sync_1)" in ended.stdout
    found = json.loads((await cli(*arguments, "--json")).stdout)
    assert (found["present"], found["deletions"][0]["outcome"], found["library_path"]) == (False, "deleted", "a/1.png")


async def test_schedules_are_listed_held_and_let_go(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    lines = (await cli("schedules", "list")).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "forge", "cleanup:forge"]
    assert "never" in lines[2] and "every 15m" in lines[2]
    held = await cli("schedules", "pause", "cleanup:forge")
    assert held.stdout == "cleanup:forge is held; `mediasync schedules resume cleanup:forge` lets it go on\n"
    assert json.loads((await cli("schedules", "list", "--json")).stdout)["schedules"][1]["paused"] is True
    assert (await cli("schedules", "resume", "cleanup:forge")).stdout.startswith("cleanup:forge goes on; next at 2026-")
    missing = await cli("schedules", "pause", "nothing", "--json")
    assert missing.code == 2 and json.loads(missing.stdout)["error"]["reason"] == "SCHEDULE_NOT_FOUND"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("clean",), "missing argument 'source'"),
        (("clean", OK, "--dry-run"), "there is no library to compare with"),
        (("clean", "forge", "--yes", "--older-than", "never"), "expected a length of time such as 90s"),
        (("clean", "forge", "--dry-run", "--yes"), "it does not go with --yes"),
        (("clean", "forge", "--detach"), "it needs --yes"),
        (("clean", "forge", "--yes", "--folder", "../up"), "--folder '../up': expected"),
        (("clean", "why", OK, "../a.png", "--library", "lib"), "is no file of the source"),
        (("clean", "history", "--since", "soon"), "expected an age such as 7d"),
        (("sync", "forge", "--clean", "--watch"), "--watch does not end"),
        (("sync", "forge", "--clean", "--dry-run"), "`mediasync clean SOURCE --dry-run` does"),
    ],
)
def test_a_mistake_is_told_with_what_was_expected_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("MEDIASYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("MEDIA_BASE", raising=False)
    assert _run(arguments) == 2
    told = capsys.readouterr()
    assert words in told.err and told.out == ""
    assert not (tmp_path / "home").exists()


async def test_a_sync_cleans_up_when_it_is_told_to_and_not_when_it_is_told_not_to(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    for option, expected in ((("--clean",), True), (("--no-clean",), False)):
        assert (await cli("sync", OK, "lib", *option)).code == 0
        spec = peer.peer.requests[-1].spec
        assert (spec.cleanup.after_sync if spec.HasField("cleanup") else None) is expected


@pytest.mark.parametrize(
    ("words", "offered"), [("clean ", {"history", "why"}), ("clean --ol", {"--older-than"}), ("clean forge --ba", {"--basis"})]
)
def test_a_shell_completes_the_further_commands_and_the_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str, offered: set[str]
) -> None:
    monkeypatch.setenv("_MEDIASYNC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"mediasync {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))
    _run([])
    assert set(capsys.readouterr().out.split()) == offered
