from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.sources.base import FileEntry
from services.transfer.spool import WantedSpool

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
@given(_entries, st.integers(1, 7), st.integers(1, 2**40))
def test_what_goes_in_comes_out_in_order_in_bounded_batches(
    tmp_path: Path, entries: list[FileEntry], max_files: int, max_bytes: int
) -> None:
    spool = WantedSpool(tmp_path)
    for entry in entries:
        spool.add(entry)
    batches = list(spool.batches(max_files, max_bytes))
    assert [entry for batch in batches for entry in batch] == entries
    assert all(len(batch) <= max_files for batch in batches)
    assert all(sum(entry.size_bytes for entry in batch[:-1]) < max_bytes for batch in batches)
    assert (spool.files, spool.size_bytes) == (len(entries), sum(entry.size_bytes for entry in entries))
    spool.close()


def test_many_files_go_to_disk_and_leave_nothing_behind(tmp_path: Path) -> None:
    spool = WantedSpool(tmp_path)
    for number in range(60_000):
        spool.add(FileEntry(b"folder/%090d" % number, 1, 2, 3, 4))
    assert sum(len(batch) for batch in spool.batches(1000, 10**9)) == 60_000
    spool.close()
    assert list(tmp_path.iterdir()) == []
