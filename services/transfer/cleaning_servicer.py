"""The part of the Transfer service that a clean-up asks: parse, call, convert."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc.aio

from mediasync.convert import file_path, source_from_pb
from mediasync.paths import display
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import transfer_pb2_grpc, types_pb2
from services.transfer.cleaning import CleanupRecord
from services.transfer.entities import CopyReport, SourceFile, SyncedFile, SyncedState

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    SyncedState.UNKNOWN: pb.SYNCED_STATE_UNKNOWN,
    SyncedState.SYNCED: pb.SYNCED_STATE_SYNCED,
    SyncedState.CHANGED: pb.SYNCED_STATE_CHANGED,
    SyncedState.INCOMPLETE: pb.SYNCED_STATE_INCOMPLETE,
    SyncedState.INVALID: pb.SYNCED_STATE_INVALID,
    SyncedState.CULLED: pb.SYNCED_STATE_CULLED,
    SyncedState.EDITED: pb.SYNCED_STATE_EDITED,
    SyncedState.NOT_FLUSHED: pb.SYNCED_STATE_NOT_FLUSHED,
}


class CleaningServicer(transfer_pb2_grpc.TransferServicer):
    """Serves a CleanupRecord."""

    def __init__(self, record: CleanupRecord) -> None:
        self._record = record

    async def VerifySynced(self, request: pb.VerifySyncedRequest, context: Context) -> pb.VerifySyncedResponse:
        found = await self._record.synced(source_from_pb(request.source), request.dest_path, _files(request.files))
        return pb.VerifySyncedResponse(files=[_synced_to_pb(file) for file in found])

    async def DescribeOrigin(self, request: pb.DescribeOriginRequest, context: Context) -> pb.DescribeOriginResponse:
        shares = await self._record.libraries(source_from_pb(request.source) if request.HasField("source") else None)
        return pb.DescribeOriginResponse(
            libraries=[
                pb.OriginLibrary(library_root=display(share.library.root), library_uuid=share.library.uuid, files=share.files)
                for share in shares
            ]
        )

    async def NoteCleaned(self, request: pb.NoteCleanedRequest, context: Context) -> pb.NoteCleanedResponse:
        await self._record.note_cleaned(source_from_pb(request.source), request.dest_path, _files(request.files))
        return pb.NoteCleanedResponse()

    async def ReportCopies(self, request: pb.ReportCopiesRequest, context: Context) -> pb.ReportCopiesResponse:
        copies = [
            CopyReport(copy.library_path.raw, copy.source_path.raw, copy.intact, copy.missing, copy.message) for copy in request.copies
        ]
        await self._record.report_copies(source_from_pb(request.source), request.dest_path, copies)
        return pb.ReportCopiesResponse()


def _files(messages: Iterable[pb.SourceFile]) -> list[SourceFile]:
    return [SourceFile(message.path.raw, message.size_bytes, message.mtime_ns, message.inode) for message in messages]


def _synced_to_pb(file: SyncedFile) -> pb.SyncedFile:
    message = pb.SyncedFile(state=_STATES[file.state], copies=[file_path(copy) for copy in file.copies], sync_id=file.sync_id)
    if file.sha256:
        message.digest.algorithm = types_pb2.DIGEST_ALGORITHM_SHA256
        message.digest.value = file.sha256
    return message
