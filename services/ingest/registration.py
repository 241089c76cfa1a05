"""The calls of `Events` as the server takes them: Publish and Subscribe as bytes, the rest as generated.

Interceptors, health and reflection see the same service either way. Publish is the one call that comes thousands of times a second.
"""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc.aio

from mediasync.v1 import events_pb2 as pb
from mediasync.v1.events_pb2_grpc import EventsServicer, add_EventsServicer_to_server

FULL_NAME = "mediasync.v1.Events"


def events_handler(servicer: EventsServicer) -> grpc.GenericRpcHandler:
    """Serves `Events` by `servicer`, whose Publish takes and gives bytes, and whose Subscribe yields bytes."""
    collected = _Collected()
    add_EventsServicer_to_server(servicer, cast(grpc.aio.Server, collected))
    handlers = dict(collected.handlers)
    handlers["Publish"] = grpc.unary_unary_rpc_method_handler(servicer.Publish)
    handlers["Subscribe"] = grpc.unary_stream_rpc_method_handler(
        servicer.Subscribe, request_deserializer=pb.EventsSubscribeRequest.FromString
    )
    return grpc.method_handlers_generic_handler(FULL_NAME, handlers)


class _Collected:
    """Takes what the generated code would give to a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """They come again by name below."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        """What there is to call."""
        self.handlers = handlers
