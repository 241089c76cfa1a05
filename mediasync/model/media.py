"""Files, as the catalog knows them."""

from __future__ import annotations

from dataclasses import dataclass

from mediasync.model.problems import Problem


@dataclass(frozen=True)
class GenerationMetadata:
    """What generated a file and how, as far as the file says; empty or None where it does not.

    Texts are the file's own, hostile input to whatever shows them; the pipeline has freed them of NUL and lone surrogates and
    bounded their length.
    """

    generator: str = ""
    generator_version: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    model_hash: str = ""
    seed: int | None = None
    sampler: str = ""
    scheduler: str = ""
    steps: int | None = None
    cfg_scale: float | None = None
    loras: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    prompt_json: bytes = b""
    workflow_json: bytes = b""
    parameters: str = ""


@dataclass(frozen=True)
class CatalogFile:
    """A file as the catalog knows it. Paths are relative to the library's root; times are Unix seconds, 0 where unknown; pixels likewise.

    `processed` says that its metadata was looked for; `metadata` is None when nothing was found.
    """

    library_path: bytes
    library_root: str
    source: str
    source_path: bytes
    sync_id: str
    size_bytes: int
    sha256: str
    modify_time: float
    sync_time: float
    source_delete_time: float = 0.0
    media_type: str = ""
    width: int = 0
    height: int = 0
    incomplete: bool = False
    processed: bool = False
    metadata: GenerationMetadata | None = None
    invalid: Problem | None = None
    xmp_path: bytes = b""
    thumbnail_path: bytes = b""
