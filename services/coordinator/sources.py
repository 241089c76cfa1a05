"""Named sources: those that clients added, and those of the configuration file, which are read only."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec, SshConnection, SyncSpec
from mediasync.paths import display
from services.coordinator.store import Request, Store, StoredSource


class Origin(enum.Enum):
    """Who put a source there."""

    CONFIGURATION = "configuration"
    ADDED = "added"


@dataclass(frozen=True)
class Source:
    """A named source, with the sync that is run by its name. `create_time` is Unix seconds, 0 for the configuration's."""

    name: str
    spec: SyncSpec
    origin: Origin
    create_time: float = 0.0


class Sources:
    """All named sources. Where both have a name, the configuration file's counts."""

    def __init__(self, store: Store, configured: Callable[[], Awaitable[Mapping[str, SyncSpec]]]) -> None:
        self._store = store
        self._configured = configured

    async def get(self, name: str) -> Source:
        """One source. Raises SOURCE_NOT_FOUND, naming the nearest; CONFIGURATION_INVALID when the file cannot be read."""
        known = await self._all()
        if name not in known:
            raise _missing(name, known)
        return known[name]

    async def list(self, limit: int, after: str) -> list[Source]:
        """Sources by name, from the first behind `after`. Raises CONFIGURATION_INVALID when the file cannot be read."""
        known = await self._all()
        return [known[name] for name in sorted(known) if name > after][:limit]

    async def create(self, request: Request, name: str, spec: SyncSpec) -> Source:
        """Adds a source. Raises SOURCE_EXISTS when either kind has the name."""
        if await self._store.answered(request) is None and name in await self._configured():
            raise MediasyncError(
                Reason.SOURCE_EXISTS,
                f"the configuration file has a source {name!r} already",
                "Choose another name, or take it out of the configuration file first.",
            )
        named = dataclasses.replace(spec, source=dataclasses.replace(spec.source, name=name))
        stored = await self._store.create_source(request, StoredSource(name, named, time.time()))
        return Source(stored.name, stored.spec, Origin.ADDED, stored.create_time)

    async def delete(self, request: Request, name: str) -> None:
        """Forgets a source. Raises SOURCE_NOT_FOUND, or SOURCE_IN_CONFIGURATION for one that cannot be forgotten here."""
        known = await self._all()
        if name in known and known[name].origin is Origin.CONFIGURATION:
            raise MediasyncError(Reason.SOURCE_IN_CONFIGURATION, f"the source {name!r} stands in the configuration file")
        await self._store.delete_source(request, name, _missing(name, known))

    async def fill(self, spec: SyncSpec, *, options_given: bool) -> SyncSpec:
        """The sync that `spec` means: one that only names its source is that source's, with what else it says laid over it."""
        if not _only_named(spec.source):
            return spec
        named = (await self.get(spec.source.name)).spec
        return SyncSpec(
            source=named.source,
            dest_path=spec.dest_path or named.dest_path,
            folders=spec.folders or named.folders,
            # To watch is what `mediasync up` does with a source that says so; a sync that is asked for by its name ends.
            options=spec.options if options_given else dataclasses.replace(named.options, watch=False),
            cleanup=spec.cleanup or named.cleanup,
        )

    async def fill_source(self, source: SourceSpec) -> SourceSpec:
        """The place that `source` means, which may be given by its name alone."""
        return (await self.get(source.name)).spec.source if _only_named(source) else source

    async def _all(self) -> dict[str, Source]:
        known = {source.name: Source(source.name, source.spec, Origin.ADDED, source.create_time) for source in await self._store.sources()}
        for name, spec in (await self._configured()).items():
            known[name] = Source(name, spec, Origin.CONFIGURATION)
        return known


def _only_named(source: SourceSpec) -> bool:
    connection = source.connection
    return bool(source.name) and isinstance(connection, SshConnection) and not connection.host


def _missing(name: str, known: Mapping[str, Source]) -> MediasyncError:
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    shown = display(name.encode())[:100]
    if near:
        nearest = folded[near[0]]
        message = f"there is no source {shown!r}; the nearest is {nearest!r}"
        return MediasyncError(Reason.SOURCE_NOT_FOUND, message, metadata={"nearest": nearest})
    if known:
        return MediasyncError(Reason.SOURCE_NOT_FOUND, f"there is no source {shown!r}")
    remedy = (
        "Write it as ssh://[user@]host[:port]/path, docker://container/path or ./path, or name it first: mediasync sources add NAME URL"
    )
    return MediasyncError(Reason.SOURCE_NOT_FOUND, f"there is no source {shown!r}; none has been named yet", remedy)
