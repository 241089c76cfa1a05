"""What is told of a file that a clean-up deleted: FILE_DELETED, as it goes into the outbox.

The event is made of the journal's entry. Its id is made of the run, the path and the entry's number, so that an event that is sent twice is
known again, and a file of the same name that goes later is another event.
"""

from __future__ import annotations

import functools
import mimetypes
import os
from typing import NamedTuple

from mediasync import convert
from mediasync.ids import event_id
from mediasync.paths import display
from mediasync.v1 import media_ingest_pb2, types_pb2


class Gone(NamedTuple):
    """A file that was deleted at its source, or moved aside there, as the journal has it."""

    number: int
    sync_id: str
    source: str
    path: bytes
    size_bytes: int
    mtime_ns: int
    sha256: bytes
    library_root: str
    library_path: bytes


def file_deleted(gone: Gone, time_ns: int) -> bytes:
    """FILE_DELETED, serialised. The record is of the copy that was read in the library; its metadata is told by FILE_PROCESSED only."""
    event = media_ingest_pb2.Event(
        event_id=event_id("file_deleted", gone.sync_id, gone.path, str(gone.number)),
        type=media_ingest_pb2.EVENT_TYPE_FILE_DELETED,
        time=convert.timestamp_ns(time_ns),
        sync_id=gone.sync_id,
        source=gone.source,
        file=media_ingest_pb2.FileRecord(
            library_path=convert.file_path(gone.library_path),
            # As the transfer worker tells it of files that come.
            library_root=display(os.fsencode(gone.library_root)),
            source_path=convert.file_path(gone.path),
            size_bytes=gone.size_bytes,
            digest=types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=gone.sha256),
            modify_time=convert.timestamp_ns(gone.mtime_ns),
            media_type=_media_type(display(gone.library_path).rpartition(".")[2]),
        ),
    )
    return event.SerializeToString()


@functools.lru_cache(maxsize=256)
def _media_type(extension: str) -> str:
    return mimetypes.guess_type(f"file.{extension}")[0] or "application/octet-stream"
