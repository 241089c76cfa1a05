"""`mediasync subscribers` against a scripted event log, and `check` against a subscriber."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from mediasync.conformance.plays import PLAYS
from mediasync.v1 import events_pb2 as pb
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestServicer, add_MediaIngestServicer_to_server
from tests.fixtures.event_peer import EventPeer, Run


def test_a_subscriber_is_added_with_what_it_wants_and_where_it_starts(event_peer: EventPeer, run: Run, tmp_path: Path) -> None:
    wishes = ["--events", "file_synced,file-processed", "--source", "forge", "--path", "txt2img-images/**", "--path", "!*.mp4"]
    way = ["--tls-ca", f"{tmp_path}/x/../ca.pem", "--token-file", f"{tmp_path}/token", "--batch-size", "20", "--from", "41"]
    added = run("subscribers", "add", "gallery", "nas.lan:50061", *wishes, *way)
    assert (added.code, added.out) == (0, "gallery is told about files at nas.lan:50061\n")
    request = event_peer.requests[-1]
    assert (list(request.subscription.filter.types), list(request.subscription.filter.sources)) == ([1, 2], ["forge"])
    assert list(request.subscription.filter.paths) == ["txt2img-images/**", "!*.mp4"]
    assert (request.subscription.tls_ca_file, request.subscription.token_file) == (f"{tmp_path}/ca.pem", f"{tmp_path}/token")
    assert (request.subscription.batch_size, request.start.sequence) == (20, 41)

    shown = json.loads(run("subscribers", "show", "gallery", "--json").out)
    assert (shown["events"], shown["sources"], shown["pull"]) == (["file_synced", "file_processed"], ["forge"], False)
    again = run("subscribers", "add", "gallery", "127.0.0.1:1", "--json")
    assert again.code == 2 and json.loads(again.out)["error"]["reason"] == "SUBSCRIPTION_EXISTS"


@pytest.mark.parametrize(("start", "kind"), [("now", None), ("beginning", "beginning"), ("snapshot", "snapshot"), ("1", "sequence")])
def test_a_reader_who_comes_to_us_is_added_by_the_word_pull(event_peer: EventPeer, run: Run, start: str, kind: str | None) -> None:
    added = run("subscribers", "add", "notebook", "pull", "--from", start, "--json")
    assert (added.code, json.loads(added.out)["pull"], json.loads(added.out)["address"]) == (0, True, "")
    assert event_peer.requests[-1].subscription.pull
    assert event_peer.requests[-1].start.WhichOneof("start") == kind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gallery", "localhost"], "expected HOST:PORT such as 127.0.0.1:50061, unix:/path, or pull"),
        (["gallery", "localhost:70000"], "is not the address of a subscriber"),
        (["gallery", "unix:relative"], "is not the address of a subscriber"),
        (["gallery", "[::1]:5000", "--events", "file_sinced"], "did you mean `file_synced`"),
        (["gallery", "h:5000", "--from", "0"], "expected beginning, now, snapshot or a sequence number from 1 on"),
        (["gallery", "h:5000", "--from", "begining"], "did you mean `beginning`"),
        (["gallery", "h:5000", "--path", "["], "--path '[' cannot be used"),
        (["gallery", "h:5000", "--batch-size", "1001"], "batch-size"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(event_peer: EventPeer, run: Run, arguments: list[str], words: str) -> None:
    ended = run("subscribers", "add", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert event_peer.requests == []


def test_all_are_listed_with_what_is_wrong_and_what_the_log_holds(event_peer: EventPeer, run: Run) -> None:
    listed = run("subscribers", "list")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "broken", "catalog"]
    for words in ("too far behind", "1,200 events, 1 min 30 s", "12.5", "no \\x1b[31m disk left"):
        assert words in listed.out
    assert "events 2 to 12 (5.0 MB)" in listed.err
    found = json.loads(run("subscribers", "list", "--json").out)
    assert found["log"] == {"first": 2, "last": 12, "size_bytes": 5_000_000, "oldest_time": 1_795_000_000.0}
    broken, catalog = found["subscribers"]
    assert (broken["lag_events"], broken["lag_seconds"], broken["state"]) == (1200, 90.0, "too_far_behind")
    assert (broken["events_lost"], broken["waiting"], broken["dead_letters"], broken["fixed"]) == (7, 3, 2, False)
    assert (catalog["name"], catalog["fixed"], catalog["last_success_time"]) == ("catalog", True, 0.0)


def test_one_is_shown_paused_resumed_and_removed_only_when_that_is_meant(event_peer: EventPeer, run: Run) -> None:
    shown = run("subscribers", "show", "broken")
    for words in ("file_synced, file_processed of forge in txt2img-images/**", "1,200 events, 1 min 30 s", "7 events that were no longer"):
        assert words in shown.out
    assert "--from snapshot" in shown.err and "dead-letters list --subscriber broken" in shown.err
    assert run("subscribers", "pause", "broken").out.startswith("broken is paused at event 3")
    assert json.loads(run("subscribers", "pause", "broken", "--json").out)["state"] == "paused"
    assert run("subscribers", "resume", "broken").out.startswith("broken goes on after event 3; 1,200 events")

    for more in ([], ["--json"]):
        kept = run("subscribers", "remove", "broken", *more)
        assert kept.code == 2 and "its 2 dead letters will be forgotten" in kept.err and "--yes" in kept.err
    assert json.loads(run("subscribers", "remove", "broken", "--yes", "--json").out) == {"removed": "broken"}
    missing = run("subscribers", "show", "broken")
    assert missing.code == 2 and "there is no subscription 'broken'" in missing.err


def test_a_verify_ends_with_1_as_long_as_files_are_lacking(event_peer: EventPeer, run: Run) -> None:
    event_peer.lacking = 150
    verified = run("subscribers", "verify", "gallery", "--library", "/media/library/")
    assert verified.code == 1
    assert verified.out.count("lacking a/\\xff") == 20 and "… and 130 more" in verified.out
    assert "gallery has 850 of 1,000 files" in verified.out and "--repair" in verified.err
    assert event_peer.requests[-1].library_root == "/media/library"
    repaired = run("subscribers", "verify", "gallery", "--repair", "--json")
    found = json.loads(repaired.out)
    assert "sending it 150 files again" in run("subscribers", "verify", "gallery", "--repair").out
    assert (repaired.code, found["files_sent"], len(found["lacking"]), found["lacking"][0]) == (0, 150, 100, "a/\\xff000.png")
    event_peer.lacking = 0
    assert run("subscribers", "verify", "gallery").code == 0


class Sieve(MediaIngestServicer):
    """Takes everything, and loses names that are no UTF-8. Knows nothing of folders or of later versions."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self.tokens: set[str] = set()

    def OnBatchSynced(self, request: Any, context: Any) -> Any:
        self.tokens.add(dict(context.invocation_metadata()).get("authorization", ""))
        for event in request.events:
            name = event.file.library_path.raw
            if event.type in (1, 2, 3) and b"\xff" not in name:
                self.files[event.file.library_root.encode() + name] = event.file.digest.value
        accepted = ingest_pb.EVENT_VERDICT_ACCEPTED
        return ingest_pb.OnBatchSyncedResponse(
            results=[ingest_pb.EventResult(event_id=event.event_id, verdict=accepted) for event in request.events]
        )

    def VerifyFileExists(self, request: Any, context: Any) -> Any:
        name = request.library_path.raw
        found = [sha for path, sha in self.files.items() if path.endswith(name) and path.startswith(request.library_root.encode())]
        return ingest_pb.VerifyFileExistsResponse(exists=any(request.digest.value in (b"", sha) for sha in found))


