"""`mediasync events` against a scripted event log."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time

import pytest

from mediasync.v1 import events_pb2 as pb
from tests.fixtures.event_peer import EventPeer, Run
from tests.fixtures.peer import Cli


def test_the_end_of_the_log_is_shown_and_names_cannot_fake_output(event_peer: EventPeer, run: Run) -> None:
    shown = run("events", "tail")
    assert shown.code == 0
    assert [line.split()[2:4] for line in shown.out.splitlines()] == [
        ["1", "file_synced"],
        ["2", "file_synced"],
        ["3", "batch_synced"],
        ["4", "sync_complete"],
    ]
    for words in ("a/\\xff\\x1b.png", "a/new.png (was a/old.png)", "a: 2 new files, 2.0 kB", "complete, 0 files"):
        assert words in shown.out
    assert "\x1b" not in shown.out
    request = event_peer.requests[-1]
    assert (request.name, request.follow, request.start.last) == ("", False, 20)


def test_events_for_machines_are_one_object_a_line(event_peer: EventPeer, run: Run) -> None:
    wishes = ["--type", "file_synced", "--type", "sync_complete", "--source", "forge", "--path", "*.png", "-n", "0"]
    lines = [json.loads(line) for line in run("events", "tail", "--json", *wishes).out.splitlines()]
    first, moved, batch, sync = lines
    assert (first["sequence"], first["type"], first["synthetic"]) == (1, "file_synced", False)
    assert base64.b64decode(first["file"]["library_path_base64"]) == b"a/\xff\x1b.png"
    assert (first["file"]["moved_from"], moved["file"]["moved_from"]) == ("", "a/old.png")
    assert (batch["batch"]["folder"], batch["batch"]["files"]) == ("a", 2)
    assert (sync["sync"]["state"], "file" in sync) == ("complete", False)
    request = event_peer.requests[-1]
    assert (list(request.filter.types), list(request.filter.sources), list(request.filter.paths)) == ([1, 4], ["forge"], ["*.png"])
    assert request.start.WhichOneof("start") is None


async def test_following_goes_on_until_ctrl_c_which_is_no_failure(event_peer: EventPeer, cli: Cli) -> None:
    cli.environ["MEDIASYNC_COORDINATOR_ADDRESS"] = os.environ["MEDIASYNC_COORDINATOR_ADDRESS"]
    event_peer.goes_on = True
    process = await cli.start("events", "tail", "--follow")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        lines = [await process.stdout.readline() for _ in event_peer.events]
        process.send_signal(signal.SIGINT)
        more, stderr = await process.communicate()
    assert (process.returncode, more, stderr) == (0, b"", b"")
    assert b"sync_complete" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["--from", "7"], pb.EventStart(sequence=7)),
        (["--from", "beginning"], pb.EventStart(beginning={})),
        (["--since", "2026-11-21T10:00:00+00:00"], pb.EventStart(since={"seconds": 1795255200})),
        (["-n", "5"], pb.EventStart(last=5)),
    ],
)
def test_where_to_begin_is_said_in_one_of_four_ways(event_peer: EventPeer, run: Run, arguments: list[str], start: pb.EventStart) -> None:
    assert run("events", "tail", *arguments).code == 0
    assert event_peer.requests[-1].start == start


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tail", "--from", "snapshot"], "expected beginning or a sequence number"),
        (["tail", "--from", "7", "--since", "1d"], "choose one"),
        (["tail", "--since", "yesterday"], "expected an age such as 7d"),
        (["tail", "--since", "2199-01-01"], "has not come yet"),
        (["tail", "--type", "file"], "--type 'file': expected some of file_synced"),
        (["replay", "--subscriber", "gallery"], "Give one of --from, --since and --sync-id"),
        (["replay", "--subscriber", "gallery", "--from", "1", "--sync-id", "s"], "Give one of"),
        (["replay", "--from", "1"], "--subscriber"),
        (["dead-letters", "drop"], "Give their numbers, or --subscriber"),
        (["dead-letters", "retry", "x"], "valid int"),
    ],
)
def test_what_cannot_be_meant_is_refused(event_peer: EventPeer, run: Run, arguments: list[str], words: str) -> None:
    ended = run("events", *arguments)
    assert (ended.code, ended.out, event_peer.requests) == (2, "", [])
    assert words in ended.err


def test_a_subscriber_is_told_again(event_peer: EventPeer, run: Run) -> None:
    again = run("events", "replay", "--subscriber", "gallery", "--sync-id", "sync_1", "--json")
    assert json.loads(again.out) == {"subscriber": "gallery", "events": 42}
    assert event_peer.requests[-1].sync_id == "sync_1"
    assert run("events", "replay", "--subscriber", "gallery", "--from", "snapshot").out == "gallery is told again: the library as it is\n"
    before = time.time()
    assert run("events", "replay", "--subscriber", "gallery", "--since", "90m").out == "gallery is told again: 42 events\n"
    assert abs(event_peer.requests[-1].start.since.seconds - (before - 5400)) < 120


def test_dead_letters_are_listed_and_shown(event_peer: EventPeer, run: Run) -> None:
    listed = run("events", "dead-letters", "list", "--subscriber", "broken")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NUMBER", "2", "1"]
    assert "a/\\xff\\x1b.png" in listed.out and "REJECTED" in listed.out and "no\\x1b column" in listed.out
    assert event_peer.requests[-1].subscription == "broken"
    [one] = json.loads(run("events", "dead-letters", "list", "-n", "1", "--json").out)["dead_letters"]
    assert (one["number"], one["subscriber"], one["answer"], one["attempts"], one["path"]) == (
        2,
        "broken",
        "REJECTED",
        3,
        "a/\\xff\\x1b.png",
    )
    shown = run("events", "dead-letters", "show", "1")
    assert shown.code == 0 and "REJECTED" in shown.out and "/media/library" in shown.out
    assert json.loads(run("events", "dead-letters", "show", "1", "--json").out)["event"]["file"]["size_bytes"] == 7
    assert run("events", "dead-letters", "show", "3").code == 2


def test_dead_letters_are_offered_again_or_forgotten_when_that_is_meant(event_peer: EventPeer, run: Run) -> None:
    assert run("events", "dead-letters", "retry", "1", "2").out == "2 dead letters offered again\n"
    assert (event_peer.requests[-1].subscription, list(event_peer.requests[-1].numbers)) == ("broken", [1, 2])
    assert json.loads(run("events", "dead-letters", "retry", "--subscriber", "broken", "--json").out) == {"dead_letters": 2}
    asked = len(event_peer.requests)
    kept = run("events", "dead-letters", "drop", "--subscriber", "broken")
    assert kept.code == 2 and "all dead letters of broken will be forgotten" in kept.err
    assert len(event_peer.requests) == asked
    assert run("events", "dead-letters", "drop", "2", "--yes").out == "1 dead letter forgotten\n"
