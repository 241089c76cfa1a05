"""A library that is not there, cannot be written, is full, or is not the one it was: what the user is told, and that nothing happens."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.installation import Result
from tests.fixtures.mistakes import TINY_BYTES, Case, Running, refused
from tests.fixtures.proxy import StartProxy

pytestmark = pytest.mark.needs_sshd

ODD = 'it\'s my "library" $HOME'


def test_a_destination_that_does_not_exist_is_not_made_until_the_user_does_with_the_command_that_is_named(case: Case) -> None:
    library = case.folder / ODD
    result = case.refuse(4, "LIBRARY_MISSING", f"the destination {library} does not exist", "Mount the disk", library=library)
    assert not library.exists()
    subprocess.run(["sh", "-c", result.err.partition("if that is the place: ")[2]], check=True)
    assert case.run("sync", case.url, library, *case.login).code == 0
    assert case.hashes(library) == case.hashes(case.source)


def test_a_destination_may_be_relative_and_have_blanks_and_quotes_in_its_name(case: Case) -> None:
    (case.folder / ODD).mkdir()
    for destination in (f"./{ODD}/", os.path.join("library", "..", ODD)):
        result = case.run("sync", case.url, destination, *case.login)
        assert result.code == 0, result.err
        assert f"  {case.folder / ODD}\n" in result.out
    assert case.hashes(case.folder / ODD) == case.hashes(case.source)


def test_a_destination_that_is_a_file_is_left_as_it_is(case: Case) -> None:
    file = case.library / "kept.txt"
    case.refuse(4, "LIBRARY_MISSING", f"{file} is not a folder", "Name the folder that holds the library", library=file)


@pytest.mark.parametrize("inside", [True, False])
def test_a_destination_inside_the_data_folder_is_refused_also_through_a_link(case: Case, inside: bool) -> None:
    destination = case.folder / "link"
    destination.symlink_to(case.home / "logs" if inside else case.home)
    said = (f"the destination {destination} {'is inside' if inside else 'is'} the data folder {case.home}", "outside the data folder")
    case.refuse(4, "LIBRARY_IN_DATA_FOLDER", *said, library=destination)
    assert not list(destination.glob("*.mediasync"))


def test_no_destination_at_all_says_how_to_name_one(case: Case) -> None:
    result = case.run("sync", case.url, *case.login, "--json", MEDIASYNC_HOME=str(case.folder / "unused"))
    refused(result, 2, "INVALID_ARGUMENT", "there is no destination to sync to", "mediasync sync SOURCE DEST", "MEDIA_BASE")
    assert not (case.folder / "unused").exists()


def test_i4_a_library_that_lost_its_marker_is_refused_until_the_user_puts_it_back_with_the_command_that_is_named(case: Case) -> None:
    library = case.folder / ODD
    case.library.rename(library)
    assert case.run("sync", case.url, library, *case.login).code == 0
    shutil.rmtree(library / ".mediasync")
    case.write("txt2img-images/00002.txt")
    before = case.hashes(library)
    result = case.run("sync", case.url, library, *case.login, "--json")
    refused(
        result,
        4,
        "LIBRARY_MARKER_MISSING",
        f"{library} was a library and has no marker",
        "most likely its disk is not mounted",
        "Mount it.",
    )
    assert case.hashes(library) == before
    assert not (library / ".mediasync").exists()

    subprocess.run(["sh", "-c", result.err.partition("all the same: ")[2]], check=True)
    again = case.run("sync", case.url, library, *case.login, "--json")
    assert again.code == 0, again.err
    assert (again.json["files_transferred"], again.json["files_unchanged"]) == (1, 1)


def test_i4_another_library_in_its_place_and_a_copy_of_it_are_refused(case: Case) -> None:
    case.complete()
    other = case.folder / "other"
    other.mkdir()
    assert case.run("sync", case.url, other, *case.login).code == 0
    copy = case.folder / "copy"
    shutil.copytree(case.library, copy)
    result = case.refuse(4, "LIBRARY_MARKER_MISMATCH", f"{copy} is a copy of the library {case.library}", library=copy)
    subprocess.run(["sh", "-c", result.err.partition("a library of its own: ")[2]], check=True)
    assert case.run("sync", case.url, copy, *case.login).code == 0
    shutil.rmtree(case.library / ".mediasync")
    shutil.copytree(other / ".mediasync", case.library / ".mediasync")
    case.refuse(4, "LIBRARY_MARKER_MISMATCH", f"{case.library} holds another library", "Mount the right disk there")


def test_a_library_that_may_not_be_written_is_refused(case: Case) -> None:
    case.complete()
    case.write("txt2img-images/00002.txt")
    for folder in (case.library / ".mediasync" / "staging", case.library / ".mediasync", case.library):
        folder.chmod(0o555)
    case.refuse(4, "LIBRARY_READ_ONLY", f"the library {case.library} cannot be written: Permission denied", "choose another destination")
    for folder in (case.library, case.library / ".mediasync", case.library / ".mediasync" / "staging"):
        folder.chmod(0o755)
    assert case.complete().json["files_transferred"] == 1


def test_a_library_that_is_mounted_read_only_is_refused(case: Case, running: Running) -> None:
    running.mounts.needed()
    library = running.mounts.read_only
    said = (f"the library {library} cannot be written: Read-only file system", "Mount it writable")
    case.refuse(4, "LIBRARY_READ_ONLY", *said, library=library)
    assert os.listdir(running.seen(library)) == []


def files(folder: Path) -> dict[str, int]:
    """Sizes of all files by path."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def tiny(running: Running) -> Path:
    """An empty library of four megabytes."""
    running.mounts.needed()
    seen = running.seen(running.mounts.tiny)
    for path in seen.iterdir():
        if path.name != ".mediasync":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return running.mounts.tiny


