"""Messages of `MediaIngest` and `Catalog` <-> what the catalog keeps. What events say is hostile input: it is bounded, not believed."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp

from mediasync.convert import timestamp_ns, to_unix_ns
from mediasync.errors import MediasyncError
from mediasync.paths import check_relative
from mediasync.v1 import catalog_pb2 as pb
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from mediasync.v1 import types_pb2
from services.ingest.subscribers.catalog.files import Change, ExportPage, Facts, FileEvent, ListedFile, Wanted

CHANGES = {
    ingest_pb.EVENT_TYPE_FILE_SYNCED: Change.SYNCED,
    ingest_pb.EVENT_TYPE_FILE_PROCESSED: Change.PROCESSED,
    ingest_pb.EVENT_TYPE_FILE_DELETED: Change.DELETED,
}

_LARGEST = 2**63 - 1
_Found = tuple[str, str, str, str, int | None, float | None, str, str]
_NOTHING_FOUND: _Found = ("", "", "", "", None, None, "", "")


class Unusable(Exception):  # noqa: N818 named after what it says
    """An event that can never be taken; the text says why."""


def file_event_from_pb(event: ingest_pb.Event) -> FileEvent:
    """An event about a file, which is taken apart. Raises Unusable."""
    change = CHANGES.get(event.type)
    if change is None or not event.event_id:
        raise Unusable("it is no event about a file" if change is None else "it has no event_id")
    if not event.HasField("file"):
        raise Unusable("it has no file")
    record = event.file
    path = _path(record.library_path, "library_path")
    moved_from = place = b""
    # Only FILE_SYNCED says where a file was; on another event it would be of no meaning.
    if record.HasField("moved_from") and change is Change.SYNCED:
        moved_from = _path(record.moved_from, "moved_from")
        place = _place(record)
    return FileEvent(
        event.event_id,
        change,
        _nanoseconds(event.time),
        event.sync_id,
        event.source,
        record.library_root,
        path,
        _facts(record),
        moved_from,
        place,
    )


def sha256_from_pb(digest: types_pb2.Digest) -> bytes:
    """The SHA-256 in a digest; empty for anything else."""
    return digest.value if digest.algorithm == types_pb2.DIGEST_ALGORITHM_SHA256 else b""


def wanted_from_pb(request: ingest_pb.VerifyFileExistsRequest) -> Wanted | None:
    """A file that is asked about; None when it is by a hash that the catalog does not keep, of which it cannot say that a file has it."""
    sha256 = sha256_from_pb(request.digest)
    if request.HasField("digest") and not sha256:
        return None
    return Wanted(request.library_path.raw, sha256, request.library_root)


def export_to_pb(page: ExportPage, after: int) -> pb.CatalogExportResponse:
    """What follows position `after`."""
    response = pb.CatalogExportResponse(position=after, last=page.last)
    for file, bulk in page.files:
        message = file_to_pb(file, bulk)
        message.position = response.position = file.number
        response.files.append(message)
    return response


def file_to_pb(file: ListedFile, bulk: bytes = b"") -> pb.CatalogFile:
    """A file; complete with its bulky part."""
    record = ingest_pb.FileRecord.FromString(file.record)
    # Parsing one message after another into the same one merges them, which is how it was taken apart.
    record.MergeFromString(bulk)
    message = pb.CatalogFile(
        file=record, sync_id=file.sync_id, source=file.source, sync_time=timestamp_ns(file.sync_time_ns), processed=file.processed
    )
    if file.delete_time_ns is not None:
        message.source_delete_time.CopyFrom(timestamp_ns(file.delete_time_ns))
    return message


def _path(path: types_pb2.FilePath, field: str) -> bytes:
    try:
        return check_relative(path.raw)
    except MediasyncError:
        raise Unusable(f"its {field} is no path below the library's root") from None


def _place(record: ingest_pb.FileRecord) -> bytes:
    """Where a file is, as a part of its record."""
    place = ingest_pb.FileRecord(library_path=record.library_path)
    for field in ("xmp_path", "thumbnail_path"):
        if record.HasField(field):
            getattr(place, field).CopyFrom(getattr(record, field))
    return place.SerializeToString()


def _facts(record: ingest_pb.FileRecord) -> Facts:
    """What is kept of a file. Takes the record apart: what lists leave out goes into `bulk`, and where the file was is an event's news and
    no property of it."""
    found, bulk = _NOTHING_FOUND, b""
    if record.HasField("metadata"):
        found, bulk = _found(record.metadata), _taken_out(record.metadata)
    if record.HasField("moved_from"):
        record.ClearField("moved_from")
    return Facts(
        record.size_bytes,
        sha256_from_pb(record.digest),
        _nanoseconds(record.modify_time),
        record.media_type,
        record.width,
        record.height,
        record.incomplete,
        *found,
        record.SerializeToString(),
        bulk,
    )


def _found(metadata: ingest_pb.GenerationMetadata) -> _Found:
    """The facts from `generator` to `negative_prompt`."""
    cfg_scale = metadata.cfg_scale if metadata.HasField("cfg_scale") else None
    return (
        metadata.generator,
        metadata.model,
        str(metadata.seed) if metadata.HasField("seed") else "",
        metadata.sampler,
        metadata.steps if metadata.HasField("steps") else None,
        # A column cannot hold NaN; the record can.
        cfg_scale if cfg_scale is None or math.isfinite(cfg_scale) else None,
        metadata.prompt,
        metadata.negative_prompt,
    )


def _taken_out(metadata: ingest_pb.GenerationMetadata) -> bytes:
    """What lists leave out, as a record of just that, serialised; empty where there is nothing of it."""
    fields, prompt_json, workflow_json = metadata.fields, metadata.prompt_json, metadata.workflow_json
    if not (fields or prompt_json or workflow_json):
        return b""
    bulk = ingest_pb.FileRecord()
    taken = bulk.metadata
    taken.fields.extend(fields)
    taken.prompt_json, taken.workflow_json = prompt_json, workflow_json
    metadata.ClearField("fields")
    metadata.ClearField("prompt_json")
    metadata.ClearField("workflow_json")
    return bulk.SerializeToString()


def _nanoseconds(value: Timestamp) -> int:
    """Unix nanoseconds, as far as 64 bits reach: file systems hold times beyond the year 2262."""
    return max(-_LARGEST, min(_LARGEST, to_unix_ns(value)))
