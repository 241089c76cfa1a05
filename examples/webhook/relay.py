"""Sends every batch of events as an HTTP POST: `WEBHOOK_SECRET=… python relay.py 127.0.0.1:50061 http://127.0.0.1:8080/events`

The body is the batch as JSON (protobuf's own mapping: bytes in base64, 64-bit numbers as strings). Two headers say that it is from us:

    X-Mediasync-Timestamp: Unix seconds
    X-Mediasync-Signature: sha256= and the HMAC-SHA256, in hex, of the timestamp, a full stop and the body, with the secret as key

receiver.py shows how they are checked. What the other side answers is what becomes of the events: 2xx, they are taken, for good; 400, 413,
415 or 422, they never will be; anything else, or nothing, and they wait and come again.
"""

import hashlib
import hmac
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from concurrent import futures

import grpc
from google.protobuf.json_format import MessageToJson

from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import media_ingest_pb2_grpc as rpc

# Of these the events are the cause. A wrong secret (401) or path (404) is none: for that no event is given up.
NEVER = {400, 413, 415, 422}
SECONDS = 20  # less than the 30 that we have to answer


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected becomes a GET, and loses what it carried."""

    def redirect_request(self, *arguments):
        return None


class Relay(rpc.MediaIngestServicer):
    def __init__(self, url, secret):
        self.url = url
        self.secret = secret
        self.opener = urllib.request.build_opener(NoRedirect)

    def post(self, body):
        """The status of the answer."""
        timestamp = str(int(time.time()))
        signature = hmac.new(self.secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Mediasync-Timestamp": timestamp,
            "X-Mediasync-Signature": f"sha256={signature}",
        }
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with self.opener.open(request, timeout=SECONDS) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def OnBatchSynced(self, request, context):
        body = MessageToJson(request, preserving_proto_field_name=True, indent=None).encode()
        try:
            status = self.post(body)
        except (OSError, http.client.HTTPException) as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{self.url} does not answer: {error}")
        if status in NEVER and len(request.events) == 1:
            verdict, reason = pb.EVENT_VERDICT_REJECTED, f"the webhook answered {status}"
        elif status in NEVER:
            # It is one of them. Who sends them finds out which, by fewer at a time.
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the webhook answered {status}")
        elif 200 <= status < 300:
            verdict, reason = pb.EVENT_VERDICT_ACCEPTED, ""
        else:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"the webhook answered {status}")
        results = [pb.EventResult(event_id=event.event_id, verdict=verdict, reason=reason) for event in request.events]
        return pb.OnBatchSyncedResponse(results=results)

    def OnSyncComplete(self, request, context):
        answer = self.OnBatchSynced(pb.OnBatchSyncedRequest(events=[request.event]), context)
        return pb.OnSyncCompleteResponse(result=answer.results[0])


if __name__ == "__main__":
    address, url = sys.argv[1:]
    secret = os.environ.get("WEBHOOK_SECRET", "").encode()
    if not secret:
        sys.exit("WEBHOOK_SECRET is empty: nobody could tell our events from another's")
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.max_receive_message_length", 32 << 20)])
    rpc.add_MediaIngestServicer_to_server(Relay(url, secret), server)
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()
