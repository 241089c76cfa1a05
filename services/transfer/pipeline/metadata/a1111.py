r"""A1111's text, which Forge and many others write too: prompt lines, `Negative prompt:` lines, and a line of settings.

The last line counts as settings only if it holds at least three `name: value` pairs, as A1111 itself reads it:
`\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`. That expression takes quadratic time on a line made for it; the scanner below
finds the same in linear time. A quoted value holds commas and colons, and is a JSON string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from mediasync.model import GenerationMetadata
from services.transfer.pipeline.formats.jpeg import COMMENT
from services.transfer.pipeline.formats.texts import Texts
from services.transfer.pipeline.formats.tiff import USER_COMMENT
from services.transfer.pipeline.metadata import text as safe
from services.transfer.pipeline.stage import MediaFile

_NAME = re.compile(r"[\w \-/]++(:?)")
_NAME_START = re.compile(r"\w")
_VALUE = re.compile(r'\s*+("(?:\\.|[^\\"])++"(?=,|\Z)|[^,]*+)(?:,|\Z)')
_NEGATIVE = "Negative prompt:"
_FORGE = re.compile(r"f\d")
_LORA_HASH = re.compile(r"([^:,]{1,256}): ?[0-9a-fA-F]{4,64}(?:, |\Z)")
_OLD_SCHEDULERS = ("Karras", "Exponential")
"""Versions before 1.9 wrote these as part of the sampler's name; since then the schedule has a field of its own."""
_OTHER_APPS = ("ComfyUI", "Fooocus", "SwarmUI", "SD.Next", "InvokeAI", "EasyDiffusion", "Draw Things")

_CARRIERS = ("parameters", USER_COMMENT, COMMENT)

_Settings = list[tuple[str, str]]


def detect(texts: Texts, file: MediaFile) -> GenerationMetadata | None:
    """What the text says, if there is one with settings."""
    found = next((found for name in _CARRIERS if (found := parse(texts.get(name), certain=name == "parameters"))), None)
    upscaling = texts.get("postprocessing")
    extras = parse_settings(upscaling)
    if found is None:  # the extras tab, on a picture that came without parameters
        return GenerationMetadata("A1111", fields=safe.fields(extras), parameters=safe.clean(upscaling)) if extras else None
    present = dict(found.fields)
    return replace(found, fields=safe.fields([*found.fields, *((name, value) for name, value in extras if name not in present)]))


def parse(text: str, *, certain: bool = True) -> GenerationMetadata | None:
    """What A1111's text says; None if it is a JSON object, as others write under the same name. Unless it is `certain` from where it
    stood that it is such a text, it must hold settings: a comment may be a photographer's."""
    text = text[: safe.MAX_PARAMETERS_CHARS].replace("\0", "").strip()
    if not text or text[0] == "{":
        return None
    prompt, negative, settings = split(text)
    if not (settings or certain):
        return None
    return _metadata(text, prompt, negative, settings)


def split(text: str) -> tuple[str, str, _Settings]:
    """Prompt, negative prompt and settings, as A1111 itself would take them; but lines that an extension put after the settings
    (`Template: ...`) are not taken for a prompt."""
    lines = text.strip().split("\n")
    settings: _Settings = []
    for index in range(len(lines) - 1, -1, -1):
        last = index == len(lines) - 1
        if (last or lines[index].startswith("Steps: ")) and len(found := parse_settings(lines[index])) >= 3:
            lines, settings = lines[:index], found
            break
    parts: tuple[list[str], list[str]] = ([], [])
    current = parts[0]
    for raw in lines:
        line = raw.strip()
        if line.startswith(_NEGATIVE):
            current = parts[1]
            line = line[len(_NEGATIVE) :].strip()
        if current or line:
            current.append(line)
    return "\n".join(parts[0]), "\n".join(parts[1]), settings


def parse_settings(line: str) -> _Settings:
    """The `name: value` pairs of a line, unquoted, in order."""
    return list(_pairs(line[: safe.MAX_PARAMETERS_CHARS].strip()))


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    position = 0
    while run := _NAME.search(line, position):
        position = run.end()
        start = _NAME_START.search(line, run.start(), run.end())
        # A name is a word character and at least one more.
        if not run[1] or start is None or run.end() - 1 - start.start() < 2:
            continue
        value = _VALUE.match(line, position)
        assert value is not None  # its second form takes anything
        position = value.end()
        yield line[start.start() : run.end() - 1], _unquote(value[1])


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value.strip()
    unquoted = safe.load_json(value)
    return unquoted if isinstance(unquoted, str) else value


def _metadata(text: str, prompt: str, negative: str, settings: _Settings) -> GenerationMetadata:
    known = dict(reversed(settings))  # the first of a name counts
    sampler, scheduler = _sampler(known.get("Sampler", ""), known.get("Schedule type", ""))
    version = known.get("Version", "")
    loras = safe.lora_tags(prompt, known.get("Hires prompt", ""))
    loras += [name for name in _hashed_loras(known.get("Lora hashes", "")) if name not in loras]
    taken = {"Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Model", "Model hash", "Version"}
    return GenerationMetadata(
        generator=_generator(version, known),
        generator_version=safe.clean(version, safe.MAX_NAME_CHARS),
        prompt=safe.clean(prompt, safe.MAX_PROMPT_CHARS),
        negative_prompt=safe.clean(negative, safe.MAX_PROMPT_CHARS),
        model=safe.model_name(known.get("Model", "")),
        model_hash=safe.clean(known.get("Model hash", ""), safe.MAX_NAME_CHARS),
        seed=safe.to_seed(known.get("Seed")),
        sampler=safe.clean(sampler, safe.MAX_NAME_CHARS),
        scheduler=safe.clean(scheduler, safe.MAX_NAME_CHARS),
        steps=safe.to_steps(known.get("Steps")),
        cfg_scale=safe.to_scale(known.get("CFG scale")),
        loras=safe.unique(loras),
        fields=safe.fields([(name, value) for name, value in settings if name not in taken]),
        parameters=safe.clean(text, safe.MAX_PARAMETERS_CHARS),
    )


def _sampler(sampler: str, scheduler: str) -> tuple[str, str]:
    if not scheduler:
        for name in _OLD_SCHEDULERS:
            if sampler.endswith(" " + name):
                return sampler.removesuffix(" " + name), name
    return sampler, scheduler


def _hashed_loras(value: str) -> list[str]:
    return [match[1].strip() for match in _LORA_HASH.finditer(value)]


def _generator(version: str, known: dict[str, str]) -> str:
    """Forge's versions start with `f` and its own number (`f2.0.1v1.10.1-previous-...`); others say their name in Version or App."""
    said = f"{known.get('App', '')} {version}"
    for app in _OTHER_APPS:
        if app.lower() in said.lower():
            return app
    return "Forge" if _FORGE.match(version) or version.lower().startswith(("forge", "neo")) else "A1111"
