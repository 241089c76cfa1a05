"""A sync as it goes: live bars on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mediasync.cli import output
from mediasync.model import FolderProgress, JobProgress, ProgressStatus
from mediasync.paths import display

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_PLAIN_SECONDS = 2.0
_WATCH_SECONDS = 0.3
_BUSIEST = 5
_BAR_CELLS, _BAR_CELLS_NARROW = 40, 16
_STAGE_CELLS = 40  # room for the longest stage
_STAGES = {
    ProgressStatus.INITIALIZING: "connecting",
    ProgressStatus.SCANNING: "looking for new files",
    ProgressStatus.TRANSFERRING: "transferring",
    ProgressStatus.PROCESSING: "reading metadata",
    ProgressStatus.CLEANING: "cleaning up",
    ProgressStatus.COMPLETE: "done",
    ProgressStatus.FAILED: "failed",
    ProgressStatus.CANCELLED: "cancelled",
    ProgressStatus.PAUSED: "paused",
}

_BUSY_STAGES = (_STAGES[ProgressStatus.SCANNING], _STAGES[ProgressStatus.TRANSFERRING], "scanning")


class Display(Protocol):
    """Shows progress while it is entered."""

    def __enter__(self) -> Display: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def update(self, progress: JobProgress) -> None:
        """The newest snapshot."""

    def say(self, text: str) -> None:
        """A line that stays."""


def open_display(quiet: bool = False, watch: bool = False) -> Display:
    """The display for where stderr goes. With `quiet` there is none but what is said, for output that machines read. A `watch` has no
    end to be counted towards; what has landed is told as it comes."""
    if quiet:
        return _Quiet()
    if watch:
        return _WatchLines()
    return _Bars() if sys.stderr.isatty() and output.coloured(sys.stderr) else _Lines()


def stage(progress: JobProgress) -> str:
    """What is being done, in words."""
    said = display(progress.current_stage.encode("utf-8", "replace"))
    # A service that has nothing to add names the status, which is a word for programs.
    return _STAGES[progress.status] if said in ("", progress.status.value) else said


def summary_line(progress: JobProgress) -> str:
    """A snapshot in one line."""
    parts = [f"{_percent(progress):3} %  {stage(progress)}" if _counted(progress) else stage(progress)]
    if _counted(progress):
        amounts = _amounts(progress)
        parts.append(f"{amounts.files_done:,} of {output.count(amounts.files_total, 'file')}")
        parts.append(f"{output.size(amounts.bytes_done)} of {output.size(amounts.bytes_total)}")
    if _moving(progress):
        parts.append(f"{output.size(progress.bytes_per_second)}/s")
        if progress.remaining_seconds is not None:
            parts.append(_left(progress.remaining_seconds))
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


class _WatchLines(_Quiet):
    """A line for what has landed, a few a second at most, and whenever the watch comes to be at something else."""

    def __init__(self) -> None:
        self._newest: JobProgress | None = None
        self._shown_files = 0
        self._shown_bytes = 0
        self._shown_stage = ""
        self._later: asyncio.TimerHandle | None = None

    def __exit__(self, *_: object) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
            self._show()

    def update(self, progress: JobProgress) -> None:
        self._newest = progress
        # What it does for each new file is told by what lands.
        if stage(progress) != self._shown_stage and not (self._shown_stage and stage(progress) in _BUSY_STAGES):
            self._shown_stage = stage(progress)
            output.note(self._shown_stage)
        # What lands together is told together.
        if progress.files_done > self._shown_files and self._later is None:
            self._later = asyncio.get_running_loop().call_later(_WATCH_SECONDS, self._landed)

    def _landed(self) -> None:
        self._later = None
        self._show()

    def _show(self) -> None:
        progress = self._newest
        if progress is None or progress.files_done <= self._shown_files:
            return
        files, size = progress.files_done - self._shown_files, progress.bytes_done - self._shown_bytes
        self._shown_files, self._shown_bytes = progress.files_done, progress.bytes_done
        clock = time.strftime("%H:%M:%S")
        newest = f", {display(progress.current_file)}" if progress.current_file else ""
        output.note(f"{clock}  + {output.count(files, 'file')}, {output.size(max(size, 0))}{newest}  ({progress.files_done:,} so far)")


class _Bars(_Quiet):
    """Bars: one for all, and one for each of the busiest folders. What changes has room of its own, so that nothing jumps."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress: JobProgress | None = None
        self._places: dict[bytes, int] = {}
        self._live = Live(
            console=Console(file=sys.stderr), get_renderable=self.render, refresh_per_second=10, transient=True, redirect_stdout=False
        )

    def __enter__(self) -> _Bars:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: JobProgress) -> None:
        for row in progress.folders:
            self._places.setdefault(row.folder, len(self._places))
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
        widest = max([5, *(len(f"{row.files_total:,}") * 2 + 1 for row in progress.folders)])
        bar_cells = min(_BAR_CELLS, max(_BAR_CELLS_NARROW, self._live.console.width - widest - 4 - _STAGE_CELLS))
        looking = progress.status is ProgressStatus.CLEANING and not _counted(progress)
        scanning = looking or progress.status in (ProgressStatus.INITIALIZING, ProgressStatus.SCANNING)
        percent = Text(f"{_percent(progress)} %" if _counted(progress) else "", style="bold")
        parts: list[RenderableType] = [
            _row((_share(progress), 100), percent, Text(stage(progress), style="bold"), bar_cells, widest, scanning)
        ]
        if _counted(progress):
            parts.append(_numbers(progress))
        for row in self._busy(progress):
            # Text, because a folder's name may look like markup.
            count = Text(f"{row.files_done:,}/{row.files_total:,}", style="dim")
            name = Text(display(row.folder) or "(root)", style="dim")
            parts.append(_row((row.bytes_done, max(row.bytes_total, 1)), count, name, bar_cells, widest))
        return Group(*parts)

    def _busy(self, progress: JobProgress) -> Sequence[FolderProgress]:
        """The busiest folders, which the service sends first, in the order in which they came up. One that is done has nothing to tell."""
        if progress.status is not ProgressStatus.TRANSFERRING:
            return ()
        busy = [row for row in progress.folders if row.files_done < row.files_total][:_BUSIEST]
        return sorted(busy, key=lambda row: self._places[row.folder])


