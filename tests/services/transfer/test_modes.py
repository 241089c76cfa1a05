from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Durability, SyncOptions
from mediasync.sources.base import FileEntry
from services.transfer import landing
from services.transfer.entities import LandedFile, Remembered
from services.transfer.modes import Modes
from tests.fixtures.transfer import LandingBench
from tests.fixtures.transfer_worker import WorkerBench
from tests.services.transfer.test_landing import land


def mode_of(path: object) -> int:
    return stat.S_IMODE(os.stat(str(path)).st_mode)


@pytest.mark.parametrize("durability", list(Durability))
async def test_new_files_and_folders_have_the_modes_asked_for_before_they_are_visible(
    landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    rename, seen = landing.rename_without_replacing, []

    def look(source: bytes, target: bytes) -> None:
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        rename(source, target)

    monkeypatch.setattr(landing, "rename_without_replacing", look)
    (landing_bench.root / "mine").mkdir(0o700)
    await land(landing_bench, (b"mine/d/e/a.png", b"1"), file_mode="0604", dir_mode="2705", durability=durability)
    assert seen == [0o604]
    assert [mode_of(landing_bench.root / path) for path in ("mine", "mine/d", "mine/d/e")] == [0o700, 0o2705, 0o2705]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_owners_are_given_by_name_or_number(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"d/a.png", b"1"), owner="nobody", group="4242")
    for path in ("d", "d/a.png"):
        status = (landing_bench.root / path).stat()
        assert (status.st_uid != 0, status.st_gid) == (True, 4242)


async def test_a_file_system_that_refuses_modes_and_times_is_noted_once_and_fails_no_file(
    landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    for name in ("chmod", "chown", "utime"):
        monkeypatch.setattr(os, name, refuse)
    outcomes = await land(landing_bench, (b"d/a.png", b"1"), (b"e/b.png", b"2"), file_mode="0600", dir_mode="0700", owner="0")
    assert all(isinstance(outcome, LandedFile) for outcome in outcomes)
    assert len([record for record in caplog.records if "refuses permissions" in record.message]) == 1


async def test_a_library_whose_file_system_refuses_times_is_noted_once_by_a_worker(
    worker_bench: WorkerBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker_bench.write("a.txt", b"1")
    await worker_bench.sync("sync_1")
    assert "refuses times" not in caplog.text
    worker_bench.write("b.txt", b"2")
    worker_bench.write("c.txt", b"3")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    for number in (2, 3):
        await worker_bench.sync(f"sync_{number}")
    assert set(worker_bench.visible()) == {b"a.txt", b"b.txt", b"c.txt"}
    (noted,) = [record.message for record in caplog.records if "refuses times" in record.message]
    assert str(worker_bench.library_root) in noted


def test_a_copy_that_cannot_be_given_its_time_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_bytes(b"prompt")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    expected = Remembered(FileEntry(b"a.txt", 6, 1, 1, 1), hashlib.sha256(b"prompt").digest(), b"a.txt", False)
    assert landing.copy_of(os.fsencode(source), os.fsencode(target), expected)
    assert target.read_bytes() == b"prompt"


@pytest.mark.parametrize(
    ("option", "value"), [("file_mode", "rw-r--r--"), ("dir_mode", "99"), ("owner", "no-such-user"), ("group", "no-such-group")]
)
def test_what_means_nothing_here_is_an_error_that_names_the_option(option: str, value: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        Modes.of(SyncOptions(**{option: value}))
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.message.startswith(option)
    assert value in caught.value.message
