"""Events made from what the catalog knows of a file, for a subscriber that has to be filled again.

They are in no log and have no sequence number. Each says what the file's own events said, as far as the catalog has it: that it came,
what was found in it, that it is gone at its source. When it was looked into is not on record; it is told with the time at which it came.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from mediasync.convert import to_unix_ns
from mediasync.ids import event_id
from mediasync.v1 import catalog_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest.events import EventKind, LoggedEvent
from services.ingest.publishing import file_key

KINDS = (EventKind.FILE_SYNCED, EventKind.FILE_PROCESSED, EventKind.FILE_DELETED)


def events_of(file: catalog_pb2.CatalogFile, *occasion: str) -> list[LoggedEvent]:
    """The events of a file, in order; the `sequence` of each is the place of its kind in `KINDS`. The same occasion gives the same ids."""
    light = pb.FileRecord()
    light.CopyFrom(file.file)
    light.ClearField("metadata")
    events = [_event(file, light, EventKind.FILE_SYNCED, file.sync_time, occasion)]
    if file.processed:
        events.append(_event(file, file.file, EventKind.FILE_PROCESSED, file.sync_time, occasion))
    if file.HasField("source_delete_time"):
        events.append(_event(file, light, EventKind.FILE_DELETED, file.source_delete_time, occasion))
    return events


def _event(
    file: catalog_pb2.CatalogFile, record: pb.FileRecord, kind: EventKind, time: Timestamp, occasion: tuple[str, ...]
) -> LoggedEvent:
    root, path = record.library_root, record.library_path.raw
    message = pb.Event(
        event_id=event_id(*occasion, root, path, record.digest.value, kind.name, str(to_unix_ns(time))),
        type=pb.EventType.ValueType(kind),
        time=time,
        sync_id=file.sync_id,
        source=file.source,
        file=record,
        synthetic=True,
    )
    payload = message.SerializeToString()
    return LoggedEvent(KINDS.index(kind), message.event_id, kind, file_key(root, path), file.sync_id, "", to_unix_ns(time), payload)
