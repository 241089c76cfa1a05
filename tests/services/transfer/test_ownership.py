"""The library belongs to its owner: what they deleted, edited or moved stays as they left it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from services.transfer.entities import LandedFile, LandingKind
from tests.fixtures.transfer import LandingBench
from tests.services.transfer.test_landing import land


async def kind_of(bench: LandingBench, path: bytes, content: bytes, **options: object) -> LandingKind:
    (outcome,) = await land(bench, (path, content), **options)
    assert isinstance(outcome, LandedFile)
    return outcome.kind


async def test_a_picture_that_was_deleted_in_the_library_does_not_come_back(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"d/a.png", b"1"), (b"d/b.png", b"2"))
    (landing_bench.root / "d/a.png").unlink()
    assert await kind_of(landing_bench, b"d/a.png", b"1") is LandingKind.CULLED
    assert landing_bench.visible() == {"d/b.png": b"2"}
    counts = await landing_bench.landings.unit_counts(landing_bench.unit)
    assert (counts.files, counts.culled) == (2, 1)
    assert landing_bench.staged() == []


async def test_it_comes_back_when_asked_for(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"))
    (landing_bench.root / "a.png").unlink()
    assert await kind_of(landing_bench, b"a.png", b"1", restore=True) is LandingKind.NEW
    assert landing_bench.visible() == {"a.png": b"1"}


async def test_a_second_name_that_was_deleted_does_not_come_back_either(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"))
    await land(landing_bench, (b"a.png", b"2"))
    (landing_bench.root / "a~20261121T101112.png").unlink()
    assert await kind_of(landing_bench, b"a.png", b"2") is LandingKind.CULLED
    assert await kind_of(landing_bench, b"a.png", b"2", restore=True) is LandingKind.NEW
    assert landing_bench.visible() == {"a.png": b"1", "a~20261121T101112.png": b"2"}


async def test_a_source_that_was_known_under_another_name_brings_nothing_back(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"), (b"b.png", b"2"))
    await land(landing_bench, (b"b.png", b"3"))
    for path in ("a.png", "b~20261121T101112.png"):
        (landing_bench.root / path).unlink()
    library = landing_bench.unit.origin.library
    origin = await landing_bench.manifest.origin("ssh://forge/outputs", "ssh://forge/outputs", library)
    landing_bench.unit = replace(landing_bench.unit, sync_id="sync_2", origin=origin)
    assert await kind_of(landing_bench, b"a.png", b"1") is LandingKind.CULLED
    assert await kind_of(landing_bench, b"b.png", b"3") is LandingKind.CULLED
    assert landing_bench.visible() == {"b.png": b"2"}


async def test_the_same_prompt_beside_another_picture_is_not_taken_for_the_deleted_one(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"1.txt", b"a cat"))
    (landing_bench.root / "1.txt").unlink()
    assert await kind_of(landing_bench, b"2.txt", b"a cat") is LandingKind.NEW


async def test_i2_an_edited_picture_is_left_alone_and_its_original_is_not_put_beside_it(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"original"))
    (landing_bench.root / "a.png").write_bytes(b"edited by its owner")
    for _ in range(2):
        assert await kind_of(landing_bench, b"a.png", b"original") is LandingKind.REMEMBERED
    assert landing_bench.visible() == {"a.png": b"edited by its owner"}
    library = landing_bench.unit.origin.library
    assert await landing_bench.landings.indexed_sha256(library, b"a.png") == hashlib.sha256(b"original").digest()


async def test_a_path_that_other_content_came_to_since_is_no_copy_of_what_was_there(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"1"))
    (landing_bench.root / "a.png").unlink()
    first_unit = landing_bench.unit
    origin = await landing_bench.manifest.origin("other", "other", first_unit.origin.library)
    landing_bench.unit = replace(first_unit, origin=origin)
    await land(landing_bench, (b"a.png", b"2"))
    landing_bench.unit = first_unit
    assert await kind_of(landing_bench, b"a.png", b"1") is LandingKind.CULLED
    assert landing_bench.visible() == {"a.png": b"2"}
