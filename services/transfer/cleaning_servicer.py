"""The part of the Transfer service that a clean-up asks: parse, call, convert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from mediasync.convert import source_from_pb
from mediasync.convert.synced import copy_report_from_pb, source_file_from_pb, synced_to_pb
from mediasync.paths import display
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import transfer_pb2_grpc
from services.transfer.cleaning import CleanupRecord

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class CleaningServicer(transfer_pb2_grpc.TransferServicer):
    """Serves a CleanupRecord."""

    def __init__(self, record: CleanupRecord) -> None:
        self._record = record

    async def VerifySynced(self, request: pb.VerifySyncedRequest, context: Context) -> pb.VerifySyncedResponse:
        found = await self._record.synced(source_from_pb(request.source), request.dest_path, list(map(source_file_from_pb, request.files)))
        return pb.VerifySyncedResponse(files=map(synced_to_pb, found))

    async def DescribeOrigin(self, request: pb.DescribeOriginRequest, context: Context) -> pb.DescribeOriginResponse:
        shares = await self._record.libraries(source_from_pb(request.source) if request.HasField("source") else None)
        return pb.DescribeOriginResponse(
            libraries=[
                pb.OriginLibrary(library_root=display(share.library.root), library_uuid=share.library.uuid, files=share.files)
                for share in shares
            ]
        )

    async def NoteCleaned(self, request: pb.NoteCleanedRequest, context: Context) -> pb.NoteCleanedResponse:
        await self._record.note_cleaned(source_from_pb(request.source), request.dest_path, list(map(source_file_from_pb, request.files)))
        return pb.NoteCleanedResponse()

    async def ReportCopies(self, request: pb.ReportCopiesRequest, context: Context) -> pb.ReportCopiesResponse:
        copies = list(map(copy_report_from_pb, request.copies))
        await self._record.report_copies(source_from_pb(request.source), request.dest_path, copies)
        return pb.ReportCopiesResponse()
