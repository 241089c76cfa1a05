from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from mediasync.errors import ExitCode, MediasyncError, Reason
from mediasync.storage.library_marker import library_error, read_marker
from services.transfer.library import check_folder, file_error, unmounted_point, write_marker


def check(root: Path, data_folder: Path) -> MediasyncError:
    with pytest.raises(MediasyncError) as caught:
        check_folder(os.fsencode(root), data_folder)
    assert caught.value.exit_code == ExitCode.LIBRARY
    return caught.value


def test_a_destination_that_does_not_exist_is_refused_with_the_way_out(tmp_path: Path) -> None:
    error = check(tmp_path / "missing", tmp_path / "data")
    assert error.reason is Reason.LIBRARY_MISSING
    assert f"mkdir -p {tmp_path}/missing" in error.remedy


def test_the_way_out_can_be_pasted_into_a_shell_whatever_the_folder_is_called(tmp_path: Path) -> None:
    missing = tmp_path / 'it\'s my "library"'
    error = check(missing, tmp_path / "data")
    subprocess.run(["sh", "-c", error.remedy.partition("place: ")[2]], check=True)
    assert missing.is_dir()


def test_a_destination_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a folder" in check(tmp_path / "file", tmp_path / "data").message


@pytest.mark.parametrize("below", ["", "library"])
def test_a_destination_inside_the_data_folder_is_refused_even_through_a_link(tmp_path: Path, below: str) -> None:
    data = tmp_path / "data"
    (data / below).mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to(data / below)
    assert check(tmp_path / "link", data).reason is Reason.LIBRARY_IN_DATA_FOLDER


def test_i4_a_listed_mount_point_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    fstab, mounts = tmp_path / "fstab", tmp_path / "mounts"
    fstab.write_text("# nas\nnas:/share  /mnt/my\\040nas  nfs  defaults 0 0\nUUID=1 / ext4 defaults 0 1\nnone swap swap sw 0 0\n")
    mounts.write_text("/dev/vda / ext4 rw 0 0\n")
    assert unmounted_point(b"/mnt/my nas/pictures", fstab, mounts) == "/mnt/my nas"
    assert unmounted_point(b"/mnt/my nas2", fstab, mounts) is None
    mounts.write_text("/dev/vda / ext4 rw 0 0\nnas:/share /mnt/my\\040nas nfs rw 0 0\n")
    assert unmounted_point(b"/mnt/my nas/pictures", fstab, mounts) is None


def test_i4_a_folder_below_a_mount_point_that_is_not_mounted_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "nas" / "library"
    root.mkdir(parents=True)
    fstab, mounts = tmp_path / "fstab", tmp_path / "mounts"
    fstab.write_text(f"nas:/share {tmp_path}/nas nfs defaults 0 0\n")
    mounts.write_text("")
    with pytest.raises(MediasyncError) as caught:
        check_folder(os.fsencode(root), tmp_path / "data", fstab, mounts)
    assert caught.value.reason is Reason.LIBRARY_NOT_MOUNTED
    assert f"mount {tmp_path}/nas" in caught.value.remedy


def test_a_marker_is_written_once_and_read_back(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    assert read_marker(root) is None
    marker = write_marker(root)
    assert read_marker(root) == marker


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"library": 3}', '{"library": "no uuid"}'])
def test_a_damaged_marker_is_an_error_and_not_a_new_library(tmp_path: Path, content: str) -> None:
    (tmp_path / ".mediasync").mkdir()
    (tmp_path / ".mediasync" / "library.json").write_text(content)
    with pytest.raises(MediasyncError) as caught:
        read_marker(os.fsencode(tmp_path))
    assert caught.value.reason is Reason.LIBRARY_MARKER_MISMATCH


def test_a_marker_tells_people_what_it_is(tmp_path: Path) -> None:
    write_marker(os.fsencode(tmp_path))
    assert "Keep it" in json.loads((tmp_path / ".mediasync" / "library.json").read_text())["about"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, Reason.LIBRARY_NO_SPACE),
        (errno.EDQUOT, Reason.LIBRARY_NO_SPACE),
        (errno.EROFS, Reason.LIBRARY_READ_ONLY),
        (errno.EACCES, Reason.LIBRARY_READ_ONLY),
        (errno.EIO, Reason.LIBRARY_IO),
        (errno.ESTALE, Reason.LIBRARY_IO),
    ],
)
def test_what_the_library_s_disk_says_is_told_in_the_catalog_s_words(code: int, reason: Reason) -> None:
    assert library_error(OSError(code, os.strerror(code)), b"/library").reason is reason
    assert file_error(OSError(code, os.strerror(code)), b"a") is None


def test_a_name_that_the_file_system_cannot_hold_is_the_file_s_problem_alone() -> None:
    error = file_error(OSError(errno.ENAMETOOLONG, "File name too long"), b"a\nb.png")
    assert error is not None
    assert error.reason is Reason.FILE_NAME_NOT_POSSIBLE
    assert "a\\nb.png" in error.message
