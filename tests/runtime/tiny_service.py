"""A service process for tests: an OddProgress on a data folder. `TINY` names an oddity of its own."""

from __future__ import annotations

import asyncio
import os

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime import crash
from mediasync.runtime.service import Service, run_service
from mediasync.v1 import progress_pb2_grpc
from tests.fixtures.runtime import PROGRESS_NAME, OddProgress


async def wire(service: Service) -> None:
    oddity = os.environ.get("TINY", "")
    service.add(progress_pb2_grpc.add_ProgressServicer_to_server, OddProgress(service), PROGRESS_NAME)
    match oddity:
        case "refuses":
            raise MediasyncError(Reason.CONFIGURATION_INVALID, "The key x is wrong.", "Remove it.")
        case "bug":
            raise KeyError("x")
        case "waits":
            (service.home.path / "waiting").touch()
            await asyncio.Event().wait()
        case "task-fails":
            service.spawn(fail(service), "failing")
        case "crashes":
            for _ in range(3):
                crash.point("tiny.other")
                crash.point("tiny.here")
        case "two":
            await service.listen_also("second", [(progress_pb2_grpc.add_ProgressServicer_to_server, OddProgress(), PROGRESS_NAME)])

    async def stopped() -> None:
        (service.home.path / "stopped").write_text(service.name)

    service.on_stop(stopped)


async def fail(service: Service) -> None:
    raise ValueError(f"{service.name} went wrong in the background")


if __name__ == "__main__":
    run_service("tiny", wire)
