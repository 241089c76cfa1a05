"""What rsync prints of a transfer, read as progress."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.sources.base import WantedFile
from mediasync.sources.rsync.progress import Progress, shows

SIZE = 60_000_000
PRINTED = (
    b"receiving file list ... 3 files to consider\n"
    b"file 4096 ./\n"
    b"file a\\#012 b.bin\n"
    b"\r              0   0%    0.00kB/s    0:00:00  "
    b"\r       20054016  33%   18.88MB/s    0:00:02  "
    b"\r       41549824  69%   19.25MB/s    0:00:00  "
    b"\r       60000000 100%   19.56MB/s    0:00:02 (xfr#2, to-chk=1/4)\n"
    b"file small\n"
    b"\r              5 100%    2.93kB/s    0:00:00 (xfr#1, to-chk=2/4)\n"
    b"file a\\#012 b.bin\n"
    b"\r       70000000  90%   19.56MB/s    0:00:02 (xfr#2, to-chk=1/4)\n"
)


def read(*pieces: bytes) -> list[int]:
    told: list[int] = []
    files = [WantedFile(b"a\n b.bin", SIZE, 0, 0), WantedFile(b"small", 5, 0, 0)]

    def came(wanted: WantedFile, count: int) -> None:
        assert wanted is files[0]
        assert count > 0
        told.append(count)

    progress = Progress(files, came)
    for piece in pieces:
        progress.feed(piece)
    return told


@given(st.lists(st.integers(0, len(PRINTED)), max_size=30))
def test_it_does_not_matter_how_the_output_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(PRINTED)]
    assert read(*(PRINTED[start:end] for start, end in itertools.pairwise(places))) == [20054016, 21495808, 18450176]


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"file a\\#012 b.bin\n", b"\r 7 1%", b"\r 99999999999 99%", b"file small\n"]))
    )
)
def test_whatever_is_printed_progress_only_grows_and_never_beyond_the_file(pieces: list[bytes]) -> None:
    assert sum(read(*pieces)) <= SIZE


def test_a_last_word_without_an_end_counts_at_once() -> None:
    assert read(b"file a\\#012 b.bin\n\r       20054016  33%") == [20054016]


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (b"rsync  version 3.5.0  protocol version 32\n", True),
        (b"rsync  version v3.2.7  protocol version 31\n", True),
        (b"rsync  version 3.1.0  protocol version 31\n", True),
        (b"rsync  version 3.0.9  protocol version 30\n", False),
        (b"openrsync: protocol version 29\nrsync version 2.6.9 compatible\n", False),
        (b"", False),
    ],
)
def test_only_an_rsync_that_knows_the_options_is_asked(said: bytes, known: bool) -> None:
    assert shows(said) is known
