"""What goes between the service and its worker process: length-prefixed JSON frames.

JSON and not pickle: the worker decodes hostile files, and whatever came to control it could do no more than send wrong facts.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from mediasync.errors import reason_of
from mediasync.model import GenerationMetadata, Problem
from services.transfer.pipeline.stage import MediaFacts, MediaFile, StageFailure, StageRun

MAX_FRAME_BYTES = 16 << 20
HEADER_BYTES = 4
_BYTES_FIELDS = ("prompt_json", "workflow_json")

_NUMBER = (int, float, type(None))
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("generator", "generator_version", "prompt", "negative_prompt", "model", "model_hash"), str),
    **dict.fromkeys(("sampler", "scheduler", "parameters"), str),
    **dict.fromkeys(("seed", "steps"), (int, type(None))),
    "cfg_scale": _NUMBER,
}


def frame(value: Mapping[str, object]) -> bytes:
    """A frame that holds a JSON object."""
    body = json.dumps(value, separators=(",", ":")).encode("ascii")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame's object; None at the end of the stream."""
    header = stream.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    body = stream.read(int.from_bytes(header, "big"))
    value: dict[str, Any] = json.loads(body)
    return value


def request(file: MediaFile, stages: Iterable[str], limit_seconds: float) -> dict[str, object]:
    """Asks for one file."""
    return {
        "path": os.fsdecode(file.path),
        "library_path": os.fsdecode(file.library_path),
        "size_bytes": file.size_bytes,
        "mtime_ns": file.mtime_ns,
        "incomplete": file.incomplete,
        "stages": list(stages),
        "limit_seconds": limit_seconds,
    }


def parse_request(value: Mapping[str, Any]) -> tuple[MediaFile, list[str], float]:
    """The file, the stages and the time it may take."""
    path, library_path = os.fsencode(value["path"]), os.fsencode(value["library_path"])
    file = MediaFile(path, library_path, value["size_bytes"], value["mtime_ns"], value["incomplete"])
    return file, value["stages"], value["limit_seconds"]


def response(run: StageRun) -> dict[str, object]:
    """The outcome for one file."""
    facts = run.facts
    metadata = None
    if facts.metadata is not None:
        metadata = dict(vars(facts.metadata))
        metadata |= {name: base64.b64encode(metadata[name]).decode("ascii") for name in _BYTES_FIELDS}
    problem = facts.invalid
    return {
        **{name: getattr(facts, name) for name in ("media_type", "width", "height", "duration_seconds")},
        "metadata": metadata,
        "invalid": [problem.reason.value, problem.message, problem.remedy] if problem else None,
        "failures": [[failure.stage, failure.details] for failure in run.failures],
    }


def parse_response(value: Mapping[str, Any], file: MediaFile) -> StageRun:
    """The outcome for `file`. Raises ValueError, KeyError or TypeError for what is none."""
    metadata = None
    if value["metadata"] is not None:
        raw = dict(value["metadata"])
        raw |= {name: base64.b64decode(raw[name]) for name in _BYTES_FIELDS}
        raw |= {"loras": tuple(raw["loras"]), "fields": tuple((name, text) for name, text in raw["fields"])}
        metadata = GenerationMetadata(**raw)
        if not all(isinstance(raw[name], types) for name, types in _TYPES.items()) or not all(
            map(_are_texts, (metadata.loras, *metadata.fields))
        ):
            raise TypeError("a field of another type")
    invalid = None
    if value["invalid"] is not None:
        reason, message, remedy = value["invalid"]
        invalid = Problem(reason_of(reason), message, remedy, file.library_path)
    if not isinstance(value["media_type"], str) or not all(isinstance(value[name], int) for name in ("width", "height")):
        raise TypeError("a field of another type")
    facts = MediaFacts(value["media_type"], value["width"], value["height"], value["duration_seconds"], metadata, invalid)
    return StageRun(facts, [StageFailure(stage, file.library_path, details) for stage, details in value["failures"]])


def _are_texts(values: tuple[object, ...]) -> bool:
    return all(isinstance(value, str) for value in values)
