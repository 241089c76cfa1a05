"""Facts -> protobuf messages and back: the one module of the pipeline that knows both."""

from __future__ import annotations

from mediasync.convert import problem_to_pb
from mediasync.v1 import media_ingest_pb2 as pb
from services.transfer.pipeline.stage import GenerationMetadata, MediaFacts

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


def metadata_to_pb(metadata: GenerationMetadata) -> pb.GenerationMetadata:
    """What generated a file."""
    return pb.GenerationMetadata(
        generator=metadata.generator,
        generator_version=metadata.generator_version,
        prompt=metadata.prompt,
        negative_prompt=metadata.negative_prompt,
        model=metadata.model,
        model_hash=metadata.model_hash,
        seed=metadata.seed,
        sampler=metadata.sampler,
        scheduler=metadata.scheduler,
        steps=metadata.steps,
        cfg_scale=metadata.cfg_scale,
        loras=metadata.loras,
        fields=[pb.MetadataField(name=name, value=value) for name, value in metadata.fields],
        prompt_json=metadata.prompt_json,
        workflow_json=metadata.workflow_json,
        parameters=metadata.parameters,
    )


def metadata_from_pb(message: pb.GenerationMetadata) -> GenerationMetadata:
    """What generated a file."""
    return GenerationMetadata(
        generator=message.generator,
        generator_version=message.generator_version,
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        model=message.model,
        model_hash=message.model_hash,
        seed=message.seed if message.HasField("seed") else None,
        sampler=message.sampler,
        scheduler=message.scheduler,
        steps=message.steps if message.HasField("steps") else None,
        cfg_scale=message.cfg_scale if message.HasField("cfg_scale") else None,
        loras=tuple(message.loras),
        fields=tuple((field.name, field.value) for field in message.fields),
        prompt_json=message.prompt_json,
        workflow_json=message.workflow_json,
        parameters=message.parameters,
    )
