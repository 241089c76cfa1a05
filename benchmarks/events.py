"""Events through the real ingest service: how many a second, with subscribers that fail, from a backlog, how soon, and by pull.

    python -m benchmarks.events                        # everything, about ten minutes
    python -m benchmarks.events --only rate --events 50000
    python -m benchmarks.events --only latency

Publisher, ingest, catalog and subscriber are processes of their own, or the catalog is hosted by ingest, as it is by default; all speak
gRPC over sockets of one data folder, and each publish is answered when it is on the disk. Half of the events are FILE_SYNCED, half
FILE_PROCESSED of the same files with a prompt and a workflow: 1.9 kB each. They are made from templates, because the publisher has to share
the processors. A rate is from the first publish to the last event that the subscriber accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from benchmarks.watching import percentile
from mediasync.runtime.channels import open_channel
from mediasync.runtime.home import Home
from mediasync.v1 import events_pb2 as pb
from mediasync.v1 import media_ingest_pb2 as ingest_pb
from mediasync.v1.events_pb2_grpc import EventsStub
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestServicer, add_MediaIngestServicer_to_server
from tests.fixtures.ingest import file_event
from tests.fixtures.postgres import new_database, running_postgres

BOUND_SECONDS = 1800.0
CALL_EVENTS = 1000
_ID = b"#" * 32
_NUMBER = b"@@@@@@@@"
_METADATA = ingest_pb.GenerationMetadata(
    generator="Forge",
    prompt="a lighthouse at dusk, oil on canvas, " * 9,
    negative_prompt="blurry, " * 10,
    model="sdxl_base_1.0",
    seed=1234567890,
    sampler="Euler a",
    steps=28,
    workflow_json=b'{"class_type":"KSampler","inputs":{"cfg":7}}' * 45,
)
_LABEL = "batch of"


def _template(kind: ingest_pb.EventType.ValueType) -> bytes:
    event = file_event(b"txt2img-images/2026-11-21/" + _NUMBER + b".png", kind, metadata=_METADATA if kind == 2 else None)
    event.event_id = _ID.decode()
    return event.SerializeToString()


def requests(events: int, start: int = 0) -> Iterator[bytes]:
    """Serialised publishes of so many events: of each file first the one kind, then the other."""
    templates = [_template(ingest_pb.EVENT_TYPE_FILE_SYNCED), _template(ingest_pb.EVENT_TYPE_FILE_PROCESSED)]
    heads = [b"\x0a" + _varint(len(template)) for template in templates]
    for first in range(start, start + events, CALL_EVENTS):
        # As random as real ids, which are hashes.
        ids = os.urandom(16 * CALL_EVENTS).hex().encode()
        parts: list[bytes] = []
        for number in range(first, min(first + CALL_EVENTS, start + events)):
            at = (number - first) * 32
            of = number % 2
            parts += (heads[of], templates[of].replace(_NUMBER, b"%08d" % (number // 2)).replace(_ID, ids[at : at + 32]))
        yield b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


class Subscriber(MediaIngestServicer):
    """Takes everything, after a pause where it is told to."""

    def __init__(self, pause_seconds: float = 0.0) -> None:
        self.pause_seconds = pause_seconds
        self.heard: dict[str, float] | None = None

    async def OnBatchSynced(self, request: Any, context: Any) -> ingest_pb.OnBatchSyncedResponse:
        if self.heard is not None:
            self.heard |= dict.fromkeys((event.event_id for event in request.events), time.perf_counter())
        if self.pause_seconds:
            await asyncio.sleep(self.pause_seconds)
        accepted = ingest_pb.EVENT_VERDICT_ACCEPTED
        return ingest_pb.OnBatchSyncedResponse(
            results=[ingest_pb.EventResult(event_id=event.event_id, verdict=accepted) for event in request.events]
        )


async def serve(servicers: dict[str, Subscriber]) -> list[grpc.aio.Server]:
    """A server for each address."""
    servers = []
    for address, servicer in servicers.items():
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 32 << 20)])
        add_MediaIngestServicer_to_server(servicer, server)
        server.add_insecure_port(address)
        await server.start()
        servers.append(server)
    return servers


async def serve_until_killed(addresses: list[str]) -> None:
    """What a process of subscribers does: `ADDRESS` or `ADDRESS=PAUSE_SECONDS` each."""
    pairs = [address.partition("=") for address in addresses]
    servers = await serve({address: Subscriber(float(pause or 0)) for address, _, pause in pairs})
    print("ready", flush=True)
    await asyncio.gather(*(server.wait_for_termination() for server in servers))


@dataclass
class Bench:
    """One data folder with its processes."""

    work: Path
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    channel: grpc.aio.Channel | None = None

    def __post_init__(self) -> None:
        self.home = Home(self.work / "home")
        self.log = (self.work / "log").open("w")

    def address(self, name: str) -> str:
        """A socket of our own."""
        return f"unix:{self.work}/{name}.sock"

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Starts `python -P -m …` on the data folder, and waits until it serves."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEDIASYNC_", "OTEL_", "XDG_"))}
        clean |= {"MEDIASYNC_HOME": str(self.home.path), "XDG_CONFIG_HOME": str(self.work), **self.environment, **environment}
        reading, writing = os.pipe()
        services = not arguments[0].startswith("benchmarks")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(["-P"] if services else []),
            "-m",
            *arguments,
            env=clean | ({"MEDIASYNC_READY_FD": str(writing)} if services else {}),
            pass_fds=[writing],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL if services else writing,
            stderr=self.log,
        )
        os.close(writing)
        self.processes.append(process)
        with os.fdopen(reading) as pipe:
            if not await asyncio.to_thread(pipe.readline):
                raise SystemExit(f"{arguments} did not start: {Path(self.log.name).read_text()}")
        return process

    async def start_ingest(self, *, catalog: str = "hosted") -> asyncio.subprocess.Process:
        """Starts ingest, with the catalog `hosted`, in a process of its `own`, or `paused`."""
        more = {}
        if catalog == "own":
            await self.start("services.ingest.subscribers.catalog", MEDIASYNC_LISTEN="127.0.0.1:0")
            # Any address that is not the one that ingest would host it at.
            link = self.work / "catalog.sock"
            link.symlink_to(self.home.socket_path("catalog"))
            more["MEDIASYNC_CATALOG_ADDRESS"] = f"unix:{link}"
        process = await self.start("services.ingest", **more)
        self.channel = open_channel(self.home.socket_address("ingest"))
        if catalog == "paused":
            await self.stub.PauseSubscription(
                pb.PauseSubscriptionRequest(request_id="pause", name="catalog"), timeout=30, wait_for_ready=True
            )
        return process

    @property
    def stub(self) -> EventsStub:
        """The service."""
        assert self.channel is not None
        return EventsStub(self.channel)

    async def subscribe(self, name: str, address: str, batch_size: int, **start: Any) -> None:
        """Adds a subscription."""
        subscription = pb.Subscription(name=name, address=address, batch_size=batch_size, pull=not address)
        request = pb.AddSubscriptionRequest(request_id=f"add-{name}", subscription=subscription, start=pb.EventStart(**start))
        await self.stub.AddSubscription(request, timeout=30, wait_for_ready=True)

    async def publish(self, events: int, start: int = 0, *, parallel: int = 2) -> None:
        """Publishes, with a few calls at a time."""
        assert self.channel is not None
        call = self.channel.unary_unary("/mediasync.v1.Events/Publish", request_serializer=None, response_deserializer=None)
        source = requests(events, start)

        async def lane() -> None:
            for request in source:
                await call(request, timeout=BOUND_SECONDS, wait_for_ready=True)

        await asyncio.gather(*(lane() for _ in range(parallel)))

    async def delivered(self, name: str, sequence: int) -> None:
        """Waits until a subscription has dealt with everything up to a number."""
        request = pb.WaitDeliveredRequest(subscription=name, sequence=sequence)
        await self.stub.WaitDelivered(request, timeout=BOUND_SECONDS)

    async def stop(self) -> None:
        """Ends everything."""
        if self.channel is not None:
            await self.channel.close()
        for process in reversed(self.processes):
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()
        self.log.close()


def memory_mb(pid: int) -> float:
    """The most that a process had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def busy_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _say(name: str, events: int, seconds: float, pid: int, busy_before: float) -> None:
    cpu = (busy_seconds(pid) - busy_before) / events * 1e6
    print(f"{name}: {events / seconds:,.0f} events/s ({seconds:.1f} s), ingest {cpu:.0f} µs of processor an event, {memory_mb(pid):.0f} MB")


