"""What rsync received is taken over by staging, by name, and counted where the counting lives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.model import Engine
from mediasync.sources.base import ReadStatus, WantedFile
from mediasync.sources.factory import open_source
from mediasync.sources.selection import EVERYTHING
from services.transfer.receiving.reception import receive
from services.transfer.staging import RESUMABLE_BYTES, Staging
from tests.fixtures.sources import batches_of, scan, want
from tests.fixtures.ssh import SshServer

pytestmark = pytest.mark.needs_sshd


async def test_files_of_rsync_are_staged_with_their_hashes(sshd: SshServer, tmp_path: Path) -> None:
    contents = {b"a.bin": os.urandom(1000), b"b/c.bin": b"", b"large.bin": os.urandom(RESUMABLE_BYTES + 1)}
    for path, data in contents.items():
        file = sshd.root / os.fsdecode(path)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o700)
        os.utime(file, (1e9, 1e9))
    dead = tmp_path / "home" / "rsync" / "scratch" / "rsync-999999999-x"
    dead.mkdir(parents=True)
    connection = await open_source(replace(sshd.spec(), engine=Engine.RSYNC), home=tmp_path / "home").connect()
    assert not dead.exists()
    wanted = [want(entry) for entry in (await scan(connection)).files.values()]
    (tmp_path / "library").mkdir()
    staging = Staging(os.fsencode(tmp_path / "library"))
    counted: dict[bytes, int] = {}
    here = threading.get_ident()

    def came(one: WantedFile, count: int) -> None:
        assert threading.get_ident() == here
        asyncio.get_running_loop()
        counted[one.path] = counted.get(one.path, 0) + count

    class Watching:
        """Sees where rsync writes meanwhile."""

        def took(self, count: int) -> float:
            folders.update(path.parent.parent.name for path in (tmp_path / "library").rglob("rsync-*"))
            return 0.0

    folders: set[str] = set()
    large = [one for one in wanted if one.size_bytes > RESUMABLE_BYTES]
    # The later batches are received beside the staging files, and only renamed; those of large ones live elsewhere.
    batches = batches_of(large, [one for one in wanted if one not in large])
    files = receive(connection, batches, staging.area("origin"), selection=EVERYTHING, pace=Watching(), on_bytes=came)
    async for received in files:
        assert received.outcome.status is ReadStatus.OK
        assert received.staged is not None
        data = contents[received.outcome.wanted.path]
        assert received.staged.sha256 == hashlib.sha256(data).digest()
        assert Path(os.fsdecode(received.staged.staged_path)).read_bytes() == data
        assert os.stat(received.staged.staged_path).st_mode & 0o777 == 0o644
        assert counted.get(received.outcome.wanted.path, 0) == len(data)
    await connection.close()
    assert folders == {"staging"}
    staging.close()
