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
from services.ingest.subscribers.catalog.files import Change, Facts, FileEvent, ListedFile

CHANGES = {
    ingest_pb.EVENT_TYPE_FILE_SYNCED: Change.SYNCED,
    ingest_pb.EVENT_TYPE_FILE_PROCESSED: Change.PROCESSED,
    ingest_pb.EVENT_TYPE_FILE_DELETED: Change.DELETED,
}

_LARGEST = 2**63 - 1


class Unusable(Exception):  # noqa: N818 named after what it says
    """An event that can never be taken; the text says why."""


def file_event_from_pb(event: ingest_pb.Event) -> FileEvent:
    """An event about a file. Raises Unusable."""
    change = CHANGES.get(event.type)
    if change is None or not event.event_id:
        raise Unusable("it is no event about a file" if change is None else "it has no event_id")
    if not event.HasField("file"):
        raise Unusable("it has no file")
    try:
        path = check_relative(event.file.library_path.raw)
    except MediasyncError:
        raise Unusable("its library_path is no path below the library's root") from None
    return FileEvent(
        event.event_id, change, _nanoseconds(event.time), event.sync_id, event.source, event.file.library_root, path, _facts(event.file)
    )


def sha256_from_pb(digest: types_pb2.Digest) -> bytes:
    """The SHA-256 in a digest; empty for anything else."""
    return digest.value if digest.algorithm == types_pb2.DIGEST_ALGORITHM_SHA256 else b""


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


def _facts(record: ingest_pb.FileRecord) -> Facts:
    record, bulk = _split(record)
    metadata = record.metadata
    return Facts(
        size_bytes=record.size_bytes,
        sha256=sha256_from_pb(record.digest),
        modify_time_ns=_nanoseconds(record.modify_time),
        media_type=record.media_type,
        width=record.width,
        height=record.height,
        incomplete=record.incomplete,
        generator=metadata.generator,
        model=metadata.model,
        seed=str(metadata.seed) if metadata.HasField("seed") else "",
        sampler=metadata.sampler,
        steps=metadata.steps if metadata.HasField("steps") else None,
        # A column cannot hold NaN; the record can.
        cfg_scale=metadata.cfg_scale if metadata.HasField("cfg_scale") and math.isfinite(metadata.cfg_scale) else None,
        prompt=metadata.prompt,
        negative_prompt=metadata.negative_prompt,
        record=record.SerializeToString(),
        bulk=bulk,
    )


def _split(record: ingest_pb.FileRecord) -> tuple[ingest_pb.FileRecord, bytes]:
    """The record without what lists leave out, and a record with just that, serialised; the argument stays as it is."""
    metadata = record.metadata
    if not (metadata.fields or metadata.prompt_json or metadata.workflow_json):
        return record, b""
    bulk = ingest_pb.FileRecord()
    bulk.metadata.fields.extend(metadata.fields)
    bulk.metadata.prompt_json = metadata.prompt_json
    bulk.metadata.workflow_json = metadata.workflow_json
    light = ingest_pb.FileRecord()
    light.CopyFrom(record)
    light.metadata.ClearField("fields")
    light.metadata.ClearField("prompt_json")
    light.metadata.ClearField("workflow_json")
    return light, bulk.SerializeToString()


def _nanoseconds(value: Timestamp) -> int:
    """Unix nanoseconds, as far as 64 bits reach: file systems hold times beyond the year 2262."""
    return max(-_LARGEST, min(_LARGEST, to_unix_ns(value)))
