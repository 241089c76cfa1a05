""" "Did you mean": the nearest of the names there are to one that is not among them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `name` was most likely meant to be, or None when nothing is near. Case does not count."""
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(candidate.casefold(), candidate)
    # Names are short; a very long one is no misspelling, and difflib is quadratic in it.
    matches = difflib.get_close_matches(name.casefold()[:100], folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean X?` to append to a message, or nothing."""
    match = nearest(name, names)
    return f"; did you mean `{match}`?" if match else ""
