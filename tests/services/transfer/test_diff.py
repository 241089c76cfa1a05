from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediasync.sources.base import DirectoryScanned, FileEntry
from services.transfer.diff import diff_directory
from services.transfer.entities import ManifestRow


def entry(name: bytes, size: int = 1, mtime: int = 1, ctime: int = 1) -> FileEntry:
    return FileEntry(b"d/" + name, size, mtime, ctime, 7)


def row(name: bytes, size: int = 1, mtime: int = 1, ctime: int = 1, vanished: bool = False) -> ManifestRow:
    return ManifestRow(name, size, mtime, ctime, b"h", b"d/" + name, vanished)


def complete(*files: FileEntry) -> DirectoryScanned:
    return DirectoryScanned(b"d", 1, files, complete=True)


def test_a_file_on_record_is_unchanged_and_a_new_one_is_wanted() -> None:
    difference = diff_directory(complete(entry(b"a"), entry(b"b")), [row(b"a")])
    assert difference.unchanged == 1
    assert [file.path for file in difference.wanted] == [b"d/b"]


def test_a_ctime_that_moved_alone_makes_a_file_wanted() -> None:
    difference = diff_directory(complete(entry(b"a", ctime=2)), [row(b"a")])
    assert len(difference.wanted) == 1


def test_a_file_that_came_back_after_it_vanished_is_wanted() -> None:
    assert len(diff_directory(complete(entry(b"a")), [row(b"a", vanished=True)]).wanted) == 1


def test_a_name_that_is_gone_is_reported_once() -> None:
    assert diff_directory(complete(), [row(b"a"), row(b"b", vanished=True)]).vanished == (b"a",)


def test_an_exact_scan_without_names_says_nothing_of_what_is_gone() -> None:
    moved = DirectoryScanned(b"d", 1, (entry(b"a", size=2),), complete=False)
    difference = diff_directory(moved, [row(b"a"), row(b"b")])
    assert difference.vanished == ()
    assert len(difference.wanted) == 1


def test_an_exact_scan_with_names_finds_what_is_gone() -> None:
    moved = DirectoryScanned(b"d", 1, (), complete=False, names=(b"a",))
    assert diff_directory(moved, [row(b"a"), row(b"b")]).vanished == (b"b",)


_names = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name)
_states = st.dictionaries(_names, st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)))


@given(_states, _states)
def test_every_file_is_exactly_one_of_wanted_unchanged_or_vanished(
    before: dict[bytes, tuple[int, int, int]], after: dict[bytes, tuple[int, int, int]]
) -> None:
    scanned = complete(*(entry(name, *state) for name, state in sorted(after.items())))
    difference = diff_directory(scanned, [row(name, *state) for name, state in sorted(before.items())])
    wanted = {file.path.removeprefix(b"d/") for file in difference.wanted}
    assert wanted == {name for name in after if before.get(name) != after[name]}
    assert difference.unchanged == len(after) - len(wanted)
    assert set(difference.vanished) == before.keys() - after.keys()
