"""Events to try a subscriber with: they look like the event log's, and are about files that are nowhere."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable

from mediasync.convert import file_path, timestamp_ns
from mediasync.ids import event_id
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import types_pb2

START_NS = 1_790_000_000_000_000_000
WORKFLOW_BYTES = 10 << 20
ODD_NAMES = (
    b"with blank.png",
    b"quote'\".png",
    b"new\nline.png",
    b"-rf.png",
    b"not-utf8-\xff\xfe.png",
    "umläut-☺-\u202e.png".encode(),
    b"100%_LIKE_.png",
    b"x" * 255,
    b"'; DROP TABLE files; --",
    b"deep/" * 100 + b"a.png",
)
# Names that none of the odd ones is: what a store that decodes names, or that compares them by pattern, would take for one of them.
LOOKALIKES = (b"not-utf8-\xef\xbf\xbd\xef\xbf\xbd.png", b"100%_LIKEx.png", b"X" * 255)

SYNCED = pb.EVENT_TYPE_FILE_SYNCED
PROCESSED = pb.EVENT_TYPE_FILE_PROCESSED
DELETED = pb.EVENT_TYPE_FILE_DELETED


class Events:
    """Makes events about files below `folder`, with ids that are derived from what they tell, and numbers as a log would give them."""

    def __init__(self, folder: bytes = b"", library_root: str = "/media/library", sync_id: str = "sync_20260921_120000_00000001") -> None:
        self.folder = folder
        self.library_root = library_root
        self.sync_id = sync_id
        self._numbers = itertools.count(1)

    def path(self, name: bytes) -> bytes:
        """Where the file of that name is in the library."""
        return self.folder + name

    def file(
        self,
        name: bytes,
        kind: pb.EventType.ValueType = SYNCED,
        *,
        content: bytes = b"picture",
        second: int = 0,
        metadata: pb.GenerationMetadata | None = None,
        moved_from: bytes | None = None,
        library_root: str = "",
    ) -> pb.Event:
        """Something that happened to a file with that content."""
        digest = hashlib.sha256(content).digest()
        root, path = library_root or self.library_root, self.path(name)
        record = pb.FileRecord(
            library_path=file_path(path),
            library_root=root,
            source_path=file_path(path),
            size_bytes=len(content),
            digest=types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=digest),
            modify_time=timestamp_ns(START_NS),
            media_type="image/png",
            metadata=metadata,
        )
        if kind == PROCESSED and metadata is None:
            record.metadata.CopyFrom(pb.GenerationMetadata(generator="Forge", prompt="a cat", seed=2**64 - 1, steps=20))
        if moved_from is not None:
            record.moved_from.CopyFrom(file_path(self.path(moved_from)))
        return pb.Event(
            event_id=event_id(str(kind), root, path, digest, moved_from or b""),
            sequence=next(self._numbers),
            type=kind,
            time=timestamp_ns(START_NS + second * 1_000_000_000),
            sync_id=self.sync_id,
            source="mediasync-check",
            file=record,
        )

    def files(self, count: int) -> list[pb.Event]:
        """As many new files."""
        return [self.file(b"%05d.png" % number, content=b"%d" % number) for number in range(count)]

    def life(self, name: bytes) -> list[pb.Event]:
        """Everything that may happen to a file, in order."""
        return [self.file(name, kind) for kind in (SYNCED, PROCESSED, DELETED)]

    def sync(self) -> pb.Event:
        """The end of the sync."""
        return pb.Event(
            event_id=event_id("complete", self.sync_id),
            sequence=next(self._numbers),
            type=pb.EVENT_TYPE_SYNC_COMPLETE,
            time=timestamp_ns(START_NS),
            sync_id=self.sync_id,
            source="mediasync-check",
            sync=pb.SyncRecord(job_id="job_check", state=types_pb2.JOB_STATE_COMPLETE, library_root=self.library_root),
        )

    def batch(self, folder: bytes, files: int) -> pb.Event:
        """The end of a folder of the sync."""
        return pb.Event(
            event_id=event_id("batch_synced", self.sync_id, folder),
            sequence=next(self._numbers),
            type=pb.EVENT_TYPE_BATCH_SYNCED,
            time=timestamp_ns(START_NS),
            sync_id=self.sync_id,
            source="mediasync-check",
            batch=pb.BatchRecord(folder=file_path(folder), files=files, size_bytes=files * 1000, library_root=self.library_root),
        )


def odd_metadata() -> pb.GenerationMetadata:
    """What generators and people write into files, at its worst: 14 MB that strict parsers, narrow columns and own quoting trip over."""
    return pb.GenerationMetadata(
        prompt="a \0 cat \u202e \U0010ffff",
        negative_prompt="'; DROP TABLE pictures; --",
        seed=2**64 - 1,
        steps=-(2**31),
        cfg_scale=float("nan"),
        loras=["\0"],
        fields=[pb.MetadataField(name="\n", value="=" * 100_000)] * 20,
        prompt_json=b'{"is_changed": [NaN], "inputs": {"seed": 1e400}}',
        workflow_json=b'{"text": "\\u0000\\ud800", "nodes": "' + b"n" * WORKFLOW_BYTES + b'"}',
        parameters="p" * (1 << 20),
    )


def of_a_later_version(event: pb.Event) -> pb.Event:
    """`event` with a type that nobody knows yet, and a field that nobody knows either."""
    later = pb.Event.FromString(event.SerializeToString() + b"\xfa\x7f\x05later")  # field 2047
    later.type = 99  # type: ignore[assignment]
    later.event_id = event_id("later", event.event_id)
    return later


def made_again(events: Iterable[pb.Event]) -> list[pb.Event]:
    """`events` as a snapshot or a repair makes them: with other ids, and in no log."""
    again = [pb.Event.FromString(event.SerializeToString()) for event in events]
    for event in again:
        event.event_id, event.sequence, event.synthetic = event_id("again", event.event_id), 0, True
    return again
