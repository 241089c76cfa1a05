"""Errors for a source's root, for engines that look for it from this side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display

SHOWN_NAMES = 12


@dataclass(frozen=True)
class RootProblem:
    """Why a candidate is not the root. `message` says why it cannot be read, empty if it is not there; `parent` is the nearest folder
    above it that can be listed, with some of the names in it and how many there are."""

    path: bytes
    message: str
    parent: bytes
    names: tuple[bytes, ...] = ()
    total: int = 0


def root_error(place: str, problems: Sequence[RootProblem]) -> MediasyncError:
    """The error for a source without a root. One that is there decides; further candidates that are not are of no interest then."""
    for problem in problems:
        if problem.message:
            return MediasyncError(Reason.SOURCE_UNREADABLE, f"{display(problem.path)} at {place} cannot be read: {problem.message}")
    tried = " nor ".join(display(problem.path) for problem in problems)
    there = "; ".join(dict.fromkeys(_there(problem) for problem in problems))
    return MediasyncError(
        Reason.SOURCE_ROOT_MISSING,
        f"there is no folder {tried} at {place}; {there}",
        "Give the folder that holds the results as the path of the source: ssh://host/path, docker://container/path or /path.",
    )


def _there(problem: RootProblem) -> str:
    if not problem.names:
        return f"{display(problem.parent)} is empty"
    more = f" and {problem.total - len(problem.names)} more" if problem.total > len(problem.names) else ""
    return f"{display(problem.parent)} holds {', '.join(display(name) for name in problem.names)}{more}"
