"""The demo's folder of pictures."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from pathlib import Path

import pytest

from demo.pictures import FLUX_FOLDER, UNFINISHED, draw_later, write_pictures
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


def test_what_comes_later_is_drawn_but_not_written_and_has_a_prompt_of_its_own(pictures: Path, tmp_path: Path) -> None:
    before = digests(pictures)
    later = draw_later(pictures, now=NOW)
    assert digests(pictures) == before
    drawn = (later.forge, later.comfy, later.renamed, later.again, later.finished)
    assert len({hashlib.sha256(picture.content).hexdigest() for picture in drawn} - set(before.values())) == len(drawn)
    for picture in drawn:
        path = tmp_path / picture.path.name
        path.write_bytes(picture.content)
        facts = facts_of(path)
        assert facts.invalid is None
        assert facts.metadata is not None and facts.metadata.prompt
    assert {str(picture.path) in before for picture in (later.forge, later.comfy, later.renamed)} == {False}
    assert later.again.path == Path(FLUX_FOLDER) / "Flux_00001_.png" and str(later.again.path) in before
    assert later.finished.path == Path(UNFINISHED)
    assert later.finished.content.startswith((pictures / UNFINISHED).read_bytes())
