"""Files that are deleted together or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import MOST_JOINED, Connection, DeleteStatus, DoomedFile
from tests.contract.sources.test_deleting import delete, doomed
from tests.fixtures.backends import Can, needs
from tests.fixtures.sources import FarSide

pytestmark = needs(Can.DELETE)

DELETED, CHANGED, VANISHED, REFUSED, KEPT = DeleteStatus


def joined(*files: DoomedFile) -> list[DoomedFile]:
    """One group."""
    return [replace(file, joined=at > 0) for at, file in enumerate(files)]


async def group(far: FarSide, connection: Connection, *names: str) -> list[DoomedFile]:
    for name in names:
        far.put(name, b"content")
    return joined(*await doomed(connection, b"content", *names))


async def test_i3_a_group_goes_as_one_and_groups_beside_it_are_their_own(far: FarSide, connection: Connection) -> None:
    first = await group(far, connection, "a/1.png", "a/1.txt", "a/1.json")
    second = await group(far, connection, "a/2.png", "a/2.txt")
    third = await group(far, connection, *[f"b/3.{number}" for number in range(MOST_JOINED)])
    (far.root / "a" / "2.txt").write_bytes(b"edited, and longer")
    (single,) = await group(far, connection, "b/4.png")
    outcomes = await delete(connection, [*first, *second], [*third, single])
    assert [outcome.doomed for outcome in outcomes] == [*first, *second, *third, single]
    assert [outcome.status for outcome in outcomes] == [DELETED] * 3 + [KEPT, CHANGED] + [DELETED] * (MOST_JOINED + 1)
    assert sorted(file.name for file in far.root.rglob("*") if file.is_file()) == ["2.png", "2.txt"]


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("what", ["other bytes", "grown", "linked", "gone", "a folder"])
async def test_i3_one_that_is_not_what_it_should_be_keeps_the_others(
    far: FarSide, connection: Connection, odd: int, what: str, tmp_path: Path
) -> None:
    files = await group(far, connection, "x.png", "x.txt", "x.json")
    file = far.root / os.fsdecode(files[odd].path)
    before = file.stat()
    if what == "other bytes":
        file.write_bytes(b"CONTENT")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif what == "grown":
        file.write_bytes(b"content and more")
    else:
        file.rename(tmp_path / "was")
    if what == "linked":
        file.symlink_to(tmp_path / "was")
    elif what == "a folder":
        file.mkdir()
    outcomes = await delete(connection, files)
    expected = [KEPT] * 3
    expected[odd] = VANISHED if what == "gone" else CHANGED
    assert [outcome.status for outcome in outcomes] == expected
    assert len(os.listdir(far.root)) == (2 if what == "gone" else 3)


@needs(Can.DENIED)
async def test_i3_one_that_cannot_be_read_keeps_the_others_and_says_why(far: FarSide, connection: Connection) -> None:
    files = await group(far, connection, "x.png", "x.txt")
    locked = await group(far, connection, "locked/y.png", "locked/y.txt")
    (far.root / "x.txt").chmod(0)
    (far.root / "locked").chmod(0o555)
    try:
        outcomes = await delete(connection, files, locked)
    finally:
        (far.root / "locked").chmod(0o755)
    assert [outcome.status for outcome in outcomes[:2]] == [KEPT, REFUSED]
    assert {outcome.status for outcome in outcomes[2:]} <= {KEPT, REFUSED}
    assert all("denied" in outcome.message for outcome in outcomes if outcome.status is REFUSED)
    assert len([file for file in far.root.rglob("*") if file.is_file()]) == 4


@needs(Can.INODE)
async def test_other_names_of_one_file_go_too(far: FarSide, connection: Connection) -> None:
    far.put("1.png", b"content")
    for name in ("2.png", "3.png"):
        os.link(far.root / "1.png", far.root / name)
    one, two, three = await doomed(connection, b"content", "1.png", "2.png", "3.png")
    outcomes = await delete(connection, [one, two, replace(three, joined=True)])
    assert [outcome.status for outcome in outcomes] == [DELETED] * 3
    assert os.listdir(far.root) == []


async def test_a_group_that_cannot_be_one_is_an_argument_that_is_wrong(far: FarSide, connection: Connection) -> None:
    files = await group(far, connection, "a/1.png", "b/1.txt")
    with pytest.raises(MediasyncError) as raised:
        await delete(connection, files)
    assert raised.value.reason is Reason.INVALID_ARGUMENT
    assert (far.root / "a" / "1.png").exists()
