"""The stages there are, in the order in which a file passes them. A new stage takes its place here."""

from __future__ import annotations

from collections.abc import Iterable

from services.transfer.pipeline.metadata.stage import MetadataStage
from services.transfer.pipeline.stage import Stage
from services.transfer.pipeline.validate import ValidateStage

STAGES: tuple[Stage, ...] = (ValidateStage(), MetadataStage())
"""Validation is first: what it finds out of a file's type is what the later stages go by."""


def select(names: Iterable[str]) -> tuple[Stage, ...]:
    """The stages of these names, in pipeline order; names that this version does not know are left out, as work that was queued
    by another version may carry them."""
    wanted = set(names)
    return tuple(stage for stage in STAGES if stage.name in wanted)
