"""Reads back what `telemetry` wrote: log lines and spans of all services, across rotated files and several processes."""

from __future__ import annotations

import heapq
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

LOG_SUFFIX = ".log.jsonl"
SPAN_SUFFIX = ".spans.jsonl"

LEVELS = ("debug", "info", "warning", "error", "critical")
"""From the least to the most important."""

_POLL_SECONDS = 0.2
_LOG_TEXTS = ("level", "service", "logger", "message", "sync_id", "exception")
_KNOWN_LOG_FIELDS = frozenset({"time", "request_id", "trace_id", "span_id", "pid", *_LOG_TEXTS})


@dataclass(frozen=True)
class LogLine:
    """One log line. `fields` is all of it, as written."""

    time: datetime
    level: str
    service: str
    logger: str
    message: str
    sync_id: str
    exception: str
    fields: Mapping[str, Any]

    @property
    def extra(self) -> dict[str, Any]:
        """What the code that logged it added."""
        return {key: value for key, value in self.fields.items() if key not in _KNOWN_LOG_FIELDS}


@dataclass(frozen=True)
class SpanLine:
    """One ended span. `parent_id` is empty for the first of a trace, `error` unless it failed."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    failed: bool
    error: str
    sync_id: str
    attributes: Mapping[str, Any]

    @property
    def duration_ns(self) -> int:
        return max(0, self.end_ns - self.start_ns)


@dataclass(frozen=True)
class LogFilter:
    """Which log lines are wanted; an empty field wants all. `level` is the least important one."""

    sync_id: str = ""
    level: str = ""
    service: str = ""
    since: datetime | None = None
    _levels: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_levels", frozenset(LEVELS[LEVELS.index(self.level) :] if self.level else ()))

    def wants(self, line: LogLine) -> bool:
        """Whether `line` passes. A job's id is as good as a sync's where the line has it as a field."""
        return (
            (not self.sync_id or self.sync_id in (line.sync_id, line.fields.get("job_id")))
            and (not self._levels or line.level in self._levels)
            and (not self.service or line.service == self.service)
            and (self.since is None or line.time >= self.since)
        )


def read_logs(folder: Path, wanted: LogFilter) -> Iterator[LogLine]:
    """The log lines in `folder` that are wanted, oldest first. A line that cannot be read (torn, or no JSON) is left out."""
    merged = heapq.merge(*(_log_lines(files) for files in _by_service(folder, LOG_SUFFIX).values()), key=lambda line: line.time)
    return (line for line in merged if wanted.wants(line))


def follow_logs(folder: Path, wanted: LogFilter, poll_seconds: float = _POLL_SECONDS) -> Iterator[LogLine]:
    """As `read_logs`, and then what is written from then on, for ever: each line once, through rotations and new services."""
    tail = _Tail(folder)
    while True:
        lines = [parsed for raw in tail.new_lines() if (parsed := _log_line(raw)) is not None]
        yield from (line for line in sorted(lines, key=lambda line: line.time) if wanted.wants(line))
        time.sleep(poll_seconds)


def read_trace(folder: Path, identity: str) -> list[SpanLine]:
    """The spans of a sync, by its id or its job's, by start: all that carry the id, and all others of the same traces.

    A trace begins before its sync has an id (in the command line), so its first spans are known by their trace only.
    """
    files = [file for service in _by_service(folder, SPAN_SUFFIX).values() for file in service]
    traces, syncs = set(), {identity}
    # An id is found in the raw text first, because parsing every span of a busy month takes long.
    needle = json.dumps(identity).encode()
    for file in files:
        for raw in _raw_lines(file):
            if needle in raw and (span := _span_line(raw)) is not None and identity in (span.sync_id, span.attributes.get("job.id")):
                traces.add(span.trace_id)
                syncs.add(span.sync_id or identity)
    needles = [json.dumps(text).encode() for text in traces | syncs]
    found: dict[tuple[str, str], SpanLine] = {}
    for file in files if traces else ():
        for raw in _raw_lines(file):
            if any(text in raw for text in needles):
                span = _span_line(raw)
                if span is not None and (span.trace_id in traces or span.sync_id in syncs):
                    found[span.trace_id, span.span_id] = span
    return sorted(found.values(), key=lambda span: (span.start_ns, span.span_id))


def parse_since(text: str, now: datetime) -> datetime:
    """A moment, from `90s`, `10m`, `2h`, `3d` (before `now`) or an ISO date and time; without a zone it is local time.

    Raises ValueError for anything else.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit in units and number.replace(".", "", 1).isdecimal():
        return datetime.fromtimestamp(now.timestamp() - float(number) * units[unit], now.tzinfo)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.astimezone()


def _by_service(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """The files of each service, oldest first: `x.log.jsonl.2`, `x.log.jsonl.1`, `x.log.jsonl`."""
    services: dict[str, list[tuple[int, Path]]] = {}
    for file in folder.glob(f"*{suffix}*") if folder.is_dir() else ():
        name, _, rest = file.name.partition(suffix)
        number = rest.removeprefix(".")
        if not rest or (rest.startswith(".") and number.isdecimal()):
            services.setdefault(name, []).append((int(number or 0), file))
    return {name: [file for _, file in sorted(files, reverse=True)] for name, files in sorted(services.items())}


def _raw_lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        # Rotated away between listing and opening.
        return


def _log_lines(files: list[Path]) -> Iterator[LogLine]:
    for file in files:
        for raw in _raw_lines(file):
            line = _log_line(raw)
            if line is not None:
                yield line


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _log_line(raw: bytes) -> LogLine | None:
    fields = _object(raw)
    if fields is None:
        return None
    try:
        moment = datetime.fromisoformat(fields["time"])
    except (KeyError, TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        return None
    level, service, logger, message, sync_id, exception = (str(fields.get(key, "")) for key in _LOG_TEXTS)
    return LogLine(moment, level, service, logger, message, sync_id, exception, fields)


def _span_line(raw: bytes) -> SpanLine | None:
    fields = _object(raw)
    if fields is None:
        return None
    try:
        return SpanLine(
            trace_id=fields["trace_id"],
            span_id=fields["span_id"],
            parent_id=fields["parent_id"],
            service=fields["service"],
            name=fields["name"],
            kind=fields["kind"],
            start_ns=int(fields["start_ns"]),
            end_ns=int(fields["end_ns"]),
            failed=fields["status"] == "error",
            error=fields["error"],
            sync_id=fields["sync_id"],
            attributes=dict(fields["attributes"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


class _Tail:
    """Remembers how far each log file was read. Files are known by inode, because rotation renames them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[int, int] = {}

    def new_lines(self) -> Iterator[bytes]:
        for files in _by_service(self._folder, LOG_SUFFIX).values():
            for file in files:
                yield from self._new_lines_of(file)

    def _new_lines_of(self, file: Path) -> Iterator[bytes]:
        try:
            opened = file.open("rb")
        except FileNotFoundError:
            return
        with opened:
            inode = os.fstat(opened.fileno()).st_ino
            start = self._read.get(inode, 0)
            opened.seek(start)
            for line in opened:
                if not line.endswith(b"\n"):
                    # Still being written; it is read whole the next time.
                    break
                start += len(line)
                yield line
            self._read[inode] = start
