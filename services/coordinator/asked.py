"""What every mutation of a client has: its request id and body, and the trace it belongs to."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message
from opentelemetry import context as otel_context
from opentelemetry import trace

from mediasync.model import Job
from mediasync.runtime import propagation
from mediasync.runtime.context import SYNC_ID_BAGGAGE
from services.coordinator.store import Request


def request_of(message: Message, request_id: str) -> Request:
    """The mutation that `message` asks for, recognisable when it comes again."""
    body = message.SerializeToString(deterministic=True)
    return Request(request_id, type(message).__name__, hashlib.sha256(body).digest())


def trace_of_caller() -> dict[str, str]:
    """The trace of the one who asks. It goes with the job: what is done for it later, also after a crash, belongs there."""
    return dict(propagation.inject(otel_context.get_current()))


def name_in_trace(job: Job) -> None:
    """The sync had no id yet when the span of the call that started it began."""
    trace.get_current_span().set_attributes({SYNC_ID_BAGGAGE: job.sync_id, "job.id": job.job_id})
