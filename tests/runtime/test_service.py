"""What `wire` is given, in this process."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import baggage

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime import service as module
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.runtime.context import SYNC_ID_BAGGAGE, bound, resumed, sync_id, trace_parent
from mediasync.runtime.home import Home
from mediasync.runtime.listen import bind
from mediasync.runtime.service import Service
from tests.fixtures.proxy import StartProxy
from tests.fixtures.runtime import odd_service, tracer

BOUND_SECONDS = 10


class Relay(grpc.GenericRpcHandler):
    """Answers every call of one service with what it was sent."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if not str(details.method).startswith("/relayed/"):
            return None

        async def echo(request: bytes, context: Any) -> bytes:
            if request == b"fail":
                raise MediasyncError(Reason.WORKER_FULL, "Not now")
            return request + b"/" + sync_id.get().encode()

        return grpc.unary_unary_rpc_method_handler(echo)


async def test_a_generic_handler_has_the_same_surroundings_as_a_servicer(data_home: Home) -> None:
    service = Service("relay", data_home)
    service.add_generic(Relay(), "relayed")
    await service.start()
    call = service.channel("relay").unary_unary("/relayed/Anything")
    with bound("sync_1"):
        assert await call(b"hello") == b"hello/sync_1"
    with pytest.raises(MediasyncError, match="Not now"), rpc_errors("the relay"):
        await call(b"fail")
    health = health_pb2_grpc.HealthStub(service.channel("relay"))
    assert (await health.Check(health_pb2.HealthCheckRequest(service="relayed"))).status == health_pb2.HealthCheckResponse.SERVING
    await service.stop(0)


async def test_a_channel_is_one_and_the_same(data_home: Home) -> None:
    service = Service("x", data_home)
    assert service.channel("progress") is service.channel("progress")
    await service.stop(0)


async def test_a_channel_tells_its_state(data_home: Home) -> None:
    async with odd_service("odd", data_home), open_channel(data_home.address_of("odd")) as channel:
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        waiting = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE))
        await asyncio.wait_for(channel.channel_ready(), BOUND_SECONDS)
        await asyncio.wait_for(waiting, BOUND_SECONDS)
        assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_a_service_that_is_slow_to_greet_is_waited_for_and_not_left_for_another_try(data_home: Home, start_proxy: StartProxy) -> None:
    service = Service("slow", data_home)
    await service.start("127.0.0.1:0")
    proxy = await start_proxy(int(service.addresses[1].rpartition(":")[2]))
    proxy.delay_seconds = 0.6
    async with open_channel(f"127.0.0.1:{proxy.port}") as channel:
        await asyncio.wait_for(channel.channel_ready(), BOUND_SECONDS)
    assert proxy.connections == 1
    await service.stop(0)


async def test_a_health_watch_sees_each_change_and_ends_with_the_drain(data_home: Home) -> None:
    service = Service("x", data_home)
    await service.start()
    channel = open_channel(data_home.address_of("x"))
    seen: dict[str, list[int]] = {"": [], "other": []}
    told = asyncio.Semaphore(0)

    async def follow(name: str) -> None:
        async for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name)):
            seen[name].append(answer.status)
            told.release()

    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        for name in seen:
            group.create_task(follow(name))
        for _ in seen:
            await told.acquire()
        await service.stop()
    status = health_pb2.HealthCheckResponse
    assert seen == {"": [status.SERVING, status.NOT_SERVING], "other": [status.SERVICE_UNKNOWN]}
    await channel.close()


async def test_background_tasks_belong_to_no_call_and_are_cancelled_after_the_drain(data_home: Home) -> None:
    service = Service("x", data_home)
    seen: list[object] = []
    started = asyncio.Event()

    async def loop() -> None:
        seen.append((sync_id.get(), baggage.get_baggage(SYNC_ID_BAGGAGE)))
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled" if service.draining.is_set() else "early")

    async def once() -> None:
        seen.append("once")

    async def stopped() -> None:
        seen.append("stopped")

    with bound("sync_1"):
        service.spawn(loop(), "loop")
        await service.spawn(once(), "once")
    await started.wait()
    service.on_stop(stopped)
    assert not service.draining.is_set()
    await service.stop(0)
    assert seen == [("", None), "once", "cancelled", "stopped"]
    assert service.exit_code == 0


async def test_a_callback_that_fails_or_hangs_does_not_keep_the_others_from_running(
    data_home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_CALLBACK_SECONDS", 0.05)
    service = Service("x", data_home)
    ran: list[int] = []

    async def callback(number: int) -> None:
        ran.append(number)
        if number == 2:
            raise ValueError("no")
        if number == 1:
            await asyncio.Event().wait()

    for number in range(4):
        service.on_stop(lambda number=number: callback(number))  # type: ignore[misc]
    await service.stop(0)
    assert ran == [3, 2, 1, 0]
    assert [record.message for record in caplog.records] == ["x did not stop cleanly"] * 2


async def test_a_task_that_does_not_end_is_named_and_left(
    data_home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_CALLBACK_SECONDS", 0.05)
    service = Service("x", data_home)
    started, release = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    task = service.spawn(stubborn(), "stubborn")
    await started.wait()
    await service.stop(0)
    assert [record.message for record in caplog.records] == ["The background task stubborn does not end"]
    release.set()
    await task


async def test_a_task_that_fails_drains_the_service_with_70(data_home: Home, caplog: pytest.LogCaptureFixture) -> None:
    service = Service("x", data_home)

    async def fails() -> None:
        raise ValueError("no")

    service.spawn(fails(), "doomed")
    async with asyncio.timeout(BOUND_SECONDS):
        await service.draining.wait()
    assert service.exit_code == 70
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.message == "The background task doomed failed"
    await service.stop(0)


async def test_one_that_is_refused_leaves_the_others_socket(data_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.05)
    async with odd_service("odd", data_home):
        second = Service("odd", data_home)
        with pytest.raises(MediasyncError) as caught:
            await second.start()
        await second.stop(0)
        assert caught.value.reason is Reason.DATA_FOLDER_IN_USE
        assert data_home.socket_path("odd").exists()
    assert not data_home.socket_path("odd").exists()


async def test_an_address_that_this_machine_does_not_have_is_told() -> None:
    server = grpc.aio.server()
    with pytest.raises(MediasyncError, match=r"Cannot listen on 192\.0\.2\.1:0: Cannot assign requested address") as caught:
        bind(server, "192.0.2.1:0")
    assert caught.value.reason is Reason.CONFIGURATION_INVALID
    with pytest.raises(MediasyncError, match=r"Cannot listen on the socket /no/such folder/x\.sock"):
        bind(server, "unix:/no/such%20folder/x.sock")
    await server.stop(None)


def test_work_that_is_done_later_goes_on_in_the_trace_it_was_asked_for_in(telemetry_home: Home) -> None:
    assert trace_parent() == ""
    with tracer.start_as_current_span("asking") as asking:
        stored = trace_parent()
    with resumed("sync_1", stored), tracer.start_as_current_span("doing") as doing:
        assert sync_id.get() == "sync_1"
        assert doing.get_span_context().trace_id == asking.get_span_context().trace_id
    with resumed("sync_1", ""), tracer.start_as_current_span("alone") as alone:
        assert alone.get_span_context().trace_id != asking.get_span_context().trace_id
    assert sync_id.get() == ""
