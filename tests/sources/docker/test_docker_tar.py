"""Archives that are taken apart as they stream by."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.sources.docker.tar import BrokenArchiveError, TarStream

NAMES = st.binary(min_size=1, max_size=300).filter(lambda raw: b"\0" not in raw and not raw.startswith(b"/") and not raw.endswith(b"/"))


class _Pieces:
    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    async def readany(self) -> bytes:
        data, self._data = self._data[: self._size], self._data[self._size :]
        return data


def packed(files: Sequence[tuple[bytes, bytes]], form: int) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name, content in files:
            item = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            item.size, item.mtime = len(content), 1_700_000_000
            tar.addfile(item, io.BytesIO(content))
    return target.getvalue()


async def unpacked(data: bytes, size: int, skip: int = 0) -> list[tuple[bytes, bytes]]:
    stream = TarStream(_Pieces(data, size))
    found = []
    while (member := await stream.next()) is not None:
        content = b""
        if not skip or len(found) % skip:
            while piece := await stream.piece():
                content += piece
        found.append((member.name, content))
        assert member.mtime_ns == 1_700_000_000 * 10**9
    return found


@given(st.lists(st.tuples(NAMES, st.binary(max_size=2000)), max_size=5), st.sampled_from([1, 7, 512, 5000]), st.booleans())
def test_any_archive_comes_apart_as_it_was_put_together(files: list[tuple[bytes, bytes]], size: int, gnu: bool) -> None:
    data = packed(files, tarfile.GNU_FORMAT if gnu else tarfile.PAX_FORMAT)
    assert asyncio.run(unpacked(data, size)) == files


async def test_what_is_not_taken_is_passed_over() -> None:
    files = [(b"%d" % number, b"x" * number) for number in range(600)]
    found = await unpacked(packed(files, tarfile.PAX_FORMAT), 4096, skip=2)
    assert [name for name, _ in found] == [name for name, _ in files]
    assert found[1::2] == files[1::2]


@pytest.mark.parametrize("cut", [0, 100, 511, 512, 600, 1023])
async def test_an_archive_that_ends_too_early_is_broken(cut: int) -> None:
    data = packed([(b"a", b"x" * 100), (b"b", b"")], tarfile.USTAR_FORMAT)
    with pytest.raises(BrokenArchiveError):
        await unpacked(data[:cut], 512)


async def test_what_is_no_archive_is_broken() -> None:
    with pytest.raises(BrokenArchiveError):
        await unpacked(b"<html>" * 1000, 512)


@given(st.binary(max_size=3000))
def test_any_bytes_are_an_archive_or_broken(data: bytes) -> None:
    async def run() -> None:
        stream = TarStream(_Pieces(data, 700))
        while await stream.next() is not None:
            while await stream.piece():
                pass

    try:
        asyncio.run(run())
    except BrokenArchiveError:
        pass
