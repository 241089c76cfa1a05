"""The calls of `Events` as the server takes them: Publish and Subscribe as bytes, the rest as generated.

Interceptors, health and reflection see the same service either way. Publish is the one call that comes thousands of times a second.
"""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc.aio

from mediasync.runtime.context import trace_parent
from mediasync.v1 import events_pb2 as pb
from mediasync.v1.events_pb2_grpc import EventsServicer, add_EventsServicer_to_server
from services.ingest.log import EventLog
from services.ingest.publishing import events_from_request

FULL_NAME = "mediasync.v1.Events"


def events_handler(servicer: EventsServicer, log: EventLog) -> grpc.GenericRpcHandler:
    """Serves `Events` by `servicer`, but for Publish, which goes straight to `log`. What Subscribe yields may be a message or its bytes."""

    async def publish(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        events = events_from_request(request, trace_parent())
        return pb.EventsPublishResponse(sequences=await log.append(events) if events else []).SerializeToString()

    collected = _Collected()
    add_EventsServicer_to_server(servicer, cast(grpc.aio.Server, collected))
    handlers = dict(collected.handlers)
    handlers["Publish"] = grpc.unary_unary_rpc_method_handler(publish)
    handlers["Subscribe"] = grpc.unary_stream_rpc_method_handler(
        servicer.Subscribe, request_deserializer=pb.EventsSubscribeRequest.FromString, response_serializer=_serialised
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


def _serialised(response: pb.EventsSubscribeResponse | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()
