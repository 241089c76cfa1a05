"""Events as they go into the outbox: serialised `mediasync.v1.Event` messages with ids derived from what they tell."""

from __future__ import annotations

import mimetypes
from functools import lru_cache

from mediasync import convert
from mediasync.ids import event_id
from mediasync.paths import display
from mediasync.v1 import media_ingest_pb2, types_pb2
from services.transfer.entities import LandedFile, LibraryId
from services.transfer.pipeline.messages import facts_to_pb
from services.transfer.pipeline.stage import MediaFacts
from services.transfer.sidecars import extension_of


def file_synced(sync_id: str, library: LibraryId, source_label: str, landed: LandedFile) -> bytes:
    """FILE_SYNCED for a file that is in the library."""
    record = _file_record(library, landed)
    return _event("file_synced", media_ingest_pb2.EVENT_TYPE_FILE_SYNCED, sync_id, library, source_label, landed, record)


def file_processed(sync_id: str, library: LibraryId, source_label: str, landed: LandedFile, facts: MediaFacts) -> bytes:
    """FILE_PROCESSED for a file whose media stages have run."""
    record = _file_record(library, landed)
    facts_to_pb(facts, record)
    return _event("file_processed", media_ingest_pb2.EVENT_TYPE_FILE_PROCESSED, sync_id, library, source_label, landed, record)


def file_moved(run_id: str, library: LibraryId, source_label: str, landed: LandedFile, moved_from: bytes, time_ns: int) -> bytes:
    """FILE_SYNCED for a file that was found at another path than the one it was told of. Each move is an event of its own, also when a
    file goes back and forth: `time_ns`, when it was found, is in the id."""
    record = _file_record(library, landed)
    record.moved_from.CopyFrom(convert.file_path(moved_from))
    event = media_ingest_pb2.Event(
        event_id=event_id("file_moved", library.uuid, moved_from, landed.library_path, landed.sha256, str(time_ns)),
        type=media_ingest_pb2.EVENT_TYPE_FILE_SYNCED,
        time=convert.timestamp_ns(time_ns),
        sync_id=run_id,
        source=source_label,
        file=record,
    )
    return event.SerializeToString()


def batch_synced(sync_id: str, library: LibraryId, source_label: str, origin: int, folder: bytes, files: int, size_bytes: int) -> bytes:
    """BATCH_SYNCED for a folder that has landed."""
    event = media_ingest_pb2.Event(
        event_id=event_id("batch_synced", sync_id, str(origin), folder),
        type=media_ingest_pb2.EVENT_TYPE_BATCH_SYNCED,
        time=convert.now(),
        sync_id=sync_id,
        source=source_label,
        batch=media_ingest_pb2.BatchRecord(
            folder=convert.file_path(folder), files=files, size_bytes=size_bytes, library_root=display(library.root)
        ),
    )
    return event.SerializeToString()


def again(event: bytes, moves: int) -> bytes:
    """An event about a file at a path from which files were moved away so many times: what came there since is not what was told then."""
    message = media_ingest_pb2.Event.FromString(event)
    message.event_id = event_id(message.event_id, str(moves))
    return message.SerializeToString()


def _event(
    kind: str,
    type_: media_ingest_pb2.EventType.ValueType,
    sync_id: str,
    library: LibraryId,
    source_label: str,
    landed: LandedFile,
    record: media_ingest_pb2.FileRecord,
) -> bytes:
    event = media_ingest_pb2.Event(
        # Not the sync id: the same bytes found again under the same name are the same event.
        event_id=event_id(kind, library.uuid, source_label, landed.library_path, landed.sha256),
        type=type_,
        time=convert.now(),
        sync_id=sync_id,
        source=source_label,
        file=record,
    )
    return event.SerializeToString()


def _file_record(library: LibraryId, landed: LandedFile) -> media_ingest_pb2.FileRecord:
    return media_ingest_pb2.FileRecord(
        library_path=convert.file_path(landed.library_path),
        library_root=display(library.root),
        source_path=convert.file_path(landed.entry.path),
        size_bytes=landed.entry.size_bytes,
        digest=types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=landed.sha256),
        modify_time=convert.timestamp_ns(landed.entry.mtime_ns),
        media_type=_media_type(extension_of(landed.library_path)),
        incomplete=landed.incomplete,
    )


@lru_cache(maxsize=256)
def _media_type(extension: bytes) -> str:
    """What files of an extension are; guessed once each, because every file that comes is told of."""
    return mimetypes.guess_type("file" + display(extension))[0] or "application/octet-stream"
