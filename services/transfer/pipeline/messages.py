"""Facts -> protobuf messages: the one module of the pipeline that knows both."""

from __future__ import annotations

from mediasync.convert import problem_to_pb
from mediasync.convert.media import metadata_to_pb
from mediasync.v1 import media_ingest_pb2 as pb
from services.transfer.pipeline.stage import MediaFacts

_MAX_INT32 = 2**31 - 1


def facts_to_pb(facts: MediaFacts, record: pb.FileRecord) -> None:
    """Fills a record's media type, pixels, metadata and `invalid`; what is not known stays as it is."""
    if facts.media_type:
        record.media_type = facts.media_type
    record.width = min(facts.width, _MAX_INT32)
    record.height = min(facts.height, _MAX_INT32)
    if facts.metadata is not None:
        record.metadata.CopyFrom(metadata_to_pb(facts.metadata))
    if facts.invalid is not None:
        record.invalid.CopyFrom(problem_to_pb(facts.invalid))
