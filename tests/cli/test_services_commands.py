"""`mediasync up`, `serve` and `status` with the real services, and commands that bring their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fixtures.installation import Installation

NAMES = ["progress", "ingest", "transfer", "cleanup", "coordinator"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "python_api.py"


@contextmanager
def up(installation: Installation, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`mediasync up`, ready."""
    process = installation.start("up", "--listen", "127.0.0.1:0", "--json", *arguments)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def status(installation: Installation) -> dict[str, Any]:
    found: dict[str, Any] = installation.run("status", "--json").json
    return found


def test_up_runs_everything_and_status_tells_how_it_is(installation: Installation) -> None:
    with up(installation) as (process, ready):
        address = ready["supervisor"]["address"]
        assert address.startswith("127.0.0.1:")
        found = status(installation)
        assert [row["name"] for row in found["services"]] == NAMES
        assert {row["health"] for row in found["services"]} == {"serving"}
        assert all(row["rss_bytes"] > 10_000_000 and row["version"] for row in found["services"])
        assert found["supervisor"]["pid"] == process.pid
        table = installation.run("status")
        assert table.code == 0 and "Started by `mediasync up`" in table.out and "Memory together:" in table.out
        assert installation.run("jobs", "list", "--coordinator", address).code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert installation.services() == {}
    assert installation.run("status").code == 6


def test_a_port_that_is_taken_is_said_at_once(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (installation.folder / "my.yaml").write_text(f"coordinator: {{listen: 127.0.0.1:{port}}}\n")
        refused = installation.run("up", "--config", "my.yaml")
    assert refused.code == 2
    assert f"127.0.0.1:{port}" in refused.err and "→" in refused.err


def test_an_address_that_others_could_reach_is_refused(installation: Installation) -> None:
    refused = installation.run("up", "--listen", "0.0.0.0:0")
    assert refused.code == 2 and "0.0.0.0:0" in refused.err


def test_a_service_that_is_killed_comes_back_and_syncs_go_on(installation: Installation) -> None:
    installation.write("a/1.txt")
    with up(installation):
        assert installation.sync().code == 0
        os.kill(installation.services()["coordinator"], signal.SIGKILL)
        installation.write("a/2.txt")
        again = installation.sync()
        assert (again.code, again.json["files_transferred"]) == (0, 1)
        row = next(row for row in status(installation)["services"] if row["name"] == "coordinator")
        assert row["restarts"] == 1


def test_a_folder_called_services_where_a_command_is_run_does_no_harm(installation: Installation) -> None:
    for name in ("services", "mediasync"):
        (installation.folder / name).mkdir()
        (installation.folder / name / "__init__.py").write_text("raise SystemExit('shadowed')")
    installation.write("a/1.txt")
    result = installation.sync()
    assert (result.code, result.json["files_transferred"]) == (0, 1)


def test_a_detached_job_ends_by_itself_and_takes_its_services_along(installation: Installation) -> None:
    for number in range(200):
        installation.write(f"a/{number}.txt")
    detached = installation.sync("--detach")
    assert detached.code == 0
    installation.ended()
    assert installation.services() == {}
    job = installation.run("jobs", "show", detached.json["job_id"], "--json").json
    assert (job["state"], job["files_transferred"]) == ("complete", 200)


def test_one_service_can_be_run_alone_and_is_seen(installation: Installation) -> None:
    process = installation.start("serve", "progress")
    try:
        deadline = time.monotonic() + 60
        while not (found := status(installation))["services"] or found["services"][0]["health"] != "serving":
            assert time.monotonic() < deadline and process.poll() is None
        assert [(row["name"], row["pid"]) for row in found["services"]] == [("progress", process.pid)]
        assert found["supervisor"] is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_service_that_is_none_is_refused_with_the_nearest(installation: Installation) -> None:
    refused = installation.run("serve", "transfers")
    assert refused.code == 2 and "did you mean `transfer`?" in refused.err


def test_a_configured_log_folder_is_where_services_and_commands_log(installation: Installation) -> None:
    installation.write("a/1.txt")
    (installation.folder / "my.yaml").write_text("log_base: my-logs\n")
    result = installation.sync("--config", "my.yaml")
    logs = installation.folder / "my-logs"
    assert {"cli.spans.jsonl", "coordinator.log.jsonl", "supervisor.log.jsonl"} <= {path.name for path in logs.iterdir()}
    shown = installation.run("trace", result.json["sync_id"], MEDIASYNC_CONFIG=str(installation.folder / "my.yaml"))
    assert shown.code == 0 and "mediasync sync" in shown.out


def test_the_example_of_the_python_api_runs(installation: Installation) -> None:
    installation.write("a/1.txt")
    server = installation.server
    command = [sys.executable, EXAMPLE, server.host, installation.source, installation.library]
    options = [
        "--port",
        str(server.port),
        "--user",
        server.user,
        "--identity-file",
        server.identity_file,
        "--known-hosts",
        server.known_hosts,
    ]
    ended = subprocess.run([*command, *options], env=installation.environ, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 0, ended
    assert "complete: 1 new, 0 unchanged" in ended.stdout and "b'a/1.txt'" in ended.stdout
    assert installation.services() == {}
