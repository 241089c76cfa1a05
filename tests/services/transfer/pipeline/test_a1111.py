"""A1111's and Forge's text."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.model import GenerationMetadata
from services.transfer.pipeline.metadata import a1111
from tests.fixtures.media import FORGE_TEXT

A1111_ITSELF = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def parse(text: str) -> GenerationMetadata:
    found = a1111.parse(text)
    assert found is not None
    return found


def test_forges_text_gives_every_field() -> None:
    assert parse(FORGE_TEXT) == GenerationMetadata(
        generator="Forge",
        generator_version="f2.0.1v1.10.1-previous-664-gd557aef9",
        prompt="a lighthouse at dusk, <lora:oceanic_v2:0.8>, oil painting",
        negative_prompt="blurry, text",
        model="sd_xl_base_1.0",
        model_hash="31e35c80fc",
        seed=3141592653,
        sampler="DPM++ 2M",
        scheduler="Karras",
        steps=28,
        cfg_scale=5.5,
        loras=("oceanic_v2",),
        fields=(
            ("Size", "832x1216"),
            ("Denoising strength", "0.4"),
            ("Hires upscale", "1.5"),
            ("Hires upscaler", "4x-UltraSharp"),
            ("Lora hashes", "oceanic_v2: 0a1b2c3d4e5f"),
        ),
        parameters=FORGE_TEXT,
    )


@pytest.mark.parametrize(
    ("version", "generator"),
    [
        ("v1.10.1", "A1111"),
        ("1.6.0", "A1111"),
        ("f2.0.1v1.10.1", "Forge"),
        ("f0.0.17v1.8.0rc-latest-276-g29be1da7", "Forge"),
        ("ComfyUI", "ComfyUI"),
        ("Fooocus v2.5.5", "Fooocus"),
        ("3c6ebb7, App: SD.Next", "SD.Next"),
    ],
)
def test_the_version_tells_the_generator(version: str, generator: str) -> None:
    assert parse(f"cat\nSteps: 20, Sampler: Euler a, Seed: 1, Version: {version}").generator == generator


def test_prompts_may_have_many_lines() -> None:
    found = parse("\na cat\n\non a mat\nNegative prompt: dog\nbird\nSteps: 20, Sampler: Euler a, Seed: 1")
    assert (found.prompt, found.negative_prompt) == ("a cat\n\non a mat", "dog\nbird")


def test_quoted_values_hold_commas_colons_and_quotes() -> None:
    found = parse(r"cat" "\n" r'Steps: 20, Seed: 1, ADetailer prompt: "face, \"sharp\": 1,\nnew line", Size: 512x512')
    assert dict(found.fields) == {"ADetailer prompt": 'face, "sharp": 1,\nnew line', "Size": "512x512"}


def test_a_last_line_with_fewer_than_three_settings_belongs_to_the_prompt() -> None:
    found = parse("a cat\nstyle: baroque, light: low")
    assert (found.prompt, found.fields) == ("a cat\nstyle: baroque, light: low", ())


def test_lines_that_an_extension_puts_after_the_settings_are_no_prompt() -> None:
    found = parse(
        "a red cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 7\nTemplate: a {red|blue} cat\nNegative Template: dog"
    )
    assert (found.prompt, found.negative_prompt, found.seed) == ("a red cat", "dog", 7)


def test_the_schedule_of_old_versions_is_taken_from_the_samplers_name() -> None:
    found = parse("cat\nSteps: 20, Sampler: DPM++ 2M SDE Karras, Seed: 1")
    assert (found.sampler, found.scheduler) == ("DPM++ 2M SDE", "Karras")


@pytest.mark.parametrize(
    ("said", "seed"), [("0", 0), (str(2**64 - 1), 2**64 - 1), (str(2**64), None), ("-1", None), ("1e5", None), ("٣", None), ("", None)]
)
def test_seeds_of_up_to_64_bits_are_taken(said: str, seed: int | None) -> None:
    assert parse(f"cat\nSteps: 20, Sampler: Euler a, Seed: {said}, CFG scale: 7").seed == seed


@pytest.mark.parametrize("said", ["nan", "inf", "-inf", "seven", "1" * 400])
def test_a_scale_that_is_no_number_is_unknown(said: str) -> None:
    assert parse(f"cat\nSteps: 20, Sampler: Euler a, CFG scale: {said}").cfg_scale is None


def test_loras_come_from_the_tags_and_from_their_hashes() -> None:
    found = parse('<lora:one:1> <lora:two:0.5:0.3> <lora:one:1>\nSteps: 20, Seed: 1, Lora hashes: "one: aaaa1111, three: bbbb2222"')
    assert found.loras == ("one", "two", "three")


def test_model_names_lose_folder_and_extension() -> None:
    assert parse(r"cat" "\nSteps: 20, Seed: 1, Model: SDXL\\portraits\\juggernaut.safetensors").model == "juggernaut"


@pytest.mark.parametrize("text", ["", "   ", '{"sui_image_params": {}}'])
def test_what_is_no_such_text_is_left_to_others(text: str) -> None:
    assert a1111.parse(text) is None


def test_a_comment_without_settings_is_a_photographers() -> None:
    assert a1111.parse("Holiday 2019, the beach", certain=False) is None


def test_nul_and_lone_surrogates_are_taken_out() -> None:
    found = parse("a\0b \ud800c\nSteps: 20, Sampler: Euler a, Seed: 1")
    assert found.prompt == "ab ?c"


def test_fields_are_at_most_two_hundred() -> None:
    settings = ", ".join(f"Key {number}: {number}" for number in range(500))
    assert len(parse(f"cat\n{settings}").fields) == 200


@given(st.text(alphabet='ab :",\\-/ 1\t', max_size=60))
def test_settings_are_split_as_a1111_itself_splits_them(line: str) -> None:
    ours = a1111.parse_settings(line)
    theirs = [(name, value) for name, value in A1111_ITSELF.findall(line.strip())]
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (_, mine), (_, raw) in zip(ours, theirs, strict=True):
        quoted = len(raw) > 1 and raw[0] == raw[-1] == '"'
        assert mine == (unquote(raw) if quoted else raw.strip())


def unquote(raw: str) -> str:
    try:
        return str(json.loads(raw))
    except ValueError:
        return raw


@pytest.mark.parametrize("line", ["a" * 200_000, "a " * 100_000, 'aa:"' * 50_000, 'aa:"\\' * 40_000, "aa:" * 60_000, "<lora:" * 40_000])
def test_a_line_made_to_be_slow_is_not(line: str) -> None:
    start = time.process_time()
    a1111.parse(f"{line}\n{line}")
    assert time.process_time() - start < 5  # quadratic time would be minutes
