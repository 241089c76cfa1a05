from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import typer
from opentelemetry import trace as otel
from typer.testing import CliRunner

from mediasync.cli.logs import logs
from mediasync.cli.trace import trace
from mediasync.errors import MediasyncError, Reason
from mediasync.runtime import telemetry
from mediasync.runtime.context import bound
from mediasync.runtime.home import Home

app = typer.Typer()
app.command()(logs)
app.command()(trace)

logger = logging.getLogger("tests.cli")
tracer = otel.get_tracer("tests.cli")
SYNC = "sync_20261121_101112_1a2b3c4d"


@pytest.fixture
def recorded(telemetry_home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A data folder with the logs and spans of one sync."""
    monkeypatch.setenv("MEDIASYNC_HOME", str(telemetry_home.path))
    monkeypatch.delenv("LOG_BASE", raising=False)
    logger.info("before")
    with tracer.start_as_current_span("sync"), bound(SYNC):
        for _ in range(12):
            with tracer.start_as_current_span("pull batch", attributes={"bytes": 1_000_000}):
                pass
        with tracer.start_as_current_span("mediasync.v1.Progress/Watch", kind=otel.SpanKind.CLIENT):
            logger.warning("odd name \x1b[31m%s", "a\nb", extra={"folder": "a b", "files": 3})
        with pytest.raises(ValueError), tracer.start_as_current_span("land"):
            try:
                raise ValueError("no space")
            except ValueError:
                logger.exception("cannot land")
                raise
    telemetry.shutdown()
    return telemetry_home


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught:
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    return caught.value


def test_logs_are_readable_lines_with_fields_sync_and_traceback(recorded: Home) -> None:
    lines = run("logs").splitlines()
    assert lines[0].endswith(" info    test        before")
    assert lines[1].endswith(f' warning test        odd name \\x1b[31ma\\nb folder="a b" files=3 [{SYNC}]')
    assert "cannot land" in lines[2]
    assert lines[3] == "    Traceback (most recent call last):" and lines[-1] == "    ValueError: no space"


def test_logs_of_one_sync_or_level_or_time(recorded: Home) -> None:
    assert "before" not in run("logs", "--sync-id", SYNC)
    assert run("logs", "--level", "error").count("cannot land") == 1
    assert "odd name" not in run("logs", "--level", "ERROR")
    assert "odd name" in run("logs", "--level", "warn", "--since", "10m", "--service", "test")
    assert run("logs", "--service", "transfer") == run("logs", "--since", "2999-01-01") == ""


def test_logs_as_json_are_the_lines_as_they_were_written(recorded: Home) -> None:
    lines = [json.loads(line) for line in run("logs", "--json", "--sync-id", SYNC).splitlines()]
    assert [line["level"] for line in lines] == ["warning", "error"]
    assert (lines[0]["files"], lines[0]["sync_id"]) == (3, SYNC)


def test_wrong_options_of_logs_are_all_named() -> None:
    error = refused("logs", "--level", "wraning", "--since", "tomorrow")
    assert (error.reason, [violation.field for violation in error.fields]) == (Reason.INVALID_ARGUMENT, ["--level", "--since"])
    assert "did you mean warning?" in error.message and "90s" in error.message


def test_following_goes_on_until_ctrl_c(recorded: Home) -> None:
    program = "import typer\nfrom mediasync.cli.logs import logs\ntyper.run(logs)"
    environment = os.environ | {"MEDIASYNC_HOME": str(recorded.path)}
    command = [sys.executable, "-c", program, "--follow", "--level", "error", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["message"] == "cannot land"
        telemetry.setup("test", recorded)
        logger.error("and now this")
        assert json.loads(process.stdout.readline())["message"] == "and now this"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == b""


def test_a_trace_is_one_waterfall(recorded: Home) -> None:
    lines = run("trace", SYNC).splitlines()
    assert lines[0].split() == ["service", "span", "start", "time", "bytes", "error"]
    assert lines[1].startswith("test") and " sync " in lines[1] and "━" * 20 in lines[1]
    assert "  pull batch  x12" in lines[2] and "12.0 MB" in lines[2]
    assert "  → Progress/Watch" in lines[3]
    assert "  land" in lines[4] and "ValueError: no space" in lines[4]
    assert lines[5].startswith("15 spans in 1 service and 1 trace, ")
    assert run("trace", SYNC, "--all").count("pull batch") == 12


def test_a_trace_as_json_is_one_object_with_every_span(recorded: Home) -> None:
    document = json.loads(run("trace", SYNC, "--json"))
    assert (document["sync_id"], len(document["trace_ids"]), document["services"], len(document["spans"])) == (SYNC, 1, ["test"], 15)
    first, second = document["spans"][:2]
    assert (first["name"], first["depth"], first["start_ms"], first["parent_id"]) == ("sync", 0, 0, "")
    assert (second["parent_id"], second["depth"], second["attributes"]["bytes"]) == (first["span_id"], 1, 1_000_000)
    assert document["spans"][-1]["failed"] and document["duration_ms"] >= document["spans"][-1]["start_ms"]


def test_a_sync_without_a_trace_is_not_found(recorded: Home) -> None:
    error = refused("trace", "sync_20260101_000000_00000000")
    assert error.reason is Reason.SYNC_NOT_FOUND
    assert str(recorded.logs) in error.message


@pytest.mark.parametrize("command", ["logs", "trace"])
def test_help_shows_an_example(command: str) -> None:
    assert f"Example: mediasync {command}" in run(command, "--help")


def test_neither_command_imports_much_before_it_runs() -> None:
    heavy = ("grpc", "opentelemetry", "sqlalchemy", "rich.table")
    program = f"import sys, mediasync.cli.logs, mediasync.cli.trace; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "[]\n"


def test_sizes_and_times_are_said_in_fitting_units() -> None:
    from mediasync.cli import trace as module

    assert [module._size(size) for size in (None, 999, 1000, 2_500_000, 3_000_000_000, 4 * 10**12)] == [
        "",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
        "4.0 TB",
    ]
    assert [module._duration(time) for time in (1_500_000, 2_500_000_000, 180 * 10**9)] == ["1.5 ms", "2.50 s", "3.0 min"]
