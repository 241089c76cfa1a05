"""What a file says of how it was made, as JSON that every database takes. Pure.

For people and programs that query the database. It is not exact: what JSON proper cannot hold (a bare `NaN`, numbers beyond a double) is
null, NUL and lone surrogates are U+FFFD, and a graph that is no JSON, or nested too deep for most readers, is a string. The exact bytes are
in the message beside it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal

from mediasync.v1 import media_ingest_pb2 as pb

MAX_DEPTH = 200
_MAX_DIGITS = 308
REPLACEMENT = "\ufffd"
_TEXTS = ("generator", "generator_version", "prompt", "negative_prompt", "model", "model_hash", "sampler", "scheduler", "parameters")
_NUMBERS: tuple[Literal["seed", "steps", "cfg_scale"], ...] = ("seed", "steps", "cfg_scale")
_GRAPHS = ("prompt_json", "workflow_json")

# In JSON written in ASCII: an escaped backslash, and a pair of surrogates, are what they should be; the rest of these is not.
_ESCAPES = re.compile(r"(\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\u0000|\\ud[89a-f][0-9a-f]{2}")


def metadata_json(message: bytes) -> str:
    """The metadata of a serialised FileRecord, and what the file is."""
    record = pb.FileRecord.FromString(message)
    metadata = record.metadata
    told: dict[str, Any] = {"media_type": record.media_type, "width": record.width, "height": record.height}
    for name in (
        "generator",
        "generator_version",
        "prompt",
        "negative_prompt",
        "model",
        "model_hash",
        "sampler",
        "scheduler",
        "parameters",
    ):
        told[name] = getattr(metadata, name)
    told = {name: value for name, value in told.items() if value}
    for number in _NUMBERS:
        if metadata.HasField(number):
            value = getattr(metadata, number)
            told[number] = value if math.isfinite(value) else None
    if metadata.loras:
        told["loras"] = list(metadata.loras)
    if metadata.fields:
        told["fields"] = {field.name: field.value for field in reversed(metadata.fields)}  # of two with one name the first counts
    for name in _GRAPHS:
        if text := getattr(metadata, name):
            told[name] = _graph(text)
    return _ESCAPES.sub(lambda found: found[1] or r"\ufffd", json.dumps(told, allow_nan=False, separators=(",", ":")))


def clean_text(text: str) -> str:
    """`text` as a database takes it."""
    return text.replace("\0", REPLACEMENT)


def _graph(raw: bytes) -> Any:
    text = raw.decode("utf-8", "replace")
    try:
        graph = json.loads(text, parse_constant=lambda _: None, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):
        return text
    return text if _deep(graph) else graph


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _int(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_DIGITS else None


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        below = (child for one in level if isinstance(one, dict | list) for child in (one.values() if isinstance(one, dict) else one))
        level = [child for child in below if isinstance(child, dict | list)]
        if not level:
            return False
    return True
