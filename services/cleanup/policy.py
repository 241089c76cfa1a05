"""What a clean-up would delete: a folder's files, what is on record of them, a policy and a moment become decisions, each with its
reason.

Pure, this and `choosing`: they ask nobody and read no clock. It is decided in three steps, and the first reason that applies to a file is
the one that counts:

1. `judge` looks at one folder as the source lists it: patterns, times, sizes, `keep_last`, `keep_counter`. What is left are groups of files
   that go together (`companions`).
2. `choosing.on_record` says of each file what its record keeps it for.
3. `choosing.Chooser` takes the groups of all folders, oldest first, with what is on record, and holds them to the cap, and to how much
   space is to be freed.

A group goes whole or not at all, and is as old as the youngest of its main files. A companion has no age of its own, but one that was just
modified, or that a pattern keeps, keeps its group. With low space, groups that are too young for the policy are candidates too, as `extra`
ones; what is too young of one that stays is TOO_YOUNG, whatever else it is.

What it does not guarantee: anything about the files themselves. That a copy is good, and a file still the one that was listed, is found
out when it is deleted.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mediasync.model import AgeBasis, CleanupPolicy, Kept, KeptReason
from mediasync.paths import display
from mediasync.sources.selection import Rule, rules
from services.cleanup.companions import Companions, Group
from services.cleanup.numbering import numbered

SECOND_NS = 10**9
_MINUTE_NS = 60 * SECOND_NS
_HOUR_NS = 60 * _MINUTE_NS
_FEW_NAMES = 8
_FEW_FILES = 8
# File systems and their clocks round times.
_FUTURE_NS = 2 * SECOND_NS


class Patterns:
    """Patterns of a policy, as in a .gitignore."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ValueError for one that is none."""
        listed = [(pattern, rule.negated, _whole(rule)) for pattern, rule in zip(patterns, rules(patterns), strict=True)]
        self._last_first = [(pattern, negated, re.compile(whole, re.DOTALL)) for pattern, negated, whole in reversed(listed)]
        # Of many files few match: one expression for all of them says which are worth a closer look.
        wanted = [whole for _, negated, whole in listed if not negated]
        self._any = re.compile(b"|".join(wanted), re.DOTALL) if wanted else None

    def match(self, path: bytes) -> str | None:
        """The pattern that decides that a file matches; None if it does not."""
        if self._any is None or self._any.fullmatch(path) is None:
            return None
        for pattern, negated, expression in self._last_first:
            if expression.fullmatch(path) is not None:
                return None if negated else pattern
        return None

    def __bool__(self) -> bool:
        return self._any is not None


def _whole(rule: Rule) -> bytes:
    """What is below a folder that matches, matches."""
    return b"(?:" + rule.expression + (b"/.*)" if rule.folders_only else b"(?:/.*)?)")


@dataclass(frozen=True)
class Terms:
    """A policy at a moment. Of times, `due_ns` is the latest that is old enough, and `extra_ns` the latest that is while space is low."""

    policy: CleanupPolicy
    now_ns: int
    due_ns: int
    extra_ns: int
    recent_ns: int
    preserved: Patterns
    excluded: Patterns
    extensions: tuple[bytes, ...]

    @classmethod
    def at(cls, policy: CleanupPolicy, now_ns: int, *, space_is_low: bool = False) -> Terms:
        """The terms at a moment of the source's clock. Raises ValueError for a pattern that is none."""
        due_ns = now_ns - int(policy.age_hours * _HOUR_NS)
        return cls(
            policy=policy,
            now_ns=now_ns,
            due_ns=due_ns,
            extra_ns=max(due_ns, now_ns - int(policy.min_age_minutes * _MINUTE_NS)) if space_is_low else due_ns,
            recent_ns=now_ns - int(policy.preserve_recent_minutes * _MINUTE_NS),
            preserved=Patterns(policy.preserve_patterns),
            excluded=Patterns(policy.exclude_patterns),
            extensions=tuple(b"." + extension.lower().lstrip(".").encode() for extension in policy.allowed_extensions),
        )


