"""Small landscapes, drawn fast: a sky, a sun or moon, and hills behind hills."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Colours of one time of day, which is also a word of the prompt."""

    word: str
    sky: tuple[Color, Color, Color]
    light: Color
    land: Color


PALETTES = (
    Palette("at dusk", ((38, 30, 74), (171, 68, 98), (250, 176, 106)), (255, 224, 170), (32, 24, 52)),
    Palette("at dawn", ((92, 128, 188), (232, 172, 180), (255, 224, 188)), (255, 244, 214), (58, 62, 92)),
    Palette("under a full moon", ((8, 12, 36), (24, 38, 84), (70, 94, 148)), (232, 240, 255), (6, 10, 24)),
    Palette("in morning mist", ((150, 178, 190), (196, 212, 212), (236, 236, 224)), (255, 255, 246), (70, 92, 98)),
    Palette("in golden light", ((196, 120, 48), (238, 174, 78), (255, 226, 150)), (255, 248, 214), (88, 46, 22)),
    Palette("beneath northern lights", ((6, 22, 40), (16, 92, 96), (96, 206, 150)), (214, 255, 232), (4, 18, 28)),
    Palette("on a clear day", ((44, 110, 190), (112, 172, 226), (214, 234, 246)), (255, 255, 240), (34, 78, 62)),
)
_HILLS = 4


def chances(seed: int | str) -> random.Random:
    """Chance that comes out the same every time."""
    return random.Random(seed)  # noqa: S311 (for pictures, not for secrets)


def landscape(chance: random.Random, palette: Palette, size: tuple[int, int]) -> Image.Image:
    """A picture that no other call draws; its grain makes it as heavy on disk as a generated one."""
    width, height = size
    sky = Image.new("RGB", (1, 5))
    top, middle, bottom = palette.sky
    sky.putdata([top, _between(top, middle, 0.6), middle, _between(middle, bottom, 0.6), bottom])
    image = sky.resize((1, height), Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)
    _shine(image, palette, (chance.uniform(0.2, 0.8) * width, chance.uniform(0.2, 0.5) * height), chance.uniform(0.05, 0.12) * width)
    draw = ImageDraw.Draw(image)
    for hill in range(1, _HILLS + 1):
        near = hill / _HILLS
        ridge = _ridge(chance, width, height * (0.45 + 0.4 * near), height * 0.1)
        draw.polygon([*ridge, (width, height), (0, height)], fill=_between(palette.sky[2], palette.land, 0.25 + 0.75 * near))
    return ImageChops.screen(image, _grain(size, chance.randrange(8)))


def encode_png(image: Image.Image, texts: Mapping[str, str]) -> bytes:
    """A PNG with tEXt chunks before its pixels. Takes half the time of Pillow's encoder, which tries every filter on every row; here
    each row is stored as its difference from the one above."""
    width, height = image.size
    above = Image.new("RGB", image.size)
    above.paste(image, (0, 1))
    rows = ImageChops.subtract_modulo(image, above).tobytes()
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 8, zlib.Z_RLE)
    packed = packer.compress(b"".join(b"\2" + rows[start : start + 3 * width] for start in range(0, len(rows), 3 * width)))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"tEXt", key.encode("latin-1") + b"\0" + value.encode("latin-1")) for key, value in texts.items()]
    chunks += [(b"IDAT", packed + packer.flush()), (b"IEND", b"")]
    body = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _shine(image: Image.Image, palette: Palette, center: tuple[float, float], radius: float) -> None:
    glow = radius * 5
    x, y = center
    halo = (
        Image.radial_gradient("L")
        .resize((int(2 * glow), int(2 * glow)), Image.Resampling.BILINEAR)
        .point([max(0, 170 - value) for value in range(256)])
    )
    image.paste(palette.light, (int(x - glow), int(y - glow)), halo)
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=palette.light)


def _ridge(chance: random.Random, width: int, level: float, swing: float) -> list[tuple[float, float]]:
    """A line from left to right by halving: each middle is moved a little, less at every turn."""
    points = [level + chance.uniform(-swing, swing) for _ in range(3)]
    while len(points) < 60:
        swing *= 0.55
        middles = [(a + b) / 2 + chance.uniform(-swing, swing) for a, b in pairwise(points)]
        points = [value for pair in zip(points, middles, strict=False) for value in pair] + [points[-1]]
    return [(width * index / (len(points) - 1), value) for index, value in enumerate(points)]


@cache
def _grain(size: tuple[int, int], turn: int) -> Image.Image:
    """A few sheets of film grain, each drawn once from its number."""
    chance = chances(f"grain {turn} {size}")
    width, height = size
    sheet = Image.frombytes("L", (width // 2, height // 2), chance.randbytes(width * height // 4))
    soft = sheet.resize(size, Image.Resampling.BILINEAR).filter(ImageFilter.BoxBlur(1))
    return Image.merge("RGB", [soft.point([value * 12 // 255 for value in range(256)])] * 3)


def _between(first: Color, second: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
