"""What the catalog knows of files. Apart from the others, so that who never speaks of media loads none of it."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import to_unix
from mediasync.convert.problems import problem_from_pb
from mediasync.v1 import catalog_pb2, media_ingest_pb2


def metadata_to_pb(metadata: model.GenerationMetadata) -> media_ingest_pb2.GenerationMetadata:
    """What generated a file."""
    return media_ingest_pb2.GenerationMetadata(
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
        fields=[media_ingest_pb2.MetadataField(name=name, value=value) for name, value in metadata.fields],
        prompt_json=metadata.prompt_json,
        workflow_json=metadata.workflow_json,
        parameters=metadata.parameters,
    )


def metadata_from_pb(message: media_ingest_pb2.GenerationMetadata) -> model.GenerationMetadata:
    """What generated a file."""
    return model.GenerationMetadata(
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


def catalog_file_from_pb(message: catalog_pb2.CatalogFile) -> model.CatalogFile:
    """A file of the catalog."""
    file = message.file
    return model.CatalogFile(
        library_path=file.library_path.raw,
        library_root=file.library_root,
        source=message.source,
        source_path=file.source_path.raw,
        sync_id=message.sync_id,
        size_bytes=file.size_bytes,
        sha256=file.digest.value.hex(),
        modify_time=to_unix(file.modify_time),
        sync_time=to_unix(message.sync_time),
        source_delete_time=to_unix(message.source_delete_time),
        media_type=file.media_type,
        width=file.width,
        height=file.height,
        incomplete=file.incomplete,
        processed=message.processed,
        metadata=metadata_from_pb(file.metadata) if file.HasField("metadata") else None,
        invalid=problem_from_pb(file.invalid) if file.HasField("invalid") else None,
        xmp_path=file.xmp_path.raw,
        thumbnail_path=file.thumbnail_path.raw,
    )
