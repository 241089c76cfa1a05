"""From the command line to the catalog, over a real OpenSSH server. What arrived is compared by a look that knows nothing of our code."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest

from tests.fixtures.installation import Installation

pytestmark = pytest.mark.needs_sshd

SUMMARY_KEYS = {
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
}
FILES = 2000
SLOW_FILES = 400
ODD_NAMES = [
    b"with space.txt",
    b"quote'and\"double.txt",
    b"new\nline.txt",
    b"-leading-dash.txt",
    b"invalid-\xff\xfe-utf8.txt",
    b"$(reboot);`id`&.txt",
    b"\\back\\slash.txt",
    b"*?[glob].txt",
    b"x" * 251 + b".txt",
    "umlaut-ä-猫-🐈.txt".encode(),
]


def test_everything_arrives_once_whatever_it_is_called(installation: Installation) -> None:
    folders = [b"folder %02d" % number for number in range(38)] + [b"-rf", b"odd\nfolder-\xff"]
    for number in range(FILES - len(ODD_NAMES)):
        installation.write(b"%s/%05d.txt" % (folders[number % 40], number), b"%d" % number)
    for name in ODD_NAMES:
        installation.write(b"folder 00/" + name)
    with installation.up():
        _arrives_once(installation)


def _arrives_once(installation: Installation) -> None:
    first = installation.sync()
    assert first.code == 0, first.err
    assert set(first.json) == SUMMARY_KEYS
    assert re.fullmatch(r"sync_\d{8}_\d{6}_[0-9a-f]{8}", first.json["sync_id"])
    assert (first.json["state"], first.json["files_transferred"], first.json["files_failed"]) == ("complete", FILES, 0)
    expected = installation.hashes(installation.source)
    assert installation.hashes(installation.library) == expected
    assert first.json["bytes_transferred"] == sum(path.stat().st_size for path in installation.source.rglob("*") if path.is_file())

    second = installation.sync()
    assert (second.code, second.json["files_transferred"], second.json["files_unchanged"]) == (0, 0, FILES)

    changed = installation.source / "folder 01" / "00001.txt"
    before = changed.stat()
    changed.write_bytes(b"X")  # as many bytes as before
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    installation.write("folder 02/added.txt", b"added")
    third = installation.sync()
    assert (third.json["files_transferred"], third.json["files_unchanged"]) == (2, FILES - 1)
    found = installation.hashes(installation.library)
    assert all(found[path] == digest for path, digest in expected.items()), "what was there was touched"
    new = found.keys() - expected.keys()
    assert len(new) == 2
    assert b"folder 02/added.txt" in new


def test_modification_times_are_kept_and_folders_can_be_chosen(installation: Installation) -> None:
    installation.write("txt2img-images/a.txt")
    installation.write("other/b.txt")
    result = installation.sync("--folder", "txt2img-images")
    assert result.json["files_transferred"] == 1
    landed = installation.library / "txt2img-images" / "a.txt"
    assert landed.stat().st_mtime == 1_790_000_000
    assert not (installation.library / "other").exists()


def test_a_detached_sync_goes_on_by_itself_and_can_be_watched(installation: Installation) -> None:
    for number in range(200):
        installation.write(f"a/{number}.txt")
    started = installation.run("sync", installation.url, installation.library, *installation.login, "--detach")
    assert started.code == 0, started.err
    job_id = started.out.strip()
    assert job_id.startswith("job_")
    watched = installation.run("jobs", "watch", job_id, "--json")
    assert watched.code == 0, watched.err
    assert json.loads(watched.out.splitlines()[-1])["job"]["files_transferred"] == 200  # lines of progress, then the job
    shown = installation.run("jobs", "show", job_id, "--json")
    assert shown.json["state"] == "complete"
    assert installation.hashes(installation.library) == installation.hashes(installation.source)


def test_services_that_were_started_for_a_command_are_gone_after_it(installation: Installation) -> None:
    installation.write("a.txt")
    assert installation.sync().code == 0
    assert installation.services() == {}


@pytest.mark.parametrize("victim", ["progress", "ingest", "transfer", "coordinator", "supervisor"])
def test_i5_any_process_killed_in_the_middle_of_a_sync_changes_nothing_in_the_end(installation: Installation, victim: str) -> None:
    for number in range(SLOW_FILES):
        installation.write(f"folder{number % 10}/{number:05}.txt", b"%05d" % number * 1000)
    # So slow that there is a middle, on any machine.
    slow = ("--bandwidth-limit", "8mbit")
    command = installation.start("sync", installation.url, installation.library, *installation.login, "--json", *slow)
    landed = 0
    deadline = time.monotonic() + 60
    while landed < SLOW_FILES // 10 and time.monotonic() < deadline and command.poll() is None:
        landed = sum(len(names) for folder, _, names in os.walk(installation.library) if ".mediasync" not in folder)
    assert SLOW_FILES // 10 <= landed < SLOW_FILES, "the sync was over before anything could be killed"
    os.kill(installation.services()[victim], signal.SIGKILL)
    out, err = command.communicate(timeout=90)
    if command.returncode != 0:
        # Without its supervisor the services end, and the command says so; the job goes on when they are started again.
        assert victim == "supervisor", err
        assert command.returncode == 6, err
    else:
        assert json.loads(out)["files_transferred"] == SLOW_FILES
    again = installation.sync()
    assert again.code == 0, again.err
    assert (again.json["files_failed"], again.json["files_unsettled"]) == (0, 0)
    assert installation.hashes(installation.library) == installation.hashes(installation.source)


def test_one_sync_is_one_trace_through_every_service(installation: Installation) -> None:
    installation.write("a/1.txt")
    sync_id = installation.sync().json["sync_id"]
    spans = []
    for path in (installation.home / "logs").glob("*.spans.jsonl"):
        spans += [json.loads(line) for line in path.read_text().splitlines()]
    mine = [span for span in spans if span.get("sync_id") == sync_id or span.get("attributes", {}).get("sync.id") == sync_id]
    assert {span["service"] for span in mine} >= {"coordinator", "transfer", "progress", "ingest"}
    assert any("MediaIngest" in span["name"] for span in mine), "the subscriber's call is not in the trace"
    (trace_id,) = {span["trace_id"] for span in mine}
    assert any(span["service"] == "cli" and span["trace_id"] == trace_id for span in spans)
    drawn = installation.run("trace", sync_id)
    assert drawn.code == 0, drawn.err
    for service in ("coordinator", "transfer", "ingest"):
        assert service in drawn.out
    logged = installation.run("logs", "--sync-id", sync_id, "--json")
    assert logged.code == 0
