from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import asyncio, mediasync, uvloop, grpc.aio, sys

async def main():
    server = grpc.aio.server()
    server.add_insecure_port("unix:" + sys.argv[1])
    await server.start()
    channel = grpc.aio.insecure_channel("unix:" + sys.argv[1])
    await channel.channel_ready()

    async def busy():
        while True:
            try:
                await channel.unary_unary("/no/service")(b"")
            except grpc.aio.AioRpcError:
                pass

    calls = [asyncio.create_task(busy()) for _ in range(4)]
    codes = [await (await asyncio.create_subprocess_exec("true")).wait() for _ in range(200)]
    for call in calls:
        call.cancel()
    await channel.close()
    await server.stop(None)
    print(sorted(set(codes)))

uvloop.run(main())
"""


def test_a_busy_service_can_start_programs_that_live(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", _PROGRAM, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert result.stdout == "[0]\n"
