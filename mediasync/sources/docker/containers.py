"""The container that a source means: by name or id, by label, or by the service of a compose project."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.sources.docker.engine import Engine, EngineError
from mediasync.suggest import nearest

_SERVICE = "com.docker.compose.service"
_PROJECT = "com.docker.compose.project"
_NUMBER = "com.docker.compose.container-number"
_SWARM = "com.docker.swarm.service.name"
_MAX_NAMED = 12


@dataclass(frozen=True)
class Mount:
    """What a container has in place of a folder of its image. `source` is where the engine has it, empty where that is nowhere in its file
    system."""

    target: bytes
    source: bytes = b""
    writable: bool = False


@dataclass(frozen=True)
class Container:
    """A container as it is now. `state` is the engine's word: created, running, paused, restarting, exited, dead. `home` is what its
    environment says, empty where it says nothing. `pid` is the number that its first process has where the engine runs, 0 if there is none.
    """

    id: str
    name: str
    state: str
    home: bytes
    user: str
    platform: str
    pid: int = 0
    mounts: tuple[Mount, ...] = ()

    @property
    def running(self) -> bool:
        """Whether a program can be started in it."""
        return self.state == "running"

    def stopped(self) -> MediasyncError:
        """The error for one in which nothing can be started."""
        how = "Resume it with `docker unpause`." if self.state == "paused" else ""
        return MediasyncError(Reason.CONTAINER_STOPPED, f"the container {self.name} does not run ({self.state})", how)


async def find(engine: Engine, wanted: str) -> Container:
    """The container. Raises CONTAINER_NOT_FOUND, which names near ones; a label or a service has to lead to exactly one."""
    if wanted.startswith(("label:", "service:")):
        found = await _filtered(engine, wanted)
    else:
        found = wanted
    try:
        details = await engine.json(f"containers/{found}/json")
    except EngineError as error:
        if error.status != 404:
            raise _refused(engine, error) from error
        raise await _missing(engine, wanted) from error
    return _container(details, wanted)


def _container(details: Any, wanted: str) -> Container:
    try:
        state, config = details["State"], details["Config"]
        environment = [str(item) for item in config.get("Env") or ()]
        home = next((item.partition("=")[2] for item in environment if item.startswith("HOME=")), "")
        name = _name(str(details["Name"])) or wanted
        platform = f"{details.get('Platform', '')} {config.get('Image') or ''}".strip()
        return Container(
            str(details["Id"]),
            name,
            str(state["Status"]),
            home.encode(),
            str(config.get("User") or ""),
            platform,
            int(state.get("Pid") or 0),
            tuple(_mounts(details)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MediasyncError(
            Reason.SOURCE_PROTOCOL, f"the Docker engine describes {wanted} in a way that cannot be read: {error}"
        ) from error


def _mounts(details: Any) -> Iterator[Mount]:
    for item in details.get("Mounts") or ():
        source = str(item.get("Source") or "") if item.get("Type") in ("bind", "volume") else ""
        yield Mount(str(item["Destination"]).encode(), source.encode(), bool(item.get("RW")))
    for target in (details.get("HostConfig") or {}).get("Tmpfs") or ():
        yield Mount(str(target).encode())


def _refused(engine: Engine, error: EngineError) -> MediasyncError:
    return MediasyncError(Reason.SOURCE_PROTOCOL, f"{engine.place} refuses to say what it has: {error.message}")


async def _filtered(engine: Engine, wanted: str) -> str:
    """The id of the one container with a label, or of a service."""
    kind, _, rest = wanted.partition(":")
    if kind == "label":
        choices: Sequence[Sequence[str]] = [[rest]]
    else:
        project, _, service = rest.rpartition(":")
        choices = [[f"{_SERVICE}={service}", *([f"{_PROJECT}={project}"] if project else [])], [f"{_SWARM}={rest.replace(':', '_')}"]]
    for labels in choices:
        found = await _listed(engine, labels)
        # One that runs comes before those that a former run left behind.
        found = [item for item in found if item.get("State") == "running"] or found
        if len(found) > 1 and kind == "service":
            # The replicas of a service of one project are alike: the first of them, always.
            projects = {(item.get("Labels") or {}).get(_PROJECT, "") for item in found}
            if len(projects) == 1:
                found = sorted(found, key=_replica)[:1]
        if len(found) > 1:
            names = ", ".join(sorted(_label(item, kind) for item in found)[:_MAX_NAMED])
            how = "docker://service:PROJECT:NAME/path" if kind == "service" else "docker://NAME/path"
            message = f"{wanted} stands for {len(found)} containers: {names}"
            raise MediasyncError(Reason.CONTAINER_NOT_FOUND, message, f"Name one of them, as in {how}.")
        if found:
            return str(found[0]["Id"])
    raise await _missing(engine, wanted)


def _replica(item: Mapping[str, Any]) -> tuple[int, str]:
    number = str((item.get("Labels") or {}).get(_NUMBER, ""))
    return int(number) if number.isdigit() else 0, str(item.get("Id"))


def _label(item: Mapping[str, Any], kind: str) -> str:
    project = (item.get("Labels") or {}).get(_PROJECT, "") if kind == "service" else ""
    name = next(iter(_names(item)), str(item.get("Id"))[:12])
    return f"{name} (project {display(str(project).encode())})" if project else name


async def _listed(engine: Engine, labels: Sequence[str]) -> list[Mapping[str, Any]]:
    params = {"all": "true"} | ({"filters": json.dumps({"label": list(labels)})} if labels else {})
    try:
        return list(await engine.json("containers/json", params=params))
    except EngineError as error:
        raise _refused(engine, error) from error


async def _missing(engine: Engine, wanted: str) -> MediasyncError:
    """The error for a container that is not there, with what is."""
    found = await _listed(engine, ())
    kind = wanted.partition(":")[0]
    if kind == "service":
        what, plural = "service", "services"
        names = {str(labels[_SERVICE]) for item in found if _SERVICE in (labels := item.get("Labels") or {})}
        meant = wanted.rpartition(":")[2]
    elif kind == "label":
        what, plural = "container with the label", "labels"
        names = {f"{key}={value}" for item in found for key, value in (item.get("Labels") or {}).items()}
        meant = wanted.partition(":")[2]
    else:
        what, plural, meant = "container", "containers", wanted
        names = {name for item in found for name in _names(item)}
    shown = sorted(display(name.encode("utf-8", "replace"))[:100] for name in names)
    near = nearest(meant, shown)
    if near:
        there = f"the nearest is {near}"
    elif shown:
        more = f" and {len(shown) - _MAX_NAMED} more" if len(shown) > _MAX_NAMED else ""
        there = f"there is {', '.join(shown[:_MAX_NAMED])}{more}"
    else:
        there = f"it has no {plural}"
    message = f"there is no {what} {meant} at {engine.endpoint.url}; {there}"
    return MediasyncError(Reason.CONTAINER_NOT_FOUND, message, metadata={"nearest": near} if near else {})


def _names(item: Mapping[str, Any]) -> list[str]:
    return [_name(str(name)) for name in item.get("Names") or () if "/" not in str(name).lstrip("/")]


def _name(text: str) -> str:
    return display(text.lstrip("/").encode("utf-8", "replace"))
