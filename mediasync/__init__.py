"""Forge Media Sync: brings every picture and video out of generators' containers into your library, and never loses one.

from mediasync import Client, SyncConfig
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mediasync.client import Client as Client
    from mediasync.config import SyncConfig as SyncConfig
    from mediasync.errors import MediasyncError as MediasyncError

# gRPC's C core reads these once, when it is first imported (so they have to be here, ahead of every module of ours).
# Otherwise it writes to stderr by itself, in a format of its own, what is reported properly by us (an address in use) or is no news
# (a peer that went away).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Its handlers for fork() restart its threads in the child, which then dies of SIGSEGV before exec, 3 times in 100 under load
# (grpcio 1.85). A child of ours only ever calls exec, so it needs none of them.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

__version__ = "0.1.0"
__all__ = ["Client", "MediasyncError", "SyncConfig", "__version__"]

_HOMES = {"Client": "mediasync.client", "MediasyncError": "mediasync.errors", "SyncConfig": "mediasync.config"}


def __getattr__(name: str) -> object:
    # Loaded when asked for: the supervisor and the command line's quick paths import this package, and gRPC costs 15 MB.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
