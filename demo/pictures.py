"""Fills a folder as a Forge and a ComfyUI that share it would: `txt2img-images/<day>/00000-<seed>.png`, `ComfyUI/ComfyUI_00001_.png`.

Everything but the times follows from a seed. `write_pictures` makes what is there at first, one picture of it half-written;
`draw_later` draws what comes while somebody watches, and leaves it to the caller to write it as a generator would.
"""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from PIL import Image

from demo.drawing import chances, encode_png, landscape
from demo.prompts import Graph, Idea, flux_graph, forge_text, sdxl_graph, workflow

SIZE = (512, 768)
FLUX_FOLDER = "ComfyUI/flux"
UNFINISHED = "ComfyUI/ComfyUI_00041_.png"

_SEED = 20261121
_USER_COMMENT, _EXIF, _MAKE, _MODEL = 0x9286, 0x8769, 0x010F, 0x0110
_THREADS = 2
_NEWEST_SECONDS, _STEP_SECONDS = 600, 240

_Draw = Callable[[], bytes]


@dataclass(frozen=True)
class Written:
    """What was written: complete files and their bytes, and one that is not complete."""

    files: int
    size_bytes: int
    unfinished: Path


@dataclass(frozen=True)
class Picture:
    """A picture that is not written yet: its path below the root, and its bytes."""

    path: Path
    content: bytes


@dataclass(frozen=True)
class Later:
    """What comes after the rest, to be written by the caller."""

    forge: Picture
    comfy: Picture
    renamed: Picture
    again: Picture
    """Has the name of one that is there, as happens when a folder was emptied: the counter starts again."""
    finished: Picture
    """The one that is half-written, with all its bytes."""


def write_pictures(root: Path, *, seed: int = _SEED, now: float | None = None) -> Written:
    """Writes about 200 pictures and texts below `root`, some hours to two days old at `now` (Unix seconds; default: the clock)."""
    now = time.time() if now is None else now
    chance = chances(seed)
    plan = _Plan(root, now)
    today, yesterday = (datetime.fromtimestamp(now).astimezone() - timedelta(days=days) for days in (0, 1))
    for day, count in ((yesterday, 64), (today, 46)):
        for number in range(count):
            _text_to_image(plan, chance, f"txt2img-images/{day:%Y-%m-%d}", number, note=number % 16 == 0)
    for number in range(24):
        _image_to_image(plan, chance, f"img2img-images/{today:%Y-%m-%d}", number)
    for number in range(3):
        plan.add(f"txt2img-grids/{today:%Y-%m-%d}/grid-{number:04}.png", _forge_png(chance, (1024, 768)))
    for number in range(4):
        plan.add(f"extras-images/{number:05}.png", _upscaled_png(chance))
    for number in range(1, 41):
        plan.add(f"ComfyUI/ComfyUI_{number:05}_.png", _comfy_png(chance, sdxl_graph, "ComfyUI"))
    for number in range(1, 15):
        plan.add(f"{FLUX_FOLDER}/Flux_{number:05}_.png", _comfy_png(chance, flux_graph, "flux/Flux"))
    for number in range(1, 3):
        plan.add(f"ComfyUI/wan/WanVideo_{number:05}_.webp", _comfy_webp(chance))
    files, size = plan.write()
    return Written(files, size, _write_unfinished(root, seed))


def draw_later(root: Path, *, seed: int = _SEED, now: float | None = None) -> Later:
    """Draws what comes after `write_pictures`; nothing is written."""
    now = time.time() if now is None else now
    chance = chances(f"{seed} later")
    day = f"txt2img-images/{datetime.fromtimestamp(now).astimezone():%Y-%m-%d}"
    number = len(list((root / day).glob("*.png")))
    forge, renamed = (Idea.of(chance) for _ in range(2))
    texts = [forge_text(chance, idea, SIZE) for idea in (forge, renamed)]
    drawn = [_drawn(chance, idea, SIZE, _encoder("png", text))() for idea, text in zip((forge, renamed), texts, strict=True)]
    return Later(
        forge=Picture(Path(f"{day}/{number:05}-{forge.seed}.png"), drawn[0]),
        comfy=Picture(Path("ComfyUI/ComfyUI_00042_.png"), _comfy_png(chance, sdxl_graph, "ComfyUI")()),
        renamed=Picture(Path("extras-images/00004.png"), drawn[1]),
        again=Picture(Path(f"{FLUX_FOLDER}/Flux_00001_.png"), _comfy_png(chance, flux_graph, "flux/Flux")()),
        finished=Picture(Path(UNFINISHED), _unfinished(seed)()),
    )