async def rate(bench: Bench, options: argparse.Namespace, *, catalog: str) -> None:
    """One subscriber: the hosted catalog, or one in a process of its own with the catalog in another or held."""
    ingest = await bench.start_ingest(catalog=catalog)
    names = ["catalog"]
    if catalog != "hosted":
        await bench.start("benchmarks.events", "--subscriber", bench.address("s"))
        await bench.subscribe("s", bench.address("s"), options.batch_size)
        names = ["s"] if catalog == "paused" else ["s", "catalog"]
    before, began = busy_seconds(ingest.pid), time.perf_counter()
    await bench.publish(options.events)
    published = time.perf_counter() - began
    await asyncio.gather(*(bench.delivered(name, options.events) for name in names))
    seconds = time.perf_counter() - began
    name = {
        "hosted": "to the hosted catalog",
        "own": f"to a subscriber ({_LABEL} {options.batch_size}) and to the catalog, each a process",
        "paused": f"to a subscriber alone ({_LABEL} {options.batch_size})",
    }[catalog]
    _say(name, options.events, seconds, ingest.pid, before)
    print(f"   published at {options.events / published:,.0f} events/s")


async def ten(bench: Bench, options: argparse.Namespace, *, bad: bool) -> float:
    """Eight good subscribers, with a dead one and one that takes a second a call beside them or not; events a second of the eight."""
    ingest = await bench.start_ingest(catalog="paused")
    good = {f"good{number}": bench.address(f"good{number}") for number in range(8)}
    slow = [bench.address("slow") + "=1"] if bad else []
    await bench.start("benchmarks.events", "--subscriber", *good.values(), *slow)
    for name, address in good.items():
        await bench.subscribe(name, address, options.batch_size)
    if bad:
        await bench.subscribe("slow", bench.address("slow"), options.batch_size)
        await bench.subscribe("dead", bench.address("dead"), options.batch_size)
    events = options.events // 4
    before, began = busy_seconds(ingest.pid), time.perf_counter()
    await bench.publish(events)
    await asyncio.gather(*(bench.delivered(name, events) for name in good))
    seconds = time.perf_counter() - began
    _say(f"to each of eight subscribers, {'a dead and a slow one beside them' if bad else 'alone'}", events, seconds, ingest.pid, before)
    return events / seconds


