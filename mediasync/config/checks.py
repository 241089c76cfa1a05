"""A tree against the schema: the typed configuration, or every mistake in it with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from mediasync.config import cleanup, ingest, schema, tree, urls
from mediasync.config.tree import Items, Mistake, Node, Scalar, Table
from mediasync.errors import MediasyncError
from mediasync.model import DockerConnection, Engine, LocalConnection, SourceConnection, SourceType, SshConnection
from mediasync.paths import display
from mediasync.profiles import PROFILES, engines_of
from mediasync.suggest import nearest

DEFAULT_SOURCE = "default"
_SYNONYMS = {
    "hostname": "host",
    "address": "host",
    "username": "user",
    "login": "user",
    "key": "identity_file",
    "key_file": "identity_file",
    "ssh_key": "identity_file",
    "private_key": "identity_file",
    "root": "path",
    "remote_path": "path",
    "directory": "path",
    "dest": "destination",
    "dest_path": "destination",
    "directories": "folders",
    "exclude_patterns": "excluded_patterns",
    "bwlimit": "bandwidth_limit_mbps",
    "container": "url",
    "engine_url": "docker_host",
    "xmp": "generate_xmp",
}


def validate(root: Table) -> tuple[schema.Root | None, list[Mistake]]:
    """The typed configuration, or None and what is wrong with it."""
    mistakes = list(_across(root))
    try:
        typed = schema.Root.model_validate(tree.plain(root))
        names = [*([DEFAULT_SOURCE] if typed.sync and typed.sync.source else []), *(typed.sources or {})]
        return typed, [*mistakes, *cleanup.mistakes(typed, root, names, DEFAULT_SOURCE)]
    except ValidationError as error:
        found = [_mistake(root, details["type"], details["loc"], details.get("ctx", {}), details["msg"]) for details in error.errors()]
        return None, [*found, *mistakes]


def _mistake(root: Table, kind: str, loc: tree.Path, context: dict[str, Any], message: str) -> Mistake:
    # A key that is really called so is an unknown one.
    if loc[-1:] == ("[key]",) and "what" in context:
        return Mistake(tree.dotted(loc[:-1]), tree.origin_of(root, loc[:-1]), f"expected {context['what']}")
    match kind:
        case "extra_forbidden":
            text = "unknown key" + _hint(loc)
        case "missing":
            text = "missing; it is needed here"
        case "model_type":
            text = f"expected a mapping of keys to values, {_found(root, loc)}"
        case "dict_type":
            text = f"expected a mapping of names to sources, {_found(root, loc)}"
        case "expected":
            text = f"expected {context['what']}, {_found(root, loc)}{context.get('hint', '')}"
        case _:
            text = str(context.get("why", message))
    return Mistake(tree.dotted(loc), tree.origin_of(root, loc), text)


def _hint(loc: tree.Path) -> str:
    name, above = str(loc[-1]), loc[:-1]
    section = schema.section_of(schema.at(above))
    known = section.known() if section else {}
    near = _SYNONYMS.get(name.lower())
    if near not in known:
        near = nearest(name, known)
    if near:
        return f"; did you mean `{near}`?"
    elsewhere = sorted({tree.dotted(path[:-1]) for path in schema.paths() if path[-1] == name and "[]" not in path}, key=len)
    return f"; it belongs below `{elsewhere[0].replace('.*', '.NAME')}`" if elsewhere and elsewhere[0] else ""


def _found(root: Table, loc: tree.Path) -> str:
    node = tree.find(root, loc)
    if node is None or (isinstance(node, Scalar) and node.text is None):
        return "found nothing"
    if isinstance(node, Table):
        return "found a mapping"
    if isinstance(node, Items):
        return "found a list"
    if schema.is_secret(schema.at(loc)):
        return "found something else"
    text = node.text or ""
    shown = display(text[:80].encode("utf-8", "backslashreplace"))
    return f'found "{shown}{"…" if len(text) > 80 else ""}"'


def _across(root: Table) -> Iterator[Mistake]:
    """Mistakes that more than one key makes together. Looks at the tree, so that it works beside any other mistake."""
    sync, sources = tree.find(root, ("sync",)), tree.find(root, ("sources",))
    older = _has(sync, "source")
    for key in ("destination", "folders"):
        if _has(sync, key) and not older:
            cure = "set `media_base`" if key == "destination" else "set it on a source"
            yield _at(root, ("sync", key), f"belongs to a source; put `source:` beside it, or {cure}")
    if older and _has(sources, DEFAULT_SOURCE):
        yield _at(root, ("sync", "source"), f"is the source called `{DEFAULT_SOURCE}`, which stands below `sources:` too; rename that one")
    yield from _options(root, ("sync",))
    yield from _connection(root, ("sync", "source"))
    for name in sources.nodes if isinstance(sources, Table) else ():
        yield from _options(root, ("sources", name))
        yield from _connection(root, ("sources", name))
    yield from ingest.mistakes(root)


def _options(root: Table, path: tree.Path) -> Iterator[Mistake]:
    for flat, nested in cleanup.FLAT.items():
        if _has(tree.find(root, path), flat) and _has(tree.find(root, (*path, "cleanup")), nested):
            yield _at(root, (*path, flat), f"says the same as `cleanup.{nested}` in the same place; keep one of them")


def _connection(root: Table, path: tree.Path) -> Iterator[Mistake]:
    node = tree.find(root, path)
    if not isinstance(node, Table):
        return
    yield from _either(root, path, "identity_file", "identity_files")
    yield from _either(root, path, "password", "password_file")
    yield from _either(root, path, "passphrase", "passphrase_file")
    word = _text(node, "type").lower()
    kind = SourceType(word) if word in list(SourceType) else None
    if _has(node, "url"):
        yield from _url(root, path, node, kind)
        return
    connection: SourceConnection = LocalConnection() if kind is SourceType.LOCAL else SshConnection("")
    if kind is SourceType.DOCKER:
        yield _at(root, path, "`url` is missing; a container is written `url: docker://container/path`")
        return
    yield from _fitting(root, path, node, connection)
    if kind is not SourceType.LOCAL and not _has(node, "host"):
        yield _at(root, (*path, "host"), "missing; it is needed here, or a `url`")
    elif (kind or not word) and not PROFILES[kind or SourceType.SSH].roots and not _has(node, "path"):
        said = kind or SourceType.SSH
        yield _at(root, path, f"`path` is missing; a source of type {said} has no folder of its own, so say where the pictures are")


def _url(root: Table, path: tree.Path, node: Table, kind: SourceType | None) -> Iterator[Mistake]:
    """What does not go with the `url` that is written."""
    try:
        place = urls.parse_place(_text(node, "url"))
    except MediasyncError:
        return  # told as a mistake of the value
    for key in ("host", "port", "user"):
        if _has(node, key):
            yield _at(root, (*path, key), "belongs into `url`, which stands in the same place; keep one of them")
    if place.root and _has(node, "path"):
        yield _at(root, (*path, "path"), "`url` has a path already; keep one of them")
    elif not place.root and _has(node, "path"):
        place = urls.Place(place.text, place.connection, b"/")
    _, wrong = urls.type_of(place, kind)
    if wrong:
        yield _at(root, (*path, "url"), wrong)
    yield from _fitting(root, path, node, place.connection)


_OF_SSH = (
    "identity_file",
    "identity_files",
    "known_hosts",
    "accept_new_host_key",
    "password",
    "password_file",
    "passphrase",
    "passphrase_file",
)


def _fitting(root: Table, path: tree.Path, node: Table, connection: SourceConnection) -> Iterator[Mistake]:
    """Keys that have no meaning for such a place. With what is set below `sync:` an engine may come from there."""
    ssh = isinstance(connection, SshConnection)
    for key in () if ssh else _OF_SSH if _has(node, "url") else (*_OF_SSH, "host", "port", "user"):
        if _has(node, key):
            yield _at(root, (*path, key), "is for sources that are reached over SSH")
    if _has(node, "docker_host") and not isinstance(connection, DockerConnection):
        yield _at(root, (*path, "docker_host"), "is for containers, as in `url: docker://container/path`")
    elif _has(node, "docker_host") and isinstance(connection, DockerConnection) and connection.context:
        yield _at(root, (*path, "docker_host"), f"the context {connection.context} of `url` says which engine; keep one of them")
    for place in (path, ("sync",)):
        engine = tree.find(root, (*place, "engine"))
        if isinstance(engine, Scalar) and engine.text:
            possible = [str(item) for item in engines_of(connection)]
            if engine.text.lower() in list(Engine) and engine.text.lower() not in possible:
                who = "this source" if place == path else f"the source of {tree.dotted(path)}"
                yield _at(root, (*place, "engine"), f"`{engine.text}` is no engine for {who}; expected one of {', '.join(possible)}")
            return


def _text(node: Table, key: str) -> str:
    below = node.nodes.get(key)
    return below.text or "" if isinstance(below, Scalar) else ""


def _either(root: Table, path: tree.Path, one: str, other: str) -> Iterator[Mistake]:
    node = tree.find(root, path)
    if _has(node, one) and _has(node, other):
        yield _at(root, (*path, other), f"says the same as `{one}` in the same place; keep one of them")


def _has(node: Node | None, key: str) -> bool:
    below = node.nodes.get(key) if isinstance(node, Table) else None
    return below is not None and not (isinstance(below, Scalar) and below.text is None)


def _at(root: Table, path: tree.Path, text: str) -> Mistake:
    return Mistake(tree.dotted(path), tree.origin_of(root, path), text)
