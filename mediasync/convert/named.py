"""Named sources. Apart from the others, as only clients read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mediasync import model
from mediasync.convert.basic import to_unix
from mediasync.convert.jobs import spec_from_pb, spec_to_pb
from mediasync.v1 import coordinator_pb2, types_pb2

if TYPE_CHECKING:
    from mediasync.config import SyncConfig


def named_source_from_pb(message: coordinator_pb2.Source) -> model.NamedSource:
    """A named source. One of an unknown origin cannot be removed for sure, so that it is taken as the configuration's."""
    added = message.origin == coordinator_pb2.SOURCE_ORIGIN_ADDED
    origin = model.SourceOrigin.ADDED if added else model.SourceOrigin.CONFIGURATION
    return model.NamedSource(message.name, spec_from_pb(message.spec), origin, to_unix(message.create_time))


def asked_to_pb(sync: SyncConfig | model.SyncSpec | str) -> types_pb2.SyncSpec:
    """What is asked for, in whichever form. Of a name nothing but the name: all else is the named source's own."""
    if isinstance(sync, str):
        return types_pb2.SyncSpec(source=types_pb2.SourceSpec(name=sync))
    return spec_to_pb(sync if isinstance(sync, model.SyncSpec) else sync.to_spec())
