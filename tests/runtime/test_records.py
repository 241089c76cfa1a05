from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mediasync.runtime.records import LogFilter, follow_logs, parse_since, read_logs, read_trace
from mediasync.runtime.waterfall import rows

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def log(second: float, message: str, **fields: Any) -> str:
    base = {"time": (NOON + timedelta(seconds=second)).isoformat(), "level": "info", "service": "transfer", "logger": "x", "sync_id": ""}
    return json.dumps(base | {"message": message} | fields) + "\n"


def span(trace: str, own: str, parent: str, start: int, end: int, **fields: Any) -> str:
    base = {"service": "transfer", "name": "Step", "kind": "internal", "status": "unset", "error": "", "sync_id": "", "attributes": {}}
    ids = {"trace_id": trace, "span_id": own, "parent_id": parent, "start_ns": start, "end_ns": end}
    return json.dumps(base | ids | fields) + "\n"


def messages(folder: Path, **wanted: Any) -> list[str]:
    return [line.message for line in read_logs(folder, LogFilter(**wanted))]


def test_lines_of_all_services_and_rotated_files_come_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "transfer.log.jsonl.10").write_text(log(0, "a"))
    (tmp_path / "transfer.log.jsonl.2").write_text(log(1, "b"))
    (tmp_path / "transfer.log.jsonl.1").write_text(log(3, "d"))
    (tmp_path / "transfer.log.jsonl").write_text(log(5, "f"))
    (tmp_path / "progress.log.jsonl").write_text(log(2, "c") + log(4, "e"))
    (tmp_path / "progress.spans.jsonl").write_text(log(2, "not a log"))
    (tmp_path / "transfer.log.jsonl.bak").write_text(log(2, "somebody's copy"))
    assert messages(tmp_path) == list("abcdef")


def test_a_folder_that_is_missing_holds_no_lines(tmp_path: Path) -> None:
    assert messages(tmp_path / "missing") == []
    assert read_trace(tmp_path / "missing", "sync_1") == []


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    bad = ['{"time": "2026', "", "[]", "{}", '{"time": 5}', '{"time": "yesterday"}', '{"time": "2026-11-21T12:00:00"}', "\x00\xff"]
    (tmp_path / "x.log.jsonl").write_text("\n".join(bad) + "\n" + log(0, "good"))
    assert messages(tmp_path) == ["good"]
    (tmp_path / "x.spans.jsonl").write_text(
        "\n".join([*bad, '{"sync_id": "sync_1"}', '["sync_1"]']) + "\n" + span("t", "a", "", 0, 1, sync_id="sync_1")
    )
    assert [found.span_id for found in read_trace(tmp_path, "sync_1")] == ["a"]


def test_lines_are_picked_by_sync_job_level_service_and_time(tmp_path: Path) -> None:
    (tmp_path / "x.log.jsonl").write_text(
        log(0, "a", sync_id="sync_1", level="debug")
        + log(1, "b", sync_id="sync_1", level="warning")
        + log(2, "c", level="error", service="progress")
        + log(3, "d", job_id="job_1")
    )
    assert messages(tmp_path, sync_id="sync_1") == ["a", "b"]
    assert messages(tmp_path, sync_id="job_1") == ["d"]
    assert messages(tmp_path, level="warning") == ["b", "c"]
    assert messages(tmp_path, service="progress") == ["c"]
    assert messages(tmp_path, since=NOON + timedelta(seconds=2)) == ["c", "d"]
    assert messages(tmp_path, sync_id="sync_1", level="info") == ["b"]


def test_following_shows_each_line_once_through_rotation_and_half_written_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.log.jsonl"
    file.write_text(log(0, "a"))
    lines = follow_logs(tmp_path, LogFilter(), poll_seconds=0.001)
    assert next(lines).message == "a"
    half = log(1, "b")
    file.write_text(log(0, "a") + half[:20])
    with file.open("a") as appending:
        appending.write(half[20:])
    assert next(lines).message == "b"
    file.rename(tmp_path / "x.log.jsonl.1")
    file.write_text(log(2, "c"))
    (tmp_path / "new.log.jsonl").write_text(log(3, "d"))
    assert [next(lines).message, next(lines).message] == ["c", "d"]


