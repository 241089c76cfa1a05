"""What is a result at a source, and what is not: names, sizes, ages and patterns, the same for every engine.

A `Selection` is plain data that crosses to the far side. Patterns are translated to regular expressions here, once, so that the agent
at the far side and the engines that filter on this side match with the very same expressions.

Patterns are like those of a `.gitignore`:

- `*` and `?` match within one part of a path, `[a-z]` and `[!a-z]` a character; `**` as a part of its own matches any number of parts;
  a backslash takes the next character as it is;
- a pattern without a slash (but for one at its end) matches a name at any depth; one with a slash is relative to the source's root;
- with a slash at its end it matches folders only; what is below a folder that matches, matches;
- one that starts with `!` takes back what an earlier one of the same list matched; the last that matches decides. Other than in
  git, it also reaches files below a folder that an earlier one matched.

Letter case counts in patterns; it does not in extensions and temporary endings. Everything is bytes: a pattern is encoded as UTF-8,
`?` and a bracket match one byte of a name that is no UTF-8, and one character of a name that is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mediasync.model import FilterReason, FollowSymlinks, SourceSpec, SyncOptions
from mediasync.profiles import PROFILES
from mediasync.sources import filters


@dataclass(frozen=True)
class Rule:
    """One pattern: whether it takes back, whether it is about folders only, and the expression that a whole path has to match."""

    negated: bool
    folders_only: bool
    expression: bytes


@dataclass(frozen=True)
class Selection:
    """What is a result. Sizes are bytes, ages seconds; 0 or empty for no limit."""

    follow_symlinks: FollowSymlinks = FollowSymlinks.NONE
    min_size_bytes: int = 0
    max_size_bytes: int = 0
    min_age_seconds: float = 0.0
    max_age_seconds: float = 0.0
    extensions: tuple[bytes, ...] = ()
    included: tuple[Rule, ...] = ()
    excluded: tuple[Rule, ...] = ()
    temporary_suffixes: tuple[bytes, ...] = filters.TEMPORARY_SUFFIXES
    hidden_prefixes: tuple[bytes, ...] = filters.HIDDEN_PREFIXES
    foreign_names: tuple[bytes, ...] = filters.FOREIGN_NAMES

    @classmethod
    def of(cls, options: SyncOptions) -> Selection:
        """The selection that a sync's options mean. Raises ValueError for a pattern that is none."""
        return cls(
            follow_symlinks=options.follow_symlinks,
            min_size_bytes=options.min_size_bytes,
            max_size_bytes=options.max_size_bytes,
            min_age_seconds=options.min_age_minutes * 60,
            max_age_seconds=options.max_age_days * 86_400,
            extensions=tuple(b"." + extension.lower().lstrip(".").encode() for extension in options.allowed_extensions),
            included=rules(options.include_patterns),
            excluded=rules(options.excluded_patterns),
            temporary_suffixes=tuple(suffix.lower().encode() for suffix in options.temporary_suffixes) or filters.TEMPORARY_SUFFIXES,
        )

    def folder_reason(self, path: bytes) -> FilterReason | None:
        """Why a folder is not looked into; None if it is."""
        name = path.rpartition(b"/")[2]
        if name.startswith(self.hidden_prefixes):
            return FilterReason.HIDDEN
        if name in self.foreign_names:
            return FilterReason.FOREIGN
        # One that a later pattern may take something back from has to be looked into.
        if not any(rule.negated for rule in self.excluded) and self._matches(self._compiled_excluded, path, folder=True):
            return FilterReason.EXCLUDED
        return None

    def file_reason(self, path: bytes, size_bytes: int, age_seconds: float) -> FilterReason | None:
        """Why a regular file is no result; None if it is. `age_seconds` is how long it was left alone by the far side's clock."""
        name = path.rpartition(b"/")[2]
        lowered = name.lower()
        if name.startswith(self.hidden_prefixes):
            return FilterReason.HIDDEN
        if lowered.endswith(self.temporary_suffixes):
            return FilterReason.TEMPORARY
        if name in self.foreign_names:
            return FilterReason.FOREIGN
        if self.extensions and not lowered.endswith(self.extensions):
            return FilterReason.EXTENSION
        if self.excluded and self._matches(self._compiled_excluded, path, folder=False):
            return FilterReason.EXCLUDED
        if self.included and not self._matches(self._compiled_included, path, folder=False):
            return FilterReason.NOT_INCLUDED
        if size_bytes < self.min_size_bytes:
            return FilterReason.TOO_SMALL
        if self.max_size_bytes and size_bytes > self.max_size_bytes:
            return FilterReason.TOO_LARGE
        if age_seconds < self.min_age_seconds:
            return FilterReason.TOO_YOUNG
        if self.max_age_seconds and age_seconds > self.max_age_seconds:
            return FilterReason.TOO_OLD
        return None

    @cached_property
    def _compiled_excluded(self) -> tuple[tuple[bool, bool, re.Pattern[bytes]], ...]:
        return _compiled(self.excluded)

    @cached_property
    def _compiled_included(self) -> tuple[tuple[bool, bool, re.Pattern[bytes]], ...]:
        return _compiled(self.included)

    @staticmethod
    def _matches(compiled: Sequence[tuple[bool, bool, re.Pattern[bytes]]], path: bytes, *, folder: bool) -> bool:
        """Whether the last rule that matches `path`, or a folder above it, is not a negated one."""
        for negated, folders_only, expression in reversed(compiled):
            if not (folders_only and not folder) and expression.fullmatch(path):
                return not negated
            above = path
            while b"/" in above:
                above = above.rpartition(b"/")[0]
                if expression.fullmatch(above):
                    return not negated
        return False


