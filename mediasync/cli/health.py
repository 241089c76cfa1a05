"""What runs, how it is, and what it needs: gathered from the supervisor, the services' health and the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mediasync.local.control import SOCKET_NAME, ControlClient
from mediasync.runtime.home import Home

_NAMES = ("progress", "ingest", "catalog", "transfer", "cleanup", "coordinator")
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class ServiceRow:
    """One service. `health` is `serving`, `not serving` or `no answer`. Memory is resident bytes, its helper processes included;
    `pss_bytes` counts pages that processes share in equal parts. 0 where unknown."""

    name: str
    state: str
    addresses: tuple[str, ...]
    health: str = ""
    pid: int = 0
    restarts: int = 0
    version: str = ""
    started: float = 0.0
    rss_bytes: int = 0
    pss_bytes: int = 0


@dataclass(frozen=True)
class Overview:
    """All of it. `supervisor` is None where services were started one by one; memory is the sum, the supervisor's own included."""

    running: bool
    home: str
    supervisor: Mapping[str, Any] | None
    services: Sequence[ServiceRow]
    rss_bytes: int = 0
    pss_bytes: int = 0


async def overview(home: Home) -> Overview:
    """What runs on the data folder `home`."""
    supervisor, rows = await _supervised(home) or (None, await _alone(home))
    rows = list(await asyncio.gather(*(_with_health(row) for row in rows)))
    children = _children()
    rows = [_with_memory(row, children) for row in rows]
    own_rss, own_pss = _memory(int(supervisor["pid"])) if supervisor else (0, 0)
    return Overview(
        running=bool(rows),
        home=str(home.path),
        supervisor=supervisor,
        services=rows,
        rss_bytes=own_rss + sum(row.rss_bytes for row in rows),
        pss_bytes=own_pss + sum(row.pss_bytes for row in rows),
    )


async def remote_overview(address: str) -> Overview:
    """What can be seen of services at an address: whether the coordinator is well."""
    row = await _with_health(ServiceRow("coordinator", "", (address,)))
    return Overview(row.health != "no answer", "", None, [row])


async def _supervised(home: Home) -> tuple[Mapping[str, Any], list[ServiceRow]] | None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            control = await ControlClient.connect(str(home.run / SOCKET_NAME))
            try:
                answer: dict[str, Any] = await control.ask({"op": "status"})
            finally:
                await control.close()
    except (OSError, TimeoutError):
        return None
    rows = [ServiceRow(**{**child, "addresses": tuple(child["addresses"])}) for child in answer["children"]]
    return answer["supervisor"], rows


async def _alone(home: Home) -> list[ServiceRow]:
    """Services that were started one by one, told by their sockets and the process ids in their locks."""
    rows = []
    for name in _NAMES:
        try:
            _, writer = await asyncio.open_unix_connection(str(home.socket_path(name)))
        except OSError:
            continue
        writer.close()
        pid = 0
        with contextlib.suppress(OSError, ValueError):
            pid = int((home.run / f"{name}.lock").read_text())
        rows.append(ServiceRow(name, "ready", (home.socket_address(name),), pid=pid))
    return rows


async def _with_health(row: ServiceRow) -> ServiceRow:
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from mediasync.runtime.channels import open_channel

    if not row.addresses:
        return replace(row, health="no answer")
    async with open_channel(row.addresses[0]) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_SECONDS)
        except grpc.aio.AioRpcError:
            return replace(row, health="no answer")
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return replace(row, health="serving" if serving else "not serving")


def _with_memory(row: ServiceRow, children: Mapping[int, list[int]]) -> ServiceRow:
    if not row.pid:
        return row
    rss = pss = 0
    waiting = [row.pid]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        own_rss, own_pss = _memory(pid)
        rss, pss = rss + own_rss, pss + own_pss
    return replace(row, rss_bytes=rss, pss_bytes=pss)


def _children() -> dict[int, list[int]]:
    """Process ids by their parents'."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name, in parentheses, may hold anything; what follows the last one is numbers.
                parent = int(Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    return children


def _memory(pid: int) -> tuple[int, int]:
    """Resident and proportional bytes of a process; 0 where the kernel does not say."""
    values = {"Rss": 0, "Pss": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in values:
                values[name] = int(value.split()[0]) * 1024
    if not values["Rss"]:
        with contextlib.suppress(OSError, IndexError, ValueError):
            values["Rss"] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return values["Rss"], values["Pss"]
