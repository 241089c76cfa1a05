"""The other side of relay.py: checks who sends, and keeps each event once: `WEBHOOK_SECRET=… python receiver.py 8080 events.db`"""

import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = os.environ["WEBHOOK_SECRET"].encode()
OLDEST_SECONDS = 300  # older ones may have been overheard, and sent again by somebody else
LARGEST_BYTES = 64 << 20


class Events(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > LARGEST_BYTES:
            return self.answer(413)
        body = self.rfile.read(length)
        timestamp = self.headers.get("X-Mediasync-Timestamp", "")
        expected = "sha256=" + hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, self.headers.get("X-Mediasync-Signature", "")):
            return self.answer(401)
        if abs(time.time() - int(timestamp)) > OLDEST_SECONDS:
            return self.answer(401)
        with self.server.database as db:
            for event in json.loads(body).get("events", []):
                shown = event.get("file", {}).get("library_path", {}).get("display", "")
                row = [event["event_id"], event.get("type"), shown, json.dumps(event)]
                db.execute("INSERT INTO events VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


with closing(sqlite3.connect(sys.argv[2])) as database, HTTPServer(("127.0.0.1", int(sys.argv[1])), Events) as server:
    database.execute("CREATE TABLE IF NOT EXISTS events (event_id TEXT PRIMARY KEY, type, path, event)")
    server.database = database
    server.serve_forever()
