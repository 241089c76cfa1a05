"""Plain data <-> protobuf messages, one pair of functions a noun. The only place that knows both.

The nouns that every process speaks of are here; `convert.media` and `convert.named` are imported by who needs them.
"""

from __future__ import annotations

from mediasync.convert.basic import duration, file_path, now, timestamp, timestamp_ns, to_seconds, to_unix, to_unix_ns
from mediasync.convert.jobs import (
    job_from_pb,
    job_state_from_pb,
    job_state_to_pb,
    job_to_pb,
    spec_from_pb,
    spec_to_pb,
    summary_from_pb,
    summary_to_pb,
)
from mediasync.convert.options import options_from_pb, options_to_pb
from mediasync.convert.problems import problem_from_pb, problem_to_pb
from mediasync.convert.progress import (
    folder_from_pb,
    folder_to_pb,
    progress_from_pb,
    progress_report_from_pb,
    progress_report_to_pb,
    progress_to_pb,
    status_from_pb,
    status_to_pb,
)
from mediasync.convert.sources import host_key_from_pb, host_key_to_pb, report_from_pb, report_to_pb, source_from_pb, source_to_pb

__all__ = [
    "duration",
    "file_path",
    "folder_from_pb",
    "folder_to_pb",
    "host_key_from_pb",
    "host_key_to_pb",
    "job_from_pb",
    "job_state_from_pb",
    "job_state_to_pb",
    "job_to_pb",
    "now",
    "options_from_pb",
    "options_to_pb",
    "problem_from_pb",
    "problem_to_pb",
    "progress_from_pb",
    "progress_report_from_pb",
    "progress_report_to_pb",
    "progress_to_pb",
    "report_from_pb",
    "report_to_pb",
    "source_from_pb",
    "source_to_pb",
    "spec_from_pb",
    "spec_to_pb",
    "status_from_pb",
    "status_to_pb",
    "summary_from_pb",
    "summary_to_pb",
    "timestamp",
    "timestamp_ns",
    "to_seconds",
    "to_unix",
    "to_unix_ns",
]