EVERYTHING = Selection()
"""Every result, as no option narrows it."""


def selection_for(source: SourceSpec, options: SyncOptions) -> Selection:
    """The selection of a sync from `source`: what its options say, laid over what is no result at a source of its type. A pattern of the
    options can take that back. Raises ValueError for a pattern that is none."""
    profile = PROFILES[source.type]
    name = source.root.rstrip(b"/").rpartition(b"/")[2]
    if not source.root or not profile.not_results or name in profile.results:
        return Selection.of(options)
    return Selection.of(replace(options, excluded_patterns=(*profile.not_results, *options.excluded_patterns)))


def _compiled(listed: Sequence[Rule]) -> tuple[tuple[bool, bool, re.Pattern[bytes]], ...]:
    return tuple((rule.negated, rule.folders_only, re.compile(rule.expression, re.DOTALL)) for rule in listed)


def rules(patterns: Sequence[str]) -> tuple[Rule, ...]:
    """The rules that patterns mean. Raises ValueError that says which is none, and why."""
    return tuple(_rule(pattern) for pattern in patterns)


def _rule(pattern: str) -> Rule:
    text = pattern
    negated = text.startswith("!")
    if negated:
        text = text[1:]
    folders_only = text.endswith("/") and not text.endswith("\\/")
    text = text.rstrip("/") if folders_only else text
    rooted = "/" in text
    text = text.removeprefix("/")
    parts = text.split("/")
    if not text or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{pattern!r} is no pattern: it names no file below the source's root")
    expression = b"" if rooted else rb"(?:.*/)?"
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            expression += b".*" if last else rb"(?:.*/)?"
        else:
            expression += _part(pattern, part) + (b"" if last else b"/")
    return Rule(negated, folders_only, expression)


_CHARACTER = rb"(?:[\x00-\x2e\x30-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[\x80-\xff])"
"""One character of a part of a path: of UTF-8 where it is that, else a byte."""


def _part(pattern: str, part: str) -> bytes:
    """The expression of one part of a path."""
    result, at = b"", 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            result += b"[^/]*"
        elif character == "?":
            result += _CHARACTER
        elif character == "[":
            end = part.find("]", at + 2 if part[at : at + 1] in ("!", "^") else at + 1)
            if end < 0:
                raise ValueError(f"{pattern!r} is no pattern: a `[` has no `]` (write `\\[` for the character itself)")
            result += _bracket(pattern, part[at:end])
            at = end + 1
        elif character == "\\":
            if at == len(part):
                raise ValueError(f"{pattern!r} is no pattern: it ends in a backslash")
            result += re.escape(part[at].encode("utf-8", "surrogateescape"))
            at += 1
        else:
            result += re.escape(character.encode("utf-8", "surrogateescape"))
    return result


def _bracket(pattern: str, inside: str) -> bytes:
    """The expression of `[inside]`: as alternatives, because a character may be several bytes."""
    negated = inside[:1] in ("!", "^")
    inside = inside[1:] if negated else inside
    choices, at = [], 0
    while at < len(inside):
        first = inside[at]
        if at + 2 < len(inside) and inside[at + 1] == "-":
            last = inside[at + 2]
            if ord(last) - ord(first) > 512 or last < first:
                raise ValueError(f"{pattern!r} is no pattern: `{first}-{last}` is no range")
            choices += [chr(code) for code in range(ord(first), ord(last) + 1)]
            at += 3
        else:
            choices.append(first)
            at += 1
    listed = b"|".join(re.escape(choice.encode("utf-8", "surrogateescape")) for choice in dict.fromkeys(choices) if choice != "/")
    if negated:
        return b"(?!" + listed + b")" + _CHARACTER if listed else _CHARACTER
    return b"(?:" + (listed or b"(?!)") + b")"
