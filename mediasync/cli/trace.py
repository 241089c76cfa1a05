"""`mediasync trace`: one sync across all processes, as a waterfall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mediasync.errors import MediasyncError, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mediasync.runtime.waterfall import Row

_BAR_CELLS = 28


def trace(
    sync_id: Annotated[str, typer.Argument(metavar="SYNC_ID", help="The sync (or its job), as `mediasync jobs list` shows it.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every span.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every span, also the many alike that are otherwise shown as one row.")] = False,
) -> None:
    """Show where the time of a sync went: what each service did, when, for how long, with how many bytes.

    Example: mediasync trace sync_20261121_101112_1a2b3c4d
    """
    from mediasync.runtime.home import Home
    from mediasync.runtime.records import read_trace
    from mediasync.runtime.waterfall import rows

    folder = Home.from_environment().logs
    spans = read_trace(folder, sync_id)
    if not spans:
        raise MediasyncError(Reason.SYNC_NOT_FOUND, f"No trace of {sync_id} in {folder}")
    if as_json:
        import json

        typer.echo(json.dumps(_document(sync_id, rows(spans, collapse_from=None))))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width; rows that wrap are of no use to grep.
        console = Console(highlight=False, width=200)
    shown = rows(spans, collapse_from=None if every else 8)
    console.print(_table(shown))
    total = max(span.end_ns for span in spans) - spans[0].start_ns
    services = len({span.service for span in spans})
    traces = len({span.trace_id for span in spans})
    console.print(f"{_count(len(spans), 'span')} in {_count(services, 'service')} and {_count(traces, 'trace')}, {_duration(total)}")


def _table(shown: Sequence[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    start = min(row.start_ns for row in shown)
    end = max(row.end_ns for row in shown)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("service", no_wrap=True)
    table.add_column("span", overflow="ellipsis", no_wrap=True, ratio=3)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, min_width=_BAR_CELLS)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("error", overflow="ellipsis", no_wrap=True, ratio=2)
    for row in shown:
        arrow = "→ " if row.span.kind == "client" else ""
        name = "  " * row.depth + arrow + row.name.removeprefix("mediasync.v1.") + (f"  x{row.count}" if row.count > 1 else "")
        table.add_row(
            row.service,
            Text(_printable(name)),
            _duration(row.start_ns - start),
            _duration(row.busy_ns),
            Text(_bar(row, start, end), style="red" if row.failed else "cyan"),
            _size(row.size_bytes),
            Text(_printable(row.error or ("failed" if row.failed else "")), style="red"),
        )
    return table


def _document(sync_id: str, shown: Sequence[Row]) -> dict[str, Any]:
    start = min(row.start_ns for row in shown)
    return {
        "sync_id": next((row.span.sync_id for row in shown if row.span.sync_id), sync_id),
        "trace_ids": sorted({row.span.trace_id for row in shown}),
        "services": sorted({row.service for row in shown}),
        "start_ns": start,
        "duration_ms": (max(row.end_ns for row in shown) - start) / 1e6,
        "spans": [
            {
                "trace_id": row.span.trace_id,
                "span_id": row.span.span_id,
                "parent_id": row.span.parent_id,
                "depth": row.depth,
                "service": row.service,
                "name": row.name,
                "kind": row.span.kind,
                "start_ms": (row.start_ns - start) / 1e6,
                "duration_ms": row.busy_ns / 1e6,
                "failed": row.failed,
                "error": row.error,
                "sync_id": row.span.sync_id,
                "attributes": dict(row.span.attributes),
            }
            for row in shown
        ],
    }


def _bar(row: Row, start: int, end: int) -> str:
    whole = max(1, end - start)
    first = min(_BAR_CELLS - 1, (row.start_ns - start) * _BAR_CELLS // whole)
    last = max(first + 1, -(-(row.end_ns - start) * _BAR_CELLS // whole))
    return " " * first + "━" * (min(last, _BAR_CELLS) - first)


def _duration(nanoseconds: int) -> str:
    seconds = nanoseconds / 1e9
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _printable(text: str) -> str:
    """`text` without what would move the cursor or colour the terminal: names of files from a source end up in errors."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