class _Plan:
    """Files to write, oldest first. Chance is drawn while planning, in order; only drawing and encoding run in threads."""

    def __init__(self, root: Path, now: float) -> None:
        self._root = root
        self._now = now
        self._files: list[tuple[str, _Draw]] = []

    def add(self, name: str, draw: _Draw) -> None:
        """Plans a file."""
        self._files.append((name, draw))

    def write(self) -> tuple[int, int]:
        """Writes them all. Returns how many, and their bytes."""
        with ThreadPoolExecutor(_THREADS, "drawing") as threads:
            sizes = list(threads.map(self._write, range(len(self._files))))
        return len(sizes), sum(sizes)

    def _write(self, index: int) -> int:
        name, draw = self._files[index]
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = draw()
        path.write_bytes(data)
        written = self._now - _NEWEST_SECONDS - _STEP_SECONDS * (len(self._files) - 1 - index)
        os.utime(path, (written, written))
        return len(data)


def _text_to_image(plan: _Plan, chance: random.Random, folder: str, number: int, *, note: bool = False) -> None:
    idea = Idea.of(chance)
    text = forge_text(chance, idea, SIZE)
    stem = f"{folder}/{number:05}-{idea.seed}"
    plan.add(f"{stem}.png", _drawn(chance, idea, SIZE, lambda image: _png(image, parameters=text)))
    if note:
        plan.add(f"{stem}.txt", lambda: f"{text}\n".encode())


def _image_to_image(plan: _Plan, chance: random.Random, folder: str, number: int) -> None:
    """Mostly PNG; some WebP, as Forge can be told to write; and beside some a JPEG of the same stem, as it does for large pictures."""
    idea = Idea.of(chance)
    text = forge_text(chance, idea, SIZE, image_to_image=True)
    stem = f"{folder}/{number:05}-{idea.seed}"
    state = chance.getrandbits(64)
    kinds = ("webp",) if number % 4 == 3 else ("png", "jpg") if number % 6 == 0 else ("png",)
    for kind in kinds:
        plan.add(f"{stem}.{kind}", _drawn(chances(state), idea, SIZE, _encoder(kind, text)))


def _encoder(kind: str, text: str) -> Callable[[Image.Image], bytes]:
    if kind == "png":
        return lambda image: _png(image, parameters=text)
    comment = Image.Exif()
    comment.get_ifd(_EXIF)[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    options = {"quality": 92, "exif": comment, **({"method": 1} if kind == "webp" else {})}
    return lambda image: _saved(image, {"webp": "WEBP", "jpg": "JPEG"}[kind], **options)


def _forge_png(chance: random.Random, size: tuple[int, int]) -> _Draw:
    idea = Idea.of(chance)
    text = forge_text(chance, idea, size)
    return _drawn(chance, idea, size, lambda image: _png(image, parameters=text))


def _upscaled_png(chance: random.Random) -> _Draw:
    idea = Idea.of(chance)
    text = forge_text(chance, idea, SIZE)
    more = "Postprocess upscale by: 2, Postprocess upscaler: R-ESRGAN 4x+"
    return _drawn(chance, idea, SIZE, lambda image: _png(image, parameters=f"{text}, {more}", postprocessing=more))


def _comfy_png(chance: random.Random, make: Callable[[random.Random, Idea, tuple[int, int], str], Graph], prefix: str) -> _Draw:
    idea = Idea.of(chance)
    graph = make(chance, idea, SIZE, prefix)
    return _drawn(chance, idea, SIZE, lambda image: _png(image, prompt=json.dumps(graph), workflow=json.dumps(workflow(graph))))


def _comfy_webp(chance: random.Random) -> _Draw:
    """An animation as ComfyUI writes one, with its graphs as camera model and make."""
    idea = Idea.of(chance)
    size = (256, 384)
    graph = sdxl_graph(chance, idea, size, "wan/WanVideo")
    tags = Image.Exif()
    tags[_MODEL] = f"prompt:{json.dumps(graph)}"
    tags[_MAKE] = f"workflow:{json.dumps(workflow(graph))}"

    def encode(image: Image.Image) -> bytes:
        frames = [image.transform(size, Image.Transform.AFFINE, (1, 0, 3 * step, 0, 1, 0)) for step in range(8)]
        return _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=125, quality=80, method=1, exif=tags)

    return _drawn(chance, idea, (300, 384), encode)


def _unfinished(seed: int) -> _Draw:
    return _comfy_png(chances(f"{seed} unfinished"), sdxl_graph, "ComfyUI")


def _write_unfinished(root: Path, seed: int) -> Path:
    """Two thirds of a picture, written just now: ComfyUI writes straight to the final name."""
    path = root / UNFINISHED
    data = _unfinished(seed)()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def _drawn(chance: random.Random, idea: Idea, size: tuple[int, int], encode: Callable[[Image.Image], bytes]) -> _Draw:
    state = chance.getrandbits(64)
    return lambda: encode(landscape(chances(state), idea.palette, size))


def _png(image: Image.Image, **texts: str) -> bytes:
    return encode_png(image, texts)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
