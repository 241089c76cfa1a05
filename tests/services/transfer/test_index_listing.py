"""A library's index as who fills the catalog reads it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from mediasync.library import VerifyOptions
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import types_pb2
from services.transfer import keeping as keeping_module
from services.transfer.library_servicer import LibraryServicer
from tests.fixtures.library_keeping import Keeping

NO_CONTEXT: Any = None


async def listed(keeping: Keeping, library: str, after: bytes = b"") -> list[pb.IndexedFile]:
    request = pb.ListIndexRequest(library_path=library, after=after)
    files: list[pb.IndexedFile] = []
    async for response in LibraryServicer(keeping.keeper).ListIndex(request, NO_CONTEXT):
        assert response.library_root == keeping.root
        files += response.files
    return files


async def test_every_file_that_is_meant_to_be_there_is_listed_by_path(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "_PAGE", 2)
    names = [b"a.txt", b"b/c.txt", b"b/gone.txt", b"d.txt", b"not-utf8-\xff.txt"]
    for name in names:
        keeping.bench.write(name, name)
    await keeping.bench.sync()
    keeping.path("b/gone.txt").unlink()
    await keeping.verify(VerifyOptions(accept=True))
    names.remove(b"b/gone.txt")
    for library in (keeping.root, ""):
        files = await listed(keeping, library)
        assert [file.library_path.raw for file in files] == names
        assert [file.digest.value for file in files] == [hashlib.sha256(name).digest() for name in names]
        assert [file.size_bytes for file in files] == [len(name) for name in names]
        assert {file.digest.algorithm for file in files} == {types_pb2.DIGEST_ALGORITHM_SHA256}
    assert files[0].modify_time.ToNanoseconds() == keeping.path("a.txt").stat().st_mtime_ns
    assert [file.library_path.raw for file in await listed(keeping, keeping.root, b"b/c.txt")] == names[2:]
