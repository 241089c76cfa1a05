from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediasync.sources.base import FileEntry
from services.transfer.diff import VANISHED, RowState, diff_directory


def entry(name: bytes, size: int = 1, mtime: int = 1, ctime: int = 1, inode: int = 7) -> FileEntry:
    return FileEntry(b"d/" + name, size, mtime, ctime, inode)


def row(name: bytes, size: int = 1, mtime: int = 1, ctime: int = 1) -> RowState:
    return (name, size, mtime, ctime)


def test_a_file_on_record_is_unchanged_and_a_new_one_is_wanted() -> None:
    files = [entry(b"a"), entry(b"b")]
    difference = diff_directory(b"d", files, [row(b"a")], complete=True)
    assert (difference.unchanged, difference.wanted, difference.doubtful) == ([files[0]], [files[1]], [])


def test_another_size_is_wanted_and_the_same_size_with_other_times_is_doubtful() -> None:
    files = [entry(b"a", size=2), entry(b"b", ctime=2), entry(b"c", mtime=2)]
    difference = diff_directory(b"d", files, [row(b"a"), row(b"b"), row(b"c")], complete=True)
    assert (difference.wanted, difference.doubtful) == (files[:1], files[1:])


def test_a_new_number_alone_is_no_change() -> None:
    assert len(diff_directory(b"d", [entry(b"a", inode=8)], [row(b"a")], complete=True).unchanged) == 1


def test_a_file_that_came_back_after_it_vanished_is_doubtful() -> None:
    assert len(diff_directory(b"d", [entry(b"a")], [row(b"a", VANISHED)], complete=True).doubtful) == 1


def test_a_name_that_is_gone_is_reported_once() -> None:
    difference = diff_directory(b"d", [], [row(b"a"), row(b"b", VANISHED)], complete=True)
    assert difference.vanished == [row(b"a")]


def test_an_exact_scan_without_names_says_nothing_of_what_is_gone() -> None:
    difference = diff_directory(b"d", [entry(b"a", size=2)], [row(b"a"), row(b"b")], complete=False)
    assert difference.vanished == []
    assert len(difference.wanted) == 1


def test_an_exact_scan_with_names_finds_what_is_gone() -> None:
    difference = diff_directory(b"d", [], [row(b"a"), row(b"b")], complete=False, names={b"a"})
    assert difference.vanished == [row(b"b")]


def test_files_in_the_root_have_no_folder_before_their_name() -> None:
    assert len(diff_directory(b"", [FileEntry(b"a", 1, 1, 1, 7)], [row(b"a")], complete=True).unchanged) == 1


_names = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name)
_states = st.dictionaries(_names, st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)))


@given(_states, _states)
def test_every_file_is_exactly_one_of_wanted_doubtful_unchanged_or_vanished(
    before: dict[bytes, tuple[int, int, int]], after: dict[bytes, tuple[int, int, int]]
) -> None:
    files = [entry(name, *state) for name, state in sorted(after.items())]
    difference = diff_directory(b"d", files, [row(name, *state) for name, state in sorted(before.items())], complete=True)
    found = [{file.path.removeprefix(b"d/") for file in part} for part in (difference.wanted, difference.doubtful, difference.unchanged)]
    assert sum(len(part) for part in found) == len(after)
    assert found[0] == {name for name in after if name not in before or before[name][0] != after[name][0]}
    assert found[2] == {name for name in after if before.get(name) == after[name]}
    assert {gone[0] for gone in difference.vanished} == before.keys() - after.keys()
