"""How a source is reached for a clean-up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mediasync.model import Engine, SyncSpec
from mediasync.sources.base import Source
from mediasync.sources.factory import open_source


def source_of(spec: SyncSpec, home: Path) -> Source:
    """The source, not connected to yet. rsync neither deletes nor tells one file from another of the same second: where it brings files,
    the shell of the same login cleans up."""
    source = replace(spec.source, engine=Engine.AUTO) if spec.source.engine is Engine.RSYNC else spec.source
    return open_source(source, home=home, folders=spec.folders)
