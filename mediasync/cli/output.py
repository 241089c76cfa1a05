"""What commands print: results on stdout, everything else on stderr; tables and colour on a terminal, plain lines elsewhere."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mediasync.errors import MediasyncError
from mediasync.paths import display


def line(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str = "") -> None:
    """A line beside the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """One JSON document on one line of stdout."""
    line(json.dumps(plain(value)))


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses as objects, names from a source in their display form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return display(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def print_error(error: MediasyncError) -> None:
    """What went wrong, why, and what to do next, on stderr."""
    message = error.message.rstrip()
    text = f"{style('error:', 'red', bold=True, stream=sys.stderr)} {message}"
    if error.remedy:
        text += f"\n  {style('→', 'cyan', stream=sys.stderr)} {error.remedy}"
    note(text)


def error_json(error: MediasyncError, exit_code: int) -> dict[str, Any]:
    """An error as `--json` shows it."""
    return {
        "error": {
            "reason": error.reason.value,
            "message": error.message,
            "remedy": error.remedy,
            "exit_code": exit_code,
            "fields": [{"field": item.field, "description": item.description} for item in error.fields],
        }
    }


_CUT_CELLS = 16  # what is left at least of a column that may be cut
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "": 0}


def style(text: str, colour: str = "", *, bold: bool = False, dim: bool = False, stream: Any = None) -> str:
    """`text` in colour where `stream` (stdout unless given) is a terminal that wants it."""
    if not coloured(sys.stdout if stream is None else stream):
        return text
    codes = [str(code) for code in (_COLOURS[colour], 1 if bold else 0, 2 if dim else 0) if code]
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text


def coloured(stream: Any) -> bool:
    """Whether to use colour on `stream`. See https://no-color.org."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (), cut: Sequence[str] = ()) -> None:
    """Rows under headers. On a terminal long cells are folded to its width; elsewhere every row is one line. `right` names the columns
    that are aligned there, `cut` those that are cut off on a terminal, rather than that others are folded for them."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(headers, cells, right, cut)
        return
    widths = [max(len(row[column]) for row in [list(headers), *cells]) for column in range(len(headers))]
    for row in [[header.upper() for header in headers], *cells]:
        padded = [
            cell.rjust(width) if header in right else cell.ljust(width) for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        line("  ".join(padded).rstrip())


def _rich_table(headers: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[str], cut: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(no_color=not coloured(sys.stdout))
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    widths = [max(len(row[column]) for row in [headers, *cells]) for column in range(len(headers))]
    lacking = max(0, sum(widths) + 2 * len(widths) - console.width)
    for header, width in zip(headers, widths, strict=True):
        if header in cut:
            shown.add_column(header, overflow="ellipsis", no_wrap=True, max_width=max(_CUT_CELLS, width - lacking))
        else:
            shown.add_column(header, justify="right" if header in right else "left", overflow="fold", no_wrap=header in right)
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))  # Text, because a name may look like markup
    console.print(shown)


def pairs(rows: Sequence[tuple[str, object]]) -> None:
    """Labelled values, those that are empty left out."""
    shown = [(label, str(value)) for label, value in rows if value not in ("", None)]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        first, *rest = value.splitlines() or [""]
        line(f"  {style(label.ljust(width), dim=True)}  {first}")
        for more in rest:
            line(f"  {' ' * width}  {more}")


def size(size_bytes: float) -> str:
    """Bytes for people, in decimal units: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size_bytes < 999.5 or unit == "TB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 99.5 else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("the last unit takes everything")


def span(seconds: float) -> str:
    """A length of time for people: `3.2 s`, `2 min 5 s`, `1 h 3 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(unix_seconds: float) -> str:
    """A point in time for people, in local time; empty for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_seconds)) if unix_seconds else ""


def count(number: int, noun: str) -> str:
    """`1 file`, `1,234 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