def test_more_than_the_library_has_room_for_is_refused_before_the_first_byte(case: Case, running: Running, tiny: Path) -> None:
    case.write("big.bin", os.urandom(TINY_BYTES + 1))
    said = (f"bytes have to come, and the library {tiny} has", "Free some space and run the same command again")
    case.refuse(4, "LIBRARY_NO_SPACE", *said, library=tiny)
    assert files(running.seen(tiny)).keys() == {".mediasync/library.json"}


async def test_a_disk_that_fills_up_in_the_middle_leaves_whole_files_only_and_the_next_sync_goes_on(
    case: Case, running: Running, tiny: Path, start_proxy: StartProxy
) -> None:
    for number in range(12):
        case.write(f"big/{number:02}.bin", os.urandom(250_000))
    proxy = await start_proxy(case.server.port)
    slow = case.at(case.server.through(proxy.port))
    proxy.stall_after_bytes = 1_000_000
    process = slow.start("sync", slow.url, tiny, *slow.login, "--json", MEDIASYNC_SYNC__MIN_FREE_SPACE_GB="0")
    async with asyncio.timeout(60):
        await proxy.stalled.wait()
    hog = running.seen(tiny) / "hog"
    hog.write_bytes(b"x" * 2_000_000)
    proxy.resume()
    out, err = await asyncio.to_thread(process.communicate)
    result = Result(process.returncode, out, err)
    refused(result, 4, "LIBRARY_NO_SPACE", f"the library {tiny} has no space left", "Free some space and run the same command again")
    landed = files(running.seen(tiny))
    assert landed.pop(".mediasync/library.json")
    assert landed.pop("hog") == 2_000_000
    whole = {name: size for name, size in files(case.source).items() if name in landed}
    assert landed == whole, "a half-written file is visible, or what did not land takes room"
    assert result.json["files_transferred"] == len(landed)
    assert result.json["bytes_transferred"] == sum(landed.values())

    hog.unlink()
    again = await asyncio.to_thread(
        functools.partial(case.run, "sync", case.url, tiny, *case.login, "--json", MEDIASYNC_SYNC__MIN_FREE_SPACE_GB="0")
    )
    assert again.code == 0, again.err
    assert again.json["files_transferred"] == 13 - len(landed)
    assert case.hashes(running.seen(tiny)) == case.hashes(case.source)
