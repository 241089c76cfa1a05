"""Our parsers against sd-parsers, an independent reader of the same metadata, where it reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sd_parsers import ParserManager

from services.transfer.pipeline.metadata.stage import MetadataStage
from services.transfer.pipeline.stage import MediaFacts
from tests.fixtures.media import FORGE_TEXT, comfy_png, exif, jpeg, media_file, picture, png, text_chunk, text_to_image

words = st.text(alphabet="abcdefghij (),.<>:0123456789", min_size=3, max_size=40).map(str.strip).filter(lambda text: len(text) > 2)


def workflow_of(graph: dict[str, Any]) -> dict[str, Any]:
    """The links of a graph as the UI saves them, which the oracle goes by: id, from, output, to, input, type."""
    ends = [(link, target) for target, node in graph.items() for link in node["inputs"].values() if isinstance(link, list)]
    return {"links": [[number, int(link[0]), link[1], int(target), 0, "*"] for number, (link, target) in enumerate(ends)]}


def theirs(path: Any) -> Any:
    with Image.open(path) as image:
        return ParserManager().parse(image)


def agree(path: Any) -> None:
    ours, other = MetadataStage().process(media_file(path), MediaFacts()).metadata, theirs(path)
    assert ours is not None
    assert other is not None
    (sampler,) = other.samplers
    assert ours.prompt == other.full_prompt
    assert ours.negative_prompt == other.full_negative_prompt
    assert ours.seed == int(sampler.parameters["seed"])
    assert ours.steps == int(sampler.parameters["steps"])
    assert (ours.sampler, ours.model) == (sampler.name, sampler.model.name.removesuffix(".safetensors"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("forge.png", png(text_chunk("parameters", FORGE_TEXT))),
        ("forge.jpg", jpeg(exif(user_comment=b"UNICODE\0" + FORGE_TEXT.encode("utf-16-be")))),
        ("forge.webp", picture("WEBP", exif=exif(user_comment=b"UNICODE\0" + FORGE_TEXT.encode("utf-16-be"), order=">"))),
        ("ComfyUI_00001_.png", comfy_png(text_to_image(), workflow_of(text_to_image()))),
    ],
)
def test_both_read_the_same(tmp_path: Any, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    agree(tmp_path / name)


@given(prompt=words, negative=words, seed=st.integers(0, 2**32), steps=st.integers(1, 150))
def test_both_read_the_same_prompts(tmp_path_factory: Any, prompt: str, negative: str, seed: int, steps: int) -> None:
    settings = f"Steps: {steps}, Sampler: Euler a, CFG scale: 7, Seed: {seed}, Size: 512x512, Model hash: abcdef0123, Model: dream"
    path = tmp_path_factory.getbasetemp() / "oracle.png"
    path.write_bytes(png(text_chunk("parameters", f"{prompt}\nNegative prompt: {negative}\n{settings}")))
    agree(path)
