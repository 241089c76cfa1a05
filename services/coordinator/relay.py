"""Read-only calls of other services, taken here so that clients need one address. Passed on as bytes: a new field needs no new relay.

The trace and the sync's id go along with every call, as they do with our own; an error comes back with its reason and details.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from mediasync.runtime.channels import rpc_errors
from services.coordinator.patience import Patience


class Relay(grpc.GenericRpcHandler):
    """Takes the unary calls of one service whose names pass `relayed`. `who` names it in errors, such as `the catalog`."""

    def __init__(self, channel: grpc.aio.Channel, full_name: str, relayed: Callable[[str], bool], who: str, patience: Patience) -> None:
        self._channel = channel
        self._prefix = f"/{full_name}/"
        self._relayed = relayed
        self._who = who
        self._patience = patience

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, None for one that is not relayed."""
        method = str(handler_call_details.method)
        if not method.startswith(self._prefix) or not self._relayed(method.removeprefix(self._prefix)):
            return None
        call: Any = self._channel.unary_unary(method)

        async def forward(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            async def attempt(alive: Callable[[], None]) -> bytes:
                with rpc_errors(self._who):
                    answer: bytes = await call(request, timeout=context.time_remaining())
                    return answer

            # Reading is harmless to repeat, and a service that is being restarted is back in a moment.
            return await self._patience.call(method.removeprefix("/"), attempt)

        return grpc.unary_unary_rpc_method_handler(forward)


def everything(method: str) -> bool:
    """Relays every call."""
    return True


def lists_only(method: str) -> bool:
    """Relays what only reads."""
    return method.startswith("List")
