"""The benchmark of clean-ups measures what it says; not how fast that is."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.cleanup import measure, measure_listing

pytestmark = pytest.mark.needs_sshd


async def test_a_clean_up_is_measured_beside_sha256sum(tmp_path: Path) -> None:
    options = argparse.Namespace(files=6, rounds=1, only="0ms", cached=False)
    results = await measure(options, tmp_path, Console(file=io.StringIO()))
    (rounds,) = results.values()
    assert len(rounds.ours) == len(rounds.peer) == 1
    assert [path.name for path in (tmp_path / "source").rglob("*") if path.is_file()] == ["stays.txt"]


async def test_few_due_files_among_many_are_measured(tmp_path: Path) -> None:
    options = argparse.Namespace(listed=100, due=3, rounds=1)
    seconds, most_bytes = await measure_listing(options, tmp_path, Console(file=io.StringIO()))
    assert len(seconds) == 1
    assert most_bytes > 0
