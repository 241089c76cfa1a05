"""Paths, times and durations."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mediasync.paths import display
from mediasync.v1 import types_pb2 as pb


def file_path(raw: bytes) -> pb.FilePath:
    """A path with its display form."""
    return pb.FilePath(raw=raw, display=display(raw))


def timestamp(unix_seconds: float) -> Timestamp:
    """Unix seconds -> Timestamp."""
    return timestamp_ns(round(unix_seconds * 1e9))


def timestamp_ns(unix_ns: int) -> Timestamp:
    """Unix nanoseconds -> Timestamp, exact."""
    return Timestamp(seconds=unix_ns // 1_000_000_000, nanos=unix_ns % 1_000_000_000)


def to_unix_ns(value: Timestamp) -> int:
    """Timestamp -> Unix nanoseconds, exact; 0 for an unset one."""
    return value.seconds * 1_000_000_000 + value.nanos


def to_unix(value: Timestamp) -> float:
    """Timestamp -> Unix seconds; 0 for an unset one."""
    return to_unix_ns(value) / 1e9


def now() -> Timestamp:
    """The current time."""
    return timestamp_ns(time.time_ns())


def duration(seconds: float) -> Duration:
    """Seconds -> Duration."""
    result = Duration()
    result.FromNanoseconds(round(seconds * 1e9))
    return result


def to_seconds(value: Duration) -> float:
    """Duration -> seconds."""
    return value.ToNanoseconds() / 1e9
