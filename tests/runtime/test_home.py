from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.home import Home


def test_the_data_folder_is_named_by_the_environment(tmp_path: Path) -> None:
    assert Home.from_environment({"MEDIASYNC_HOME": str(tmp_path)}).path == tmp_path
    assert Home.from_environment({"XDG_STATE_HOME": "/state"}).path == Path("/state/mediasync")
    default = Path.home() / ".local/state/mediasync"
    assert Home.from_environment({}).path == default
    assert Home.from_environment({"XDG_STATE_HOME": "relative", "MEDIASYNC_HOME": ""}).path == default


def test_logs_may_be_elsewhere(tmp_path: Path) -> None:
    assert Home.from_environment({"MEDIASYNC_HOME": "/h"}).logs == Path("/h/logs")
    assert Home.from_environment({"MEDIASYNC_HOME": "/h", "LOG_BASE": str(tmp_path)}).logs == tmp_path


def test_a_service_is_at_its_socket_unless_the_environment_says_where(tmp_path: Path) -> None:
    home = Home.from_environment({"MEDIASYNC_HOME": "/h", "MEDIASYNC_CATALOG_ADDRESS": "127.0.0.1:9"})
    assert home.address_of("catalog") == "127.0.0.1:9"
    assert home.address_of("progress") == home.socket_address("progress") == "unix:/h/run/progress.sock"


def test_everything_is_private_to_the_user(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b")
    home.prepare()
    home.run.chmod(0o755)
    home.prepare()
    for folder in (home.path, home.logs, home.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_sockets_of_a_deep_data_folder_are_in_a_short_private_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    home = Home.from_environment({"MEDIASYNC_HOME": str(deep), "XDG_RUNTIME_DIR": str(tmp_path / "r")})
    home.prepare()
    assert home.run.parent == tmp_path / "r" and home.run.is_dir()
    other = Home.from_environment({"MEDIASYNC_HOME": str(deep / "x"), "XDG_RUNTIME_DIR": str(tmp_path / "r")})
    assert other.run != home.run


def test_a_link_where_sockets_belong_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.path.mkdir()
    (tmp_path / "elsewhere").mkdir()
    home.run.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MediasyncError, match="is not a folder of your own") as caught:
        home.prepare()
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE


def test_a_folder_of_a_newer_version_is_refused(data_home: Home) -> None:
    (data_home.path / "data-version").write_text("2\n")
    with pytest.raises(MediasyncError) as caught:
        data_home.prepare()
    assert caught.value.reason is Reason.DATA_FOLDER_NEWER
    assert str(data_home.path) in caught.value.message


def test_a_folder_whose_version_is_no_number_is_not_taken_for_ours(data_home: Home) -> None:
    (data_home.path / "data-version").write_bytes(b"\xffhello")
    with pytest.raises(MediasyncError) as caught:
        data_home.prepare()
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediasyncError, match="Not a directory") as caught:
        Home(tmp_path / "file" / "home").prepare()
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE
    assert "MEDIASYNC_HOME" in caught.value.remedy


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediasyncError, match=f"{tmp_path}/file is there and is not a folder") as caught:
        Home(tmp_path / "file").prepare()
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    # Not even root may make a folder here.
    with pytest.raises(MediasyncError, match="/sys/mediasync") as caught:
        Home(Path("/sys/mediasync")).prepare()
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE


def test_several_processes_may_prepare_it_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    problems: list[BaseException] = []

    def prepare() -> None:
        try:
            home.prepare()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert sorted(path.name for path in home.path.iterdir()) == ["data-version", "logs", "run"]
