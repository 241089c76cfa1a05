"""The checker notices what it is there for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.cleanup.byte_checker import Ledger


class Owner:
    """A source with one file, and a library that has a copy of it."""

    def __init__(self, folder: Path) -> None:
        self.source, self.library = folder / "source", folder / "library"
        self.file, self.copy = self.source / "a", self.library / "b"
        for path in (self.file, self.copy):
            path.parent.mkdir()
            path.write_bytes(b"content")
        self.ledger = Ledger(os.fsencode(self.source), os.fsencode(self.library))
        self.path = os.fsencode(self.file)
        self.ledger.wrote(self.path)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def test_what_is_gone_from_the_source_has_to_be_in_the_library_and_stay_there(owner: Owner) -> None:
    owner.file.unlink()
    owner.ledger.check()
    assert owner.ledger.deleted == 1
    owner.copy.unlink()
    owner.ledger.check()
    with pytest.raises(AssertionError, match="the library lost 1 files"):
        owner.ledger.close()


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "link"])
def test_a_copy_that_is_not_one_does_not_count(owner: Owner, damage: str) -> None:
    owner.copy.unlink()
    if damage == "link":
        owner.copy.symlink_to(owner.file)
    elif damage != "gone":
        owner.copy.write_bytes(b"conten" if damage == "cut" else b"Content")
    owner.file.unlink()
    with pytest.raises(AssertionError, match="the library does not have it"):
        owner.ledger.check()


def test_what_lies_in_our_own_folder_of_the_library_does_not_count(owner: Owner) -> None:
    (owner.library / ".mediasync").mkdir()
    owner.copy.rename(owner.library / ".mediasync" / "b")
    owner.file.unlink()
    with pytest.raises(AssertionError, match="the library does not have it"):
        owner.ledger.check()


def test_a_file_that_somebody_else_overwrote_is_noticed(owner: Owner) -> None:
    owner.file.write_bytes(b"other")
    with pytest.raises(AssertionError, match="was overwritten"):
        owner.ledger.check()


def test_what_its_owner_takes_away_or_changes_is_theirs(owner: Owner) -> None:
    owner.copy.unlink()
    os.link(owner.file, owner.source / "second")
    owner.ledger.wrote(os.fsencode(owner.source / "second"))
    owner.ledger.rewrites(owner.path)
    owner.file.write_bytes(b"more")
    owner.ledger.changed(owner.path)
    owner.ledger.check()
    owner.ledger.removes(owner.path)
    owner.file.unlink()
    owner.ledger.close()
    (owner.source / "second").unlink()
    with pytest.raises(AssertionError, match=r"second.*the library does not have it"):
        owner.ledger.check()


def test_a_file_is_looked_for_where_its_owner_moved_it(owner: Owner) -> None:
    owner.copy.unlink()
    owner.source.rename(owner.source.with_name("moved"))
    owner.ledger.moved(os.fsencode(owner.source), os.fsencode(owner.source.with_name("moved")))
    owner.ledger.check()
    (owner.source.with_name("moved") / "a").unlink()
    with pytest.raises(AssertionError, match="the library does not have it"):
        owner.ledger.check()


def test_the_last_copy_is_its_owners_to_destroy(owner: Owner) -> None:
    owner.file.unlink()
    content = owner.ledger.damages(os.fsencode(owner.copy))
    owner.copy.unlink()
    owner.ledger.damaged(content)
    owner.ledger.close()


def test_what_is_outside_is_nobodys_to_touch(owner: Owner) -> None:
    treasure = owner.source.with_name("treasure")
    treasure.write_bytes(b"precious")
    owner.ledger.keeps(os.fsencode(treasure))
    owner.ledger.check()
    treasure.unlink()
    with pytest.raises(AssertionError, match="outside of the source"):
        owner.ledger.check()