async def backlog(bench: Bench, options: argparse.Namespace) -> None:
    """A subscriber comes back after a million events."""
    ingest = await bench.start_ingest(catalog="paused")
    await bench.subscribe("s", bench.address("s"), options.batch_size)
    await bench.stub.PauseSubscription(pb.PauseSubscriptionRequest(request_id="hold", name="s"), timeout=30)
    before, began = busy_seconds(ingest.pid), time.perf_counter()
    await bench.publish(options.backlog)
    _say(f"{options.backlog:,} published while nobody listens", options.backlog, time.perf_counter() - began, ingest.pid, before)
    await bench.start("benchmarks.events", "--subscriber", bench.address("s"))
    before = busy_seconds(ingest.pid)
    began = time.perf_counter()
    await bench.stub.ResumeSubscription(pb.ResumeSubscriptionRequest(request_id="go", name="s"), timeout=30)
    await bench.delivered("s", options.backlog)
    seconds = time.perf_counter() - began
    cpu = (busy_seconds(ingest.pid) - before) / options.backlog * 1e6
    print(f"the backlog drained in {seconds:.0f} s: {options.backlog / seconds:,.0f} events/s, {cpu:.0f} µs of processor an event")
    print(
        f"   ingest took {memory_mb(ingest.pid):.0f} MB at most; its log is {bench.home.path.joinpath('ingest.db').stat().st_size >> 20} MB"
    )


