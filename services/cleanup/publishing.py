"""What is told of a file that a clean-up deleted: FILE_DELETED, as it goes into the outbox.

The event is made of the journal's entry. Its id is made of the run, the path and the entry's number, so that an event that is sent twice is
known again, and a file of the same name that goes later is another event.
"""

from __future__ import annotations

import functools
import mimetypes
import os
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

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
        sync_id=gone.sync_id,
        source=gone.source,
    )
    # Filled in where they are: messages that are made apart and copied in cost twice as much, and there are as many as files that go.
    _put_time(event.time, time_ns)
    record = event.file
    _put_path(record.library_path, gone.library_path)
    # As the transfer worker tells it of files that come.
    record.library_root = display(os.fsencode(gone.library_root))
    _put_path(record.source_path, gone.path)
    record.size_bytes = gone.size_bytes
    record.digest.algorithm = types_pb2.DIGEST_ALGORITHM_SHA256
    record.digest.value = gone.sha256
    _put_time(record.modify_time, gone.mtime_ns)
    record.media_type = _media_type(record.library_path.display.rpartition(".")[2])
    return event.SerializeToString()


def _put_time(field: Timestamp, unix_ns: int) -> None:
    field.seconds, field.nanos = divmod(unix_ns, 1_000_000_000)


def _put_path(field: types_pb2.FilePath, raw: bytes) -> None:
    field.raw = raw
    field.display = display(raw)


@functools.lru_cache(maxsize=256)
def _media_type(extension: str) -> str:
    return mimetypes.guess_type(f"file.{extension}")[0] or "application/octet-stream"
