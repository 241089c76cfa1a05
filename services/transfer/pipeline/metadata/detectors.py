"""Who may have written a file's texts: each detector is asked in turn, and the first that knows them answers.

A new generator is a module with such a function, and its place in this tuple: the more certain its mark, the earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mediasync.model import GenerationMetadata
from services.transfer.pipeline.formats.texts import Texts
from services.transfer.pipeline.metadata import a1111, comfyui
from services.transfer.pipeline.metadata.text import graph_bytes
from services.transfer.pipeline.stage import MediaFile

Detector = Callable[[Texts, MediaFile], GenerationMetadata | None]

DETECTORS: tuple[Detector, ...] = (a1111.detect, comfyui.detect)
"""A1111's text comes first: nodes that save for ComfyUI write it beside the graphs, and it is the summary its author meant."""


def detect(texts: Texts, file: MediaFile) -> GenerationMetadata | None:
    """What is known of the file's making, with ComfyUI's graphs kept whoever wrote them; None if nothing is."""
    for detector in DETECTORS:
        if found := detector(texts, file):
            graphs = comfyui.graphs(texts)
            if graphs.prompt and found.generator == "A1111":
                found = replace(found, generator="ComfyUI")  # a node that saves A1111's text does not always say where it runs
            return replace(found, prompt_json=graph_bytes(graphs.prompt), workflow_json=graph_bytes(graphs.workflow))
    return None
