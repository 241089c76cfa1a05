"""The outgoing calls: a subscriber's `MediaIngest`, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from mediasync.runtime.channels import open_channel
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestStub
from services.ingest.convert import answers_from_pb, event_to_pb, for_people
from services.ingest.events import EventKind, LoggedEvent
from services.ingest.subscriber import Answers, CallFailed, Failure

CALL_SECONDS = 30.0

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


class GrpcSubscriber:
    """The subscriber at an address, on a channel of its own that reconnects by itself."""

    def __init__(self, address: str, call_seconds: float = CALL_SECONDS) -> None:
        self._channel = open_channel(address)
        self._stub = MediaIngestStub(self._channel)
        self._call_seconds = call_seconds

    async def send_batch(self, events: Sequence[LoggedEvent]) -> Answers:
        """Offers file events, in log order, in one call. Raises CallFailed."""
        request = pb.OnBatchSyncedRequest(events=[event_to_pb(event) for event in events])
        try:
            response = await self._stub.OnBatchSynced(request, timeout=self._call_seconds)
        except grpc.aio.AioRpcError as error:
            raise _failed("OnBatchSynced", error) from error
        return answers_from_pb(events, response.results)

    async def send(self, event: LoggedEvent) -> Answers:
        """Offers one event by the call made for its kind. Raises CallFailed."""
        message = event_to_pb(event)
        seconds = self._call_seconds
        response: pb.OnFileSyncedResponse | pb.OnFileProcessedResponse | pb.OnFileDeletedResponse | pb.OnSyncCompleteResponse
        try:
            match event.kind:
                case EventKind.FILE_SYNCED:
                    response = await self._stub.OnFileSynced(pb.OnFileSyncedRequest(event=message), timeout=seconds)
                case EventKind.FILE_PROCESSED:
                    response = await self._stub.OnFileProcessed(pb.OnFileProcessedRequest(event=message), timeout=seconds)
                case EventKind.FILE_DELETED:
                    response = await self._stub.OnFileDeleted(pb.OnFileDeletedRequest(event=message), timeout=seconds)
                case EventKind.SYNC_COMPLETE:
                    response = await self._stub.OnSyncComplete(pb.OnSyncCompleteRequest(event=message), timeout=seconds)
                case _:
                    raise CallFailed(Failure.UNIMPLEMENTED, f"there is no call for {EventKind(event.kind).name} alone")
        except grpc.aio.AioRpcError as error:
            raise _failed(f"the call for {EventKind(event.kind).name}", error) from error
        return answers_from_pb([event], [response.result] if response.HasField("result") else [])

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


def _failed(call: str, error: grpc.aio.AioRpcError) -> CallFailed:
    text = f"{call} failed with {error.code().name}: {error.details() or 'no details'}"
    return CallFailed(_FAILURES.get(error.code(), Failure.REFUSED), for_people(text))
