"""A delivery happens later and in another task, and still belongs to the trace and the sync that the event came from."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import grpc
import grpc.aio

from mediasync.runtime import context
from mediasync.runtime.home import Home
from mediasync.v1 import events_pb2
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, StartProcess, file_event, sync_event


async def test_the_subscribers_call_is_part_of_the_syncs_trace_also_after_a_restart(tmp_path: Path, start_process: StartProcess) -> None:
    home = Home(tmp_path / "home")
    traces = {"sync_a": "a" * 32, "sync_b": "b" * 32}
    doomed = await start_process("services.ingest", home.path, {"MEDIASYNC_CRASH_AT": "ingest.before_delivery"})
    ingest = Ingest(home)
    for sync_id, trace in traces.items():
        request = events_pb2.EventsPublishRequest(events=[file_event(f"{sync_id}.png".encode(), sync_id=sync_id), sync_event(sync_id)])
        parent = f"00-{trace}-{'1' * 16}-01"
        if sync_id == "sync_a":
            # The answer may or may not come before the kill; the events are in the log either way.
            with context.resumed(sync_id, parent), contextlib.suppress(grpc.aio.AioRpcError):
                await ingest.events.Publish(request, timeout=BOUND_SECONDS)
            await doomed.ended()
            running = await start_process("services.ingest", home.path)
        else:
            with context.resumed(sync_id, parent):
                await ingest.events.Publish(request, timeout=BOUND_SECONDS, wait_for_ready=True)
    await ingest.delivered(4)
    await ingest.close()
    assert await running.stop() == 0

    spans = [json.loads(line) for line in (home.logs / "ingest.spans.jsonl").read_text().splitlines()]
    served = {"mediasync.v1.MediaIngest/OnBatchSynced", "mediasync.v1.MediaIngest/OnSyncComplete"}
    found = {(span["name"], span["trace_id"], span["attributes"].get("sync.id")) for span in spans if span["name"] in served}
    assert found == {(name, trace, sync_id) for name in served for sync_id, trace in traces.items()}
