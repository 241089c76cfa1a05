"""Connections to other services: limits, keepalive, and what every call carries.

A channel connects when it is first used, and again by itself when the service was restarted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mediasync.ids import new_request_id
from mediasync.runtime import context as work
from mediasync.runtime import propagation, status
from mediasync.runtime.interceptors import DEFAULT_DEADLINE_SECONDS, rpc_attributes

tracer = trace.get_tracer(__name__)

MESSAGE_LIMIT_BYTES = 32 << 20
METADATA_LIMIT_BYTES = 64 << 10

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # An error that lists many wrong fields is larger than gRPC's 8 KiB; see status.py for the limits we keep.
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    # A peer that vanished without closing (a suspended laptop, a cut line) is noticed within 40 s while a call is open.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted service is back in under a second; gRPC's own pauses grow from 1 s to 2 min.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Not a pause, whatever its name: how long one attempt to connect may take, greeting included. On a busy machine that is a second or
    # more, and an attempt that is given up too early is made again and again and never ends well.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Proxies are for the internet; these addresses are on this machine.
    ("grpc.enable_http_proxy", 0),
)


AUTHORIZATION_KEY = "authorization"


@dataclass(frozen=True)
class TlsKeys:
    """PEM: the certificates that a server is believed by, and ours with its key where it asks for one."""

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None


def open_channel(address: str, *, tls: TlsKeys | None = None, token: Callable[[], str] | None = None) -> grpc.aio.Channel:
    """A channel to `address`, such as `unix:/run/x.sock` or `127.0.0.1:7171`, for the running event loop.

    With `tls` it is encrypted, and the server has to prove that it is `address`. `token` is asked at each call for what the call is
    authorised by, if not empty; where such a token may go in the clear is the caller's to know.

    Every call carries the current trace, baggage and an `x-request-id`, and has a client span that ends when the call does, also
    when it is cancelled. A unary call without a timeout gets one of 60 s. Calls to a service that is down fail at once with
    UNAVAILABLE unless they are made with `wait_for_ready=True` (and a timeout). Cancel a stream that you leave before its end: gRPC
    does not do it for you when it is dropped.
    """
    if tls is None:
        return _Channel(grpc.aio.insecure_channel(address, options=_OPTIONS), token)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return _Channel(grpc.aio.secure_channel(address, credentials, options=_OPTIONS), token)


@contextlib.contextmanager
def rpc_errors(what: str) -> Iterator[None]:
    """Failed calls inside become MediasyncError, as the service raised them.

    `what` names who is called, such as `the coordinator`, for the case that it cannot be reached (SERVICES_UNREACHABLE), does not
    answer in time (DEADLINE_EXCEEDED) or answers with a status that is not one of ours.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error, what) from error


class _Channel(grpc.aio.Channel):
    """A channel whose calls are traced.

    Not done with client interceptors: with those a streaming call is replaced by a stand-in, whose end is not seen when it is cancelled.
    """

    def __init__(self, inner: grpc.aio.Channel, token: Callable[[], str] | None) -> None:
        self._inner = inner
        self._token = token

    async def __aenter__(self) -> _Channel:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return _Calls(self._inner.unary_unary(method, *arguments, **options), method, self._token, DEFAULT_DEADLINE_SECONDS)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return _Calls(self._inner.unary_stream(method, *arguments, **options), method, self._token)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return _Calls(self._inner.stream_unary(method, *arguments, **options), method, self._token)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return _Calls(self._inner.stream_stream(method, *arguments, **options), method, self._token)


class _Calls:
    """Makes the calls of one method."""

    def __init__(self, inner: Any, method: str, token: Callable[[], str] | None, default_timeout: float | None = None) -> None:
        self._inner = inner
        self._token = token
        self._name = method.removeprefix("/")
        self._attributes = rpc_attributes("/" + self._name)
        self._default_timeout = default_timeout
        self._traced = not self._name.startswith("grpc.")

    def __call__(self, request: Any = None, *, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        if timeout is None:
            timeout = self._default_timeout
        sent = list(metadata or ())
        if self._token is not None and (token := self._token()):
            sent.append((AUTHORIZATION_KEY, f"Bearer {token}"))
        if not self._traced:
            return self._inner(request, timeout=timeout, metadata=sent, **options)
        span = tracer.start_span(self._name, kind=SpanKind.CLIENT, attributes=self._attributes)
        sent += propagation.inject(trace.set_span_in_context(span))
        if all(key != propagation.REQUEST_ID_KEY for key, _ in sent):
            sent.append((propagation.REQUEST_ID_KEY, work.request_id.get() or new_request_id()))
        try:
            call = self._inner(request, timeout=timeout, metadata=sent, **options)
        except BaseException:
            span.end()
            raise
        call.add_done_callback(lambda ended: _finish(span, ended))
        return call


def _finish(span: Span, call: Any) -> None:
    try:
        code: grpc.StatusCode = _answered(call.code())
        span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            # Cancelling is what the caller wanted; it is on record in the status code.
            span.set_status(Status(StatusCode.ERROR, f"{code.name}: {_answered(call.details())}"))
    finally:
        span.end()


def _answered(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What `coroutine` returns, given that it has nothing to wait for: a call that is done knows its status."""
    try:
        coroutine.send(None)
    except StopIteration as answer:
        return answer.value
    coroutine.close()
    raise AssertionError("a call that is done did not know its status")