def test_a_trace_holds_all_spans_of_the_sync_and_of_its_traces(tmp_path: Path) -> None:
    (tmp_path / "cli.spans.jsonl").write_text(span("t1", "root", "", 0, 100, service="cli") + span("t9", "other", "", 0, 1))
    (tmp_path / "coordinator.spans.jsonl.1").write_text(span("t1", "b", "root", 10, 20, sync_id="sync_1", attributes={"job.id": "job_1"}))
    (tmp_path / "coordinator.spans.jsonl").write_text(span("t2", "c", "gone", 30, 40, sync_id="sync_1"))
    (tmp_path / "x.spans.jsonl").write_text(span("t3", "d", "", 5, 6, sync_id="sync_10"))
    for identity in ("sync_1", "job_1"):
        assert [found.span_id for found in read_trace(tmp_path, identity)] == ["root", "b", "c"]
    assert read_trace(tmp_path, "sync_2") == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400), ("3d", 259_200), ("2026-11-21T11:00:00+00:00", 3600)]
)
def test_a_moment_is_a_span_of_time_before_now_or_a_date(text: str, seconds: int) -> None:
    assert parse_since(text, NOON) == NOON - timedelta(seconds=seconds)


def test_a_date_without_a_zone_is_local() -> None:
    assert parse_since("2026-11-21", NOON) == datetime(2026, 11, 21).astimezone()


@pytest.mark.parametrize("text", ["", "soon", "m", "-5m", "5", "1..5h"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError):
        parse_since(text, NOON)


def tree(folder: Path, *lines: str, collapse_from: int | None = None) -> list[tuple[int, str, int]]:
    (folder / "x.spans.jsonl").write_text("".join(lines))
    return [(row.depth, row.span.span_id, row.count) for row in rows(read_trace(folder, "s"), collapse_from)]


def test_children_stand_below_their_parent_by_start(tmp_path: Path) -> None:
    lines = [
        span("t", "b2", "b", 40, 50),
        span("t", "c", "a", 60, 70),
        span("t", "b", "a", 10, 55),
        span("t", "a", "", 0, 100, sync_id="s"),
        span("t", "b1", "b", 20, 30),
    ]
    assert tree(tmp_path, *lines) == [(0, "a", 1), (1, "b", 1), (2, "b1", 1), (2, "b2", 1), (1, "c", 1)]


def test_spans_whose_parent_is_missing_or_themselves_stand_at_the_top(tmp_path: Path) -> None:
    lines = [span("t", "a", "killed", 0, 1, sync_id="s"), span("t", "b", "b", 2, 3), span("u", "c", "a", 4, 5, sync_id="s")]
    assert tree(tmp_path, *lines) == [(0, "a", 1), (0, "b", 1), (0, "c", 1)]


def test_many_alike_become_one_row_that_adds_them_up(tmp_path: Path) -> None:
    lines = [span("t", f"p{n}", "a", n, n + 2, attributes={"bytes": 10}, name="Pull") for n in range(5)]
    lines += [span("t", "with", "a", 3, 9, name="Pull"), span("t", "below", "with", 4, 5), span("t", "a", "", 0, 100, sync_id="s")]
    lines.append(span("t", "bad", "a", 8, 9, name="Pull", status="error", error="LOST"))
    assert tree(tmp_path, *lines, collapse_from=3) == [(0, "a", 1), (1, "p0", 6), (1, "with", 1), (2, "below", 1)]
    merged = rows(read_trace(tmp_path, "s"), 3)[1]
    assert (merged.start_ns, merged.end_ns, merged.busy_ns, merged.size_bytes, merged.failed, merged.error) == (0, 9, 11, 50, True, "LOST")
    assert len(rows(read_trace(tmp_path, "s"), None)) == 9
    assert len(rows(read_trace(tmp_path, "s"), 7)) == 9


def test_a_chain_of_thousands_of_spans_is_no_problem(tmp_path: Path) -> None:
    lines = [span("t", str(n), str(n - 1) if n else "", n, n + 1, sync_id="s") for n in range(3000)]
    assert tree(tmp_path, *lines)[-1] == (2999, "2999", 1)
