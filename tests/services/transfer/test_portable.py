from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transfer.entities import LandedFile
from services.transfer.portable import fitting_name, original_name, portable_name
from tests.fixtures.picky import Judge, ecryptfs, exfat, fold_case, refuse_names, utf8_only
from tests.fixtures.transfer import LandingBench
from tests.services.transfer.test_landing import land

_names = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text(alphabet='aZ%3:AéC?*"<>|\\. \x1f', min_size=1, max_size=12).map(str.encode),
).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(_names)
def test_a_changed_name_gives_the_original_back(name: bytes) -> None:
    assert original_name(portable_name(name)) == name


@given(_names, _names)
def test_no_two_names_become_the_same(one: bytes, other: bytes) -> None:
    assert (portable_name(one) == portable_name(other)) == (one == other)


@given(_names)
def test_a_portable_name_is_taken_everywhere(name: bytes) -> None:
    portable = portable_name(name)
    assert not exfat(portable)
    assert not utf8_only(portable)
    assert not portable.endswith((b".", b" "))
    assert portable.split(b".")[0].lower() not in (b"con", b"prn", b"aux", b"nul", b"com1", b"lpt9")
    assert portable_name(b"x") == b"x"


def test_names_are_changed_like_this() -> None:
    assert portable_name(b"12:30 why?.png") == b"12%3A30 why%3F.png"
    assert portable_name(b"100%: done.png") == b"100%25%3A done.png"
    assert portable_name(b"100%.png") == b"100%.png"
    assert portable_name(b"a%3Ab.png") == b"a%253Ab.png"
    assert portable_name(b"CON.png") == b"%43ON.png"
    assert portable_name(b"console.png") == b"console.png"
    assert portable_name(b"end. ") == b"end.%20"
    assert portable_name(b"\xff.png") == b"%FF.png"
    assert portable_name("bär.png".encode()) == "bär.png".encode()


@given(st.text(min_size=60, max_size=120).map(str.encode), st.sampled_from([b".png", b".png.xmp", b""]))
def test_a_name_that_is_too_long_is_cut_between_characters_and_told_apart_by_its_hash(stem: bytes, extension: bytes) -> None:
    stem = stem.replace(b".", b"_").replace(b"/", b"_")
    cut = fitting_name(stem + extension, 50)
    assert len(cut) <= 50
    assert cut.endswith(extension)
    cut.decode()
    assert fitting_name(stem + b"!" + extension, 50) != cut


@pytest.mark.parametrize(
    ("judge", "path", "landed"),
    [
        (exfat, b"12:30/why?.png", b"12%3A30/why%3F.png"),
        (utf8_only, b"d/\xff.png", b"d/%FF.png"),
        (ecryptfs, b"d/" + b"x" * 200 + b".png", b"d/" + fitting_name(b"x" * 200 + b".png", 143)),
    ],
)
async def test_a_name_that_the_file_system_refuses_is_changed_and_the_whole_one_stays_on_record(
    landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch, judge: Judge, path: bytes, landed: bytes
) -> None:
    refuse_names(monkeypatch, os.fsencode(landing_bench.root), judge)
    outcomes = await land(landing_bench, (path, b"1"), (b"fine.png", b"2"))
    assert [outcome.library_path for outcome in outcomes if isinstance(outcome, LandedFile)] == [landed, b"fine.png"]
    assert set(landing_bench.visible()) == {os.fsdecode(landed), "fine.png"}
    row = (await landing_bench.manifest.rows(landing_bench.unit.origin, [path]))[path]
    assert row.library_path == landed
    assert await landing_bench.landings.pending_landings(landing_bench.unit.origin.library) == []
    # Other content of the same name, and the deletion of a changed one, go on as with any other.
    await land(landing_bench, (path, b"other"))
    assert len(landing_bench.visible()) == 3
    (landing_bench.root / os.fsdecode(landed)).unlink()
    await land(landing_bench, (path, b"1"))
    assert len(landing_bench.visible()) == 2


async def test_a_name_that_nothing_helps_fails_alone(landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_names(monkeypatch, os.fsencode(landing_bench.root), lambda part: errno.EINVAL if b"bad" in part else 0)
    bad, good = await land(landing_bench, (b"bad.png", b"1"), (b"good.png", b"2"))
    assert not isinstance(bad, LandedFile)
    assert isinstance(good, LandedFile)
    assert await landing_bench.landings.pending_landings(landing_bench.unit.origin.library) == []


@pytest.mark.parametrize("names", [(b"a.png", b"A.png"), (b"A.png", b"a.png")])
@pytest.mark.parametrize("at_once", [True, False])
async def test_i2_names_that_differ_in_case_both_land_where_case_is_folded(
    landing_bench: LandingBench, monkeypatch: pytest.MonkeyPatch, names: tuple[bytes, bytes], at_once: bool
) -> None:
    fold_case(monkeypatch)
    files = [(name, b"content of " + name) for name in names]
    for group in [files] if at_once else [files[:1], files[1:]]:
        await land(landing_bench, *group)
    first, second = (name.decode() for name in names)
    assert landing_bench.visible() == {
        first: b"content of " + names[0],
        second.replace(".", "~20261121T101112."): b"content of " + names[1],
    }
