"""The standard gRPC health service, whose watches end when the process drains.

grpcio's own keeps them open, so that every drain would last its full grace period as soon as anybody watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_NAME = "grpc.health.v1.Health"

_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Says of each service of this process, and as "" of all together, whether it serves."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._serving = False
        self._draining = False
        self._changed = asyncio.Condition()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let `server` answer health checks."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def register(self, name: str) -> None:
        """Add a service, by its full name."""
        self._names.add(name)

    async def serve(self) -> None:
        """From now on everything is SERVING."""
        await self._become(serving=True, draining=False)

    async def drain(self) -> None:
        """From now on everything is NOT_SERVING, and watches end."""
        await self._become(serving=False, draining=True)

    async def _become(self, *, serving: bool, draining: bool) -> None:
        async with self._changed:
            self._serving, self._draining = serving, draining
            self._changed.notify_all()

    def _status(self, name: str) -> Any:
        if name and name not in self._names:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._serving else _Status.NOT_SERVING

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(
        self, request: health_pb2.HealthListRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthListResponse:
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in {"", *self._names}}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        while True:
            told = self._status(request.service)
            yield health_pb2.HealthCheckResponse(status=told)
            async with self._changed:
                while not self._draining and self._status(request.service) == told:
                    await self._changed.wait()
            if self._draining:
                if self._status(request.service) != told:
                    yield health_pb2.HealthCheckResponse(status=self._status(request.service))
                return
