"""What a piece of work belongs to: known from context, never passed as an argument."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SYNC_ID_BAGGAGE = "sync.id"
"""Name of the W3C baggage entry, and of the span attribute."""

sync_id: ContextVar[str] = ContextVar("sync_id", default="")
"""The sync that is being worked on; empty outside one."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The `x-request-id` of the call being served or made; empty outside one."""


@contextlib.contextmanager
def bound(sync: str) -> Iterator[None]:
    """Everything inside belongs to `sync`: log lines, spans, and the calls made to other services."""
    name = sync_id.set(sync)
    carried = otel_context.attach(baggage.set_baggage(SYNC_ID_BAGGAGE, sync))
    try:
        yield
    finally:
        _reset_quietly(carried)
        try:
            sync_id.reset(name)
        except ValueError:
            # An abandoned async generator is closed in another task's context, where there is nothing to undo.
            pass


def trace_parent() -> str:
    """The W3C `traceparent` of the span that is current, to be stored with work that is done later; empty where there is none."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


@contextlib.contextmanager
def resumed(sync: str, parent: str) -> Iterator[None]:
    """Everything inside belongs to `sync`, and to the trace that `parent`, a stored `trace_parent()`, is of: for work that is
    done later, or by another process, than it was asked for."""
    carrier = {"traceparent": parent} if parent else {}
    token = otel_context.attach(TraceContextTextMapPropagator().extract(carrier, otel_context.Context()))
    try:
        with bound(sync):
            yield
    finally:
        _reset_quietly(token)


def link_to(parent: str) -> trace.Link:
    """For the span of work that belongs to the trace of `parent`, a stored `trace_parent()`, among others."""
    carried = TraceContextTextMapPropagator().extract({"traceparent": parent}, otel_context.Context())
    return trace.Link(trace.get_current_span(carried).get_span_context())


def _reset_quietly(token: Token[Any]) -> None:
    """As `opentelemetry.context.detach`, which logs an error with a traceback where `bound` was left in another context."""
    try:
        token.var.reset(token)
    except ValueError:
        pass
