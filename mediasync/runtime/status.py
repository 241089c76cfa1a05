"""Errors of the catalog to gRPC statuses and back, without loss.

A status carries one `ErrorInfo` (reason, domain `mediasync`, metadata with the remedy) and a `BadRequest` when fields are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import grpc
import grpc.aio
from google.rpc import code_pb2, error_details_pb2, status_pb2

from mediasync.errors import CATALOG, DOMAIN, FieldViolation, MediasyncError, Reason

DETAILS_KEY = "grpc-status-details-bin"
_REMEDY_KEY = "remedy"
_SHORTENED = " …"

# A status travels in trailing metadata, which peers limit (our own channels to 64 KiB): a longer text is cut, not lost altogether.
_MESSAGE_BYTES = 4096
_REMEDY_BYTES = 2048
_VALUE_BYTES = 1024
_FIELDS_BYTES = 12288
_METADATA_BYTES = 6144

# What a status means that is not one of ours (a proxy, gRPC itself), or whose reason this version does not know.
_REASON_OF_CODE: Mapping[int, Reason] = {
    code_pb2.CANCELLED: Reason.CANCELLED,
    code_pb2.INVALID_ARGUMENT: Reason.INVALID_ARGUMENT,
    code_pb2.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    code_pb2.RESOURCE_EXHAUSTED: Reason.WORKER_FULL,
    code_pb2.UNAVAILABLE: Reason.SERVICES_UNREACHABLE,
}


class RpcFailure(Protocol):
    """What a failed call tells; `grpc.aio.AioRpcError` and the errors of blocking stubs both do."""

    def code(self) -> Any: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Any: ...


def to_status(error: MediasyncError) -> status_pb2.Status:
    """The status that carries `error`. Texts that UTF-8 cannot hold are escaped, and far too long ones cut."""
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN)
    room = _METADATA_BYTES
    for key, value in error.metadata.items():
        key, value = _text(key, 128), _text(value, _VALUE_BYTES)
        room -= len(key.encode()) + len(value.encode())
        if room < 0:
            break
        info.metadata[key] = value
    info.metadata[_REMEDY_KEY] = _text(error.remedy, _REMEDY_BYTES)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=_text(error.message, _MESSAGE_BYTES))
    status.details.add().Pack(info)
    if error.fields:
        bad = error_details_pb2.BadRequest()
        room = _FIELDS_BYTES
        for violation in error.fields:
            name, description = _text(violation.field, 256), _text(violation.description, _VALUE_BYTES)
            room -= len(name.encode()) + len(description.encode())
            if room < 0:
                break
            bad.field_violations.add(field=name, description=description)
        status.details.add().Pack(bad)
    return status


def from_status(status: status_pb2.Status, what: str = "the service") -> MediasyncError:
    """The error that `status` carries; `what` names who sent it, for a status that is not one of ours."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    ours = False
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            ours = info.domain == DOMAIN
        elif detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
    if not ours:
        return _foreign(status.code, status.message, what)
    metadata = dict(info.metadata)
    remedy = metadata.pop(_REMEDY_KEY, "")
    try:
        reason = Reason(info.reason)
    except ValueError:
        # From a newer version: its status still says whether another try makes sense, and its text what to do.
        reason = _REASON_OF_CODE.get(status.code, Reason.INTERNAL)
        metadata["reason"] = info.reason
    fields = tuple(FieldViolation(violation.field, violation.description) for violation in bad.field_violations)
    return MediasyncError(reason, status.message, remedy, fields, metadata)


def from_rpc_error(error: RpcFailure, what: str = "the service") -> MediasyncError:
    """The error behind a failed call. `what` names who was called, such as `the coordinator`."""
    number: int = error.code().value[0] if error.code() is not None else code_pb2.UNKNOWN
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                status = status_pb2.Status.FromString(value)
            except Exception:  # noqa: S112 - protobuf's DecodeError differs by implementation; a broken detail is as good as none
                continue
            if status.code == number:
                return from_status(status, what)
    return _foreign(number, error.details() or "", what)


def refused_rpc(error: Exception) -> MediasyncError | None:
    """The MediasyncError that an untranslated failure of a call carries; None for any other exception, and for a failure not of ours."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    translated = from_rpc_error(error)
    return None if "status" in translated.metadata else translated


def code_of(error: MediasyncError) -> grpc.StatusCode:
    """The gRPC code of an error."""
    return grpc.StatusCode[CATALOG[error.reason].status]


def _foreign(code: int, details: str, what: str) -> MediasyncError:
    reason = _REASON_OF_CODE.get(code, Reason.INTERNAL)
    name = code_pb2.Code.Name(code) if code in code_pb2.Code.values() else str(code)
    metadata = {"status": name}
    if details:
        metadata["details"] = details
    because = f": {details}" if details else ""
    texts = {
        Reason.SERVICES_UNREACHABLE: f"Cannot reach {what}{because}",
        Reason.DEADLINE_EXCEEDED: f"No answer from {what} in time",
        Reason.CANCELLED: f"The call to {what} was cancelled",
        Reason.WORKER_FULL: f"{what} refused, having too much to do{because}",
        Reason.INVALID_ARGUMENT: f"{what} refused the request{because}",
    }
    message = texts.get(reason, f"{what} failed with {name}{because}")
    remedy = ""
    if code == code_pb2.UNIMPLEMENTED:
        message = f"{what} does not know this call{because}"
        remedy = "It probably is another version than this one: run the same version everywhere."
    return MediasyncError(reason, message[0].upper() + message[1:], remedy, metadata=metadata)


def _text(text: str, limit_bytes: int) -> str:
    """`text` as UTF-8 can hold it. Names of files may have lone surrogates in them, which become backslash escapes."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) > limit_bytes:
        raw = raw[: limit_bytes - len(_SHORTENED.encode())]
        return raw.decode("utf-8", "ignore") + _SHORTENED
    return raw.decode()
