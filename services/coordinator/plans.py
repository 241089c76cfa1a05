"""What is begun at its times: the configuration's schedules, and the clean-ups of sources that are watched, whose syncs never end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from mediasync.model import JobKind, SyncSpec
from mediasync.times import Times, parse_times

WATCHED_TIMES = "every 15m"
"""When a source that is watched is cleaned up, unless its clean-up has a schedule of its own."""


@dataclass(frozen=True)
class Plan:
    """A job that is begun at its times. `source` is a source's name, or that of a clean-up target."""

    name: str
    kind: JobKind
    source: str
    times: Times
    spec: SyncSpec


def cleanup_name(source: str) -> str:
    """The name of the schedule of a clean-up."""
    return f"cleanup:{source}"


def plans_of(
    sources: Mapping[str, SyncSpec], syncs: Mapping[str, str], cleanups: Mapping[str, tuple[str, str, SyncSpec]]
) -> dict[str, Plan]:
    """The plans by their names. `syncs` are times by the names of sources; `cleanups` are source, times and spec by the names of what is
    cleaned up."""
    found = {}
    for name, times in syncs.items():
        spec = sources[name]
        # One that is watched brings every file as it appears.
        if not spec.options.watch:
            found[name] = Plan(name, JobKind.SYNC, name, parse_times(times), spec)
    for name, (source, times, spec) in cleanups.items():
        plan = cleanup_name(name)
        found[plan] = Plan(plan, JobKind.CLEANUP, source, parse_times(times), _ending(spec))
    for name, spec in sources.items():
        plan = cleanup_name(name)
        if spec.options.watch and spec.cleanup and spec.cleanup.after_sync and plan not in found:
            found[plan] = Plan(plan, JobKind.CLEANUP, name, parse_times(WATCHED_TIMES), _ending(spec))
    return found


def _ending(spec: SyncSpec) -> SyncSpec:
    return dataclasses.replace(spec, options=dataclasses.replace(spec.options, watch=False, restore=False))
