"""What the configuration says of the ingest service, in its own nouns. The configuration is read only where its file speaks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mediasync.config_file import mentions
from services.ingest.delivery import LINGER_SECONDS
from services.ingest.events import EventKind, Filter, Subscription, Tls
from services.ingest.replaying import Start, StartKind
from services.ingest.retention import Limits

if TYPE_CHECKING:
    from mediasync.config.ingest import IngestSettings, Subscriber

_DAY_SECONDS = 86_400.0
_GB = 10**9


@dataclass(frozen=True)
class Configured:
    """Who follows from where, and the log's limits. `settings` is what it was made of, None where nothing is said."""

    subscribers: Sequence[tuple[Subscription, Start]] = ()
    limits: Limits = field(default_factory=Limits)
    linger_seconds: float = LINGER_SECONDS
    log_url: str = ""
    settings: IngestSettings | None = None


def configured() -> Configured:
    """As the configuration file and the environment have it. Raises CONFIGURATION_INVALID."""
    if not mentions("ingest"):
        return Configured()
    from mediasync.config import load

    settings = load().ingest
    return Configured(
        [(_subscription(entry), _start(entry.start)) for entry in settings.subscribers],
        Limits(settings.retention_days * _DAY_SECONDS, int(settings.retention_gb * _GB)),
        settings.linger_ms / 1000,
        settings.log_connection_string,
        settings,
    )


def _subscription(entry: Subscriber) -> Subscription:
    return Subscription(
        entry.name,
        entry.address,
        Filter(frozenset(EventKind[name.upper()] for name in entry.events), entry.sources, entry.paths),
        entry.batch_size,
        fixed=True,
        tls=Tls(entry.tls_ca_file, entry.tls_cert_file, entry.tls_key_file) if entry.tls_ca_file else None,
        token_file=entry.token_file,
    )


def _start(said: str | int) -> Start:
    if isinstance(said, int):
        return Start(StartKind.SEQUENCE, said)
    return Start({"beginning": StartKind.BEGINNING, "now": StartKind.NEXT, "snapshot": StartKind.SNAPSHOT}[said])
