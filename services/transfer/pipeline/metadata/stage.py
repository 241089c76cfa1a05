"""The second stage: what generated a file, and how."""

from __future__ import annotations

from dataclasses import replace

from services.transfer.pipeline.formats import sniff
from services.transfer.pipeline.metadata import carriers, detectors
from services.transfer.pipeline.stage import MediaFacts, MediaFile


class MetadataStage:
    """Reads the texts in a file and finds what they tell. A file that is damaged further on still tells what it can."""

    name = "metadata"

    def process(self, file: MediaFile, facts: MediaFacts) -> MediaFacts:
        """See `Stage`."""
        with open(file.path, "rb") as stream:
            media_type = facts.media_type or sniff.from_content(stream.read(sniff.HEAD_BYTES)) or sniff.from_name(file.name)
            stream.seek(0)
            texts = carriers.read_texts(stream, media_type)
        return replace(facts, media_type=media_type, metadata=detectors.detect(texts, file))
