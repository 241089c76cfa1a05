from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from mediasync.runtime import telemetry
from mediasync.runtime.context import bound
from mediasync.runtime.home import Home

logger = logging.getLogger("tests.telemetry")
tracer = trace.get_tracer("tests.telemetry")


def written(home: Home, kind: str, service: str = "test") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home.logs / f"{service}.{kind}.jsonl").read_bytes().splitlines()]


def test_a_log_line_knows_its_sync_its_span_and_its_fields(telemetry_home: Home) -> None:
    with bound("sync_1"), tracer.start_as_current_span("work") as span:
        logger.info("took %d files", 3, extra={"files": 3, "path": b"a\xff", "names": ("x", "y"), "where": Path("/p")})
    (line,) = written(telemetry_home, "log")
    assert line.pop("time").endswith("+00:00") and line.pop("pid")
    assert line == {
        "level": "info",
        "service": "test",
        "logger": "tests.telemetry",
        "message": "took 3 files",
        "sync_id": "sync_1",
        "request_id": "",
        "trace_id": f"{span.get_span_context().trace_id:032x}",
        "span_id": f"{span.get_span_context().span_id:016x}",
        "files": 3,
        "path": "a\udcff",
        "names": ["x", "y"],
        "where": "/p",
    }


def test_a_log_line_outside_of_everything_says_so(telemetry_home: Home) -> None:
    logger.warning("alone")
    (line,) = written(telemetry_home, "log")
    assert (line["sync_id"], line["trace_id"], line["span_id"]) == ("", "", "")


def test_a_traceback_goes_into_the_line(telemetry_home: Home) -> None:
    try:
        raise ValueError("näme")
    except ValueError:
        logger.exception("failed")
    (line,) = written(telemetry_home, "log")
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: näme")


def test_an_endless_message_is_cut(telemetry_home: Home) -> None:
    logger.info("x" * 100_000)
    (line,) = written(telemetry_home, "log")
    assert len(line["message"]) < 40_000 and line["message"].endswith("(100000 characters)")


def test_a_field_cannot_pose_as_another(telemetry_home: Home) -> None:
    logger.info("x", extra={"sync_id": "forged", "service": "forged"})
    (line,) = written(telemetry_home, "log")
    assert (line["sync_id"], line["service"]) == ("", "test")


def test_an_argument_that_cannot_be_formatted_does_not_stop_the_work(telemetry_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    handler = next(handler for handler in logging.getLogger().handlers if isinstance(handler, telemetry.JsonLines))
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None))
    logger.info("goes on")
    assert [line["message"] for line in written(telemetry_home, "log")] == ["goes on"]
    assert "--- Logging error ---" in capsys.readouterr().err


def test_the_level_comes_from_the_environment(data_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for level, expected in (("debug", 2), ("error", 0), ("nonsense", 1)):
        monkeypatch.setenv("MEDIASYNC_LOG_LEVEL", level)
        telemetry.setup(level, data_home)
        logger.debug("x")
        logger.info("x")
        telemetry.shutdown()
        file = data_home.logs / f"{level}.log.jsonl"
        assert (len(file.read_bytes().splitlines()) if file.exists() else 0) == expected
    logging.getLogger().setLevel(logging.WARNING)


def test_every_span_of_a_sync_carries_its_id(telemetry_home: Home) -> None:
    with bound("sync_1"), tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner", attributes={"bytes": 5}) as inner:
        inner.add_event("retry", {"n": 1})
    with pytest.raises(ValueError), tracer.start_as_current_span("fails"):
        raise ValueError("no")
    telemetry.shutdown()
    inside, outside, failed = written(telemetry_home, "spans")
    assert (inside["name"], inside["sync_id"], inside["attributes"]) == ("inner", "sync_1", {"sync.id": "sync_1", "bytes": 5})
    assert inside["parent_id"] == outside["span_id"] and outside["parent_id"] == ""
    assert inside["start_ns"] <= inside["events"][0]["time_ns"] <= inside["end_ns"]
    assert (failed["status"], failed["error"], failed["sync_id"]) == ("error", "ValueError: no", "")


async def test_spans_are_on_disk_soon_after_they_end(telemetry_home: Home) -> None:
    with tracer.start_as_current_span("quick"):
        pass
    async with asyncio.timeout(10):
        while not (telemetry_home.logs / "test.spans.jsonl").exists():
            await asyncio.sleep(0.02)


def test_it_is_set_up_once_and_again_after_a_shutdown(telemetry_home: Home) -> None:
    with pytest.raises(RuntimeError):
        telemetry.setup("again", telemetry_home)
    telemetry.shutdown()
    telemetry.shutdown()
    telemetry.setup("again", telemetry_home)
    with tracer.start_as_current_span("second"):
        pass
    telemetry.shutdown()
    assert [span["name"] for span in written(telemetry_home, "spans", "again")] == ["second"]
    with tracer.start_as_current_span("nobody listens"):
        pass


SHORT_LIVED = """
import logging, sys
from pathlib import Path
from mediasync.runtime import telemetry
from mediasync.runtime.home import Home
telemetry.setup("cli", Home(Path(sys.argv[1])))
for number in range(100):
    logging.getLogger("x").info("%s %d", sys.argv[2], number)
telemetry.shutdown()
"""


def test_commands_that_run_at_the_same_time_share_the_files(data_home: Home) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SHORT_LIVED, str(data_home.path), str(number)]) for number in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    lines = written(data_home, "log", "cli")
    assert sorted(line["message"] for line in lines) == sorted(f"{process} {number}" for process in range(3) for number in range(100))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    # A blocking server, because the exporter's thread blocks too and this loop is busy in `shutdown`.
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_spans_go_to_a_collector_too_when_one_is_named(
    data_home: Home, collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector[1])
    telemetry.setup("test", data_home)
    with bound("sync_1"), tracer.start_as_current_span("far"):
        pass
    telemetry.shutdown()
    (request,) = collector[0].requests
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert span.name == "far"
    assert {item.key: item.value.string_value for item in span.attributes} == {"sync.id": "sync_1"}
    assert [line["name"] for line in written(data_home, "spans")] == ["far"]


def test_a_collector_that_is_away_costs_no_span_in_the_files(data_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_FLUSH_SECONDS", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    telemetry.setup("test", data_home)
    with tracer.start_as_current_span("near"):
        pass
    telemetry.shutdown()
    assert [line["name"] for line in written(data_home, "spans")] == ["near"]


def test_people_can_read_along_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    handler = telemetry.log_to_stderr("progress")
    try:
        logger.warning("look here")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err.endswith(" progress WARNING look here\n")
