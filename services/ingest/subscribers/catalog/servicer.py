"""`MediaIngest` and `Catalog` on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import grpc.aio

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.paths import display
from mediasync.runtime import crash, paging
from mediasync.v1 import catalog_pb2 as pb
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from mediasync.v1.catalog_pb2_grpc import CatalogServicer as CatalogBase
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestServicer as MediaIngestBase
from services.ingest.subscribers.catalog.convert import CHANGES, Unusable, export_to_pb, file_event_from_pb, file_to_pb, wanted_from_pb
from services.ingest.subscribers.catalog.files import FileEvent, Filter
from services.ingest.subscribers.catalog.store import CatalogStore

MAX_BATCH = 1000

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class CatalogIngestServicer(MediaIngestBase):
    """Fills the catalog. An answer is given once the event is on the disk."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store

    async def OnFileSynced(self, request: ingest_pb.OnFileSyncedRequest, context: Context) -> ingest_pb.OnFileSyncedResponse:
        """Takes a new file."""
        return ingest_pb.OnFileSyncedResponse(result=await self._take_one(request.event, ingest_pb.EVENT_TYPE_FILE_SYNCED))

    async def OnFileProcessed(self, request: ingest_pb.OnFileProcessedRequest, context: Context) -> ingest_pb.OnFileProcessedResponse:
        """Takes what was found in a file."""
        return ingest_pb.OnFileProcessedResponse(result=await self._take_one(request.event, ingest_pb.EVENT_TYPE_FILE_PROCESSED))

    async def OnFileDeleted(self, request: ingest_pb.OnFileDeletedRequest, context: Context) -> ingest_pb.OnFileDeletedResponse:
        """Notes that a file is gone from its source."""
        return ingest_pb.OnFileDeletedResponse(result=await self._take_one(request.event, ingest_pb.EVENT_TYPE_FILE_DELETED))

    async def OnBatchSynced(self, request: ingest_pb.OnBatchSyncedRequest, context: Context) -> ingest_pb.OnBatchSyncedResponse:
        """Takes several events in one transaction."""
        _check_count("events", len(request.events))
        return ingest_pb.OnBatchSyncedResponse(results=await self._take(request.events))

    async def OnSyncComplete(self, request: ingest_pb.OnSyncCompleteRequest, context: Context) -> ingest_pb.OnSyncCompleteResponse:
        """The catalog is about files: there is nothing to keep."""
        return ingest_pb.OnSyncCompleteResponse(result=_accepted(request.event))

    async def VerifyFileExists(self, request: ingest_pb.VerifyFileExistsRequest, context: Context) -> ingest_pb.VerifyFileExistsResponse:
        """Looks a file up."""
        return ingest_pb.VerifyFileExistsResponse(exists=(await self._exist([request]))[0])

    async def VerifyFilesExist(self, request: ingest_pb.VerifyFilesExistRequest, context: Context) -> ingest_pb.VerifyFilesExistResponse:
        """Looks files up."""
        _check_count("files", len(request.files))
        return ingest_pb.VerifyFilesExistResponse(exists=await self._exist(request.files))

    async def _exist(self, requests: Sequence[ingest_pb.VerifyFileExistsRequest]) -> list[bool]:
        wanted = [wanted_from_pb(request) for request in requests]
        found = iter(await self._store.exist([file for file in wanted if file is not None]))
        return [file is not None and next(found) for file in wanted]

    async def _take_one(self, event: ingest_pb.Event, kind: ingest_pb.EventType.ValueType) -> ingest_pb.EventResult:
        if event.type != kind:
            name = ingest_pb.EventType.Name(kind).removeprefix("EVENT_TYPE_")
            return _rejected(event, f"this call is for {name}")
        return (await self._take([event]))[0]

    async def _take(self, events: Sequence[ingest_pb.Event]) -> list[ingest_pb.EventResult]:
        usable: list[FileEvent] = []
        results: list[ingest_pb.EventResult] = []
        for event in events:
            if event.type not in CHANGES:
                # From a newer version, or not about a file: nothing to keep.
                results.append(_accepted(event))
                continue
            try:
                usable.append(file_event_from_pb(event))
                results.append(_accepted(event))
            except Unusable as error:
                results.append(_rejected(event, str(error)))
        if usable:
            refused = await self._store.take(usable)
            crash.point("catalog.after_upsert")
            if refused:
                results = [_rejected(result, refused[result.event_id]) if result.event_id in refused else result for result in results]
        return results


class CatalogServicer(CatalogBase):
    """Reads the catalog."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store

    async def List(self, request: pb.CatalogListRequest, context: Context) -> pb.CatalogListResponse:
        """A page of files."""
        size = paging.page_size(request.page_size)
        position = paging.decode(request.page_token, int, int)
        before = (int(position[0]), int(position[1])) if position else None
        page = await self._store.page(Filter(request.sync_id, request.source, request.path_prefix), before, size)
        token = paging.encode(page.next_position) if page.next_position else ""
        return pb.CatalogListResponse(files=[file_to_pb(file) for file in page.files], next_page_token=token)

    async def Get(self, request: pb.CatalogGetRequest, context: Context) -> pb.CatalogGetResponse:
        """One file."""
        found = await self._store.get(request.library_path, request.library_root)
        if found is None:
            where = f" in {request.library_root}" if request.library_root else ""
            raise MediasyncError(Reason.FILE_NOT_FOUND, f"the catalog has no file {display(request.library_path)}{where}")
        return pb.CatalogGetResponse(file=file_to_pb(*found))

    async def Export(self, request: pb.CatalogExportRequest, context: Context) -> AsyncIterator[pb.CatalogExportResponse]:
        """Every file. Each page is a transaction of its own, so that a slow reader holds up nothing."""
        after = request.after
        while True:
            response = export_to_pb(await self._store.export(after, request.library_root), after)
            yield response
            if response.last:
                return
            after = response.position


def _check_count(field: str, count: int) -> None:
    if count > MAX_BATCH:
        violation = FieldViolation(field, f"at most {MAX_BATCH}, not {count}")
        raise MediasyncError(Reason.INVALID_ARGUMENT, f"{field} must be {violation.description}", fields=[violation])


def _accepted(event: ingest_pb.Event) -> ingest_pb.EventResult:
    return ingest_pb.EventResult(event_id=event.event_id, verdict=ingest_pb.EVENT_VERDICT_ACCEPTED)


def _rejected(event: ingest_pb.Event | ingest_pb.EventResult, reason: str) -> ingest_pb.EventResult:
    return ingest_pb.EventResult(event_id=event.event_id, verdict=ingest_pb.EVENT_VERDICT_REJECTED, reason=reason)
