"""Options of `mediasync clean`: from what a person typed to the fields of `CleanupPolicy`.

Only what was given is in the result, so that everything else stays as the source or the configuration has it. Patterns are added to those
of the source: an option may preserve more than the configuration does, never less.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mediasync.cli import sync_options
from mediasync.cli.sync_options import wrong
from mediasync.model.cleaning import WHATEVER_AGE_HOURS, AgeBasis, CleanupPolicy

_GB = 1e9
_FREE = "an amount such as 50GB, or a share of the disk such as 20%"


def given(
    *,
    older_than: str = "",
    basis: str = "",
    free_to: str = "",
    keep_last: int | None = None,
    preserve: Sequence[str] = (),
    extensions: Sequence[str] = (),
    min_size: str = "",
    culled: bool = False,
    force_cap: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Fields of `CleanupPolicy` that the options set. Raises INVALID_ARGUMENT, naming the option and what was expected."""
    fields: dict[str, Any] = {}
    if older_than:
        fields["age_hours"] = sync_options.age("--older-than", older_than) / 3600
    if basis:
        fields["age_basis"] = sync_options.choice("--basis", basis, AgeBasis)
    if free_to:
        fields |= _free(free_to)
        if not older_than:
            # Who asks for space alone wants no more deleted than that takes.
            fields["age_hours"] = WHATEVER_AGE_HOURS
    if keep_last is not None:
        if keep_last < 0:
            raise wrong("--keep-last", f"--keep-last is {keep_last}; expected 0 or more")
        fields["keep_last"] = keep_last
    if preserve:
        fields["preserve_patterns"] = tuple(sync_options.pattern("--preserve", text) for text in preserve)
    if extensions:
        fields["allowed_extensions"] = sync_options.allowed("--ext", extensions)
    if min_size:
        fields["min_size_bytes"] = sync_options.size("--min-size", min_size)
    for name, value in (("clean_culled", culled), ("force_cap", force_cap), ("dry_run", dry_run)):
        if value:
            fields[name] = True
    return fields


def overlay(policy: CleanupPolicy | None, fields: Mapping[str, Any]) -> CleanupPolicy:
    """The source's own policy, or the usual one, with what the options say laid over it."""
    policy = policy or CleanupPolicy()
    changed = dict(fields)
    if "preserve_patterns" in changed:
        changed["preserve_patterns"] = (*policy.preserve_patterns, *changed["preserve_patterns"])
    if changed.get("age_hours", WHATEVER_AGE_HOURS) < WHATEVER_AGE_HOURS:
        # Who asks for what is older than a minute means it.
        changed["preserve_recent_minutes"] = min(policy.preserve_recent_minutes, changed["age_hours"] * 60)
    return replace(policy, **changed)


def source_path(text: str, root: bytes) -> bytes:
    """A file of a source, relative to its root; one that is given in full has to be below `root`. Raises INVALID_ARGUMENT."""
    path = os.fsencode(text)
    if path.startswith(b"/"):
        below = root.rstrip(b"/") + b"/"
        if not root.startswith(b"/") or not path.startswith(below):
            raise wrong("PATH", f"{text!r} is not below the source's path; give it relative to that, such as txt2img-images/00012-1.png")
        path = path[len(below) :]
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts:
        raise wrong("PATH", f"{text!r} is no file of the source; expected a path such as txt2img-images/00012-1.png")
    return b"/".join(parts)


def _free(text: str) -> dict[str, Any]:
    amount = percent = 0.0
    try:
        if text.strip().endswith("%"):
            percent = float(text.strip()[:-1])
        else:
            amount = sync_options.size_bytes(text) / _GB
    except ValueError:
        raise wrong("--free-to", f"--free-to {text!r}: expected {_FREE}") from None
    if not (amount > 0 or 0 < percent < 100):
        raise wrong("--free-to", f"--free-to {text!r}: expected {_FREE}")
    return {
        "min_free_space_gb": amount,
        "target_free_space_gb": amount,
        "min_free_space_percent": percent,
        "target_free_space_percent": percent,
    }