@pytest.fixture
def sieve(tmp_path: Path) -> Iterator[Sieve]:
    """Served at `sieve.sock`."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 32 << 20)])
    servicer = Sieve()
    add_MediaIngestServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{tmp_path}/sieve.sock")
    server.start()
    yield servicer
    server.stop(None).wait()


def test_a_check_tells_what_is_wrong_and_ends_with_1(sieve: Sieve, run: Run, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/sieve.sock"
    (tmp_path / "token").write_text("secret\n")
    checked = run("subscribers", "check", address, "--yes", "--token-file", f"{tmp_path}/token")
    assert checked.code == 1
    assert checked.out.count("✗ ") == 2 and "✗ names are bytes and nothing else" in checked.out
    assert f"{address}: {len(PLAYS) - 2} plays went well, 1 went wrong, 1 left out" in checked.out
    assert sieve.tokens == {"Bearer secret"}
    assert all(b"mediasync-check/" in path and path.startswith(b"/mediasync-check") for path in sieve.files)


def test_a_check_with_a_restart_for_machines(sieve: Sieve, run: Run, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/sieve.sock"
    mark = tmp_path / "restarted"
    command = f"{sys.executable} -c \"open('{mark}', 'w')\""
    checked = run("subscribers", "check", address, "--yes", "--json", "--restart", command)
    found = json.loads(checked.out)
    assert (checked.code, found["passed"], found["address"]) == (1, False, address)
    assert [play["name"] for play in found["plays"]] == [name for name, _ in PLAYS]
    assert [play["ok"] for play in found["plays"]].count(False) == 1 and found["plays"][-1]["ok"] is True
    assert mark.exists()
    broken = run("subscribers", "check", address, "--yes", "--restart", "false")
    assert broken.code == 2 and "--restart 'false' ended with 1" in broken.err


def test_nothing_is_told_before_it_is_meant_or_in_the_clear_over_a_network(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run("subscribers", "check", "127.0.0.1:1")
    assert asked.code == 2 and "made-up files" in asked.err and "--yes" in asked.err
    clear = run("subscribers", "check", "nas.lan:5000", "--yes")
    assert clear.code == 2 and "--tls-ca" in clear.err
    assert "--tls-key are of no use" in run("subscribers", "check", "nas.lan:5000", "--yes", "--tls-cert", "x").err
    assert "cannot be read: No such file" in run("subscribers", "check", "nas.lan:5000", "--yes", "--tls-ca", f"{tmp_path}/none").err
    monkeypatch.setattr("mediasync.cli.check._REACH_SECONDS", 0.01)
    gone = run("subscribers", "check", f"unix:{tmp_path}/none.sock", "--yes", "--json")
    assert gone.code == 6 and json.loads(gone.out)["error"]["reason"] == "SUBSCRIBER_UNREACHABLE"


def test_the_words_for_states_cover_what_there_is() -> None:
    from mediasync.convert.events import state_from_pb

    for value in pb.SubscriptionState.values():
        assert state_from_pb(value).value.upper() in ("UNKNOWN", pb.SubscriptionState.Name(value).removeprefix("SUBSCRIPTION_STATE_"))
