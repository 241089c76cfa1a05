from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime import interceptors, telemetry
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.runtime.context import bound, request_id
from mediasync.runtime.home import Home
from mediasync.runtime.records import LogFilter, SpanLine, read_logs, read_trace
from mediasync.v1 import progress_pb2, progress_pb2_grpc
from tests.fixtures.runtime import OddProgress, odd_service

Odd = tuple[Any, OddProgress]
BOUND_SECONDS = 10


def get(what: str) -> progress_pb2.GetProgressRequest:
    return progress_pb2.GetProgressRequest(sync_id=what)


def watch(what: str) -> progress_pb2.ProgressWatchRequest:
    return progress_pb2.ProgressWatchRequest(sync_id=what)


async def reports(*whats: str) -> Any:
    for what in whats:
        yield progress_pb2.ProgressReportRequest(sync_id=what)


async def call(stub: Any, kind: str, what: str) -> None:
    """Make a call of each kind to its end."""
    with rpc_errors("odd"):
        if kind == "unary":
            await stub.GetProgress(get(what))
        elif kind == "server stream":
            async for _ in stub.Watch(watch(what)):
                pass
        else:
            await stub.Report(reports("plain", what))


KINDS = ["unary", "server stream", "client stream"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_raised_by_a_servicer_arrives_whole(odd: Odd, kind: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        await call(odd[0], kind, "fail")
    assert (caught.value.reason, caught.value.message, caught.value.metadata) == (
        Reason.SYNC_NOT_FOUND,
        "Nothing was reported of fail",
        {"near": "fall"},
    )
    assert caught.value.remedy


async def test_every_wrong_field_is_named(odd: Odd) -> None:
    with pytest.raises(MediasyncError) as caught:
        await call(odd[0], "unary", "fields")
    assert [violation.field for violation in caught.value.fields] == ["a", "b"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bug_is_logged_once_with_its_traceback_and_its_text_stays_inside(
    odd: Odd, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MediasyncError) as caught:
        await call(odd[0], kind, "bug")
    assert caught.value.reason is Reason.INTERNAL
    assert "hunter2" not in caught.value.message + str(caught.value.metadata)
    logged = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(logged) == 1 and logged[0].exc_info is not None and "hunter2" in str(logged[0].exc_info[1])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_servicers_own_abort_passes_as_it_is(odd: Odd, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(_raw(odd[0], kind), BOUND_SECONDS)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.OUT_OF_RANGE, "by hand")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def _raw(stub: Any, kind: str) -> None:
    if kind == "unary":
        await stub.GetProgress(get("abort"))
    elif kind == "server stream":
        async for _ in stub.Watch(watch("abort")):
            pass
    else:
        await stub.Report(reports("abort"))


async def test_an_error_of_the_next_service_is_passed_on_with_its_reason(data_home: Home) -> None:
    async with odd_service("odd", data_home) as (service, _), odd_service("next", data_home):
        with pytest.raises(MediasyncError) as caught:
            await call(progress_pb2_grpc.ProgressStub(service.channel("odd")), "unary", "forward-untranslated")
    assert caught.value.reason is Reason.SYNC_NOT_FOUND


async def test_a_service_that_is_down_is_named(data_home: Home) -> None:
    async with open_channel(data_home.address_of("nowhere")) as channel:
        with pytest.raises(MediasyncError, match="Cannot reach the coordinator") as caught, rpc_errors("the coordinator"):
            await progress_pb2_grpc.ProgressStub(channel).GetProgress(get("plain"))
    assert caught.value.reason is Reason.SERVICES_UNREACHABLE


async def test_a_unary_call_without_a_deadline_ends_by_itself(data_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "DEFAULT_DEADLINE_SECONDS", 0.05)
    async with odd_service("odd", data_home), grpc.aio.insecure_channel(data_home.address_of("odd")) as plain:
        with pytest.raises(MediasyncError, match="limit of calls without a deadline") as caught:
            await call(progress_pb2_grpc.ProgressStub(plain), "unary", "wait")
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_streams_have_no_default_deadline(data_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "DEFAULT_DEADLINE_SECONDS", 0.01)
    async with odd_service("odd", data_home) as (service, servicer), grpc.aio.insecure_channel(data_home.address_of("odd")) as plain:
        stream = progress_pb2_grpc.ProgressStub(plain).Watch(watch("drain"))
        await stream.read()
        unary = plain.unary_unary(
            "/mediasync.v1.Progress/GetProgress", request_serializer=progress_pb2.GetProgressRequest.SerializeToString
        )
        with pytest.raises(grpc.aio.AioRpcError):
            # By the time that this has run into the default, the stream would have too.
            await unary(get("wait"))
        service.draining.set()
        assert (await stream.read()).resume_token == "2"
        assert servicer.waiting.is_set()


async def test_a_timeout_inside_a_servicer_is_not_taken_for_the_calls_deadline(data_home: Home, caplog: pytest.LogCaptureFixture) -> None:
    async with odd_service("odd", data_home), grpc.aio.insecure_channel(data_home.address_of("odd")) as plain:
        with pytest.raises(MediasyncError) as caught:
            await call(progress_pb2_grpc.ProgressStub(plain), "unary", "timeout")
    assert caught.value.reason is Reason.INTERNAL


async def test_a_clients_deadline_is_told_as_such(odd: Odd) -> None:
    with pytest.raises(MediasyncError) as caught, rpc_errors("odd"):
        await odd[0].GetProgress(get("wait"), timeout=0.1)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_a_servicers_generator_is_closed_at_once_when_its_client_goes_away(odd: Odd) -> None:
    stub, servicer = odd
    stream = stub.Watch(watch("wait"))
    await stream.read()
    await asyncio.wait_for(servicer.waiting.wait(), BOUND_SECONDS)
    stream.cancel()
    await asyncio.wait_for(servicer.closed.wait(), BOUND_SECONDS)


async def test_the_request_id_of_a_caller_is_kept_and_an_unprintable_one_replaced(odd: Odd) -> None:
    stub, _ = odd
    token = request_id.set("abc-123")
    answer = await stub.GetProgress(get("plain"))
    request_id.reset(token)
    assert answer.progress.current_stage == "/abc-123"
    for bad in ("", "a b", "x" * 129):
        answer = await stub.GetProgress(get("plain"), metadata=(("x-request-id", bad),))
        assert len(answer.progress.current_stage) == 33 and bad not in (answer.progress.current_stage[1:],)


async def test_a_method_that_does_not_exist_is_unimplemented(odd: Odd, data_home: Home) -> None:
    async with open_channel(data_home.address_of("odd")) as channel:
        with pytest.raises(MediasyncError, match="does not know this call"), rpc_errors("odd"):
            await channel.unary_unary("/mediasync.v1.Progress/Nonsense")(b"")


async def test_messages_of_many_megabytes_pass(odd: Odd) -> None:
    answer = await odd[0].GetProgress(get("x" * (20 << 20)))
    assert answer.progress.current_stage.startswith("/")


async def test_an_error_with_many_fields_passes_our_channels(data_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def many(self: OddProgress, what: str, context: Any) -> str:
        raise MediasyncError(Reason.CONFIGURATION_INVALID, "ü" * 9000, metadata={f"key{n}": "v" * 900 for n in range(30)})

    monkeypatch.setattr(OddProgress, "_odd", many)
    async with odd_service("odd", data_home) as (service, _):
        with pytest.raises(MediasyncError) as caught:
            await call(progress_pb2_grpc.ProgressStub(service.channel("odd")), "unary", "x")
    assert caught.value.reason is Reason.CONFIGURATION_INVALID


async def test_reflection_lists_what_is_served(odd: Odd, data_home: Home) -> None:
    async with open_channel(data_home.address_of("odd")) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        answers = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        listed = [service.name async for answer in answers for service in answer.list_services_response.service]
    assert listed == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "mediasync.v1.Progress"]


def _spans(home: Home, sync: str) -> list[SpanLine]:
    telemetry.shutdown()
    return read_trace(home.logs, sync)


async def test_one_trace_and_one_sync_across_two_servers_on_every_span_and_log_line(telemetry_home: Home) -> None:
    async with odd_service("odd", telemetry_home) as (service, _), odd_service("next", telemetry_home):
        stub = progress_pb2_grpc.ProgressStub(service.channel("odd"))
        with bound("sync_1"):
            answer = await stub.GetProgress(get("forward"))
            assert answer.progress.current_stage.startswith("sync_1/")
            assert (await stub.GetProgress(get("plain"))).progress.current_stage.startswith("sync_1/")
        assert (await stub.GetProgress(get("plain"))).progress.current_stage.startswith("/")
    spans = _spans(telemetry_home, "sync_1")
    assert {span.sync_id for span in spans} == {"sync_1"}
    first = [span for span in spans if span.trace_id == spans[0].trace_id]
    assert [(span.kind, span.name) for span in first] == [
        ("client", "mediasync.v1.Progress/GetProgress"),
        ("server", "mediasync.v1.Progress/GetProgress"),
        ("internal", "forwarding"),
        ("client", "mediasync.v1.Progress/GetProgress"),
        ("server", "mediasync.v1.Progress/GetProgress"),
    ]
    assert [span.parent_id for span in first] == ["", *(span.span_id for span in first[:-1])]
    assert not any(span.failed for span in spans)
    lines = list(read_logs(telemetry_home.logs, LogFilter(sync_id="sync_1")))
    assert [line.extra["asked"] for line in lines] == ["forward", "plain", "plain"]
    assert {line.fields["trace_id"] for line in lines} == {span.trace_id for span in spans}
    # The request's id went along: both servers logged the forwarded call under the same one.
    assert lines[0].fields["request_id"] == lines[1].fields["request_id"] != lines[2].fields["request_id"]


async def test_a_failed_call_marks_both_spans_with_the_reason(telemetry_home: Home) -> None:
    async with odd_service("odd", telemetry_home) as (service, _):
        stub = progress_pb2_grpc.ProgressStub(service.channel("odd"))
        with bound("sync_2"):
            for kind in KINDS:
                with pytest.raises(MediasyncError):
                    await call(stub, kind, "fail")
            with pytest.raises(MediasyncError):
                await call(stub, "unary", "abort")
    spans = _spans(telemetry_home, "sync_2")
    assert len(spans) == 8 and all(span.failed for span in spans)
    reasons = [(span.attributes.get("error.type"), span.error) for span in spans if span.kind == "server"]
    assert reasons == [("SYNC_NOT_FOUND", "SYNC_NOT_FOUND: Nothing was reported of fail")] * 3 + [(None, "by hand")]


async def test_a_client_span_ends_with_its_stream_also_when_that_is_cancelled(telemetry_home: Home) -> None:
    async with odd_service("odd", telemetry_home) as (service, servicer):
        stub = progress_pb2_grpc.ProgressStub(service.channel("odd"))
        with bound("sync_3"):
            stream = stub.Watch(watch("wait"))
            async for _ in stream:
                break
        stream.cancel()
        await asyncio.wait_for(servicer.closed.wait(), BOUND_SECONDS)
    spans = _spans(telemetry_home, "sync_3")
    assert sorted((span.kind, span.failed, span.attributes["rpc.grpc.status_code"]) for span in spans) == [
        ("client", False, grpc.StatusCode.CANCELLED.value[0]),
        ("server", False, grpc.StatusCode.CANCELLED.value[0]),
    ]


async def test_health_checks_leave_no_spans(telemetry_home: Home) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with odd_service("odd", telemetry_home) as (service, _):
        with bound("sync_4"):
            await health_pb2_grpc.HealthStub(service.channel("odd")).Check(health_pb2.HealthCheckRequest())
    telemetry.shutdown()
    assert not (telemetry_home.logs / "test.spans.jsonl").exists()


async def test_what_is_not_a_trace_in_metadata_is_ignored(telemetry_home: Home) -> None:
    async with odd_service("odd", telemetry_home), grpc.aio.insecure_channel(telemetry_home.address_of("odd")) as plain:
        await progress_pb2_grpc.ProgressStub(plain).GetProgress(
            get("plain"), metadata=(("traceparent", "nonsense"), ("baggage", "%%%=;;,,"), ("x-data-bin", b"\xff"))
        )
    telemetry.shutdown()
    (line,) = (telemetry_home.logs / "test.spans.jsonl").read_text().splitlines()
    assert json.loads(line)["parent_id"] == ""
