"""`mediasync sync --dry-run`: what would come, and why the rest would not."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from mediasync.cli import output
from mediasync.model import PreviewDecision, PreviewedFile, PreviewSummary
from mediasync.paths import display

if TYPE_CHECKING:
    from mediasync.client import Client
    from mediasync.model import SyncSpec

_TAKEN = PreviewDecision.TAKE


async def preview(client: Client, spec: SyncSpec, as_json: bool) -> None:
    """Prints each file as it is found, which may be a million, and last what it comes to. One JSON object with `as_json`."""
    listing = _Json() if as_json else _Lines()
    async with aclosing(client.preview_sync(spec)) as found:
        async for item in found:
            if isinstance(item, PreviewSummary):
                listing.end(item, spec)
            else:
                listing.file(item)


class _Lines:
    """A line a file: a plus before what would come."""

    def file(self, file: PreviewedFile) -> None:
        taken = file.decision is _TAKEN
        mark = output.style("+", "green", bold=True) if taken else output.style("-", dim=True)
        size = output.size(file.size_bytes) if file.size_bytes or taken else ""
        why = file.reason or file.decision.value
        sys.stdout.write(f"{mark} {size:>8}  {display(file.path)}  {output.style(f'({why})', dim=True)}\n")

    def end(self, summary: PreviewSummary, spec: SyncSpec) -> None:
        output.line(output.style("Nothing was taken. A sync would do this:", bold=True))
        rows: list[tuple[str, object]] = [("from", spec.source.label), ("to", spec.dest_path)]
        rows += [
            (label, f"{output.count(number, 'file')}{meaning}")
            for label, number, meaning in (
                ("take", summary.files_to_take, f", {output.size(summary.bytes_to_take)}"),
                ("unchanged", summary.files_unchanged, ", taken earlier"),
                ("later", summary.files_unsettled, ", still being written, or too young"),
                ("skip", summary.files_filtered, ", not results"),
                ("deleted", summary.files_culled, " in the library; --restore would bring them back"),
                ("vanished", summary.files_vanished, ", gone at the source; the library keeps them"),
                ("unreadable", summary.files_unreadable, ""),
            )
            if number or label == "take"
        ]
        output.pairs(rows)


class _Json:
    """One object, written while it comes: `files`, then `summary`."""

    def __init__(self) -> None:
        self._before = '{"files": ['

    def file(self, file: PreviewedFile) -> None:
        sys.stdout.write(self._before + json.dumps(output.plain(file)))
        self._before = ", "

    def end(self, summary: PreviewSummary, spec: SyncSpec) -> None:
        opened = self._before if self._before.startswith("{") else ""
        output.line(f'{opened}], "summary": {json.dumps(output.plain(summary))}}}')
