"""Texts and numbers out of hostile input, made safe to store, to send and to show."""

from __future__ import annotations

import json
import math
import re

from services.transfer.pipeline.stage import MAX_SEED

MAX_PROMPT_CHARS = 64 << 10
MAX_PARAMETERS_CHARS = 256 << 10
MAX_NAME_CHARS = 256
MAX_VALUE_CHARS = 4096
MAX_FIELDS = 200
MAX_LORAS = 64
MAX_GRAPH_BYTES = 1 << 20
"""A larger graph is not kept: cut short it would be no JSON, and events carry it to every subscriber."""

_MAX_INT32 = 2**31 - 1
_LORA_TAG = re.compile(r"<lora:([^:<>\n]{1,256})(?::[^<>\n]{0,64})?>", re.IGNORECASE)
_MODEL_EXTENSION = re.compile(r"\.(?:safetensors|sft|ckpt|pth?|gguf|bin)\Z", re.IGNORECASE)


def clean(text: str, limit: int = MAX_VALUE_CHARS) -> str:
    """`text` without NUL and lone surrogates, which neither protobuf nor PostgreSQL takes, at most `limit` characters."""
    return text[:limit].replace("\0", "").encode("utf-8", "replace").decode("utf-8").strip()


def model_name(text: str) -> str:
    """A model's name as A1111 writes it: without folder and without the file's extension."""
    return clean(_MODEL_EXTENSION.sub("", re.split(r"[/\\]", text[-MAX_VALUE_CHARS:])[-1]), MAX_NAME_CHARS)


def to_seed(value: object) -> int | None:
    """A seed of up to 64 bits; None for anything else, such as -1 for "random"."""
    number = _to_int(value)
    return number if number is not None and 0 <= number <= MAX_SEED else None


def to_steps(value: object) -> int | None:
    """A count that an int32 holds; None for anything else."""
    number = _to_int(value)
    return number if number is not None and 0 <= number <= _MAX_INT32 else None


def to_scale(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or len(str(value)[:41]) > 40:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _to_int(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}\s*", value, re.ASCII):
        return int(value)
    return None


def lora_tags(*texts: str) -> list[str]:
    """Names in `<lora:name:weight>` tags, in order."""
    return [match[1] for text in texts for match in _LORA_TAG.finditer(text)]


def unique(names: list[str], limit: int = MAX_LORAS) -> tuple[str, ...]:
    """Cleaned, without empty ones and repetitions, in order, at most `limit`."""
    return tuple(dict.fromkeys(name for raw in names if (name := clean(raw, MAX_NAME_CHARS))))[:limit]


def fields(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Cleaned further fields, in order, at most as many as a message holds."""
    return tuple((clean(name, MAX_NAME_CHARS), clean(value)) for name, value in pairs if value)[:MAX_FIELDS]


def graph_bytes(text: str) -> bytes:
    """A graph as the file holds it, or nothing if it is too large to keep."""
    data = text.encode("utf-8", "replace")
    return data if len(data) <= MAX_GRAPH_BYTES else b""


def load_json(text: str) -> object:
    """The value that a JSON text holds, a bare NaN tolerated (ComfyUI writes some); None for what is no JSON, or nests too deeply."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def dump_json(value: object) -> str:
    """A JSON value as a text again; empty for one that nests too deeply to be written."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""