def _row(done: tuple[float, float], count: Text, name: Text, bar_cells: int, count_cells: int, pulse: bool = False) -> RenderableType:
    """A bar, its count, and last what it is of, whose length then moves nothing."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=bar_cells)
    grid.add_column(width=count_cells, justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(ProgressBar(total=done[1], completed=done[0], pulse=pulse, width=bar_cells), count, name)
    return grid


def _numbers(progress: JobProgress) -> Text:
    from rich.text import Text

    amounts = _amounts(progress)
    done = progress.files_processed if progress.status is ProgressStatus.PROCESSING else amounts.files_done
    total = f"{amounts.files_total:,}"
    numbers = Text(no_wrap=True, overflow="ellipsis")
    numbers.append(f"{done:,}".rjust(len(total)) + f"/{total} files  ")
    numbers.append(f"{output.size(amounts.bytes_done):>7}/{output.size(amounts.bytes_total)}  ")
    if _moving(progress):
        numbers.append(f"{output.size(progress.bytes_per_second):>7}/s  ", style="cyan")
        if progress.remaining_seconds is not None:
            numbers.append(f"{_left(progress.remaining_seconds)}  ", style="dim")
    if progress.errors:
        numbers.append(f"{progress.errors:,} failed", style="red")
    return numbers


def _percent(progress: JobProgress) -> int:
    """Rounded down: 100 is for what is all there."""
    return int(_share(progress))


class _Amounts(NamedTuple):
    """What is counted: while a clean-up runs what it deletes, else what a sync brings."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


def _amounts(progress: JobProgress) -> _Amounts:
    if progress.status is ProgressStatus.CLEANING:
        return _Amounts(progress.files_cleaned, progress.files_to_clean, progress.bytes_cleaned, progress.bytes_to_clean)
    return _Amounts(progress.files_done, progress.files_total, progress.bytes_done, progress.bytes_total)


def _counted(progress: JobProgress) -> bool:
    """Whether there is something to count towards."""
    return _amounts(progress).files_total > 0


def _share(progress: JobProgress) -> float:
    """How much of it is done, in hundredths."""
    if progress.status is not ProgressStatus.CLEANING:
        return progress.percent
    amounts = _amounts(progress)
    return 100 * amounts.files_done / max(amounts.files_total, 1)


def _moving(progress: JobProgress) -> bool:
    """Whether a rate says something: not while the last files are only waited for."""
    return bool(progress.bytes_per_second) and stage(progress) == _STAGES[ProgressStatus.TRANSFERRING]


def _left(seconds: float) -> str:
    """A guess, and so in whole seconds."""
    whole = math.ceil(seconds)
    return f"{whole} s left" if whole < 60 else f"{output.span(whole)} left"
