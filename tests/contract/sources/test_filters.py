"""What is a result: sizes, ages, extensions, patterns, and what is said of the rest."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from mediasync.model import FilterReason
from mediasync.sources.base import Connection
from mediasync.sources.selection import Selection, rules
from tests.fixtures.backends import Can, needs
from tests.fixtures.sources import FarSide, clock_tick, scan

HOUR = 3600.0


def selection(*, included: tuple[str, ...] = (), excluded: tuple[str, ...] = (), **values: object) -> Selection:
    return Selection(included=rules(included), excluded=rules(excluded), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param(selection(extensions=(b".png", b".webm")), {"a/1.png", "a/2.PNG"}, id="extensions"),
        pytest.param(selection(included=("*.png",)), {"a/1.png"}, id="included by name"),
        pytest.param(selection(included=("a/**",)), {"a/1.png", "a/2.PNG", "a/b/c.txt"}, id="included by place"),
        pytest.param(selection(excluded=("*.txt",)), {"a/1.png", "a/2.PNG", "grid/3.jpg"}, id="excluded by name"),
        pytest.param(selection(excluded=("grid/", "b")), {"a/1.png", "a/2.PNG", "top.txt"}, id="excluded folders"),
        pytest.param(selection(excluded=("a", "!a/b/*.txt")), {"a/b/c.txt", "grid/3.jpg", "top.txt"}, id="taken back"),
        pytest.param(selection(excluded=("/top.txt", "/c.txt")), {"a/1.png", "a/2.PNG", "a/b/c.txt", "grid/3.jpg"}, id="rooted"),
        pytest.param(selection(included=("*.txt",), excluded=("top.*",)), {"a/b/c.txt"}, id="both"),
        pytest.param(selection(min_size_bytes=3), {"a/2.PNG", "a/b/c.txt"}, id="at least"),
        pytest.param(selection(max_size_bytes=2), {"a/1.png", "grid/3.jpg", "top.txt"}, id="at most"),
        pytest.param(selection(min_age_seconds=2 * HOUR), {"a/b/c.txt", "grid/3.jpg"}, id="old enough"),
        pytest.param(selection(max_age_seconds=2 * HOUR), {"a/1.png", "a/2.PNG", "top.txt"}, id="young enough"),
        pytest.param(selection(temporary_suffixes=(b".png",)), {"a/b/c.txt", "grid/3.jpg", "top.txt"}, id="temporary endings"),
    ],
)
async def test_only_what_is_selected_is_a_result(far: FarSide, connection: Connection, chosen: Selection, expected: set[str]) -> None:
    far.put("a/1.png", b"1", age_seconds=60)
    far.put("a/2.PNG", b"22222", age_seconds=60)
    far.put("a/b/c.txt", b"333", age_seconds=10 * HOUR)
    far.put("grid/3.jpg", b"", age_seconds=10 * HOUR)
    far.put("top.txt", b"12", age_seconds=60)
    found = await scan(connection, selection=chosen)
    assert {path.decode() for path in found.files} == expected
    assert found.finished.files_seen == len(expected)
    assert found.finished.files_filtered >= 1
    # The next scan is told anew.
    assert len((await scan(connection)).files) == 5


async def test_a_file_that_is_too_young_makes_its_directory_young(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/new.txt", age_seconds=60)
    far.put("a/old.txt", age_seconds=10 * HOUR)
    far.put("b/old.txt", age_seconds=10 * HOUR)
    found = await scan(connection, selection=selection(min_age_seconds=HOUR))
    assert {path: record.young for path, record in found.directories.items()} == {b"": False, b"a": True, b"b": False}
    newest = max(os.stat(far.root / path).st_ctime_ns for path in ("", "a", "a/new.txt", "b/old.txt"))
    since = clock_tick(tmp_path, newest)
    again = await scan(connection, b"", since, found.known, selection=selection(min_age_seconds=HOUR))
    assert again.directories[b"a"].young


@needs(Can.EXPLAIN)
async def test_what_is_no_result_is_named_with_its_reason(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("outside")
    expected = {
        "kept.png": None,
        ".hidden.png": FilterReason.HIDDEN,
        "x.png.tmp": FilterReason.TEMPORARY,
        "Thumbs.db": FilterReason.FOREIGN,
        "x.txt": FilterReason.EXTENSION,
        "grid-1.png": FilterReason.EXCLUDED,
        "y.png": FilterReason.NOT_INCLUDED,
        "kept-small.png": FilterReason.TOO_SMALL,
        "kept-large.png": FilterReason.TOO_LARGE,
        "kept-new.png": FilterReason.TOO_YOUNG,
        "kept-old.png": FilterReason.TOO_OLD,
    }
    sizes = {"kept-small.png": 1, "kept-large.png": 100}
    ages = {"kept-new.png": 60.0, "kept-old.png": 1000 * HOUR}
    for name in expected:
        far.put(name, bytes(sizes.get(name, 50)), age_seconds=ages.get(name, 10 * HOUR))
    (far.root / "link.png").symlink_to(tmp_path / "outside.txt")
    os.mkfifo(far.root / "fifo.png")
    far.put(".hidden/inside.png")
    far.put("input/inside.png")
    chosen = selection(
        included=("kept*",),
        excluded=("grid*", "input/"),
        extensions=(b".png",),
        min_size_bytes=10,
        max_size_bytes=90,
        min_age_seconds=HOUR,
        max_age_seconds=100 * HOUR,
    )
    found = await scan(connection, selection=chosen, explain=True)
    assert set(found.files) == {b"kept.png"}
    assert found.filtered == {name.encode(): reason for name, reason in expected.items() if reason} | {
        b"link.png": FilterReason.LINK,
        b"fifo.png": FilterReason.SPECIAL,
        b".hidden": FilterReason.HIDDEN,
        b"input": FilterReason.EXCLUDED,
    }
    assert found.finished.files_filtered == len(found.filtered)
    plain = await scan(connection, selection=chosen)
    assert plain.filtered == {}
    assert Counter(found.filtered.values()) == found.finished.filtered == plain.finished.filtered
