"""What is deleted at sources, and what is begun at its times: the policy that counts for each source and target, and mistakes that several
keys make.

The nearest place counts for each key by itself: the source's own `cleanup:` and flat keys, those below `sync:`, the section at the top.
Sources that stand in the configuration are cleaned up after each sync unless it says `enabled: false`; nothing else is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mediasync import cleanup_policy
from mediasync.config import schema, tree
from mediasync.config.tree import Mistake, Table
from mediasync.model import AgeBasis, CleanupPolicy, LocalConnection, SourceSpec, SourceType, SyncOptions, SyncSpec
from mediasync.times import OFF

DEFAULT_POLICY = CleanupPolicy(after_sync=True)
FLAT = {"enable_cleanup": "enabled", "cleanup_age_hours": "age_hours", "cleanup_dry_run": "dry_run"}
"""The keys of a sync that say the same as one of `cleanup:`."""
_KEYS = {"after_sync": "enabled"}
TOP: tree.Path = ("cleanup",)


@dataclass(frozen=True)
class Layer:
    """What one place says: values by the keys of `cleanup:`, and the path of each as it is written."""

    values: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, tree.Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Cleaned:
    """A source or target: what counts for its clean-ups, when they are begun (empty for not by themselves), and where each key that
    somebody wrote is. `source` is the named source that a target is, empty for one that is a folder of this machine."""

    path: tree.Path
    policy: CleanupPolicy
    times: str
    paths: Mapping[str, tree.Path]
    source: str = ""


def of_source(typed: schema.Root, name: str, default_source: str) -> Cleaned:
    """What counts for a named source; `default_source` is the name of the older single form's."""
    section = None if name == default_source else (typed.sources or {}).get(name)
    path: tree.Path = ("sync",) if section is None else ("sources", name)
    layers = _of_source(typed, section, path)
    # Where there are targets, the section's times are theirs.
    top = _layer(typed.cleanup, TOP, without=("schedule",) if typed.cleanup and typed.cleanup.targets else ())
    return _counted(path, [*layers, top])


def of_target(typed: schema.Root, place: int, default_source: str) -> Cleaned:
    """What counts for the target at `place` of the section at the top."""
    assert typed.cleanup and typed.cleanup.targets
    target = typed.cleanup.targets[place]
    path: tree.Path = (*TOP, "targets", place)
    name = source_of(target)
    section = None if name == default_source else (typed.sources or {}).get(name)
    below = _of_source(typed, section, ("sources", name) if section else ("sync",), without=("schedule",)) if name else []
    top = _layer(typed.cleanup, TOP)
    # The section that a target stands in is nearer than its source.
    return replace(_counted(path, [_layer(target, path), top, *below]), source=name)


def source_of(target: schema.CleanupTarget) -> str:
    """The named source that a target is; empty for a folder of this machine."""
    return target.source or ("" if target.path else target.name)


Scheduled = dict[str, tuple[str, str, SyncSpec]]
"""Source, times and spec of each clean-up that is begun by itself, by the name of its source or target."""


def applied(
    typed: schema.Root, sources: Mapping[str, SyncSpec], options: SyncOptions, default_source: str
) -> tuple[dict[str, SyncSpec], Scheduled]:
    """The sources with the policies that count for them, those targets among them that are folders of this machine; and what is begun at
    its times. `options` are those of every sync."""
    found: dict[str, SyncSpec] = {}
    scheduled: Scheduled = {}
    for name, spec in sources.items():
        own = of_source(typed, name, default_source)
        found[name] = replace(spec, cleanup=own.policy)
        if own.times:
            scheduled[name] = (name, own.times, found[name])
    targets = (typed.cleanup.targets or ()) if typed.cleanup else ()
    shares = Counter(source_of(target) for target in targets)
    for place, target in enumerate(targets):
        cleaned = of_target(typed, place, default_source)
        name = cleaned.source
        if not name:
            spec = found[target.name] = _folder(target, options, cleaned.policy)
        else:
            spec = replace(found[name], folders=target.folders or found[name].folders, cleanup=cleaned.policy)
            # What a target keeps, the clean-up after a sync of its source is to keep too. Where there are several, or it is about some
            # folders only, each has its own times.
            whole = shares[name] == 1 and not target.folders
            found[name] = replace(found[name], cleanup=replace(cleaned.policy, after_sync=whole and cleaned.policy.after_sync))
        if cleaned.times:
            scheduled[target.name] = (name or target.name, cleaned.times, spec)
    return found, scheduled


