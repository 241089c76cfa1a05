"""What surrounds every call that a server takes, from the outside in:

1. telemetry: joins the caller's trace and sync, and opens the span; first, so that everything below is inside the span and knows the sync.
2. request id: takes the caller's, or draws one, for every log line below.
3. errors: turns a MediasyncError into its status, and anything else into INTERNAL, logged once with its traceback; below telemetry,
   so that the log line and the span belong together.
4. deadline: bounds a unary call whose client set no deadline; innermost, so that its error is reported like any other.

Each is an async context manager around the call, whatever its kind, so that a servicer simply returns, yields or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_status import rpc_status
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, Status, StatusCode

from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.runtime import context as work
from mediasync.runtime import propagation, status

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

DEFAULT_DEADLINE_SECONDS = 60.0
"""Of a unary call whose client set none."""

_OWN_PLUMBING = ("/grpc.health.", "/grpc.reflection.")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class ServedCall:
    """One call being served."""

    method: str
    """With a leading slash, such as `/mediasync.v1.Progress/Watch`."""
    context: grpc.aio.ServicerContext[Any, Any]
    streams: bool
    """Whether either side sends a stream."""

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the client sent along."""
        return tuple(self.context.invocation_metadata() or ())


Around = Callable[[ServedCall], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def telemetry(call: ServedCall) -> AsyncIterator[None]:
    """The span of the call, in the caller's trace; the caller's baggage, and from it the sync."""
    if call.method.startswith(_OWN_PLUMBING):
        # Health probes come every few seconds and would bury everything else.
        yield
        return
    carried = propagation.extract(call.metadata)
    joined = otel_context.attach(carried)
    sync = work.sync_id.set(str(baggage.get_baggage(work.SYNC_ID_BAGGAGE, carried) or ""))
    try:
        with tracer.start_as_current_span(
            call.method[1:],
            kind=SpanKind.SERVER,
            attributes=rpc_attributes(call.method),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except asyncio.CancelledError:
                # The client went away, which is how most watches end: noted, and no error of ours.
                span.set_attribute("rpc.grpc.status_code", grpc.StatusCode.CANCELLED.value[0])
                raise
            except BaseException:
                code = _code(call.context)
                span.set_attribute("rpc.grpc.status_code", code.value[0])
                if "error.type" not in (getattr(span, "attributes", None) or ()):
                    # Not refused with a reason by the errors below: a servicer's own abort, or the server itself.
                    span.set_status(Status(StatusCode.ERROR, call.context.details() or code.name))
                raise
            span.set_attribute("rpc.grpc.status_code", grpc.StatusCode.OK.value[0])
    finally:
        work.sync_id.reset(sync)
        otel_context.detach(joined)


@contextlib.asynccontextmanager
async def request_id(call: ServedCall) -> AsyncIterator[None]:
    """The caller's `x-request-id`, or a new one, as a field of every log line."""
    given = next((value for key, value in call.metadata if key == propagation.REQUEST_ID_KEY), "")
    # It goes into logs, so what a client made up has to be short and printable.
    usable = isinstance(given, str) and _REQUEST_ID.fullmatch(given)
    token = work.request_id.set(str(given) if usable else new_request_id())
    try:
        yield
    finally:
        work.request_id.reset(token)


@contextlib.asynccontextmanager
async def errors(call: ServedCall) -> AsyncIterator[None]:
    """A MediasyncError becomes its status. Anything else is a bug: the client learns that much, the log the rest."""
    try:
        yield
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except MediasyncError as error:
        await _abort(call, error)
    except Exception as error:
        refused = status.refused_rpc(error)
        if refused is not None:
            # A call to another service failed inside this one, and nobody translated it.
            await _abort(call, refused)
        logger.exception("%s failed", call.method)
        await _abort(
            call, MediasyncError(Reason.INTERNAL, f"{call.method[1:]} failed inside the service", metadata={"type": type(error).__name__})
        )


@contextlib.asynccontextmanager
async def deadline(call: ServedCall) -> AsyncIterator[None]:
    """A unary call ends, whatever its client forgot. A client's own deadline is kept by gRPC, which cancels the call."""
    if call.streams or call.context.time_remaining() is not None:
        yield
        return
    try:
        async with asyncio.timeout(DEFAULT_DEADLINE_SECONDS) as bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        raise MediasyncError(
            Reason.DEADLINE_EXCEEDED,
            f"{call.method[1:]} took longer than {DEFAULT_DEADLINE_SECONDS:g} s, the limit of calls without a deadline",
        ) from None


def rpc_attributes(method: str) -> dict[str, str]:
    """The attributes that OpenTelemetry names for the call of `/service/method`."""
    service, _, name = method[1:].partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def server_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """All of them, outermost first."""
    return [_Interceptor(around) for around in (telemetry, request_id, errors, deadline)]


async def _abort(call: ServedCall, error: MediasyncError) -> None:
    span = trace.get_current_span()
    span.set_attribute("error.type", error.reason.value)
    span.set_status(Status(StatusCode.ERROR, f"{error.reason.value}: {error.message}"))
    await call.context.abort_with_status(rpc_status.to_status(status.to_status(error)))


def _code(context: grpc.aio.ServicerContext[Any, Any]) -> grpc.StatusCode:
    """The status a call ends with; the context holds it as a number, or as zero when nobody set one."""
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((known for known in grpc.StatusCode if known.value[0] == code and code), grpc.StatusCode.UNKNOWN)


class _Interceptor(grpc.aio.ServerInterceptor):
    """Puts one context manager around the handlers of all four kinds of call."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            # Not a method of ours; gRPC answers UNIMPLEMENTED.
            return None
        around, method = self._around, str(handler_call_details.method)
        streams = bool(handler.request_streaming or handler.response_streaming)
        kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
        behaviour = getattr(handler, kind)

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with around(ServedCall(method, context, streams)):
                return await behaviour(request, context)

        async def answers(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            # A coroutine that writes, not a generator: a generator that is left in the middle (the client went away) is closed some
            # time later in another task, where context variables cannot be reset and a servicer's `finally` comes too late.
            async with around(ServedCall(method, context, streams)):
                results = behaviour(request, context)
                if inspect.isawaitable(results):
                    await results
                    return
                async with contextlib.aclosing(results):
                    async for result in results:
                        try:
                            await context.write(result)
                        except grpc.aio.InternalError as error:
                            # The client went away while this was on its way to it: seen here before the call is cancelled.
                            raise asyncio.CancelledError from error

        wrap: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        return wrap(  # type: ignore[no-any-return]
            answers if handler.response_streaming else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
