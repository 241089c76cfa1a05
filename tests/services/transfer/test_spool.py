from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.sources.base import FileEntry
from services.transfer.spool import SLICE_FILES, WantedSpool

_entries = st.lists(
    st.builds(
        FileEntry,
        st.binary(min_size=1, max_size=300),
        st.integers(0, 2**62),
        st.integers(-(2**62), 2**62),
        st.integers(-(2**62), 2**62),
        st.integers(0, 2**64 - 1),
    ),
    max_size=50,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_entries, st.integers(1, 7), st.integers(1, 2**40), st.booleans())
def test_what_goes_in_comes_out_in_bounded_batches(
    tmp_path: Path, entries: list[FileEntry], max_files: int, max_bytes: int, newest_first: bool
) -> None:
    spool = WantedSpool(tmp_path, newest_first=newest_first)
    for entry in entries:
        spool.add(entry)
    batches = list(spool.batches(max_files, max_bytes))
    found = [entry for batch in batches for entry in batch]
    assert Counter(found) == Counter(entries)
    if newest_first:
        assert [entry.mtime_ns for entry in found] == sorted((entry.mtime_ns for entry in entries), reverse=True)
    assert all(len(batch) <= max_files for batch in batches)
    assert all(sum(entry.size_bytes for entry in batch[:-1]) < max_bytes for batch in batches)
    assert (spool.files, spool.size_bytes) == (len(entries), sum(entry.size_bytes for entry in entries))
    spool.close()


def file(path: bytes, mtime_ns: int = 2) -> FileEntry:
    return FileEntry(path, 1, mtime_ns, 3, 4)


def test_many_files_go_to_disk_and_leave_nothing_behind(tmp_path: Path) -> None:
    spool = WantedSpool(tmp_path)
    for number in range(60_000):
        spool.add(file(b"folder/%090d" % number))
    assert sum(len(batch) for batch in spool.batches(1000, 10**9)) == 60_000
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_large_folder_starves_no_small_one(tmp_path: Path) -> None:
    spool = WantedSpool(tmp_path)
    for number in range(10 * SLICE_FILES):
        spool.add(file(b"a-large/%06d" % number))
    spool.add(file(b"b-small/1"))
    spool.add(file(b"c-small/1"))
    found = [entry.path for entry in spool.entries()]
    assert found.index(b"b-small/1") == SLICE_FILES
    assert found.index(b"c-small/1") == SLICE_FILES + 1
    assert [path for path in found if path.startswith(b"a")] == sorted(path for path in found if path.startswith(b"a"))
    spool.close()


def test_the_newest_come_first_however_many_there_are(tmp_path: Path) -> None:
    spool = WantedSpool(tmp_path, newest_first=True)
    for number in range(50_000):
        spool.add(file(b"%d/%d" % (number % 7, number), number * 7919 % 50_021))
    found = [entry.mtime_ns for entry in spool.entries()]
    assert len(found) == 50_000
    assert found == sorted(found, reverse=True)
    spool.close()
