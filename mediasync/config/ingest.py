"""Who is told about files, and where what they are told is kept: the settings below `ingest:`, and mistakes that several keys make."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from mediasync.config import schema, tree
from mediasync.config.fields import PULL, split_address
from mediasync.config.tree import Items, Mistake, Node, Scalar, Table

CATALOG = "catalog"
"""The built-in subscriber."""
DEFAULT_BATCH_SIZE = 50
DEFAULT_WAIT_SECONDS = 300.0
DEFAULT_RETENTION_DAYS = 30.0
DEFAULT_RETENTION_GB = 10.0
DEFAULT_LINGER_MS = 20
DEFAULT_START = "beginning"


@dataclass(frozen=True)
class Subscriber:
    """An address (`host:port` or `unix:/path`) that implements MediaIngest; an empty one is a cursor whose reader comes to us.

    `events` are lower-case names of event types such as `file_synced`, `sources` names or URLs, `paths` patterns as in .gitignore; none
    means all. `start` is where a new one starts: `beginning`, `now`, `snapshot` or a sequence number.
    """

    name: str
    address: str
    events: tuple[str, ...] = ()
    batch_size: int = DEFAULT_BATCH_SIZE
    sources: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    start: str | int = DEFAULT_START
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    token_file: Path | None = None


@dataclass(frozen=True)
class IngestSettings:
    """Who is told about files, besides the built-in catalog, and how.

    Without `async_mode` a job is complete when those of `wait_for` have accepted its files, for which they have `wait_seconds`. The
    connection strings are secrets, empty for a database in the data folder. A retention of 0 is no limit of that kind.
    """

    subscribers: tuple[Subscriber, ...] = ()
    async_mode: bool = True
    wait_for: tuple[str, ...] = (CATALOG,)
    wait_seconds: float = DEFAULT_WAIT_SECONDS
    implementation: str = CATALOG
    connection_string: str = field(default="", repr=False)
    log_connection_string: str = field(default="", repr=False)
    retention_days: float = DEFAULT_RETENTION_DAYS
    retention_gb: float = DEFAULT_RETENTION_GB
    linger_ms: int = DEFAULT_LINGER_MS


def settings_of(section: schema.IngestSection) -> IngestSettings:
    """The settings, with defaults for what is not written."""
    subscribers = tuple(_subscriber(item, section.batch_size or DEFAULT_BATCH_SIZE) for item in section.subscribers or ())
    connection_string = _secret(section.connection_string or section.connection_string_file)
    return IngestSettings(
        subscribers=subscribers,
        async_mode=section.async_mode is not False,
        wait_for=section.wait_for or (CATALOG, *(item.name for item in subscribers)),
        wait_seconds=section.wait_seconds or DEFAULT_WAIT_SECONDS,
        implementation=section.implementation or ("postgres" if is_postgres(connection_string) else CATALOG),
        connection_string=connection_string,
        log_connection_string=_secret(section.log_connection_string or section.log_connection_string_file),
        retention_days=DEFAULT_RETENTION_DAYS if section.retention_days is None else section.retention_days,
        retention_gb=DEFAULT_RETENTION_GB if section.retention_gb is None else section.retention_gb,
        linger_ms=DEFAULT_LINGER_MS if section.linger_ms is None else section.linger_ms,
    )


def is_postgres(connection_string: str) -> bool:
    """Whether it names a PostgreSQL database."""
    return connection_string.startswith("postgresql://")


def _subscriber(item: schema.SubscriberSection, batch_size: int) -> Subscriber:
    start = item.from_ or DEFAULT_START
    return Subscriber(
        item.name,
        "" if item.address == PULL else item.address,
        tuple(item.events or ()),
        item.batch_size or batch_size,
        tuple(item.source or ()),
        tuple(item.path or ()),
        int(start) if start.isdecimal() else start,
        item.tls_ca_file,
        item.tls_cert_file,
        item.tls_key_file,
        item.token_file,
    )


def _secret(written: SecretStr | None) -> str:
    return written.get_secret_value() if written else ""


def mistakes(root: Table) -> Iterator[Mistake]:
    """Mistakes that more than one key makes together. Looks at the tree, so that it works beside any other mistake."""
    ingest = tree.find(root, ("ingest",))
    yield from _databases(root, ingest)
    names: dict[str, tree.Origin] = {}
    items = tree.find(root, ("ingest", "subscribers"))
    for place, item in enumerate(items.nodes if isinstance(items, Items) else ()):
        path: tree.Path = ("ingest", "subscribers", place)
        name = _text(item, "name")
        if name == CATALOG:
            yield _at(root, (*path, "name"), f"`{name}` is the built-in subscriber; choose another name")
        elif name in names:
            yield _at(root, (*path, "name"), f"the subscriber of {names[name]} has this name already; choose another")
        elif name:
            names[name] = tree.origin_of(root, (*path, "name"))
        yield from _way(root, path, item)
    wanted = tree.find(root, ("ingest", "wait_for"))
    steps: Sequence[tree.Path] = [(place,) for place in range(len(wanted.nodes))] if isinstance(wanted, Items) else [()]
    for step in steps:
        path = ("ingest", "wait_for", *step)
        one = tree.find(root, path)
        if isinstance(one, Scalar) and one.text and one.text not in (CATALOG, *names):
            there = ", ".join((CATALOG, *names))
            yield _at(root, path, f"there is no subscriber `{one.text}` here; there are: {there}")


def _databases(root: Table, ingest: Node | None) -> Iterator[Mistake]:
    for key in ("connection_string", "log_connection_string"):
        if _text(ingest, key) and _text(ingest, f"{key}_file"):
            yield _at(root, ("ingest", f"{key}_file"), f"says the same as `{key}` in the same place; keep one of them")
    chosen = _text(ingest, "implementation").lower()
    written = _text(ingest, "connection_string")
    path = ("ingest", "implementation")
    if chosen == "postgres" and not written and not _text(ingest, "connection_string_file"):
        yield _at(root, path, "needs `connection_string`, such as `postgresql://user@host/database`, or `connection_string_file`")
    elif chosen == "postgres" and written.startswith("sqlite:"):
        yield _at(root, path, "`connection_string` names a SQLite database; leave `implementation` out, or name a PostgreSQL one")
    elif chosen in (CATALOG, "custom") and written.startswith("postgres"):
        yield _at(
            root, path, f"`{chosen}` keeps the catalog in SQLite, and `connection_string` names a PostgreSQL database; write `postgres`"
        )
    subscribers = tree.find(root, ("ingest", "subscribers"))
    if chosen == "custom" and not (isinstance(subscribers, Items) and subscribers.nodes):
        yield _at(root, path, "`custom` needs a subscriber of your own; name one in `subscribers`")


def _way(root: Table, path: tree.Path, item: Node) -> Iterator[Mistake]:
    """Whether a subscriber can be spoken to without names and prompts crossing a network in the clear."""
    address = _text(item, "address")
    secured = [key for key in ("tls_ca_file", "tls_cert_file", "tls_key_file", "token_file") if _text(item, key)]
    if address.lower() == PULL:
        for key in secured:
            yield _at(root, (*path, key), "is for a subscriber that is called; the reader of this one comes to us")
        return
    host, port = split_address(address)
    if port and not _is_loopback(host) and "tls_ca_file" not in secured:
        yield _at(
            root,
            (*path, "address"),
            "is not on this machine; set `tls_ca_file`, so that no name or prompt crosses the network in the clear",
        )
    elif "tls_ca_file" not in secured and {"tls_cert_file", "tls_key_file"} & set(secured):
        yield _at(root, path, "`tls_ca_file` is missing; it says whose certificates count")
    for one, other in (("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")):
        if one in secured and other not in secured:
            yield _at(root, (*path, one), f"is of no use without `{other}`")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(node: Node | None, key: str) -> str:
    below = node.nodes.get(key) if isinstance(node, Table) else None
    return below.text or "" if isinstance(below, Scalar) else ""


def _at(root: Table, path: tree.Path, text: str) -> Mistake:
    return Mistake(tree.dotted(path), tree.origin_of(root, path), text)
