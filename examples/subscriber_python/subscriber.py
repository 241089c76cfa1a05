"""Follows a library into a SQLite table of its own: `python subscriber.py 127.0.0.1:50061 pictures.db`"""

import sqlite3
import sys
from concurrent import futures

import grpc

from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import media_ingest_pb2_grpc as rpc


class Pictures(rpc.MediaIngestServicer):
    def __init__(self, database):
        self.db = sqlite3.connect(database, check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS pictures (path BLOB PRIMARY KEY, sha256, prompt, seed, at_source DEFAULT 1)")

    def take(self, event):
        path, sha256, found = event.file.library_path.raw, event.file.digest.value, event.file.metadata
        if event.file.HasField("moved_from"):  # found under another name; where it was, it is no more
            old = [path, event.file.moved_from.raw, sha256]
            self.db.execute("UPDATE OR REPLACE pictures SET path = ? WHERE path = ? AND sha256 = ?", old)
        if event.type in (pb.EVENT_TYPE_FILE_SYNCED, pb.EVENT_TYPE_FILE_PROCESSED):
            self.db.execute("INSERT INTO pictures (path) VALUES (?) ON CONFLICT DO NOTHING", [path])
            self.db.execute("UPDATE pictures SET sha256 = ? WHERE path = ?", [sha256, path])
        if event.type == pb.EVENT_TYPE_FILE_PROCESSED:
            seed = str(found.seed) if found.HasField("seed") else None  # 64 bits without a sign: too large for a column
            self.db.execute("UPDATE pictures SET prompt = ?, seed = ? WHERE path = ?", [found.prompt, seed, path])
        if event.type == pb.EVENT_TYPE_FILE_DELETED:
            self.db.execute("UPDATE pictures SET at_source = 0 WHERE path = ?", [path])
        return pb.EventResult(event_id=event.event_id, verdict=pb.EVENT_VERDICT_ACCEPTED)

    def OnBatchSynced(self, request, context):
        with self.db:  # one transaction: when it fails, nothing of it stays, and the same events come again
            return pb.OnBatchSyncedResponse(results=[self.take(event) for event in request.events])

    def VerifyFileExists(self, request, context):
        row = self.db.execute("SELECT sha256 FROM pictures WHERE path = ?", [request.library_path.raw]).fetchone()
        return pb.VerifyFileExistsResponse(exists=row is not None and request.digest.value in (b"", row[0]))


server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.max_receive_message_length", 32 << 20)])
rpc.add_MediaIngestServicer_to_server(Pictures(sys.argv[2]), server)
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
