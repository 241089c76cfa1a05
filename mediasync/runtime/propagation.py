"""How a trace and the sync's id travel from process to process: W3C `traceparent` and `baggage` in the metadata of every call."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID_KEY = "x-request-id"

# Named here, not taken from OTEL_PROPAGATORS: without baggage no process would know which sync it works for.
_propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def inject(context: Context) -> list[tuple[str, str]]:
    """The metadata that carries `context`."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return list(carrier.items())


def extract(metadata: Iterable[tuple[str, str | bytes]]) -> Context:
    """The context that `metadata` carries; an empty one where it carries none."""
    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    # An explicit empty context: what the serving task inherited from whoever started the server is nobody's parent.
    return _propagator.extract(carrier, Context())
