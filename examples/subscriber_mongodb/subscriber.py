"""Follows a library into a MongoDB collection: `python subscriber.py 127.0.0.1:50061 mongodb://127.0.0.1:27017 gallery`

Needs `pip install pymongo`. One document a file, found by library and path; everything is an upsert, so that an event that comes twice
changes nothing. A database that is away is answered with UNAVAILABLE: the events wait, none is lost.
"""

import sys
from concurrent import futures

import grpc
import pymongo
from bson import Binary, Int64
from bson.errors import InvalidDocument
from pymongo.errors import BulkWriteError, DocumentTooLarge, PyMongoError

from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import media_ingest_pb2_grpc as rpc

FILE_EVENTS = (pb.EVENT_TYPE_FILE_SYNCED, pb.EVENT_TYPE_FILE_PROCESSED, pb.EVENT_TYPE_FILE_DELETED)
LARGEST_WORKFLOW = 4 << 20  # a document holds 16 MB; what is larger stays in the picture


def key(root, path):
    # Names are bytes, and need not be UTF-8.
    return {"_id": {"root": root, "path": Binary(path)}}


def fields(event):
    file = event.file
    values = {
        "sha256": Binary(file.digest.value),
        "shown": file.library_path.display,
        "size_bytes": Int64(file.size_bytes),
        "media_type": file.media_type,
        "source": event.source,
        "sync_id": event.sync_id,
    }
    if file.HasField("metadata"):
        found = file.metadata
        values |= {"prompt": found.prompt, "negative_prompt": found.negative_prompt, "model": found.model, "loras": list(found.loras)}
        values |= {"seed": str(found.seed) if found.HasField("seed") else None}  # 64 bits without a sign: too large for BSON's
        if len(found.workflow_json) <= LARGEST_WORKFLOW:
            values |= {"workflow_json": Binary(found.workflow_json)}  # JSON as ComfyUI writes it, with a bare NaN here and there
    return values


class Pictures(rpc.MediaIngestServicer):
    def __init__(self, collection):
        # Acknowledged only when it is in the journal, on a majority where there are several servers.
        self.pictures = collection.with_options(write_concern=pymongo.WriteConcern(w="majority", j=True))

    def take(self, events):
        """Writes events, in order."""
        writes = []
        for event in events:
            if event.type not in FILE_EVENTS:
                continue  # of syncs and folders, or of a later version
            here = key(event.file.library_root, event.file.library_path.raw)
            if event.file.HasField("moved_from"):
                self.write(writes)  # what is known of its old name may be among them
                there = key(event.file.library_root, event.file.moved_from.raw)
                # Found again only if this event did not come before: then all that was known goes along.
                if was := self.pictures.find_one(there):
                    writes = [pymongo.ReplaceOne(here, {**was, **fields(event), **here}, upsert=True), pymongo.DeleteOne(there)]
                    continue
            # Deleted means at its source; the library keeps its copy, and so do we.
            at_source = event.type != pb.EVENT_TYPE_FILE_DELETED
            default = {"$setOnInsert": {"at_source": True}} if at_source else {}
            values = fields(event) if at_source else {**fields(event), "at_source": False}
            writes.append(pymongo.UpdateOne(here, {"$set": values, **default}, upsert=True))
        self.write(writes)

    def write(self, writes):
        if writes:
            self.pictures.bulk_write(writes)
            writes.clear()

    def OnBatchSynced(self, request, context):
        try:
            self.take(request.events)
        except (BulkWriteError, DocumentTooLarge, InvalidDocument) as error:
            # One of them cannot be written. Who asks finds out which, by fewer at a time; alone, it says why it will never be.
            if len(request.events) > 1:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:300])
            return pb.OnBatchSyncedResponse(results=[result(request.events[0], pb.EVENT_VERDICT_REJECTED, str(error)[:300])])
        except PyMongoError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error)[:300])
        return pb.OnBatchSyncedResponse(results=[result(event, pb.EVENT_VERDICT_ACCEPTED) for event in request.events])

    def VerifyFileExists(self, request, context):
        wanted = {"_id.path": Binary(request.library_path.raw)}
        if request.library_root:
            wanted = key(request.library_root, request.library_path.raw)
        if request.digest.value:
            wanted["sha256"] = Binary(request.digest.value)
        try:
            return pb.VerifyFileExistsResponse(exists=self.pictures.find_one(wanted, {"_id": 1}) is not None)
        except PyMongoError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error)[:300])


def result(event, verdict, reason=""):
    return pb.EventResult(event_id=event.event_id, verdict=verdict, reason=reason)


if __name__ == "__main__":
    address, url, database = sys.argv[1:]
    pictures = pymongo.MongoClient(url, serverSelectionTimeoutMS=5000)[database]["pictures"]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.max_receive_message_length", 32 << 20)])
    rpc.add_MediaIngestServicer_to_server(Pictures(pictures), server)
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()
