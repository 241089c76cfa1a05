"""What a terminal shows: tables that fit it, and bars that do."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest
from rich.console import Console

from mediasync.cli import display, output
from mediasync.model import FolderProgress, JobProgress, ProgressStatus

PATH = "txt2img-images/2026-11-21/00045-3819424592.png"


class Terminal(io.StringIO):
    """A stdout that is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")


def table(*rows: tuple[str, str, str]) -> list[str]:
    with redirect_stdout(Terminal()) as terminal:
        output.table(["path", "size", "prompt"], rows, right=["size"], cut=["prompt"])
    return [line.rstrip() for line in terminal.getvalue().splitlines() if line.strip()]


def test_a_long_prompt_is_cut_so_that_the_path_stays_whole() -> None:
    lines = table((PATH, "250 kB", "rolling hills " * 9), ("a", "1 kB", ""))
    assert len(lines) == 4
    assert PATH in lines[2] and lines[2].endswith("…")
    assert max(map(len, lines)) <= 80


def test_a_table_without_rows_is_its_headers() -> None:
    assert table()[0].split() == ["path", "size", "prompt"]


def drawn(*snapshots: JobProgress) -> list[str]:
    """The last of what 80 columns show of these."""
    bars = display._Bars()
    for snapshot in snapshots:
        bars.update(snapshot)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(bars.render())
    return capture.get().splitlines()


def progress(percent: float = 50.0, stage: str = "", names: tuple[bytes, ...] = (b"b" * 60, b"a")) -> JobProgress:
    return JobProgress(
        "sync",
        status=ProgressStatus.TRANSFERRING,
        percent=percent,
        current_stage=stage,
        folders=tuple(FolderProgress(name, 1200, 3, 10_000_000, 24_000) for name in names),
        files_total=2400,
        files_done=6,
        bytes_total=20_000_000,
        bytes_done=48_000,
        bytes_per_second=999_000,
        remaining_seconds=3.2,
    )


def test_bars_fit_80_columns_whatever_folders_are_called() -> None:
    lines = drawn(progress())
    assert len(lines) == 4
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert [line.split()[-1] for line in lines] == ["transferring", "left", lines[2].split()[-1], "a"]
    assert lines[2].endswith("bbb…")
    assert lines[1].rstrip() == "    6/2,400 files  48.0 kB/20.0 MB   999 kB/s  4 s left"


def test_folders_keep_their_places_when_another_becomes_the_busiest() -> None:
    lines = drawn(progress(names=(b"first", b"second")), progress(names=(b"second", b"third", b"first")))
    assert [line.split()[-1] for line in lines[2:]] == ["first", "second", "third"]


def test_what_is_only_waited_for_has_no_rate_and_is_not_all() -> None:
    waiting = progress(99.9, stage="waiting for files that are being written")
    lines = drawn(waiting)
    assert lines[0].endswith("99 %  waiting for files that are being written")
    assert "/s" not in lines[1] and "left" not in lines[1]
    assert display.summary_line(waiting).startswith(" 99 %  waiting for files that are being written, 6 of 2,400 files")
