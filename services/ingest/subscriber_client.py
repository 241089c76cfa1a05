"""The outgoing calls: a subscriber's `MediaIngest`, over gRPC.

Events go out as the bytes that the log has, and what most calls are answered with, all of them accepted, is compared and not parsed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from mediasync.convert import event_bytes, file_path
from mediasync.runtime.channels import TlsKeys, open_channel
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import types_pb2
from services.ingest import framing
from services.ingest.convert import answers_from_pb, for_people
from services.ingest.events import EventKind, LoggedEvent, Tls
from services.ingest.subscriber import Answers, AskedFile, CallFailed, Failure

CALL_SECONDS = 30.0
SMALLEST_LIMIT_BYTES = 64 << 10
LARGEST_LIMIT_BYTES = 32 << 20

_SERVICE = "/mediasync.v1.MediaIngest/"
_ALL_ACCEPTED = Answers({}, all_accepted=True)
_FAILURES = {
    grpc.StatusCode.UNIMPLEMENTED: Failure.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: Failure.UNREACHABLE,
    grpc.StatusCode.CANCELLED: Failure.UNREACHABLE,
    grpc.StatusCode.UNAUTHENTICATED: Failure.UNREACHABLE,
    grpc.StatusCode.PERMISSION_DENIED: Failure.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Failure.BUSY,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Failure.BUSY,
    grpc.StatusCode.ABORTED: Failure.BUSY,
}
_CALLS: dict[int, tuple[str, Callable[[bytes], Any]]] = {
    EventKind.FILE_SYNCED: ("OnFileSynced", pb.OnFileSyncedResponse.FromString),
    EventKind.FILE_PROCESSED: ("OnFileProcessed", pb.OnFileProcessedResponse.FromString),
    EventKind.FILE_DELETED: ("OnFileDeleted", pb.OnFileDeletedResponse.FromString),
    EventKind.SYNC_COMPLETE: ("OnSyncComplete", pb.OnSyncCompleteResponse.FromString),
}
_TOO_LARGE = re.compile(r"larger than max|exceeds (the )?maximum|message length too large", re.IGNORECASE)
"""What gRPC says of a message over the receiver's limit, in C++ and Python, Go, Node, Java, .NET and Rust."""

Stamp = tuple[int, int]