def ages(
    basis: AgeBasis, modified: Sequence[int], changed: Sequence[int], born: Sequence[int | None], accessed: Sequence[int | None]
) -> Sequence[int]:
    """The time of each file that its age counts from. One that nobody is known to have read was read when it was written."""
    if basis is AgeBasis.CREATED:
        return [min(c, m) if b is None else b for b, m, c in zip(born, modified, changed, strict=True)]
    if basis is AgeBasis.ACCESSED:
        # Where reading leaves no trace, the time of access is that of an earlier content.
        return [max(m, c) if a is None else max(a, m) for a, m, c in zip(accessed, modified, changed, strict=True)]
    return modified


@dataclass
class FolderFiles:
    """The files of a folder: their names in order, and a column each of sizes, times of modification, and times that their age counts
    from. `path` is relative to the source's root; `looked_ns` the source's clock when all of them had been looked at."""

    path: bytes
    names: Sequence[bytes]
    sizes: Sequence[int]
    modified: Sequence[int]
    ages: Sequence[int]
    looked_ns: int

    def path_of(self, place: int) -> bytes:
        """The path of a file."""
        return self.path + b"/" + self.names[place] if self.path else self.names[place]


@dataclass(frozen=True, slots=True)
class DueGroup:
    """Files, as places in their folder, that go together if nothing else keeps them: the first is a main file. `extra`: only because space
    is low."""

    places: tuple[int, ...]
    age_ns: int
    extra: bool


@dataclass(frozen=True, slots=True)
class Stay:
    """A file that is old enough, and kept."""

    place: int
    reason: KeptReason
    message: str = ""


@dataclass
class Judgement:
    """What the policy makes of a folder: each file is in one of `groups`, or counted once in `kept`; `stays` are some of those."""

    kept: dict[KeptReason, Kept] = field(default_factory=dict)
    groups: list[DueGroup] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)


def judge(files: FolderFiles, terms: Terms) -> Judgement:
    """What the policy makes of a folder."""
    return _Judge(files, terms).judgement()


def young(files: FolderFiles, place: int, terms: Terms) -> tuple[KeptReason, str] | None:
    """What keeps a file whatever belongs to it: its time, or a pattern. None for one that is old enough."""
    return _Judge(files, terms).young(place)


