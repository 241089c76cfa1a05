"""A long line on loopback: a TCP proxy with a round trip and a rate, run as a process of its own so that it costs the measured
programs nothing.

    python -m benchmarks.line --to 127.0.0.1:2222 --round-trip-ms 100 --rate-mbit 1000

prints the port it listens on. All connections share the rate, each direction has its own; bytes leave half a round trip after
their turn came.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import deque

_CHUNK = 128 << 10


class Direction:
    """One direction of the line: when it is free again, shared by all connections."""

    def __init__(self, bytes_per_second: float, delay_seconds: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.delay_seconds = delay_seconds
        self.free_at = 0.0
        # What may be under way: everything the line holds, and a router's buffer behind it.
        self.capacity_bytes = int(bytes_per_second * delay_seconds * 2) + (4 << 20)

    def due(self, now: float, size: int) -> float:
        """When `size` bytes that are sent now arrive."""
        self.free_at = max(now, self.free_at) + size / self.bytes_per_second
        return self.free_at + self.delay_seconds


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
    """Carries one connection's bytes in one direction."""
    loop = asyncio.get_running_loop()
    under_way: deque[tuple[float, bytes]] = deque()
    state = {"bytes": 0, "ended": False}
    changed = asyncio.Condition()

    async def take() -> None:
        while data := await reader.read(_CHUNK):
            async with changed:
                await changed.wait_for(lambda: state["bytes"] < direction.capacity_bytes)
                under_way.append((direction.due(loop.time(), len(data)), data))
                state["bytes"] += len(data)
                changed.notify_all()
        async with changed:
            state["ended"] = True
            changed.notify_all()

    async def give() -> None:
        while True:
            async with changed:
                await changed.wait_for(lambda: bool(under_way) or bool(state["ended"]))
                if not under_way:
                    break
                due, data = under_way.popleft()
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(data)
            await writer.drain()
            async with changed:
                state["bytes"] -= len(data)
                changed.notify_all()
        with contextlib.suppress(OSError):
            writer.write_eof()

    taking = asyncio.create_task(take())
    try:
        await give()
    finally:
        taking.cancel()


async def serve(host: str, port: int, listen: str, round_trip_ms: float, rate_mbit: float) -> None:
    """Listens on a port of the system's choosing until cancelled."""
    bytes_per_second, delay = rate_mbit * 1e6 / 8, round_trip_ms / 2000
    up, down = Direction(bytes_per_second, delay), Direction(bytes_per_second, delay)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(carry(reader, far_writer, up), carry(far_reader, writer, down))
        except OSError:
            pass  # either end hung up
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(connected, listen, 0, limit=4 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--listen", default="127.0.0.1", metavar="HOST")
    parser.add_argument("--round-trip-ms", type=float, default=100.0)
    parser.add_argument("--rate-mbit", type=float, default=1000.0)
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(host, int(port), options.listen, options.round_trip_ms, options.rate_mbit))


if __name__ == "__main__":
    main()
