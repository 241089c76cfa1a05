from __future__ import annotations

import pytest

from services.transfer.naming import PLAIN, mark_of, marked
from services.transfer.sidecars import is_sidecar, series_of
from tests.fixtures.transfer import MTIME_NS, LandingBench

# The second generation of a name is made an hour after the first, its sidecar a second after its picture.
_HOUR = 3_600_000_000_000
_SECOND = 1_000_000_000
_LATER = MTIME_NS + _HOUR
MARK = "~20261121T111112"

File = tuple[bytes, bytes, int]


async def land(bench: LandingBench, *files: File) -> None:
    lander = bench.lander()
    await lander.land(lander.begin([bench.stage(path, content, mtime_ns) for path, content, mtime_ns in files]))


_PICTURE = (b"d/a.png", b"second", _LATER)
_PROMPT = (b"d/a.txt", b"second prompt", _LATER + _SECOND)
_XMP = (b"d/a.png.xmp", b"second xmp", _LATER + _SECOND)


@pytest.mark.parametrize("order", [(_PICTURE, _PROMPT, _XMP), (_PROMPT, _XMP, _PICTURE), (_XMP, _PICTURE, _PROMPT)])
async def test_sidecars_of_a_picture_that_got_a_second_name_get_the_same_in_one_job(
    landing_bench: LandingBench, order: tuple[File, ...]
) -> None:
    await land(landing_bench, (b"d/a.png", b"first", MTIME_NS), (b"d/a.txt", b"first prompt", MTIME_NS), (b"d/a.png.xmp", b"1", MTIME_NS))
    await land(landing_bench, *order)
    assert landing_bench.visible() == {
        "d/a.png": b"first",
        "d/a.txt": b"first prompt",
        "d/a.png.xmp": b"1",
        f"d/a{MARK}.png": b"second",
        f"d/a{MARK}.txt": b"second prompt",
        f"d/a{MARK}.png.xmp": b"second xmp",
    }


@pytest.mark.parametrize("order", [(_PICTURE, _PROMPT, _XMP), (_PROMPT, _XMP, _PICTURE), (_XMP, _PICTURE, _PROMPT)])
async def test_sidecars_follow_their_picture_across_jobs_in_any_order(landing_bench: LandingBench, order: tuple[File, ...]) -> None:
    await land(landing_bench, (b"d/a.png", b"first", MTIME_NS), (b"d/a.txt", b"first prompt", MTIME_NS), (b"d/a.png.xmp", b"1", MTIME_NS))
    for file in order:
        await land(landing_bench, file)
    (picture,) = [path for path, content in landing_bench.visible().items() if content == b"second"]
    mark = picture.removeprefix("d/a").removesuffix(".png")
    assert mark.startswith("~")
    assert landing_bench.visible()[f"d/a{mark}.txt"] == b"second prompt"
    assert landing_bench.visible()[f"d/a{mark}.png.xmp"] == b"second xmp"
    assert landing_bench.visible()["d/a.txt"] == b"first prompt"


async def test_a_sidecar_that_came_first_under_its_own_name_is_copied_beside_its_picture(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"first", MTIME_NS))
    await land(landing_bench, (b"a.txt", b"second prompt", _LATER + _SECOND))
    await land(landing_bench, (b"a.png", b"second", _LATER))
    assert landing_bench.visible() == {
        "a.png": b"first",
        "a.txt": b"second prompt",
        f"a{MARK}.png": b"second",
        f"a{MARK}.txt": b"second prompt",
    }
    row = (await landing_bench.manifest.rows(landing_bench.unit.origin, [b"a.txt"]))[b"a.txt"]
    assert row.library_path == f"a{MARK}.txt".encode()


async def test_a_sidecar_of_the_former_picture_stays_with_that(landing_bench: LandingBench) -> None:
    await land(landing_bench, (b"a.png", b"first", MTIME_NS), (b"a.txt", b"first prompt", MTIME_NS + _SECOND))
    await land(landing_bench, (b"a.png", b"second", _LATER))
    assert sorted(landing_bench.visible()) == ["a.png", "a.txt", f"a{MARK}.png"]


async def test_three_generations_of_one_name_keep_their_sidecars_apart(landing_bench: LandingBench) -> None:
    for number in range(3):
        time = MTIME_NS + number * _HOUR
        await land(landing_bench, (b"a.txt", b"prompt %d" % number, time + _SECOND))
        await land(landing_bench, (b"a.png", b"picture %d" % number, time))
    visible = landing_bench.visible()
    for path, content in visible.items():
        if path.endswith(".png"):
            assert visible[path.replace(".png", ".txt")] == content.replace(b"picture", b"prompt")
    assert sum(path.endswith(".png") for path in visible) == 3


def test_what_a_sidecar_is_is_told_by_its_name() -> None:
    assert is_sidecar(b"d/a.png.XMP")
    assert is_sidecar(b"a.txt")
    assert not is_sidecar(b"a.png")
    assert not is_sidecar(b".txt")
    assert series_of(b"d/a.png.xmp") == series_of(b"d/a.txt") == series_of(b"d/a.png") == b"d/a"
    assert series_of(b"a.v2.png") != series_of(b"a.png")


def test_the_mark_of_a_name_is_found_again() -> None:
    for path in (b"d/a.png", b"a.png.xmp", b"README", b"a~20200101T000000.png"):
        assert mark_of(marked(path, b"~20261121T101112-2"), path) == b"~20261121T101112-2"
        assert mark_of(path, path) == PLAIN
    assert mark_of(b"other~20261121T101112.png", b"a.png") == PLAIN
