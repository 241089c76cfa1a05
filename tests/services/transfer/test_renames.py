from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.transfer import renames

Rename = Callable[[bytes, bytes], None]


@pytest.fixture(params=["renameat2", "link", "placeholder"])
def rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rename:
    """Each of the three ways, the later ones with the file system's lack of the earlier ones played by errno."""
    if request.param == "renameat2":
        return renames.rename_without_replacing
    monkeypatch.setattr(renames, "_libc", object())  # a C library without renameat2
    if request.param == "placeholder":

        def no_links(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", no_links)
    return renames.rename_without_replacing


def test_a_file_moves_to_a_free_name(rename: Rename, tmp_path: Path) -> None:
    source, target = tmp_path / "staged", tmp_path / "name"
    source.write_bytes(b"new")
    rename(os.fsencode(source), os.fsencode(target))
    assert target.read_bytes() == b"new"
    assert not source.exists()


def test_i2_a_taken_name_is_never_replaced(rename: Rename, tmp_path: Path) -> None:
    source, target = tmp_path / "staged", tmp_path / "name"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        rename(os.fsencode(source), os.fsencode(target))
    assert (source.read_bytes(), target.read_bytes()) == (b"new", b"old")


def test_i2_a_dangling_link_counts_as_taken(rename: Rename, tmp_path: Path) -> None:
    source, target = tmp_path / "staged", tmp_path / "name"
    source.write_bytes(b"new")
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        rename(os.fsencode(source), os.fsencode(target))
    assert target.is_symlink()


def test_a_file_system_that_does_not_know_the_flag_gets_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OldFileSystem:
        def renameat2(self, *args: object) -> int:
            import ctypes

            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(renames, "_libc", OldFileSystem())
    source, target = tmp_path / "staged", tmp_path / "name"
    source.write_bytes(b"new")
    renames.rename_without_replacing(os.fsencode(source), os.fsencode(target))
    assert target.read_bytes() == b"new"


def test_a_placeholder_is_taken_away_when_the_rename_fails(tmp_path: Path) -> None:
    target = tmp_path / "name"
    with pytest.raises(FileNotFoundError):
        renames.rename_over_placeholder(os.fsencode(tmp_path / "missing"), os.fsencode(target))
    assert not target.exists()


def test_i2_a_placeholder_that_somebody_made_use_of_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "staged", tmp_path / "name"
    source.write_bytes(b"new")
    close = os.close

    def use(descriptor: int) -> None:
        close(descriptor)
        target.write_bytes(b"theirs")

    monkeypatch.setattr(renames.os, "close", use)
    with pytest.raises(FileExistsError):
        renames.rename_over_placeholder(os.fsencode(source), os.fsencode(target))
    assert (source.read_bytes(), target.read_bytes()) == (b"new", b"theirs")
