"""Looking first, holding, limiting and watching, with everything real: services, sshd, library."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.fixtures.installation import COMMAND_SECONDS, Installation

pytestmark = pytest.mark.needs_sshd

FILES = 24
FILE_BYTES = 250_000


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + COMMAND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_a_job_is_held_in_the_middle_and_goes_on_with_what_is_left(installation: Installation) -> None:
    for number in range(FILES):
        installation.write(f"big/{number:02}.bin", os.urandom(FILE_BYTES))
    with installation.up():
        slow = installation.sync("--detach", "--bandwidth-limit", "8mbit")
        job = slow.json["job_id"]
        until(lambda: len(installation.hashes(installation.library)) > 0)
        assert installation.run("jobs", "pause", job).code == 0
        assert installation.run("jobs", "show", job, "--json").json["state"] == "paused"
        # The services may die meanwhile; the supervisor brings them back.
        os.kill(installation.services()["coordinator"], signal.SIGKILL)
        os.kill(installation.services()["transfer"], signal.SIGKILL)
        held = installation.hashes(installation.library)
        assert len(held) < FILES
        assert installation.run("jobs", "limit", job, "off", "--json").json["limit_mbps"] == 0
        assert installation.run("jobs", "resume", job).code == 0
        ended = installation.run("jobs", "watch", job, "--json")
        assert (ended.code, json.loads(ended.out.splitlines()[-1])["job"]["files_transferred"]) == (0, FILES)
        assert installation.hashes(installation.library) == installation.hashes(installation.source)


def test_a_preview_leaves_no_trace_and_a_watch_brings_what_comes(installation: Installation) -> None:
    installation.write("day/1.txt")
    installation.write("day/2.log")
    seen = installation.sync("--dry-run", "--ext", "txt")
    assert seen.code == 0, seen.err
    assert {file["path"]: file["decision"] for file in seen.json["files"]} == {"day/1.txt": "take", "day/2.log": "filtered"}
    assert (seen.json["summary"]["files_to_take"], os.listdir(installation.library)) == (1, [])

    watch = installation.start("sync", installation.url, installation.library, *installation.login, "--watch", "--ext", "txt")
    try:
        until((installation.library / "day" / "1.txt").exists)
        installation.write("day/3.txt")
        until((installation.library / "day" / "3.txt").exists)
        installation.write("night/4.txt")
        until((installation.library / "night" / "4.txt").exists)
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=COMMAND_SECONDS)
    finally:
        watch.kill()
    assert (watch.returncode, "Sync no longer watches" in out) == (0, True), err
    assert "3 files" in out
    assert set(installation.hashes(installation.library)) == {b"day/1.txt", b"day/3.txt", b"night/4.txt"}
