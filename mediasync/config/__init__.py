"""The one configuration: a YAML file, the environment, and the public `SyncConfig`.

`load()` gives the effective `Configuration` or one error with every mistake; nothing else reads the file. A value is checked against
`schema`; `tree` remembers where it was written.
"""

from __future__ import annotations

from mediasync.config.configuration import Configuration, CoordinatorSettings, Setting
from mediasync.config.ingest import IngestSettings, Subscriber
from mediasync.config.loading import Examination, examine, load
from mediasync.config.sync_config import NotInForceWarning, SyncConfig
from mediasync.config.urls import is_url, parse_source_url
from mediasync.config_file import locate

__all__ = [
    "Configuration",
    "CoordinatorSettings",
    "Examination",
    "IngestSettings",
    "NotInForceWarning",
    "Setting",
    "Subscriber",
    "SyncConfig",
    "examine",
    "is_url",
    "load",
    "locate",
    "parse_source_url",
]
