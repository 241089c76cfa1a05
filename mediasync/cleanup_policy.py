"""What is wrong with a policy of clean-ups, for whoever takes one: the command line, Python callers, the configuration, the coordinator."""

from __future__ import annotations

from collections.abc import Iterator

from mediasync.model import CleanupPolicy
from mediasync.paths import MAX_PATH_BYTES, display
from mediasync.sources.selection import rules

MAX_LISTED = 1000
_LARGEST = 1e9
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("age_hours", 0, _LARGEST),
    ("preserve_recent_minutes", 0, _LARGEST),
    ("min_size_bytes", 0, 1e18),
    ("keep_last", 0, _LARGEST),
    ("min_free_space_gb", 0, _LARGEST),
    ("target_free_space_gb", 0, _LARGEST),
    ("min_free_space_percent", 0, 100),
    ("target_free_space_percent", 0, 100),
    ("min_age_minutes", 0, _LARGEST),
    ("max_files_per_batch", 1, 100_000),
    ("max_delete_files", 0, 1e12),
    ("max_delete_share", 0, 1),
    ("trash_days", 0, _LARGEST),
)


def mistakes(policy: CleanupPolicy) -> Iterator[tuple[str, str]]:
    """The fields that cannot be as they are, and why not. Whether it may do without verification is not said here."""
    for name, low, high in _RANGES:
        value = getattr(policy, name)
        # Also not a number, which is neither.
        if not low <= value <= high:
            yield name, f"must be {low:g} to {high:.0f}, is {value:g}"
    for unit in ("gb", "percent"):
        low, high = getattr(policy, f"min_free_space_{unit}"), getattr(policy, f"target_free_space_{unit}")
        if high and not low:
            yield f"target_free_space_{unit}", f"says until when; min_free_space_{unit}, which says from when on, is missing"
        elif high and high < low:
            yield f"target_free_space_{unit}", f"must not be below min_free_space_{unit}, which is {low:g}"
    for name in ("preserve_patterns", "exclude_patterns", "allowed_extensions"):
        items = getattr(policy, name)
        if len(items) > MAX_LISTED:
            yield name, f"must be at most {MAX_LISTED}, are {len(items)}"
            continue
        for index, item in enumerate(items):
            wrong = _extension(item) if name == "allowed_extensions" else _pattern(item)
            if wrong:
                yield f"{name}[{index}]", f"cannot be used: {wrong}; is {display(item.encode('utf-8', 'replace'))[:200]!r}"


def _pattern(text: str) -> str:
    if len(text) > MAX_PATH_BYTES:
        return f"at most {MAX_PATH_BYTES} characters"
    try:
        rules([text])
    except ValueError as error:
        return str(error)
    return ""


def _extension(text: str) -> str:
    if not text.strip(".") or "/" in text or not text.isprintable() or len(text) > MAX_PATH_BYTES:
        return "expected an extension such as png"
    return ""
