"""Logs and spans of this process: always to files in the data folder, and to OTLP when an endpoint is configured.

`<logs>/<service>.log.jsonl` and `<logs>/<service>.spans.jsonl` hold one JSON object a line; `records.py` reads them. Every line knows
the sync it belongs to, so that `mediasync logs` and `mediasync trace` need nothing else installed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from mediasync.runtime import context as work
from mediasync.runtime.appender import LineFile
from mediasync.runtime.records import LOG_SUFFIX, SPAN_SUFFIX

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource

    from mediasync.runtime.home import Home

OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_SPAN_DELAY_MILLISECONDS = 500
_FLUSH_SECONDS = 3.0
_LONGEST_TEXT = 32_768
# What every LogRecord has; whatever else is on one was given as `extra`.
_OWN_FIELDS = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}

_installed: _Installed | None = None


class _Installed:
    """What `setup` put in place, for `shutdown` to take away."""

    def __init__(self, handler: logging.Handler, processor: _Spans) -> None:
        self.handler = handler
        self.processor = processor


def setup(service: str, home: Home) -> None:
    """Start recording as `service`. Called once a process, before anything is logged; again only after `shutdown`."""
    global _installed
    if _installed is not None:
        raise RuntimeError("telemetry is set up already")
    root = logging.getLogger()
    handler = JsonLines(service, LineFile(home.logs / f"{service}{LOG_SUFFIX}"))
    root.addHandler(handler)
    root.setLevel(_level())
    # What the libraries we stand on say at INFO is about every connection and channel.
    for noisy in ("asyncssh", "grpc", "opentelemetry", "sqlalchemy", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    spans = _Spans(
        BatchSpanProcessor(
            SpanLines(service, LineFile(home.logs / f"{service}{SPAN_SUFFIX}")), schedule_delay_millis=_SPAN_DELAY_MILLISECONDS
        )
    )
    if any(os.environ.get(name) for name in OTLP_ENDPOINTS):
        spans.add(_otlp())
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        # The API lets a provider be set once a process; a later `setup` uses it again, with other processors.
        provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
        provider.add_span_processor(_switch)
        trace.set_tracer_provider(provider)
    _switch.target = spans
    _installed = _Installed(handler, spans)


def shutdown() -> None:
    """Write out what is pending, waiting at most a few seconds for an OTLP collector. Nothing happens without `setup`."""
    global _installed
    if _installed is None:
        return
    installed, _installed = _installed, None
    _switch.target = None
    # The SDK waits up to 30 s for a collector that does not answer; a thread that is left behind does not keep the process.
    flushing = threading.Thread(target=installed.processor.shutdown, name="telemetry-flush", daemon=True)
    flushing.start()
    flushing.join(_FLUSH_SECONDS)
    logging.getLogger().removeHandler(installed.handler)
    installed.handler.close()


def log_to_stderr(service: str) -> logging.Handler:
    """Also write short log lines for people; for a service that runs in the foreground by itself."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {service} %(levelname)s %(message)s", "%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    return handler


class JsonLines(logging.Handler):
    """Writes log records as JSON lines."""

    def __init__(self, service: str, file: LineFile) -> None:
        super().__init__()
        self._service = service
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.append(_line(self._fields(record)))
        except Exception:
            # An argument that cannot be formatted must not stop the work that it was logged about.
            self.handleError(record)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        span = trace.get_current_span().get_span_context()
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": _bounded(record.getMessage()),
            "sync_id": work.sync_id.get(),
            "request_id": work.request_id.get(),
            "trace_id": f"{span.trace_id:032x}" if span.is_valid else "",
            "span_id": f"{span.span_id:016x}" if span.is_valid else "",
            "pid": record.process,
        }
        for key, value in vars(record).items():
            if key not in _OWN_FIELDS:
                fields.setdefault(key, _bounded(value) if isinstance(value, str) else value)
        if record.exc_info:
            fields["exception"] = _bounded((self.formatter or _PLAIN).formatException(record.exc_info))
        return fields


class SpanLines(SpanExporter):
    """Writes ended spans as JSON lines."""

    def __init__(self, service: str, file: LineFile) -> None:
        self._service = service
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            self._file.append(_line(self._fields(span)))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()

    def _fields(self, span: ReadableSpan) -> dict[str, Any]:
        own = span.get_span_context()
        assert own is not None
        attributes = dict(span.attributes or {})
        return {
            "trace_id": f"{own.trace_id:032x}",
            "span_id": f"{own.span_id:016x}",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
            "service": self._service,
            "name": span.name,
            "kind": span.kind.name.lower(),
            "start_ns": span.start_time or 0,
            "end_ns": span.end_time or 0,
            "status": span.status.status_code.name.lower(),
            "error": _bounded(span.status.description or ""),
            "sync_id": attributes.get(work.SYNC_ID_BAGGAGE, ""),
            "attributes": attributes,
            "events": [
                {"name": event.name, "time_ns": event.timestamp, "attributes": dict(event.attributes or {})} for event in span.events
            ],
            "pid": os.getpid(),
        }


class _Spans(SpanProcessor):
    """Hands spans to the exporters."""

    def __init__(self, *targets: SpanProcessor) -> None:
        self._targets = list(targets)

    def add(self, target: SpanProcessor) -> None:
        self._targets.append(target)

    def on_end(self, span: ReadableSpan) -> None:
        for target in self._targets:
            target.on_end(span)

    def shutdown(self) -> None:
        # The files first: they are quick, and a collector that does not answer must not cost us them.
        for target in self._targets:
            target.shutdown()


class _Switch(SpanProcessor):
    """Puts the sync's id on every span, and leads to the exporters of the time."""

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        sync = baggage.get_baggage(work.SYNC_ID_BAGGAGE, parent_context)
        if sync:
            span.set_attribute(work.SYNC_ID_BAGGAGE, str(sync))

    def on_end(self, span: ReadableSpan) -> None:
        if self.target is not None:
            self.target.on_end(span)


_switch = _Switch()
_PLAIN = logging.Formatter()


def _otlp() -> SpanProcessor:
    # Imported here: the exporter costs several megabytes in every process that does not use it.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=_SPAN_DELAY_MILLISECONDS)


def _resource(service: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    from mediasync import __version__

    return Resource.create({"service.name": f"mediasync-{service}", "service.version": __version__, "process.pid": os.getpid()})


def _level() -> int:
    named = logging.getLevelName(os.environ.get("MEDIASYNC_LOG_LEVEL", "info").upper())
    return named if isinstance(named, int) else logging.INFO


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … ({len(text)} characters)"


def _line(fields: Mapping[str, Any]) -> bytes:
    # ASCII, so that names with lone surrogates in them can be written and read back.
    return json.dumps(fields, default=_described, separators=(",", ":")).encode("ascii") + b"\n"


def _described(value: object) -> Any:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
