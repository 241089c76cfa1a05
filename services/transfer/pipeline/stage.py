"""What a stage is: a step that looks at one file and adds to what is known of it.

A new stage is a module with a class that has a `name` and a `process`, and a line in `stages.STAGES`.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mediasync.errors import MediasyncError, Reason
from mediasync.model import GenerationMetadata, Problem
from mediasync.paths import display

MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class MediaFile:
    """A file in the library. `path` is absolute and what is opened; `library_path` is relative to the library's root."""

    path: bytes
    library_path: bytes
    size_bytes: int
    mtime_ns: int = 0
    incomplete: bool = False

    @property
    def name(self) -> bytes:
        """Its last path part."""
        return self.library_path.rpartition(b"/")[2]


@dataclass(frozen=True)
class MediaFacts:
    """What is known of a file so far. Pixels are 0 where unknown; `invalid` says why its content is not what it should be."""

    media_type: str = ""
    width: int = 0
    height: int = 0
    duration_seconds: float | None = None
    metadata: GenerationMetadata | None = None
    invalid: Problem | None = None


class Stage(Protocol):
    """One step of the pipeline. Holds no state between files; runs in the worker process, so it may take its time."""

    @property
    def name(self) -> str:
        """What it is asked for by; stable, as it is stored with work that is still to be done."""

    def process(self, file: MediaFile, facts: MediaFacts) -> MediaFacts:
        """The facts with what this stage found. Bad content is a fact (`invalid`), not an error."""


@dataclass(frozen=True)
class StageFailure:
    """A stage that raised: a bug of ours, or a library that cannot be read. For the log."""

    stage: str
    library_path: bytes
    details: str


@dataclass
class StageRun:
    """The outcome for one file."""

    facts: MediaFacts = field(default_factory=MediaFacts)
    failures: list[StageFailure] = field(default_factory=list)


def run_stages(file: MediaFile, stages: Sequence[Stage]) -> StageRun:
    """Passes `file` through `stages` in order. A stage that raises is this file's problem only; the other stages still run."""
    run = StageRun()
    for stage in stages:
        try:
            run.facts = stage.process(file, run.facts)
        except MemoryError:
            problem = problem_with(file, "holds a picture that needs more memory to look into than is allowed")
            run.facts = replace(run.facts, invalid=run.facts.invalid or problem)
        except Exception as error:
            problem = _problem_of(error, stage.name, file)
            run.facts = replace(run.facts, invalid=run.facts.invalid or problem)
            run.failures.append(StageFailure(stage.name, file.library_path, traceback.format_exc(limit=-8)))
    return run


def problem_with(file: MediaFile, what: str, reason: Reason = Reason.FILE_INVALID, remedy: str = "") -> Problem:
    """A problem of `file`, as a sentence that starts with its name."""
    if file.incomplete and reason is Reason.FILE_INVALID:
        what += " (its writer had not finished it when it was taken)"
    return Problem.of(MediasyncError(reason, f"{display(file.library_path)} {what}", remedy), file.library_path)


def _problem_of(error: Exception, stage: str, file: MediaFile) -> Problem:
    if isinstance(error, MediasyncError):
        return Problem.of(error, file.library_path)
    if isinstance(error, OSError):
        return problem_with(file, f"cannot be read in the library: {error.strerror or error}", Reason.LIBRARY_IO)
    return problem_with(file, f"could not be looked into: the stage {stage} failed with {type(error).__name__}", Reason.INTERNAL)
