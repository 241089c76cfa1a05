"""The transfer worker, which knows what was taken from where: what a clean-up asks of it, and the only caller of its stubs here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import grpc.aio

from mediasync import convert
from mediasync.convert.synced import copy_report_to_pb, source_file_to_pb, synced_from_pb
from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec
from mediasync.model.synced import CopyReport, SourceFile, SyncedFile
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import transfer_pb2, transfer_pb2_grpc
from services.cleanup.entities import OriginLibrary

_WHO = "the transfer worker"
_CALL_FILES = 1000
# It may be landing a hundred thousand files meanwhile, and its one writer is asked too.
_SECONDS = 60.0

T = TypeVar("T")


class Transfer(Protocol):
    """What is asked of the transfer worker, and told to it. All of it may be repeated. Raises MediasyncError: SERVICES_UNREACHABLE while it
    is away, LIBRARY_MARKER_MISSING where the library cannot be believed."""

    async def libraries(self, source: SourceSpec | None) -> list[OriginLibrary]:
        """The libraries that a source was synced into; all that there are for None."""

    async def synced(self, source: SourceSpec, library_root: str, files: Sequence[SourceFile]) -> list[SyncedFile]:
        """What is on record of files, any number of them, one answer each and in order."""

    async def note_cleaned(self, source: SourceSpec, library_root: str, files: Sequence[SourceFile]) -> None:
        """Files were deleted at the source, as they were."""

    async def report_copies(self, source: SourceSpec, library_root: str, copies: Sequence[CopyReport]) -> None:
        """What was seen of copies in the library."""


class GrpcTransfer:
    """See Transfer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = transfer_pb2_grpc.TransferStub(channel)

    async def libraries(self, source: SourceSpec | None) -> list[OriginLibrary]:
        request = transfer_pb2.DescribeOriginRequest(source=convert.source_to_pb(source) if source else None)
        with rpc_errors(_WHO):
            response = await self._stub.DescribeOrigin(request, timeout=_SECONDS)
        return [OriginLibrary(item.library_root, item.library_uuid, item.files) for item in response.libraries]

    async def synced(self, source: SourceSpec, library_root: str, files: Sequence[SourceFile]) -> list[SyncedFile]:
        answers: list[SyncedFile] = []
        described = convert.source_to_pb(source)
        for call in _calls(files):
            request = transfer_pb2.VerifySyncedRequest(source=described, dest_path=library_root, files=map(source_file_to_pb, call))
            with rpc_errors(_WHO):
                response = await self._stub.VerifySynced(request, timeout=_SECONDS)
            if len(response.files) != len(call):
                text = f"{_WHO} was asked about {len(call)} files and answered about {len(response.files)}"
                raise MediasyncError(Reason.INTERNAL, text)
            answers += map(synced_from_pb, response.files)
        return answers

    async def note_cleaned(self, source: SourceSpec, library_root: str, files: Sequence[SourceFile]) -> None:
        described = convert.source_to_pb(source)
        for call in _calls(files):
            request = transfer_pb2.NoteCleanedRequest(source=described, dest_path=library_root, files=map(source_file_to_pb, call))
            with rpc_errors(_WHO):
                await self._stub.NoteCleaned(request, timeout=_SECONDS)

    async def report_copies(self, source: SourceSpec, library_root: str, copies: Sequence[CopyReport]) -> None:
        described = convert.source_to_pb(source)
        for call in _calls(copies):
            request = transfer_pb2.ReportCopiesRequest(source=described, dest_path=library_root, copies=map(copy_report_to_pb, call))
            with rpc_errors(_WHO):
                await self._stub.ReportCopies(request, timeout=_SECONDS)


def _calls(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CALL_FILES):
        yield items[start : start + _CALL_FILES]