class GrpcSubscriber:
    """The subscriber at an address, on a channel of its own that reconnects by itself.

    The files of `tls` are read when it is connected, and again when they have changed and nobody could be reached; `token_file` is
    read again whenever it has changed. Where a token may go in the clear is checked where a subscription is added.
    """

    def __init__(self, address: str, *, tls: Tls | None = None, token_file: Path | None = None, call_seconds: float = CALL_SECONDS) -> None:
        self._address = address
        self._tls = tls
        self._token_file = token_file
        self._call_seconds = call_seconds
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._lost = False
        self._keys_stamp: Sequence[Stamp] = ()
        self._token = ""
        self._token_stamp: Stamp | None = None

    async def send_batch(self, events: Sequence[LoggedEvent]) -> Answers:
        """Offers file events, in log order, in one call. Raises CallFailed."""
        answer = await self._call("OnBatchSynced", event_bytes.batch([event.payload for event in events]))
        if answer == framing.accepted(events):
            return _ALL_ACCEPTED
        response = _parsed("OnBatchSynced", pb.OnBatchSyncedResponse.FromString, answer)
        return answers_from_pb(events, response.results)

    async def send(self, event: LoggedEvent) -> Answers:
        """Offers one event by the call made for its kind. Raises CallFailed."""
        if event.kind not in _CALLS:
            raise CallFailed(Failure.UNIMPLEMENTED, f"there is no call for {EventKind(event.kind).name} alone", status="UNIMPLEMENTED")
        method, parse = _CALLS[event.kind]
        response = _parsed(method, parse, await self._call(method, event_bytes.batch([event.payload])))
        return answers_from_pb([event], [response.result] if response.HasField("result") else [])

    async def hold(self, files: Sequence[AskedFile]) -> Sequence[bool]:
        """Which of these files are on its record, in order, in one call. The count of the answer is not checked. Raises CallFailed."""
        request = pb.VerifyFilesExistRequest(files=[_asked(file) for file in files])
        answer = await self._call("VerifyFilesExist", request.SerializeToString())
        return list(_parsed("VerifyFilesExist", pb.VerifyFilesExistResponse.FromString, answer).exists)

    async def holds(self, file: AskedFile) -> bool:
        """Whether a file is on its record. Raises CallFailed."""
        answer = await self._call("VerifyFileExists", _asked(file).SerializeToString())
        return bool(_parsed("VerifyFileExists", pb.VerifyFileExistsResponse.FromString, answer).exists)

    def returned(self) -> bool:
        """Whether the connection, which was lost when a call failed, is there again. Asking makes it try."""
        if self._channel is None:
            return False
        if self._channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            self._lost = True
            return False
        return self._lost

    async def close(self) -> None:
        """Ends the connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _call(self, method: str, request: bytes) -> bytes:
        try:
            channel = await self._connected()
        except OSError as error:
            text = f"{error.filename} cannot be read: {error.strerror}"
            raise CallFailed(Failure.UNREACHABLE, for_people(text), status="UNAUTHENTICATED") from error
        call = self._methods.get(method)
        if call is None:
            # Without serialisers: bytes go in and come out.
            call = self._methods[method] = channel.unary_unary(_SERVICE + method)
        try:
            answer: bytes = await call(request, timeout=self._call_seconds)
        except grpc.aio.AioRpcError as error:
            self._lost = channel.get_state() is not grpc.ChannelConnectivity.READY
            failed = _failed(method, error)
            if failed.failure is Failure.UNREACHABLE:
                await self._drop_if_keys_changed()
            raise failed from error
        return answer

    async def _connected(self) -> grpc.aio.Channel:
        if self._token_file is not None:
            stamp = _stamp(self._token_file)
            if stamp != self._token_stamp:
                self._token = (await asyncio.to_thread(self._token_file.read_text)).strip()
                self._token_stamp = stamp
        if self._channel is None:
            keys = None
            if self._tls is not None:
                self._keys_stamp = [_stamp(path) for path in _files(self._tls)]
                keys = await asyncio.to_thread(_read_keys, self._tls)
            self._channel = open_channel(self._address, tls=keys, token=self._say_token if self._token_file else None)
            self._methods = {}
        return self._channel

    async def _drop_if_keys_changed(self) -> None:
        if self._tls is not None:
            try:
                stamps = [_stamp(path) for path in _files(self._tls)]
            except OSError:
                # The next call says which file it is.
                stamps = []
            if stamps != self._keys_stamp:
                await self.close()

    def _say_token(self) -> str:
        return self._token


def _files(tls: Tls) -> list[Path]:
    return [path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None]


def _read_keys(tls: Tls) -> TlsKeys:
    certificate = tls.cert_file.read_bytes() if tls.cert_file else None
    return TlsKeys(tls.ca_file.read_bytes(), certificate, tls.key_file.read_bytes() if tls.key_file else None)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _asked(file: AskedFile) -> pb.VerifyFileExistsRequest:
    request = pb.VerifyFileExistsRequest(library_path=file_path(file.library_path), library_root=file.library_root)
    if file.sha256:
        request.digest.CopyFrom(types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=file.sha256))
    return request


def _parsed(method: str, parse: Callable[[bytes], Any], answer: bytes) -> Any:
    try:
        return parse(answer)
    except DecodeError as error:
        raise CallFailed(Failure.REFUSED, f"{method} was answered with something that is no answer", status="INTERNAL") from error


def _failed(method: str, error: grpc.aio.AioRpcError) -> CallFailed:
    code, details = error.code(), error.details() or ""
    failure, limit = _FAILURES.get(code, Failure.REFUSED), 0
    if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE) and _TOO_LARGE.search(details):
        failure = Failure.TOO_LARGE
        # Both its limit and what was sent are said, in an order of each language's own; the limit is the smaller.
        named = [int(number) for number in re.findall(r"\d{1,12}", details)]
        limit = min((number for number in named if SMALLEST_LIMIT_BYTES <= number <= LARGEST_LIMIT_BYTES), default=0)
    text = for_people(f"{method} failed with {code.name}: {details or 'no details'}")
    return CallFailed(failure, text, status=code.name, limit_bytes=limit)
