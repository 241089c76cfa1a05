"""Wrong use: configurations, names, addresses and data folders that cannot be meant so."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.installation import Installation
from tests.fixtures.mistakes import Case, Running, refused

pytestmark = pytest.mark.needs_sshd


def test_every_mistake_in_a_configuration_is_told_at_once_with_its_line_before_anything_starts(case: Case) -> None:
    file = case.folder / "config.yaml"
    file.write_text("sync: {retry_atempts: 3}\nsources:\n  forge: {type: forg, host: forge.lan}\n")
    said = (
        f"2 mistakes in {file}:",
        "line 1: sync.retry_atempts: unknown key; did you mean `retry_attempts`?",
        'line 3: sources.forge.type: expected one of ssh, docker, local, forge, comfyui, vastai, found "forg"; did you mean `forge`?',
        "`mediasync config example`",
    )
    unused = {"MEDIASYNC_HOME": str(case.folder / "unused")}
    for command in (("sync", case.url, case.library), ("up",)):
        result = case.run(*command, "--config", file, "--json", **unused)
        refused(result, 2, "CONFIGURATION_INVALID", *said)
        assert [field["field"] for field in result.json["error"]["fields"]] == ["sync.retry_atempts", "sources.forge.type"]
    assert not (case.folder / "unused").exists()


def test_a_configuration_that_is_no_yaml_is_shown_where(case: Case) -> None:
    file = case.folder / "config.yaml"
    file.write_text("media_base: /media\nsync: {retry_attempts: 3\n")
    refused(case.run("sync", "forge", "--config", file, "--json"), 2, "CONFIGURATION_INVALID", f"1 mistake in {file}:", "this is not YAML")


def test_a_configuration_file_that_is_not_there_is_named(case: Case) -> None:
    missing = case.folder / "missing.yaml"
    result = case.run("sync", "forge", "--config", missing, "--json")
    refused(result, 2, "CONFIGURATION_INVALID", f"there is no configuration file {missing}, which --config names")


def test_an_option_that_does_not_exist_is_corrected(case: Case) -> None:
    result = case.run("sync", case.url, case.library, "--paralel-transfers", "3", "--json")
    refused(result, 2, "INVALID_ARGUMENT", "no such option: --paralel-transfers", "--parallel-transfers", "See `mediasync sync --help`")


def test_a_name_that_no_source_has_names_the_nearest_wherever_it_was_given(case: Case, tmp_path: Path) -> None:
    with case.untouched():
        nobody = case.run("sync", "frge-nas", case.library, "--json")
        refused(nobody, 2, "SOURCE_NOT_FOUND", "there is no source 'frge-nas'")
        named = case.run("sources", "add", "comfy-nas", case.url)
        assert named.code == 0, named.err
        added = case.run("sync", "Comfy-NSA", case.library, "--json")
        refused(added, 2, "SOURCE_NOT_FOUND", "there is no source 'Comfy-NSA'; the nearest is 'comfy-nas'", "`mediasync sources list`")
        file = tmp_path / "config.yaml"
        file.write_text("sources:\n  forge-nas: {type: forge, host: forge.lan}\n")
        configured = case.run("sync", "frge-nas", case.library, "--config", file, "--json")
        refused(configured, 2, "SOURCE_NOT_FOUND", "there is no source 'frge-nas'; the nearest is 'forge-nas'")


def test_a_coordinator_that_cannot_be_reached_is_named(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with case.untouched():
        result = case.run("sync", case.url, case.library, "--coordinator", address, "--json")
    refused(
        result,
        6,
        "SERVICES_UNREACHABLE",
        f"nobody answers at {address}",
        "Start the services with `mediasync up`",
        "--coordinator HOST:PORT",
    )


def test_an_address_that_is_none_is_told_before_anybody_is_waited_for(case: Case) -> None:
    result = case.run("sync", case.url, case.library, "--coordinator", "nas", "--json")
    refused(result, 2, "INVALID_ARGUMENT", "'nas' is not the address of a coordinator; expected HOST:PORT", "`mediasync status`")


def test_a_second_up_on_the_same_data_folder_is_refused_and_names_the_first(running: Running) -> None:
    second = running.installation.run("up", "--listen", "127.0.0.1:0", "--json")
    said = (f"`mediasync up` already runs on this data folder at {running.address}", f"(pid {running.pid}, since ", f"`kill {running.pid}`")
    refused(second, 2, "DATA_FOLDER_IN_USE", *said)
    assert running.installation.run("status").code == 0, "the first one was disturbed"


@pytest.mark.parametrize(
    ("address", "reason", "said"),
    [
        ("{taken}", "ADDRESS_IN_USE", "cannot listen at {taken}: another program listens there"),
        ("0.0.0.0:7171", "ADDRESS_NOT_LOOPBACK", "Refusing to listen on 0.0.0.0:7171: others than this machine could reach it"),
        ("7171", "INVALID_ARGUMENT", "'7171' is not an address to listen at"),
    ],
)
def test_an_address_that_up_cannot_or_may_not_listen_at_is_refused_before_anything_starts(
    case: Case, address: str, reason: str, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        result = case.run("up", "--listen", address.format(taken=taken), "--json", MEDIASYNC_HOME=str(case.folder / "other"))
    refused(result, 2, reason, said.format(taken=taken))
    assert "[coordinator]" not in result.err


def test_a_data_folder_of_a_newer_version_is_left_as_it_is(case: Case) -> None:
    home = case.folder / "newer"
    home.mkdir()
    (home / "data-version").write_text("99\n")
    said = (
        f"The data folder {home} was written by a newer mediasync (layout 99; this one knows up to 1)",
        "Upgrade mediasync",
        "MEDIASYNC_HOME",
    )
    with case.untouched():
        for command in (("sync", case.url, case.library, *case.login), ("up", "--listen", "127.0.0.1:0")):
            refused(case.run(*command, "--json", MEDIASYNC_HOME=str(home)), 2, "DATA_FOLDER_NEWER", *said)
    assert (home / "data-version").read_text() == "99\n"
    assert not list(home.glob("*.db"))


def test_a_database_of_a_newer_version_is_left_as_it_is(installation: Installation) -> None:
    installation.write("a.txt")
    assert installation.sync().code == 0
    file = installation.home / "transfer.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("INSERT INTO schema_version (version) VALUES (999)")
    installation.write("b.txt")
    said = (
        f"The database {file} was written by a newer mediasync (version 999; this one knows up to ",
        "Upgrade mediasync",
        "MEDIASYNC_HOME",
    )
    refused(installation.sync(), 2, "DATA_FOLDER_NEWER", *said)
    assert installation.hashes(installation.library).keys() == {b"a.txt"}

    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM schema_version WHERE version = 999")
    assert installation.sync().json["files_transferred"] == 1


def test_a_data_folder_that_cannot_be_one_is_named(case: Case) -> None:
    file = case.library / "kept.txt"
    with case.untouched():
        result = case.run("sync", case.url, case.library, "--json", MEDIASYNC_HOME=str(file))
    refused(result, 2, "DATA_FOLDER_UNUSABLE", f"{file} is there and is not a folder", "Choose another data folder (MEDIASYNC_HOME)")


def test_a_clean_up_that_cannot_be_meant_so_deletes_nothing_and_says_what_is_wrong(case: Case) -> None:
    """Each mistake that somebody makes with `mediasync clean`, one after the other, on a source whose files are all due."""
    clean = ("clean", case.url, *case.login, "--older-than", "1h", "--json")
    here = ("--library", str(case.library))
    other = case.folder / "other"
    other.mkdir()
    case.write("txt2img-images/00000.txt")  # one that is not the highest number
    with case.untouched():
        named = case.run("sources", "add", "clean-nas", case.url, *case.login, "--dest", case.library)
        assert named.code == 0, named.err
        nobody = case.run("clean", "clean-nsa", "--yes", "--json")
        refused(nobody, 2, "SOURCE_NOT_FOUND", "there is no source 'clean-nsa'; the nearest is 'clean-nas'")
        refused(case.run(*clean, "--yes"), 2, "INVALID_ARGUMENT", "there is no library to compare with", "--library DIR", "MEDIA_BASE")
        refused(case.run(*clean, *here), 2, "INVALID_ARGUMENT", "there is nobody to ask", "--dry-run", "--yes")
        refused(case.run(*clean, *here, "--yes"), 2, "CLEANUP_NOTHING_SYNCED", f"nothing of {case.url} is on record in", "or sync it first")
        refused(case.run(*clean, *here, "--dry-run"), 2, "CLEANUP_NOTHING_SYNCED", "a URL and a name are two sources")
        missing = case.run(*clean, *here, "--yes", "--folder", "txt2img")
        refused(missing, 3, "SOURCE_FOLDER_MISSING", "has no folder txt2img", "txt2img-images")

    case.complete()
    with case.untouched():
        library = case.run("clean", case.library, *here, "--older-than", "0s", "--yes", "--json")
        refused(
            library, 2, "CLEANUP_IS_LIBRARY", f"{case.library} is not cleaned up: it is a library", "the folder that pictures come from"
        )
        elsewhere = case.run(*clean, "--library", other, "--yes")
        refused(elsewhere, 2, "CLEANUP_NOTHING_SYNCED", f"in the library {other}")
        (case.library / ".mediasync").rename(other / "aside")
        unmounted = case.run(*clean, *here, "--yes")
        refused(unmounted, 4, "LIBRARY_MARKER_MISSING", "its disk is not mounted")
        (other / "aside").rename(case.library / ".mediasync")


def test_what_nothing_is_due_of_is_left_with_0_and_says_why(case: Case) -> None:
    case.complete()
    cleaned = case.run("clean", case.url, *case.login, "--library", case.library, "--older-than", "3650d", "--yes", "--json")
    assert cleaned.code == 0, cleaned.err
    assert (cleaned.json["files_deleted"], cleaned.json["kept_by_reason"]) == (0, {"too_young": 1})
