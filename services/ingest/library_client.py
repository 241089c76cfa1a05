"""What of the other services says which files there are: the catalog's export, and the index of a library. Over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import grpc.aio

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import catalog_pb2, transfer_pb2
from mediasync.v1.catalog_pb2_grpc import CatalogStub
from mediasync.v1.transfer_pb2_grpc import TransferStub
from services.ingest.snapshot import ExportPage

PAGE_SECONDS = 60.0


class LibraryClient:
    """Reads what the catalog knows, and what a library's index has."""

    def __init__(self, channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._channel = channel

    async def page(self, after: int) -> ExportPage:
        """One page of the catalog's export. Raises SERVICES_UNREACHABLE."""
        stub: Any = CatalogStub(self._channel("catalog"))
        call = stub.Export(catalog_pb2.CatalogExportRequest(after=after), timeout=PAGE_SECONDS)
        try:
            with rpc_errors("the catalog"):
                async for response in call:
                    return ExportPage(response.files, response.last)
        finally:
            call.cancel()
        raise _cut_off("the catalog")

    async def catalog(self, library_root: str) -> AsyncGenerator[Sequence[catalog_pb2.CatalogFile], None]:
        """Every file that the catalog knows, of one library unless `library_root` is empty. Raises SERVICES_UNREACHABLE, also when it ends
        before its end."""
        stub: Any = CatalogStub(self._channel("catalog"))
        call = stub.Export(catalog_pb2.CatalogExportRequest(library_root=library_root))
        try:
            with rpc_errors("the catalog"):
                async for response in call:
                    yield response.files
                    if response.last:
                        return
        finally:
            call.cancel()
        raise _cut_off("the catalog")

    async def index(self, library_root: str) -> AsyncGenerator[Sequence[catalog_pb2.CatalogFile], None]:
        """Every file of the index of a library, of all of them if `library_root` is empty, as far as an index knows a file. Raises
        SERVICES_UNREACHABLE."""
        stub: Any = TransferStub(self._channel("transfer"))
        call = stub.ListIndex(transfer_pb2.ListIndexRequest(library_path=library_root))
        try:
            with rpc_errors("the transfer service"):
                async for response in call:
                    yield [_indexed(file, response.library_root) for file in response.files]
        finally:
            call.cancel()


def _indexed(file: transfer_pb2.IndexedFile, library_root: str) -> catalog_pb2.CatalogFile:
    message = catalog_pb2.CatalogFile(sync_time=file.modify_time)
    record = message.file
    record.library_root = library_root
    record.library_path.CopyFrom(file.library_path)
    record.source_path.CopyFrom(file.library_path)
    record.size_bytes = file.size_bytes
    record.digest.CopyFrom(file.digest)
    record.modify_time.CopyFrom(file.modify_time)
    return message


def _cut_off(who: str) -> MediasyncError:
    return MediasyncError(Reason.SERVICES_UNREACHABLE, f"{who} stopped before it had said everything", "It is asked again.")
