from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.runtime.status import DETAILS_KEY, from_rpc_error, from_status, refused_rpc, to_status

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
errors = st.builds(
    MediasyncError,
    reason=st.sampled_from(Reason),
    message=texts,
    remedy=texts,
    fields=st.lists(st.builds(FieldViolation, texts, texts), max_size=5).map(tuple),
    metadata=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True).filter(lambda key: key != "remedy"), texts, max_size=5),
)


def failure(code: grpc.StatusCode, details: str, status: bytes | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata() if status is None else grpc.aio.Metadata((DETAILS_KEY, status))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def as_failure(error: MediasyncError) -> grpc.aio.AioRpcError:
    status = to_status(error)
    return failure(rpc_status.to_status(status).code, status.message, status.SerializeToString())


def content(error: MediasyncError) -> tuple[object, ...]:
    return error.reason, error.message, error.remedy, tuple(error.fields), dict(error.metadata)


@given(errors)
def test_an_error_comes_back_as_it_was_sent(error: MediasyncError) -> None:
    assert content(from_rpc_error(as_failure(error))) == content(error)


@given(st.builds(MediasyncError, st.sampled_from(Reason), st.text(), st.text(), metadata=st.dictionaries(st.text(), st.text())))
def test_any_text_can_be_sent_even_of_names_that_are_no_utf_8(error: MediasyncError) -> None:
    status = to_status(error)
    assert status_pb2.Status.FromString(status.SerializeToString()) == status


def test_a_lone_surrogate_is_shown_as_an_escape() -> None:
    assert to_status(MediasyncError(Reason.FILE_UNREADABLE, "bad\udcff.png")).message == "bad\\udcff.png"


def test_an_error_that_lists_thousands_of_fields_still_fits_in_metadata() -> None:
    fields = [FieldViolation(f"sources[{number}].host" * 9, "is missing " * 500) for number in range(2000)]
    error = MediasyncError(Reason.CONFIGURATION_INVALID, "ü" * 50_000, "é" * 9_000, fields, {f"key{n}": "v" * 3000 for n in range(90)})
    status = to_status(error)
    assert len(status.SerializeToString()) < 40_000
    back = from_status(status)
    assert back.reason is Reason.CONFIGURATION_INVALID
    assert back.message.startswith("üüü") and back.message.endswith(" …")
    assert back.fields[0].field == fields[0].field
    assert back.metadata["key0"].startswith("vvv")


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.SERVICES_UNREACHABLE, "Cannot reach the coordinator: connection refused"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, "No answer from the coordinator in time"),
        (grpc.StatusCode.CANCELLED, Reason.CANCELLED, "The call to the coordinator was cancelled"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.WORKER_FULL, "The coordinator refused"),
        (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, "The coordinator refused the request"),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.INTERNAL, "The coordinator does not know this call"),
        (grpc.StatusCode.DATA_LOSS, Reason.INTERNAL, "The coordinator failed with DATA_LOSS"),
    ],
)
def test_a_status_that_is_not_ours_says_who_failed_and_how(code: grpc.StatusCode, reason: Reason, words: str) -> None:
    error = from_rpc_error(failure(code, "connection refused"), "the coordinator")
    assert error.reason is reason
    assert error.message.startswith(words)
    assert error.metadata["details"] == "connection refused"


def test_details_that_cannot_be_parsed_are_as_good_as_none() -> None:
    assert from_rpc_error(failure(grpc.StatusCode.UNAVAILABLE, "x", b"\xff\xff\xff")).reason is Reason.SERVICES_UNREACHABLE


def test_details_of_another_status_are_not_believed() -> None:
    other = to_status(MediasyncError(Reason.JOB_NOT_FOUND, "no")).SerializeToString()
    assert from_rpc_error(failure(grpc.StatusCode.UNAVAILABLE, "x", other)).reason is Reason.SERVICES_UNREACHABLE


def test_a_reason_of_a_newer_version_keeps_what_its_status_means() -> None:
    status = status_pb2.Status(code=14, message="Comes later")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NOT_INVENTED", domain="mediasync", metadata={"remedy": "Wait."}))
    error = from_status(status)
    assert (error.reason, error.message, error.remedy, error.metadata) == (
        Reason.SERVICES_UNREACHABLE,
        "Comes later",
        "Wait.",
        {"reason": "NOT_INVENTED"},
    )
    assert error.retryable


def test_an_error_info_of_another_domain_is_not_ours() -> None:
    status = status_pb2.Status(code=9, message="quota")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="JOB_NOT_FOUND", domain="googleapis.com"))
    error = from_status(status, "the proxy")
    assert error.reason is Reason.INTERNAL
    assert "The proxy failed with FAILED_PRECONDITION: quota" in error.message


def test_only_a_failed_call_that_carries_an_error_of_ours_is_passed_on() -> None:
    error = MediasyncError(Reason.LIBRARY_MISSING, "Gone")
    passed = refused_rpc(as_failure(error))
    assert passed is not None and content(passed) == content(error)
    assert refused_rpc(failure(grpc.StatusCode.UNAVAILABLE, "x")) is None
    assert refused_rpc(ValueError("x")) is None
