"""`mediasync jobs`, `sources`, `files` and `status` against a scripted coordinator."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
from dataclasses import replace

from mediasync.model import HostKeyTrust
from tests.fixtures.peer import FINGERPRINT, Cli, PeerServer

URL = "ssh://me@forge.lan:2222/"


async def test_jobs_are_listed_shown_watched_and_cancelled(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    empty = await cli("jobs", "list")
    assert empty.code == 0 and "There are no jobs yet" in empty.stderr
    for root in ("ok", "errors", "hang"):
        await cli("sync", URL + root, "lib", "--detach")

    watched = await cli("jobs", "watch", "job_2", "--json")
    lines = [json.loads(line) for line in watched.stdout.splitlines()]
    assert watched.code == 1
    assert lines[0]["progress"]["percent"] == 50.0 and lines[0]["progress"]["folders"][0]["folder"] == "a[b]"
    assert lines[-1]["job"]["state"] == "complete_with_errors"
    assert (await cli("jobs", "watch", "sync_1")).stdout.startswith("✓ Sync complete in 1.5 s")

    listed = await cli("jobs", "list", "--limit", "2")
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [
        ["JOB", "STATE"],
        ["job_3", "pending"],
        ["job_2", "complete_with_errors"],
    ]
    listed = await cli("jobs", "list", "--state", "complete", "--json")
    assert [job["job_id"] for job in json.loads(listed.stdout)["jobs"]] == ["job_1"]
    assert "did you mean `failed`" in (await cli("jobs", "list", "--state", "faild")).stderr

    shown = await cli("jobs", "show", "job_2")
    assert shown.stdout.count("cannot be read") == 100 and "… and 20 more problems\n" in shown.stdout
    shown = await cli("jobs", "show", "sync_2", "--json")
    assert json.loads(shown.stdout)["source"] == URL + "errors"

    cancelled = await cli("jobs", "cancel", "job_3")
    assert cancelled.stdout == "job_3 was asked to stop\n"
    assert (await cli("jobs", "cancel", "job_1")).stdout == "job_1 had ended already: complete\n"
    missing = await cli("jobs", "cancel", "nothing", "--json")
    assert missing.code == 2 and json.loads(missing.stdout)["error"]["reason"] == "JOB_NOT_FOUND"


async def test_a_job_that_failed_is_shown_with_its_reason(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    await cli("sync", URL + "FAIL_HOST_NOT_FOUND", "lib")
    shown = await cli("jobs", "show", "job_1")
    assert shown.code == 0
    assert "Sync failed" in shown.stdout and "✗ it is FAIL_HOST_NOT_FOUND" in shown.stdout and "→ Do something about it." in shown.stdout


async def test_sources_are_added_listed_shown_tested_and_removed(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    assert "No source has a name yet" in (await cli("sources", "list")).stderr
    added = await cli("sources", "add", "forge", URL + "ok", "--dest", "lib", "--folder", "a")
    assert added.stdout == f"forge is {URL}ok\n" and "mediasync sync forge`" in added.stderr
    added = await cli("sources", "add", "bare", URL + "ok", "--json")
    assert json.loads(added.stdout)["dest_path"] == ""
    again = await cli("sources", "add", "forge", URL + "ok", "--dest", "lib")
    assert again.code == 2 and "already" in again.stderr

    listed = await cli("sources", "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAME", "bare", "forge"]
    assert [source["name"] for source in json.loads((await cli("sources", "list", "--json")).stdout)["sources"]] == ["bare", "forge"]
    shown = await cli("sources", "show", "forge")
    assert str(cli.folder / "lib") in shown.stdout and "`mediasync sources add`" in shown.stdout
    assert json.loads((await cli("sources", "show", "forge", "--json")).stdout)["folders"] == ["a"]

    tested = await cli("sources", "test", "forge", "--folder", "a", "--accept-new-host-key")
    assert tested.code == 0
    for words in ("The source answers", "7 files, 7.0 kB", "b\\n", "20.0 ms", "-400.0 s against ours", "agent", "find, rsync"):
        assert words in tested.stdout
    for words in ("12.0 MB/s over one connection", "2.0 TB", "30.0 GB"):
        assert words in tested.stdout
    assert "clock is 6 min 40 s behind ours" in tested.stderr
    assert peer.peer.requests[-1].dest_path == str(cli.folder / "lib")
    assert peer.peer.requests[-1].source.ssh.accept_new_host_key
    assert json.loads((await cli("sources", "test", URL + "x", "--json")).stdout)["sample"] == ["a/1.png"]

    assert "no file was touched" in (await cli("sources", "remove", "forge")).stdout
    assert json.loads((await cli("sources", "remove", "bare", "--json")).stdout) == {"removed": "bare"}
    assert (await cli("sources", "show", "forge")).code == 2


async def test_a_key_is_trusted_by_fingerprint_and_never_without_being_asked(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    refused = await cli("sources", "trust", "ssh://forge.lan:2222")
    assert refused.code == 2 and f"--fingerprint {FINGERPRINT}" in refused.stderr and peer.peer.requests == []
    trusted = await cli("sources", "trust", URL + "x", "--fingerprint", FINGERPRINT.removeprefix("SHA256:"))
    assert trusted.code == 0 and "is trusted from now on" in trusted.stdout and "/home/me/known_hosts" in trusted.stdout
    other = await cli("sources", "trust", URL + "x", "--fingerprint", "SHA256:other", "--json")
    assert other.code == 3 and json.loads(other.stdout)["error"]["reason"] == "HOST_KEY_CHANGED"
    peer.peer.key = replace(peer.peer.key, trust=HostKeyTrust.CHANGED)
    assert (await cli("sources", "trust", URL + "x")).code == 3
    peer.peer.key = replace(peer.peer.key, trust=HostKeyTrust.TRUSTED, known_hosts_file="/hosts")
    already = await cli("sources", "trust", URL + "x", "--json")
    assert json.loads(already.stdout)["already_trusted"] is True


async def test_a_person_is_asked_whether_to_trust_a_key(peer: PeerServer, cli: Cli) -> None:
    for answer, code in ((b"n\n", 5), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        process = await cli.start("sources", "trust", URL + "x", "--coordinator", peer.address, stdin=theirs, stderr=theirs)
        os.close(theirs)
        seen = b""
        async with asyncio.timeout(60):
            while b"[y/N]" not in seen:
                seen += await asyncio.to_thread(os.read, ours, 65536)
            os.write(ours, answer)
            await process.communicate()
        os.close(ours)
        assert FINGERPRINT.encode() in seen
        assert process.returncode == code
    assert len(peer.peer.requests) == 1


async def test_files_are_listed_and_shown_and_cannot_fake_output(peer: PeerServer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = peer.address
    assert "no such files" in (await cli("files", "list")).stderr
    peer.peer.files = 5
    listed = await cli("files", "list", "--limit", "3", "--prefix", "a/", "--source", "forge", "--sync-id", "sync_1")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["PATH", "a/\\xff0.png", "a/\\xff1.png", "a/\\xff2.png"]
    assert "1024x512" in listed.stdout and "a cat\\x1b[31m [bold]" in listed.stdout and "\x1b" not in listed.stdout
    assert peer.peer.requests[-1].path_prefix == b"a/"
    files = json.loads((await cli("files", "list", "--json")).stdout)["files"]
    assert len(files) == 5 and base64.b64decode(files[0]["library_path_base64"]) == b"a/\xff0.png"

    shown = await cli("files", "show", os.fsdecode(b"a/\xff0.png"))
    assert shown.code == 0
    for words in ("ab" * 32, "1024x512", "Forge", "a cat\\x1b[31m [bold]", "sdxl", "Euler a", "Clip skip"):
        assert words in shown.stdout
    file = json.loads((await cli("files", "show", os.fsdecode(b"a/\xff0.png"), "--json")).stdout)
    assert file["metadata"]["fields"] == {"Clip skip": "2"} and file["metadata"]["seed"] == 0
    assert (await cli("files", "show", "nothing")).code == 2


async def test_status_of_an_address_says_whether_somebody_serves_there(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("status", "--coordinator", peer.address)
    assert ended.code == 0 and "serving" in ended.stdout
    ended = await cli("status", "--coordinator", "127.0.0.1:1", "--json")
    assert ended.code == 6
    assert json.loads(ended.stdout)["services"][0]["health"] == "no answer"


async def test_status_with_nothing_running_ends_with_6(cli: Cli) -> None:
    ended = await cli("status")
    assert ended.code == 6 and "Nothing runs here" in ended.stdout
    assert json.loads((await cli("status", "--json")).stdout)["running"] is False


async def test_tables_are_drawn_on_a_terminal(peer: PeerServer, cli: Cli) -> None:
    peer.peer.files = 2
    ours, theirs = pty.openpty()
    cli.environ |= {"TERM": "xterm-256color", "COLUMNS": "150"}
    process = await cli.start("files", "list", "--coordinator", peer.address, stdout=theirs)
    os.close(theirs)
    seen = b""
    async with asyncio.timeout(60):
        while b"xff1.png" not in seen:
            seen += await asyncio.to_thread(os.read, ours, 65536)
        await process.communicate()
    os.close(ours)
    assert "[bold]" in seen.decode() and "─" in seen.decode()


def test_the_help_of_each_command_has_an_example() -> None:
    """Read from the code, so that no command is forgotten."""
    from mediasync.cli.main import _build

    def examples(command: object, path: str) -> list[str]:
        commands = getattr(command, "commands", None)
        if commands:
            return [line for name, inner in commands.items() for line in examples(inner, f"{path} {name}")]
        text = getattr(command, "help", None) or ""
        assert f"Example: {path}" in " ".join(text.split()), f"{path} --help shows no example"
        return [path]

    import typer.main

    found = examples(typer.main.get_command(_build()), "mediasync")
    assert len(found) >= 19
