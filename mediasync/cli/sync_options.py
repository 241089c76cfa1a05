"""Options of `mediasync sync` that say how it behaves: from what a person typed to the fields of `SyncOptions`.

Only what was given is in the result, so that everything else stays as the source or the configuration has it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mediasync.errors import FieldViolation, MediasyncError, Reason

E = TypeVar("E", bound=enum.StrEnum)
T = TypeVar("T")

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_AGES = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)", re.IGNORECASE)
_EXTENSION = re.compile(r"\.?[^\x00-\x20/.,][^\x00-\x1f/,]{0,31}")


def given(
    *,
    bandwidth_limit: str = "",
    newest_first: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    extensions: Sequence[str] = (),
    min_size: str = "",
    max_size: str = "",
    min_age: str = "",
    max_age: str = "",
    follow_symlinks: str = "",
    restore: bool = False,
    duplicates: str = "",
    durability: str = "",
) -> dict[str, Any]:
    """Fields of `SyncOptions` that the options set. Raises INVALID_ARGUMENT, naming the option and what was expected."""
    from mediasync.model import Duplicates, Durability, FollowSymlinks

    options: dict[str, Any] = {}
    if bandwidth_limit:
        options["bandwidth_limit_mbps"] = rate("--bandwidth-limit", bandwidth_limit)
        options["bandwidth_timetable"] = ()
    if newest_first:
        options["newest_first"] = True
    if restore:
        options["restore"] = True
    if include:
        options["include_patterns"] = tuple(pattern("--include", text) for text in include)
    if exclude:
        options["excluded_patterns"] = tuple(pattern("--exclude", text) for text in exclude)
    if extensions:
        options["allowed_extensions"] = allowed("--ext", extensions)
    for option, text, name, parse in (
        ("--min-size", min_size, "min_size_bytes", size_bytes),
        ("--max-size", max_size, "max_size_bytes", size_bytes),
        ("--min-age", min_age, "min_age_minutes", lambda text: age_seconds(text) / 60),
        ("--max-age", max_age, "max_age_days", lambda text: age_seconds(text) / 86_400),
    ):
        if text:
            options[name] = _said(option, text, parse)
    for option, text, name, kind in (
        ("--follow-symlinks", follow_symlinks, "follow_symlinks", FollowSymlinks),
        ("--duplicates", duplicates, "duplicates", Duplicates),
        ("--durability", durability, "durability", Durability),
    ):
        if text:
            options[name] = choice(option, text, kind)
    return options


def rate(option: str, text: str) -> float:
    """Megabits a second, 0 for no limit. Raises INVALID_ARGUMENT."""
    from mediasync.bandwidth import parse_rate

    return _said(option, text, parse_rate)


def size(option: str, text: str) -> int:
    """Bytes. Raises INVALID_ARGUMENT."""
    return _said(option, text, size_bytes)


def age(option: str, text: str) -> float:
    """Seconds. Raises INVALID_ARGUMENT."""
    return _said(option, text, age_seconds)


def size_bytes(text: str) -> int:
    """`10kB`, `1.5MB`, `2GiB` or bytes. Raises ValueError that says what was expected."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or found[2].lower() not in _SIZES:
        raise ValueError("a size such as 500kB, 1.5MB or 2GB")
    return round(float(found[1]) * _SIZES[found[2].lower()])


def age_seconds(text: str) -> float:
    """`90s`, `10m`, `2h`, `7d`. Raises ValueError that says what was expected."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or found[2].lower() not in _AGES:
        raise ValueError("a length of time such as 90s, 10m, 2h or 7d")
    return float(found[1]) * _AGES[found[2].lower()]


def wrong(option: str, message: str) -> MediasyncError:
    """The error of a wrong option."""
    return MediasyncError(Reason.INVALID_ARGUMENT, message, fields=[FieldViolation(option, message)])


def pattern(option: str, text: str) -> str:
    """A pattern as in .gitignore. Raises INVALID_ARGUMENT."""
    from mediasync.sources.selection import rules

    try:
        rules([text])
    except ValueError as error:
        raise wrong(option, f"{option} {text!r} cannot be used: {error}") from None
    return text


def allowed(option: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Extensions, which may be separated by commas. Raises INVALID_ARGUMENT."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    for part in parts:
        if not _EXTENSION.fullmatch(part):
            raise wrong(option, f"{option} {part!r}: expected an extension such as png")
    return tuple(parts)


def choice(option: str, text: str, kind: type[E]) -> E:
    """One of the values of `kind`. Raises INVALID_ARGUMENT, naming the nearest."""
    from mediasync.suggest import did_you_mean

    names = [member.value for member in kind]
    if text not in names:
        raise wrong(option, f"{option} {text!r}: expected one of {', '.join(names)}{did_you_mean(text, names)}")
    return kind(text)


def _said(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise wrong(option, f"{option} {text!r}: expected {error}") from None
