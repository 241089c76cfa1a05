"""A subscriber as an outsider would write it, that notes whatever comes, for `event_checker`. Some names it refuses, some it breaks over,
some it asks for again; and it may die in the middle of a call."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import media_ingest_pb2_grpc as rpc

NEVER, BREAKS, LATER = b"never", b"breaks", b"later"
ASKS_AGAIN = 2

_TABLES = """
CREATE TABLE IF NOT EXISTS offers (n INTEGER PRIMARY KEY, event_id, sequence, kind, sync_id, path, moved_from, content);
CREATE TABLE IF NOT EXISTS pictures (path BLOB PRIMARY KEY, sha256);
"""


@dataclass
class Habits:
    """What is wrong with it: `refuses` some names, does not implement OnBatchSynced, dies with its calls' count."""

    refuses: bool = False
    batches: bool = True
    dies_before_commit: int = 0
    dies_after_commit: int = 0


def refuses(path: bytes) -> bool:
    """Whether one that refuses some names takes this one never."""
    return NEVER in path or BREAKS in path


class NoteTaker(rpc.MediaIngestServicer):
    """Notes in a database of its own."""

    def __init__(self, notes: Path, habits: Habits) -> None:
        self.habits = habits
        self.calls = 0
        self.database = sqlite3.connect(notes, check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.executescript(_TABLES)

    def take(self, events: Any) -> list[pb.EventResult]:
        """Notes that they came, durably, and then takes them in one transaction."""
        self.calls += 1
        with self.transaction():
            for event in events:
                self.note(event)
        if self.habits.refuses and any(BREAKS in event.file.library_path.raw for event in events):
            raise ValueError("broken over a name")
        with self.transaction():
            results = [pb.EventResult(event_id=event.event_id, verdict=self.verdict(event)) for event in events]
            if self.calls == self.habits.dies_before_commit:
                os.kill(os.getpid(), signal.SIGKILL)
        if self.calls == self.habits.dies_after_commit:
            os.kill(os.getpid(), signal.SIGKILL)
        return results

    def transaction(self) -> sqlite3.Connection:
        self.database.execute("BEGIN")
        return self.database

    def note(self, event: pb.Event) -> None:
        file = event.file
        row = (event.event_id, event.sequence, event.type, event.sync_id, file.library_path.raw, file.moved_from.raw)
        content = hashlib.sha256(event.SerializeToString(deterministic=True)).digest()
        self.database.execute("INSERT INTO offers VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", (*row, content))

    def verdict(self, event: pb.Event) -> pb.EventVerdict.ValueType:
        path = event.file.library_path.raw
        if self.habits.refuses and NEVER in path:
            return pb.EVENT_VERDICT_REJECTED
        if self.habits.refuses and LATER in path:
            count = self.database.execute("SELECT count(*) FROM offers WHERE event_id = ?", [event.event_id]).fetchone()[0]
            if count <= ASKS_AGAIN:
                return pb.EVENT_VERDICT_RETRY
        if event.HasField("file"):
            if event.file.HasField("moved_from"):
                self.database.execute("DELETE FROM pictures WHERE path = ?", [event.file.moved_from.raw])
            self.database.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?)", [path, event.file.digest.value])
        return pb.EVENT_VERDICT_ACCEPTED

    def OnBatchSynced(self, request: Any, context: Any) -> pb.OnBatchSyncedResponse:
        if not self.habits.batches:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        return pb.OnBatchSyncedResponse(results=self.take(request.events))

    def OnFileSynced(self, request: Any, context: Any) -> pb.OnFileSyncedResponse:
        return pb.OnFileSyncedResponse(result=self.take([request.event])[0])

    def OnFileProcessed(self, request: Any, context: Any) -> pb.OnFileProcessedResponse:
        return pb.OnFileProcessedResponse(result=self.take([request.event])[0])

    def OnSyncComplete(self, request: Any, context: Any) -> pb.OnSyncCompleteResponse:
        return pb.OnSyncCompleteResponse(result=self.take([request.event])[0])


def serve(address: str, notes: Path, habits: Habits) -> grpc.Server:
    """Starts it at `address`."""
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.max_receive_message_length", 32 << 20)])
    rpc.add_MediaIngestServicer_to_server(NoteTaker(notes, habits), server)
    server.add_insecure_port(address)
    server.start()
    return server
