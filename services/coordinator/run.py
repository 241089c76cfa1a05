"""A job while it is under way in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import context as otel_context

from mediasync.runtime import propagation
from services.coordinator.reporting import JobReports
from services.coordinator.terms import Terms
from services.coordinator.watch_notes import WatchNotes


@dataclass
class Run:
    """A job that is under way in this process."""

    task: asyncio.Task[Any]
    terms: Terms = field(default_factory=Terms)
    sync_id: str = ""
    standing: bool = False
    reports: JobReports | None = None
    notes: WatchNotes | None = None


@contextmanager
def joined(carrier: Mapping[str, str]) -> Iterator[None]:
    """Everything inside belongs to the trace of the one who asked for the job, also after a recovery."""
    token = otel_context.attach(propagation.extract(carrier.items()))
    try:
        yield
    finally:
        otel_context.detach(token)