class _Judge:
    """One folder. Of many files few are old enough: the others are gone through once, as columns."""

    def __init__(self, files: FolderFiles, terms: Terms) -> None:
        self._files = files
        self._terms = terms
        self._matched: dict[int, tuple[KeptReason, str]] = {}
        self._companions = Companions(())
        self._newest: frozenset[tuple[int, ...]] = frozenset()
        self._highest: dict[bytes, int] = {}
        self._asked: Counter[bytes] = Counter()

    def judgement(self) -> Judgement:
        files, terms, result = self._files, self._terms, Judgement()
        self._matched = self._by_pattern()
        if not self._matched and self._all_young():
            result.kept[KeptReason.TOO_YOUNG] = Kept(len(files.ages), sum(files.sizes))
            return result
        tally = _Tally(files.sizes)
        noted = self._noted()
        latest = max(terms.due_ns, terms.extra_ns)
        # A million files pass here: those that are too young are what is left when all others are counted.
        seeds = [place for place, age in enumerate(files.ages) if age <= latest and place not in noted]
        tally.add_but(KeptReason.TOO_YOUNG, noted.keys() | {place for place in seeds if files.ages[place] <= terms.due_ns})
        for place, reason in noted.items():
            tally.add(reason, place)
            if place in self._matched and files.ages[place] <= terms.due_ns:
                result.stays.append(Stay(place, *self._matched[place]))
        if seeds:
            self._companions = Companions(files.names)
            self._newest = self._newest_groups()
        done: set[int] = set()
        for place in seeds:
            if place in done:
                continue
            group = self._companions.group_of(place)
            if len(group.places) > 1:
                done.update(group.places)
            kept = self._kept(group)
            if kept is None:
                for member in group.places:
                    if self._own_reason(member, files.ages[member]) is not None:
                        tally.take_back(KeptReason.TOO_YOUNG, member)
                age = self._age_of(group)
                result.groups.append(DueGroup(self._youngest_first(group), age, extra=age > terms.due_ns))
                continue
            for member in group.places:
                if self._own_reason(member, files.ages[member]) is None:
                    stay = Stay(member, *kept.get(member, self._beside(kept, member)))
                    tally.add(stay.reason, member)
                    result.stays.append(stay)
        result.kept = tally.kept()
        return result

    def young(self, place: int) -> tuple[KeptReason, str] | None:
        self._matched = self._by_pattern()
        reason = self._own_reason(place, self._files.ages[place])
        return self._matched.get(place, (reason, "")) if reason is not None else None

    def _by_pattern(self) -> dict[int, tuple[KeptReason, str]]:
        files, excluded, preserved = self._files, self._terms.excluded, self._terms.preserved
        matched: dict[int, tuple[KeptReason, str]] = {}
        if excluded or preserved:
            for place in range(len(files.names)):
                path = files.path_of(place)
                pattern = excluded.match(path)
                if pattern is not None:
                    matched[place] = (KeptReason.EXCLUDED, f"it matches {pattern}")
                    continue
                pattern = preserved.match(path)
                if pattern is not None:
                    matched[place] = (KeptReason.PRESERVED, f"it matches {pattern}")
        return matched

    def _noted(self) -> dict[int, KeptReason]:
        """What keeps files, where it is not that they are too young, nor anything of their group."""
        files, recent_ns, future_ns = self._files, self._terms.recent_ns, self._future_ns
        noted = {place: reason for place, (reason, _) in self._matched.items()}
        for column, limit_ns in ((files.modified, min(recent_ns, future_ns)), (files.ages, future_ns)):
            if column and max(column) > limit_ns:
                for place in [place for place, moment in enumerate(column) if moment > limit_ns]:
                    reason = self._own_reason(place, files.ages[place])
                    if reason is not None and reason is not KeptReason.TOO_YOUNG:
                        noted[place] = reason
        return noted

    def _all_young(self) -> bool:
        files, terms = self._files, self._terms
        if not files.ages or min(files.ages) <= max(terms.due_ns, terms.extra_ns):
            return False
        return max(files.modified) <= min(terms.recent_ns, self._future_ns) and max(files.ages) <= self._future_ns

    @property
    def _future_ns(self) -> int:
        # By the clock of the end of the look: what is written meanwhile does not come from the future.
        return max(self._files.looked_ns, self._terms.now_ns) + _FUTURE_NS

    def _own_reason(self, place: int, age: int) -> KeptReason | None:
        """What keeps a file whatever belongs to it; None for one that is old enough."""
        if place in self._matched:
            return self._matched[place][0]
        modified, terms = self._files.modified[place], self._terms
        if modified > terms.recent_ns or age > terms.due_ns:
            if modified > self._future_ns or age > self._future_ns:
                return KeptReason.FUTURE
            return KeptReason.RECENT if modified > terms.recent_ns else KeptReason.TOO_YOUNG
        return None

    def _kept(self, group: Group) -> dict[int, tuple[KeptReason, str]] | None:
        """Why a group is kept, for the files of it that the reason is in; None if it may go."""
        files, terms = self._files, self._terms
        blocking: dict[int, tuple[KeptReason, str]] = {}
        for place in group.places:
            reason = self._own_reason(place, files.ages[place])
            old_enough = files.ages[place] <= terms.extra_ns or place in group.others
            if reason is not None and not (reason is KeptReason.TOO_YOUNG and old_enough):
                blocking[place] = (reason, "")
        for place in group.mains:
            if place not in blocking and (reason := self._unwanted(place)) is not None:
                blocking[place] = (reason, "")
        if blocking:
            return blocking
        if group.too_large:
            message = f"{len(group.places)} files go together, which are too many to delete together"
            return dict.fromkeys(group.places, (KeptReason.COMPANION, message))
        if group.places in self._newest:
            return dict.fromkeys(group.mains, (KeptReason.KEEP_LAST, ""))
        if terms.policy.keep_counter and any(map(self._is_highest, group.places)):
            return dict.fromkeys(group.mains, (KeptReason.COUNTER, ""))
        return None

    def _unwanted(self, main: int) -> KeptReason | None:
        if self._terms.extensions and not self._files.names[main].lower().endswith(self._terms.extensions):
            return KeptReason.EXTENSION
        return KeptReason.TOO_SMALL if self._files.sizes[main] < self._terms.policy.min_size_bytes else None

    def _beside(self, kept: dict[int, tuple[KeptReason, str]], place: int) -> tuple[KeptReason, str]:
        other, (reason, _) = next(iter(kept.items()))
        name = display(self._files.names[other])
        return KeptReason.COMPANION, f"it goes together with {name}, which stays: {reason.value.replace('_', ' ')}"

    def _age_of(self, group: Group) -> int:
        return max(self._files.ages[place] for place in group.mains)

    def _youngest_first(self, group: Group) -> tuple[int, ...]:
        """Its places, the main file that the age of the group is that of before the others."""
        ages = self._files.ages
        return (*sorted(group.mains, key=lambda place: -ages[place]), *group.others)

    def _newest_groups(self) -> frozenset[tuple[int, ...]]:
        """The newest `keep_last` groups of the folder, as their places. What is excluded or comes from the future is none of them."""
        count, ages, names = self._terms.policy.keep_last, self._files.ages, self._files.names
        newest: dict[tuple[int, ...], None] = {}
        if count > 0:
            for place in sorted(range(len(ages)), key=lambda place: (ages[place], names[place]), reverse=True):
                if self._own_reason(place, ages[place]) in (KeptReason.EXCLUDED, KeptReason.FUTURE):
                    continue
                group = self._companions.group_of(place)
                if place in group.mains:
                    newest[group.places] = None
                if len(newest) == count:
                    break
        return frozenset(newest)

    def _is_highest(self, place: int) -> bool:
        """Whether a file has the highest number of its series in the folder; of several that have it, one, the newest."""
        series = numbered(self._files.names[place])
        if series is None:
            return False
        prefix = series[0]
        if prefix not in self._highest:
            names = self._files.names
            # All names of the series begin so. ":" comes right after "9".
            start, end = (bisect.bisect_left(names, prefix + mark) for mark in (b"0", b":"))
            mine = self._rank(place, prefix)
            # Mostly one of the last names is of a higher number, which is all that is to be known of a few files.
            self._asked[prefix] += 1
            last = range(max(start, end - _FEW_NAMES), end)
            if self._asked[prefix] <= _FEW_FILES and any(self._rank(other, prefix) > mine for other in last):
                return False
            self._highest[prefix] = max(range(start, end), key=lambda other: self._rank(other, prefix))
        return self._highest[prefix] == place

    def _rank(self, place: int, prefix: bytes) -> tuple[int, int, bytes]:
        name = self._files.names[place]
        series = numbered(name)
        return (series[1] if series is not None and series[0] == prefix else -1, self._files.ages[place], name)


class _Tally:
    """Counts files by reason."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._files: Counter[KeptReason] = Counter()
        self._bytes: Counter[KeptReason] = Counter()

    def add(self, reason: KeptReason, place: int) -> None:
        self._files[reason] += 1
        self._bytes[reason] += self._sizes[place]

    def add_but(self, reason: KeptReason, places: Collection[int]) -> None:
        """All files but these."""
        self._files[reason] += len(self._sizes) - len(places)
        self._bytes[reason] += sum(self._sizes) - sum(self._sizes[place] for place in places)

    def take_back(self, reason: KeptReason, place: int) -> None:
        self._files[reason] -= 1
        self._bytes[reason] -= self._sizes[place]

    def kept(self) -> dict[KeptReason, Kept]:
        return {reason: Kept(files, self._bytes[reason]) for reason, files in self._files.items() if files}