async def latency(bench: Bench, options: argparse.Namespace) -> None:
    """One event now and then, from its publish to the subscriber that takes it."""
    await bench.start_ingest()
    subscriber = Subscriber()
    subscriber.heard = {}
    servers = await serve({bench.address("s"): subscriber})
    await bench.subscribe("s", bench.address("s"), options.batch_size)
    taken, answered = [], []
    for number in range(options.pictures):
        event = file_event(b"idle/%d.png" % number, content=b"%d" % number)
        began = time.perf_counter()
        await bench.stub.Publish(pb.EventsPublishRequest(events=[event]), timeout=30)
        answered.append(time.perf_counter() - began)
        await bench.delivered("s", number + 1)
        taken.append(subscriber.heard[event.event_id] - began)
        await asyncio.sleep(0.1)
    for name, values in (("publish to durable", answered), ("publish to the subscriber", taken)):
        print(f"idle, {name}: median {statistics.median(values) * 1e3:.0f} ms, p99 {percentile(values, 0.99) * 1e3:.0f} ms")
    for server in servers:
        await server.stop(None)


async def pull(bench: Bench, options: argparse.Namespace) -> None:
    """A reader with a cursor, which acknowledges each page, while it is published."""
    ingest = await bench.start_ingest(catalog="paused")
    await bench.subscribe("reader", "", options.batch_size)
    before, began = busy_seconds(ingest.pid), time.perf_counter()
    publishing = asyncio.create_task(bench.publish(options.events))
    request = pb.EventsSubscribeRequest(name="reader", follow=True, batch_size=options.batch_size)
    seen = 0
    stream = bench.stub.Subscribe(request)
    async for page in stream:
        seen += len(page.events)
        if page.events:
            await bench.stub.Ack(pb.EventsAckRequest(name="reader", token=page.token), timeout=30)
        if seen == options.events:
            break
    stream.cancel()
    await publishing
    _say(f"to a pull reader ({_LABEL} {options.batch_size})", options.events, time.perf_counter() - began, ingest.pid, before)


async def in_postgres(run: Callable[..., Awaitable[Any]]) -> None:
    """The same with the log, and then the catalog too, in a PostgreSQL that flushes each commit."""
    with running_postgres(durable=True) as sockets:
        if sockets is None:
            print("PostgreSQL: not installed")
            return
        for catalog in ("paused", "hosted"):
            url = new_database(sockets).url
            print("the log and the catalog in PostgreSQL,")
            names = ("MEDIASYNC_INGEST__LOG_CONNECTION_STRING", "MEDIASYNC_INGEST__CONNECTION_STRING")
            await run(rate, environment=dict.fromkeys(names, url), catalog=catalog)


async def measure(options: argparse.Namespace) -> None:
    """Prints what was measured."""
    print(
        f"{options.events:,} events; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}"
    )

    async def run(play: Callable[..., Awaitable[Any]], *, environment: dict[str, str] | None = None, **more: Any) -> Any:
        work = Path(tempfile.mkdtemp(prefix="events-", dir=options.work))
        bench = Bench(work, environment or {})
        try:
            return await play(bench, options, **more)
        finally:
            await bench.stop()
            shutil.rmtree(work)

    wanted = options.only or ["rate", "ten", "backlog", "latency", "pull", "postgres"]
    if "latency" in wanted:
        await run(latency)
    if "rate" in wanted:
        for catalog in ("hosted", "paused", "own"):
            await run(rate, catalog=catalog)
    if "pull" in wanted:
        await run(pull)
    if "postgres" in wanted:
        await in_postgres(run)
    if "ten" in wanted:
        alone = await run(ten, bad=False)
        beside = await run(ten, bad=True)
        print(f"   the eight keep {100 * beside / alone:.0f} % of their rate")
    if "backlog" in wanted:
        await run(backlog)
    print(json.dumps({"load": os.getloadavg()[0]}))


def main() -> None:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=["rate", "ten", "backlog", "latency", "pull", "postgres"])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=100, help="events of the latency measurement")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--work", type=Path, help="where data folders are made; the system's temporary folder")
    parser.add_argument("--subscriber", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    asyncio.run(serve_until_killed(options.subscriber) if options.subscriber else measure(options))


if __name__ == "__main__":
    main()
