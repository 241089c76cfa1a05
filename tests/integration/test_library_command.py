"""`mediasync library` from start to end: a real sshd, the services, the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.installation import Installation, Result


@pytest.fixture
def running(installation: Installation) -> Iterator[Installation]:
    """An installation whose services run."""
    with installation.up():
        yield installation


def flip(path: Path) -> None:
    """A bit that the disk lost: the same size, the same time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def kinds(result: Result) -> dict[str, Any]:
    return {finding["path"]: finding["kind"] for finding in result.json["findings"]}


def test_a_library_is_verified_and_repaired_from_its_source(running: Installation) -> None:
    for name in ("a/rotten.txt", "a/gone.txt", "a/edited.txt", "a/renamed.txt", "fine.txt"):
        running.write(name)
    assert running.sync().code == 0
    intact = running.run("library", "verify", "--library", running.library)
    assert intact.code == 0 and "5 files as on record" in intact.out and "looking once more" in intact.err

    folder = running.library / "a"
    flip(folder / "rotten.txt")
    damaged = (folder / "rotten.txt").read_bytes()
    (folder / "gone.txt").unlink()
    (folder / "edited.txt").write_bytes(b"mine")
    (folder / "renamed.txt").rename(folder / "better.txt")
    (folder / "own.txt").write_bytes(b"put there by hand")
    # Asked for by a path of this machine: the library is the one around it.
    found = running.run("library", "verify", folder, "--deep", "--json")
    assert found.code == 1
    assert kinds(found) == {
        "a/rotten.txt": "corrupt",
        "a/gone.txt": "missing",
        "a/edited.txt": "changed",
        "a/better.txt": "moved",
        "a/own.txt": "unknown",
    }
    assert (found.json["wrong"], found.json["files_intact"], found.json["files_moved"]) == (3, 0, 1)

    repaired = running.run("library", "verify", "--library", running.library, "--deep", "--repair", "--json")
    assert repaired.code == 1 and kinds(repaired) == {"a/edited.txt": "changed", "a/own.txt": "unknown"}
    assert repaired.json["repair"]["files_brought"] == 2 and repaired.json["repair"]["files_without_source"] == 0
    assert (folder / "rotten.txt").read_bytes() == b"a/rotten.txt" and (folder / "gone.txt").read_bytes() == b"a/gone.txt"
    assert (folder / "edited.txt").read_bytes() == b"mine"
    assert (running.library / ".mediasync" / "torn" / "a" / "rotten.txt").read_bytes() == damaged
    assert not (folder / "renamed.txt").exists()

    accepted = running.run("library", "verify", "-l", running.library, "--accept")
    assert accepted.code == 0 and "1 unknown" in accepted.out
    # What was moved does not come back.
    assert running.sync().json["files_transferred"] == 0


@pytest.fixture
def mortal(installation: Installation) -> Iterator[Installation]:
    """An installation whose transfer worker dies in the middle of its first adoption."""
    with installation.up(MEDIASYNC_CRASH_AT="transfer.before_adopt"):
        yield installation


def test_a_tree_that_was_filled_by_other_means_is_adopted_also_when_the_worker_is_killed(mortal: Installation) -> None:
    for number in range(20):
        name = f"out/{number:02}.txt"
        mortal.write(name)
        (mortal.library / "out").mkdir(exist_ok=True)
        (mortal.library / name).write_bytes(name.encode())
    mortal.write("out/new.txt")
    refused = mortal.run("library", "verify", mortal.library, "--library", mortal.library)
    assert refused.code == 4 and "mediasync library adopt" in refused.err
    (config := mortal.folder / "config.yaml").write_text(
        f"sources:\n  forge:\n    url: {mortal.url}\n    identity_file: {mortal.server.identity_file}\n"
        f"    known_hosts: {mortal.server.known_hosts}\n"
    )
    adopted = mortal.run("library", "adopt", mortal.library, "--source", "forge", "--config", config, "--json")
    assert adopted.code == 0, adopted.err
    assert (mortal.home / "run" / "crashed.transfer.before_adopt").exists()
    assert (adopted.json["files_adopted"], adopted.json["sync"]["files_transferred"]) == (20, 1)
    (mortal.library / "out/07.txt").rename(mortal.library / "moved.txt")
    again = mortal.run("library", "adopt", mortal.library)
    assert again.code == 0 and "0 files adopted" in again.out and "20 were on record already" in again.out
    asked = mortal.run("subscribers", "verify", "catalog", "--json")
    assert (asked.code, asked.json["files_asked"], asked.json["files_lacking"]) == (0, 21, 0), asked.err
    listed = {file["library_path"] for file in mortal.run("files", "list", "--json").json["files"]}
    assert listed == {"moved.txt", "out/new.txt", *(f"out/{number:02}.txt" for number in range(20) if number != 7)}

    stats = mortal.run("library", "stats", mortal.library, "--json")
    assert (stats.code, stats.json["files"]) == (0, 21)
    assert {share["name"]: share["files"] for share in stats.json["sources"]} == {"adopted": 20, "forge": 21}
    shown = mortal.run("library", "stats", mortal.library)
    assert "text/plain" in shown.out and "last verify" in shown.out


def test_a_verify_whose_worker_is_killed_goes_on_where_it_was(installation: Installation) -> None:
    for number in range(30):
        installation.write(f"{number:02}.txt")
    assert installation.sync().code == 0
    (installation.library / "07.txt").unlink()
    with installation.up(MEDIASYNC_CRASH_AT="transfer.verify_step"):
        found = installation.run("library", "verify", "-l", installation.library, "--json")
    assert found.code == 1, found.err
    assert (installation.home / "run" / "crashed.transfer.verify_step").exists(), found.out
    assert kinds(found) == {"07.txt": "missing"} and found.json["files_intact"] == 29


def test_mistakes_are_told_with_the_way_out(installation: Installation) -> None:
    nowhere = installation.run("library", "verify")
    assert nowhere.code == 2 and "--library DIR" in nowhere.err
    both = installation.run("library", "verify", "-l", installation.library, "--repair", "--accept")
    assert both.code == 2 and "choose one" in both.err
    when = installation.run("library", "verify", "-l", installation.library, "--since", "yesterday")
    assert when.code == 2 and "7d" in when.err
    outside = installation.run("library", "verify", "/etc", "-l", installation.library)
    assert outside.code == 2 and "is not in the library" in outside.err
