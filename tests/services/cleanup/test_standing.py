"""What is refused before anything is looked at: a folder that is a library, one of several, a policy that compares with nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPolicy, SshConnection, SyncSpec
from services.cleanup.entities import OriginLibrary
from services.cleanup.libraries import NO_LIBRARY, library_of
from services.cleanup.standing import check_standing
from services.cleanup.trash import check_unverified, emptied_before, trash_of
from tests.fixtures.cleanup import CleanupPlace


async def _refused(place: CleanupPlace, root: Path, spec: SyncSpec | None = None) -> str:
    try:
        await check_standing(spec or place.spec(), str(root).encode(), place.transfer)
    except MediasyncError as error:
        assert error.reason is Reason.CLEANUP_IS_LIBRARY
        return error.message
    return ""


async def test_a_library_and_what_is_in_it_or_around_it_is_no_place_to_clean(place: CleanupPlace) -> None:
    (place.library / "2026").mkdir()
    link = place.folder / "link"
    link.symlink_to(place.library)
    for root, said in (
        (place.library, "it is a library"),
        (place.library / "2026", "it lies in the library"),
        (link, "it is a library"),
        (place.folder, f"the library {place.library} lies in it"),
        (Path("/"), "lies in it"),
    ):
        assert said in await _refused(place, root)
    assert await _refused(place, place.source) == ""


async def test_a_library_that_is_not_mounted_is_known_by_its_record(place: CleanupPlace) -> None:
    away = place.folder / "away"
    (away / "below").mkdir(parents=True)
    place.transfer.libraries_.append(OriginLibrary(str(away), "another"))
    assert "it is a library" in await _refused(place, away)
    assert f"it lies in the library {away}" in await _refused(place, away / "below")


async def test_a_library_is_cleaned_when_that_is_said_twice_and_elsewhere_it_is_no_matter(place: CleanupPlace) -> None:
    assert await _refused(place, place.library, place.spec(verify_synced=False, i_mean_it=True)) == ""
    assert await _refused(place, place.library, place.spec(verify_synced=False)) != ""
    remote = place.spec()
    remote = replace(remote, source=replace(remote.source, connection=SshConnection("box")))
    assert await _refused(place, place.library, remote) == ""


def test_a_policy_that_compares_with_nothing_has_to_say_that_it_means_it(place: CleanupPlace) -> None:
    source = place.spec().source
    with pytest.raises(MediasyncError, match="verify_synced: false") as caught:
        check_unverified(source, CleanupPolicy(verify_synced=False))
    assert caught.value.reason is Reason.CLEANUP_UNVERIFIED
    check_unverified(source, CleanupPolicy(verify_synced=False, i_mean_it=True))
    check_unverified(source, CleanupPolicy())


def test_the_trash_is_by_day_and_emptied_by_day() -> None:
    noon = 1_795_262_400.0
    assert trash_of("sync_1", noon) == b".mediasync/trash/2026-11-21/sync_1"
    assert emptied_before(CleanupPolicy(trash_days=30), noon) == "2026-10-22"


async def test_the_library_is_the_one_that_is_named_or_the_only_one(place: CleanupPlace) -> None:
    spec = place.spec()
    assert await library_of(spec, place.transfer) == place.origin
    assert await library_of(replace(spec, dest_path=""), place.transfer) == place.origin
    assert await library_of(replace(spec, dest_path="/else//where/"), place.transfer) == OriginLibrary("/else/where", "")
    place.transfer.libraries_.append(OriginLibrary("/second", "uuid", 3))
    with pytest.raises(MediasyncError, match=r"several libraries: .*, /second") as caught:
        await library_of(replace(spec, dest_path=""), place.transfer)
    assert caught.value.reason is Reason.CLEANUP_LIBRARY_AMBIGUOUS
    assert await library_of(spec, place.transfer) == place.origin
    place.transfer.libraries_[:] = [OriginLibrary("/second", "uuid", 0)]
    assert await library_of(replace(spec, dest_path=""), place.transfer) == NO_LIBRARY
    assert await library_of(place.spec(verify_synced=False, i_mean_it=True), place.transfer) == NO_LIBRARY
