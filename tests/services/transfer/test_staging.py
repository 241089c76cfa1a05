from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediasync.sources.base import Partial, WantedFile
from services.transfer.staging import RESUMABLE_BYTES, Staging, StagingFile, remove_beginnings


def test_a_file_is_hashed_as_it_passes_and_keeps_its_time(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    file = StagingFile(staging.area("forge").path(1))
    file.write(b"one")
    file.write(b"two")
    assert file.finish(1_700_000_000_123_456_789) == hashlib.sha256(b"onetwo").digest()
    assert Path(os.fsdecode(file.path)).read_bytes() == b"onetwo"
    assert os.stat(file.path).st_mtime_ns == 1_700_000_000_123_456_789
    staging.close()


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    file = StagingFile(staging.area("forge").path(1))
    file.write(b"half")
    file.discard()
    file.discard()
    assert os.listdir(staging.folder) == [b"lock"]
    staging.close()
    assert list((tmp_path / ".mediasync" / "staging").iterdir()) == []


def test_the_folder_of_a_process_that_died_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from services.transfer.staging import Staging, StagingFile; s = Staging(os.fsencode(sys.argv[1]));"
        "StagingFile(s.area('forge').path(1)).write(b'x'); print('ready', flush=True); sys.stdin.read()"
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
    file = StagingFile(staging.area("forge").path(1))
    os.close(file._descriptor)
    file._descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x")
    file.discard()
    staging.close()


LARGE = WantedFile(b"video.mp4", RESUMABLE_BYTES + 100, 1, 2)
CONTENT = bytes(range(256)) * (RESUMABLE_BYTES // 256)


def test_a_large_file_that_was_cut_off_goes_on_in_a_later_process(tmp_path: Path) -> None:
    first = Staging(os.fsencode(tmp_path))
    file = first.area("forge").open(LARGE, 0, 1)
    file.write(CONTENT)
    file.cut_off()
    first.close()

    second = Staging(os.fsencode(tmp_path))
    area = second.area("forge")
    prepared = area.prepared(LARGE)
    assert prepared.partial == Partial(len(CONTENT), hashlib.sha256(CONTENT).digest())
    assert area.prepared(WantedFile(b"video.mp4", LARGE.size_bytes, 1, 3)).partial is None, "another version of it"
    assert second.area("other").prepared(LARGE).partial is None, "the same name at another source"
    file = area.open(prepared, len(CONTENT), 1)
    file.write(b"x" * 100)
    assert file.finish(5) == hashlib.sha256(CONTENT + b"x" * 100).digest()
    assert os.stat(file.path).st_size == LARGE.size_bytes
    second.close()


def test_a_large_file_whose_beginning_the_source_refuses_starts_anew(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    area = staging.area("forge")
    file = area.open(LARGE, 0, 1)
    file.write(CONTENT)
    file.cut_off()
    file = area.open(area.prepared(LARGE), 0, 2)
    file.write(b"new")
    assert file.finish(5) == hashlib.sha256(b"new").digest()
    assert Path(os.fsdecode(file.path)).read_bytes() == b"new"
    staging.close()


def test_what_is_not_worth_going_on_with_is_thrown_away(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    area = staging.area("forge")
    little = area.open(LARGE, 0, 1)
    little.write(b"x")
    little.cut_off()
    small = area.open(WantedFile(b"a.png", 1000, 1, 2), 0, 2)
    small.write(b"x" * 500)
    small.cut_off()
    assert os.listdir(staging.folder) == [b"lock"]
    assert os.listdir(area.partials) == []
    staging.close()


def test_what_was_begun_of_one_folder_is_removed_without_anothers(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    areas = [staging.area(origin) for origin in ("forge", "forge\0more")]
    for area in areas:
        file = area.open(LARGE, 0, 1)
        file.write(CONTENT)
        file.cut_off()
    for _ in range(2):
        remove_beginnings(os.fsencode(tmp_path), "forge")
    assert [area.prepared(LARGE).partial is None for area in areas] == [True, False]
    staging.close()


def test_a_partial_file_that_nobody_came_back_for_is_removed_after_a_week(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    area = staging.area("forge")
    for size, age_days in ((LARGE.size_bytes, 6), (LARGE.size_bytes + 1, 8)):
        file = area.open(WantedFile(b"video.mp4", size, 1, 2), 0, 1)
        file.write(CONTENT)
        file.cut_off()
        moment = os.stat(file.path).st_mtime - age_days * 86_400
        os.utime(file.path, (moment, moment))
    staging.close()
    again = Staging(os.fsencode(tmp_path))
    assert os.listdir(area.partials) == [os.path.basename(area.partial_path(LARGE))]
    again.close()
    for path in (area.partial_path(LARGE), area.partials):
        os.utime(path, (1e9, 1e9))
    for expected in ([os.path.basename(area.partials)], []):
        Staging(os.fsencode(tmp_path)).close()
        assert os.listdir(os.path.dirname(area.partials)) == expected
        if expected:
            os.utime(area.partials, (1e9, 1e9))


def test_a_file_that_another_program_copied_or_wrote_is_hashed_all_the_same(tmp_path: Path) -> None:
    staging = Staging(os.fsencode(tmp_path))
    area = staging.area("forge")
    file = StagingFile(area.path(1))
    file.write(b"begin")
    os.pwrite(file.fileno(), b" end", 5)
    file.copied(4)
    assert file.finish(5) == hashlib.sha256(b"begin end").digest()
    other = StagingFile(area.path(2))
    other.write(b"useless")
    written = area.folder + b"/by-rsync"
    Path(os.fsdecode(written)).write_bytes(b"whole")
    other.adopt(written)
    assert other.finish(5) == hashlib.sha256(b"whole").digest()
    assert Path(os.fsdecode(other.path)).read_bytes() == b"whole"
    staging.close()
