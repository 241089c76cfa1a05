"""The demo's folder of pictures."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from demo.pictures import FLUX_FOLDER, UNFINISHED, carry_on, write_pictures
from services.transfer.pipeline.stage import MediaFacts, run_stages
from services.transfer.pipeline.stages import STAGES
from tests.fixtures.media import media_file

NOW = 1_795_000_000.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outputs")
    written = write_pictures(root, now=NOW)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert written.files == len(files) - 1
    assert written.size_bytes == sum(path.stat().st_size for path in files if path != written.unfinished)
    assert written.unfinished == root / UNFINISHED
    return root


def facts_of(path: Path) -> MediaFacts:
    run = run_stages(media_file(path), STAGES)
    assert run.failures == []
    return run.facts


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_every_finished_picture_is_valid_and_tells_how_it_was_made(pictures: Path) -> None:
    generators: Counter[str] = Counter()
    for path in pictures.rglob("*"):
        if not path.is_file() or path == pictures / UNFINISHED or path.suffix == ".txt":
            continue
        facts = facts_of(path)
        assert facts.invalid is None, path
        assert facts.metadata is not None, path
        assert facts.metadata.seed is not None
        assert facts.metadata.model
        assert facts.metadata.prompt
        generators[facts.metadata.generator] += 1
        if path.name[0].isdigit() and "-" in path.name:
            assert path.stem.endswith(f"-{facts.metadata.seed}")
    assert generators["Forge"] > 100
    assert generators["ComfyUI"] > 50


def test_there_are_about_two_hundred_in_the_generators_folders_and_no_two_are_the_same(pictures: Path) -> None:
    by_path = digests(pictures)
    assert 190 <= len(by_path) <= 220
    assert len(set(by_path.values())) == len(by_path)
    folders = {path.split("/")[0] for path in by_path}
    assert folders == {"txt2img-images", "img2img-images", "txt2img-grids", "extras-images", "ComfyUI"}
    assert {Path(path).suffix for path in by_path} == {".png", ".jpg", ".webp", ".txt"}


def test_all_are_settled_but_the_one_that_is_being_written(pictures: Path) -> None:
    unfinished = pictures / UNFINISHED
    assert all(NOW - 3 * 86400 < path.stat().st_mtime < NOW - 60 for path in pictures.rglob("*.*") if path != unfinished)
    assert time.time() - unfinished.stat().st_mtime < 3600
    assert facts_of(unfinished).invalid is not None


def test_the_same_seed_makes_the_same_pictures(pictures: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path, now=NOW)
    assert digests(tmp_path) == digests(pictures)


def test_carrying_on_adds_finishes_and_brings_names_back_with_other_pictures(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)
    before = digests(tmp_path)
    done = carry_on(tmp_path, now=NOW)
    after = digests(tmp_path)
    assert len(done.added) == 6
    assert all(str(path) not in before and str(path) in after for path in done.added)
    assert [str(path) for path in done.reused] == [f"{FLUX_FOLDER}/Flux_{number:05}_.png" for number in (1, 2, 3)]
    assert all(before[str(path)] != after[str(path)] for path in done.reused)
    assert len(done.removed) == 11
    assert set(before) - set(after) == {str(path) for path in done.removed}
    (finished,) = done.finished
    assert facts_of(tmp_path / finished).invalid is None
    changed = {path for path in before if path in after and before[path] != after[path]}
    assert changed == {str(path) for path in (*done.reused, *done.finished)}
    assert all((tmp_path / path).stat().st_mtime <= NOW - 60 for path in (*done.added, *done.reused, *done.finished))
