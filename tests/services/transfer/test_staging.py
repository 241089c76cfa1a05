from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.transfer.staging import Staging


def test_a_file_is_hashed_as_it_passes_and_keeps_its_time(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    file = staging.new_file()
    file.write(b"one")
    file.write(b"two")
    assert file.finish(1_700_000_000_123_456_789) == hashlib.sha256(b"onetwo").digest()
    assert Path(os.fsdecode(file.path)).read_bytes() == b"onetwo"
    assert os.stat(file.path).st_mtime_ns == 1_700_000_000_123_456_789
    staging.close()


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    file = staging.new_file()
    file.write(b"half")
    file.discard()
    file.discard()
    assert os.listdir(staging.folder) == [b"lock"]
    staging.close()
    assert list((tmp_path / ".mediasync" / "staging").iterdir()) == []


def test_the_folder_of_a_process_that_died_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from services.transfer.staging import Staging; s = Staging(os.fsencode(sys.argv[1]));"
        "s.new_file().write(b'x'); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        mine = Staging(os.fsencode(tmp_path))
        assert len(list((tmp_path / ".mediasync" / "staging").iterdir())) == 2
        mine.close()
        process.kill()
    again = Staging(os.fsencode(tmp_path))
    assert [os.fsencode(path) for path in (tmp_path / ".mediasync" / "staging").iterdir()] == [again.folder]
    again.close()


def test_a_folder_that_is_just_being_made_is_left_alone_and_an_old_one_without_a_lock_is_not(tmp_path: Path) -> None:
    parent = tmp_path / ".mediasync" / "staging"
    young, old = parent / "young", parent / "old"
    young.mkdir(parents=True)
    old.mkdir()
    os.utime(old, (0, 0))
    staging = Staging(os.fsencode(tmp_path))
    assert young.exists()
    assert not old.exists()
    staging.close()


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    file = staging.new_file()
    os.close(file._descriptor)
    file._descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x")
    file.discard()
    staging.close()
