"""A sync as it goes: live bars on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from mediasync.cli import output
from mediasync.model import FolderProgress, JobProgress, ProgressStatus
from mediasync.paths import display

if TYPE_CHECKING:
    from rich.console import RenderableType

_PLAIN_SECONDS = 2.0
_BUSIEST = 5
_STAGES = {
    ProgressStatus.INITIALIZING: "connecting",
    ProgressStatus.SCANNING: "looking for new files",
    ProgressStatus.TRANSFERRING: "transferring",
    ProgressStatus.PROCESSING: "reading metadata",
    ProgressStatus.COMPLETE: "done",
    ProgressStatus.FAILED: "failed",
    ProgressStatus.CANCELLED: "cancelled",
}


class Display(Protocol):
    """Shows progress while it is entered."""

    def __enter__(self) -> Display: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def update(self, progress: JobProgress) -> None:
        """The newest snapshot."""

    def say(self, text: str) -> None:
        """A line that stays."""


def open_display(quiet: bool = False) -> Display:
    """The display for where stderr goes. With `quiet` there is none but what is said, for output that machines read."""
    if quiet:
        return _Quiet()
    return _Bars() if sys.stderr.isatty() and output.coloured(sys.stderr) else _Lines()


def stage(progress: JobProgress) -> str:
    """What is being done, in words."""
    said = display(progress.current_stage.encode("utf-8", "replace"))
    # A service that has nothing to add names the status, which is a word for programs.
    return _STAGES[progress.status] if said in ("", progress.status.value) else said


def summary_line(progress: JobProgress) -> str:
    """A snapshot in one line."""
    parts = [f"{progress.percent:3.0f} %  {stage(progress)}" if progress.files_total else stage(progress)]
    if progress.files_total:
        parts.append(f"{progress.files_done:,} of {output.count(progress.files_total, 'file')}")
        parts.append(f"{output.size(progress.bytes_done)} of {output.size(progress.bytes_total)}")
    if progress.bytes_per_second and progress.status is ProgressStatus.TRANSFERRING:
        parts.append(f"{output.size(progress.bytes_per_second)}/s")
        if progress.remaining_seconds is not None:
            parts.append(f"{output.span(progress.remaining_seconds)} left")
    if progress.errors:
        parts.append(f"{progress.errors:,} failed")
    return ", ".join(parts)


class _Quiet:
    """Shows nothing."""

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, progress: JobProgress) -> None:
        pass

    def say(self, text: str) -> None:
        output.note(text)


class _Lines(_Quiet):
    """A line every few seconds, and whenever another stage begins."""

    def __init__(self) -> None:
        self._shown_at = 0.0
        self._shown = ""
        self._status: ProgressStatus | None = None

    def update(self, progress: JobProgress) -> None:
        now = time.monotonic()
        if progress.status is self._status and now - self._shown_at < _PLAIN_SECONDS:
            return
        text = summary_line(progress)
        if text != self._shown:
            output.note(text)
        self._shown_at, self._shown, self._status = now, text, progress.status


class _Bars(_Quiet):
    """Bars: one for all, and one for each of the busiest folders."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress: JobProgress | None = None
        self._live = Live(
            console=Console(file=sys.stderr), get_renderable=self.render, refresh_per_second=10, transient=True, redirect_stdout=False
        )

    def __enter__(self) -> _Bars:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: JobProgress) -> None:
        self._progress = progress

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def render(self) -> RenderableType:
        """What is on the terminal now."""
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        progress = self._progress
        if progress is None:
            return Spinner("dots", Text("starting the services", style="bold"))
        parts: list[RenderableType] = [_overall(progress)]
        # The service sends the busiest first; a folder that is done has nothing more to tell.
        busy = [row for row in progress.folders if row.files_done < row.files_total][:_BUSIEST]
        if busy and progress.status is ProgressStatus.TRANSFERRING:
            parts.append(_folder_rows(busy))
        return Group(*parts)


def _overall(progress: JobProgress) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(width=32)
    grid.add_column(no_wrap=True)
    scanning = progress.status in (ProgressStatus.INITIALIZING, ProgressStatus.SCANNING)
    bar = ProgressBar(total=100, completed=progress.percent, pulse=scanning, width=32)
    numbers = Text()
    if progress.files_total:
        numbers.append(f"{progress.percent:3.0f} %  ", style="bold")
        done = progress.files_processed if progress.status is ProgressStatus.PROCESSING else progress.files_done
        numbers.append(f"{done:,}/{progress.files_total:,} files  ")
        numbers.append(f"{output.size(progress.bytes_done)}/{output.size(progress.bytes_total)}  ")
    if progress.bytes_per_second and progress.status is ProgressStatus.TRANSFERRING:
        numbers.append(f"{output.size(progress.bytes_per_second)}/s  ", style="cyan")
        if progress.remaining_seconds is not None:
            numbers.append(f"{output.span(progress.remaining_seconds)} left  ", style="dim")
    if progress.errors:
        numbers.append(f"{progress.errors:,} failed", style="red")
    grid.add_row(Text(stage(progress).ljust(22), style="bold"), bar, numbers)
    return grid


def _folder_rows(rows: Sequence[FolderProgress]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    grid.add_column(width=20)
    grid.add_column(no_wrap=True, justify="right")
    for row in rows:
        # Text, because a folder's name may look like markup.
        name = Text("  " + (display(row.folder) or "(root)"), style="dim")
        bar = ProgressBar(total=max(row.bytes_total, 1), completed=row.bytes_done, width=20)
        grid.add_row(name, bar, Text(f"{row.files_done:,}/{row.files_total:,}", style="dim"))
    return grid