def _folder(target: schema.CleanupTarget, options: SyncOptions, policy: CleanupPolicy) -> SyncSpec:
    """A target that is a folder of this machine. It has no name of its own: what was synced from the same folder is on record under its
    path."""
    assert target.path is not None
    source = SourceSpec(LocalConnection(), os.fsencode(target.path), SourceType.LOCAL)
    return SyncSpec(source, "", target.folders or (), replace(options, watch=False, restore=False), policy)


def mistakes(typed: schema.Root, root: Table, names: Sequence[str], default_source: str) -> Iterator[Mistake]:
    """Mistakes that several keys make together. `names` are those of the sources."""
    told = set()
    found = [of_source(typed, name, default_source) for name in names]
    targets = (typed.cleanup.targets or ()) if typed.cleanup else ()
    seen: set[str] = set()
    for place, target in enumerate(targets):
        path: tree.Path = (*TOP, "targets", place)
        if target.name in seen:
            yield _at(root, (*path, "name"), "another target has this name already; choose another")
        seen.add(target.name)
        if target.path and target.source:
            yield _at(root, (*path, "source"), "is where `path` would be; keep one of them")
        elif target.path and target.name in names:
            yield _at(root, (*path, "name"), "a source has this name; choose another, or write `source:` in place of `path`")
        elif not target.path and source_of(target) not in names:
            key = "source" if target.source else "path"
            said = f"there is no source `{target.source}` here" if target.source else "missing; say a folder of this machine, or a `source`"
            yield _at(root, (*path, key), said)
            continue
        found.append(of_target(typed, place, default_source))
    for cleaned in found:
        for key, said in _wrong(cleaned.policy):
            path = cleaned.paths.get(key, (*cleaned.path, key))
            if (path, said) not in told:
                told.add((path, said))
                yield _at(root, path, said)


def _wrong(policy: CleanupPolicy) -> Iterator[tuple[str, str]]:
    for name, said in cleanup_policy.mistakes(policy):
        yield name.partition("[")[0], said
    if not policy.verify_synced and not policy.i_mean_it:
        yield "verify_synced", "false deletes what the library may not have; write `i_mean_it: true` beside it if that is no mistake"


def _of_source(typed: schema.Root, section: schema.SourceSection | None, path: tree.Path, without: Sequence[str] = ()) -> list[Layer]:
    layers = [_options_layer(section, path, without)] if section else []
    return [*layers, _options_layer(typed.sync, ("sync",), without)]


def _options_layer(section: schema.Options | None, path: tree.Path, without: Sequence[str]) -> Layer:
    if section is None:
        return Layer()
    flat = {key: value for key, name in FLAT.items() if (value := getattr(section, key)) is not None}
    own = _layer(section.cleanup, (*path, "cleanup"), without)
    return Layer(
        {**{FLAT[key]: value for key, value in flat.items()}, **own.values},
        {**{FLAT[key]: (*path, key) for key in flat}, **own.paths},
    )


def _layer(section: schema.CleanupSection | None, path: tree.Path, without: Sequence[str] = ()) -> Layer:
    if section is None:
        return Layer()
    names = [name for name in schema.CleanupSection.known() if name not in without]
    values = {name: value for name in names if (value := section.value(name)) is not None}
    return Layer(values, {name: (*path, name) for name in values})


def _counted(path: tree.Path, layers: Sequence[Layer]) -> Cleaned:
    values: dict[str, Any] = {}
    paths: dict[str, tree.Path] = {}
    for layer in reversed(layers):
        values |= layer.values
        paths |= layer.paths
    given = {name: values[key] for item in fields(CleanupPolicy) if (key := _KEYS.get(name := item.name, name)) in values}
    if "age_basis" in given:
        given["age_basis"] = AgeBasis(given["age_basis"])
    policy = replace(DEFAULT_POLICY, **given)
    times = values.get("schedule", "")
    return Cleaned(path, policy, "" if times == OFF or not policy.after_sync else times, paths)


def _at(root: Table, path: tree.Path, text: str) -> Mistake:
    return Mistake(tree.dotted(path), tree.origin_of(root, path), text)
