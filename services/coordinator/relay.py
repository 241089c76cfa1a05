"""Calls of other services, taken so that clients need one address. Passed on as bytes: a new field needs no new relay.

The trace and the sync's id go along with every call, as they do with our own; an error comes back with its reason and details.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Container
from typing import Any

import grpc
import grpc.aio

from mediasync.runtime.channels import rpc_errors
from services.coordinator.patience import Patience


class Relay(grpc.GenericRpcHandler):
    """Takes the calls of one service whose names pass `relayed`: unary ones, and those of `streamed`, which answer with a stream. `who`
    names the service in errors, such as `the catalog`; `needed` returns once a service that is started on demand runs."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        full_name: str,
        relayed: Callable[[str], bool],
        who: str,
        patience: Patience,
        streamed: Container[str] = (),
        needed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._channel = channel
        self._prefix = f"/{full_name}/"
        self._relayed = relayed
        self._who = who
        self._patience = patience
        self._streamed = streamed
        self._needed = needed

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, None for one that is not relayed."""
        method = str(handler_call_details.method)
        if not method.startswith(self._prefix) or not self._relayed(method.removeprefix(self._prefix)):
            return None
        if method.removeprefix(self._prefix) in self._streamed:
            return grpc.unary_stream_rpc_method_handler(self._stream(method))
        call: Any = self._channel.unary_unary(method)

        async def forward(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            async def attempt(alive: Callable[[], None]) -> bytes:
                if self._needed:
                    await self._needed()
                with rpc_errors(self._who):
                    answer: bytes = await call(request, timeout=context.time_remaining())
                    return answer

            # What reads is harmless to repeat, and what changes something has a request id or moves one way only. A service that is being
            # restarted is back in a moment.
            return await self._patience.call(method.removeprefix("/"), attempt)

        return grpc.unary_unary_rpc_method_handler(forward)

    def _stream(self, method: str) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], AsyncIterator[bytes]]:
        stream: Any = self._channel.unary_stream(method)

        async def forward(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
            call = stream(request, timeout=context.time_remaining())
            try:
                with rpc_errors(self._who):
                    async for message in call:
                        yield message
            finally:
                # Whoever asked has left, or has everything: the work ends with the call.
                call.cancel()

        return forward


def everything(method: str) -> bool:
    """Relays every call."""
    return True


CATALOG_STREAMS = frozenset({"Export"})
LIBRARY_STREAMS = frozenset({"VerifyLibrary", "AdoptLibrary"})


def of_libraries(method: str) -> bool:
    """Relays what is asked of a library as a whole."""
    return method in LIBRARY_STREAMS or method == "LibraryStats"


def of_cleanups(method: str) -> bool:
    """Relays what clients ask of clean-ups that were."""
    return method in ("GetCleanup", "ListDeletions")


EVENT_STREAMS = frozenset({"Subscribe", "VerifySubscription"})
# Publishing is for services; and who waits for deliveries would hold a call of ours for as long.
_NOT_FOR_CLIENTS = frozenset({"Publish", "WaitDelivered", "WaitAccepted"})


def of_events(method: str) -> bool:
    """Relays what clients ask of events and subscribers."""
    return method not in _NOT_FOR_CLIENTS
