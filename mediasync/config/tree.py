"""A configuration as a tree that remembers where every value was written.

YAML is read through its events, not through a loader's objects: scalars stay the text that was written (so that a user called `no`
is not False and a folder called `2024` not a number; the schema decides what a value is), duplicate keys show, tags are refused,
and aliases are counted before they are copied, so that a small file cannot become a large tree.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml
from yaml import events

MAX_NODES = 20_000
MAX_DEPTH = 20
_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_NULLS = frozenset({"", "null", "Null", "NULL"})


@dataclass(frozen=True)
class Origin:
    """Where something was written: a line (from 1) of a file, or an environment variable. `folder` is where its relative paths start."""

    folder: str
    line: int = 0
    column: int = 0
    variable: str = ""

    def __str__(self) -> str:
        return self.variable or f"line {self.line}"


@dataclass(frozen=True)
class Mistake:
    """Something wrong in a configuration. `key` is the dotted path of the key, empty for the file as a whole."""

    key: str
    origin: Origin
    text: str


class Text(str):
    """A scalar's text, with the folder that a relative path in it starts from."""

    folder: str

    def __new__(cls, text: str, folder: str) -> Text:
        """`text`, remembering `folder`."""
        instance = super().__new__(cls, text)
        instance.folder = folder
        return instance


@dataclass
class Scalar:
    """A value; `text` is None where nothing was written. `plain` is one without quotes."""

    text: str | None
    origin: Origin
    plain: bool = True


@dataclass
class Items:
    """A list."""

    nodes: list[Node]
    origin: Origin


@dataclass
class Table:
    """A mapping. `key_origins` says where each key was written."""

    nodes: dict[str, Node]
    origin: Origin
    key_origins: dict[str, Origin] = field(default_factory=dict)


Node = Scalar | Items | Table
Path = tuple[str | int, ...]
"""The way to a node: names of keys, and places in lists from 0."""


def plain(node: Node) -> Any:
    """The tree as dict, list, Text and None."""
    if isinstance(node, Table):
        return {key: plain(child) for key, child in node.nodes.items()}
    if isinstance(node, Items):
        return [plain(child) for child in node.nodes]
    return None if node.text is None else Text(node.text, node.origin.folder)


def find(root: Node, path: Path) -> Node | None:
    """The node at `path`, or None."""
    node: Node = root
    for step in path:
        if isinstance(node, Table) and step in node.nodes:
            node = node.nodes[str(step)]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.nodes):
            node = node.nodes[step]
        else:
            return None
    return node


def origin_of(root: Node, path: Path) -> Origin:
    """Where the key at `path` was written; of what is missing, where the nearest thing around it was."""
    origin, node = root.origin, root
    for step in path:
        if isinstance(node, Table) and step in node.nodes:
            origin = node.key_origins[str(step)]
            node = node.nodes[str(step)]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.nodes):
            node = node.nodes[step]
            origin = node.origin
        else:
            break
    return origin


def dotted(path: Path) -> str:
    """`sources.forge.folders[2]`, counting from 1."""
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def empty(folder: str) -> Table:
    """A configuration in which nothing is written."""
    return Table({}, Origin(folder))


def parse(text: str, folder: str, origin: Origin | None = None) -> tuple[Node, list[Mistake]]:
    """The tree of a YAML text and what is wrong with it; an empty tree when it cannot be read at all.

    `origin` is given for a text that is not a file's: everything is then said to be written there.
    """
    builder = _Builder(folder, origin)
    try:
        root = builder.build(text)
    except _UnreadableError as error:
        return empty(folder), [*builder.mistakes, error.mistake]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = builder.origin(mark)
        # The error's own text quotes the line, which may hold a secret.
        what = " ".join(filter(None, [error.problem, error.context and f"({error.context})"]))
        hint = "; put a value with braces in quotes" if "flow mapping" in what else ""
        return empty(folder), [Mistake("", at, f"this is not YAML: {what}{hint}{_where(at)}")]
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        at = origin or Origin(folder, before.count("\n") + 1, len(before) - before.rfind("\n"))
        return empty(folder), [Mistake("", at, f"this is not YAML: a character that it does not allow{_where(at)}")]
    except (ValueError, OverflowError):
        # PyYAML's scanner hands escapes such as "\UFFFFFFFF" to chr() unchecked.
        at = builder.origin(builder.mark)
        return empty(folder), [Mistake("", at, "this is not YAML: an escape that stands for no character, here or just below")]
    return root, builder.mistakes


def _where(origin: Origin) -> str:
    return f" (column {origin.column})" if origin.column else ""


class _Mark(Protocol):
    line: int
    column: int


class _UnreadableError(Exception):
    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.text)
        self.mistake = mistake


class _Builder:
    def __init__(self, folder: str, fixed: Origin | None) -> None:
        self.mistakes: list[Mistake] = []
        self.mark: _Mark | None = None
        self._folder = folder
        self._fixed = fixed
        self._anchors: dict[str, Node] = {}
        self._open: set[str] = set()
        self._count = 0

    def origin(self, mark: _Mark | None) -> Origin:
        """Where `mark` points; the beginning without one."""
        return self._fixed or Origin(self._folder, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1)

    def build(self, text: str) -> Node:
        """The tree of the only document in `text`."""
        loader = yaml.SafeLoader(text)
        try:
            stream = self._events(loader)
            root: Node | None = None
            for event in stream:
                if not isinstance(event, events.DocumentStartEvent):
                    continue
                if root is not None:
                    raise self._unreadable(event, "only one document is read; take out the line `---`")
                root = self._node(next(stream), stream, ())
        finally:
            loader.dispose()
        return root or empty(self._folder)

    def _events(self, loader: yaml.SafeLoader) -> Iterator[events.Event]:
        while loader.check_event():
            event = loader.get_event()  # type: ignore[no-untyped-call]
            self.mark = event.start_mark
            yield event

    def _node(self, event: events.Event, stream: Iterator[events.Event], path: Path) -> Node:
        if len(path) > MAX_DEPTH:
            raise self._unreadable(event, f"nested more than {MAX_DEPTH} levels deep")
        self._grow(1, event)
        if isinstance(event, events.AliasEvent):
            return self._alias(event)
        if not isinstance(event, (events.ScalarEvent, events.SequenceStartEvent, events.MappingStartEvent)):
            raise AssertionError(f"PyYAML promises a node here, not {event!r}")
        anchor = event.anchor
        if anchor:
            self._open.add(anchor)
        if event.tag not in (None, "!") and event.tag not in _TAGS:
            self.mistakes.append(Mistake(dotted(path), self.origin(event.start_mark), "tags (words that start with `!`) are not read here"))
        node: Node
        if isinstance(event, events.ScalarEvent):
            node = self._scalar(event, path)
        elif isinstance(event, events.SequenceStartEvent):
            node = Items([], self.origin(event.start_mark))
            while not isinstance(item := next(stream), events.SequenceEndEvent):
                node.nodes.append(self._node(item, stream, (*path, len(node.nodes))))
        else:
            node = self._table(event, stream, path)
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = node
        return node

    def _scalar(self, event: events.ScalarEvent, path: Path) -> Scalar:
        unquoted = event.style is None
        origin = self.origin(event.start_mark)
        if unquoted and event.value == "~":
            text = 'a lone ~ means nothing in YAML; write "~" in quotes for the home folder, or null'
            self.mistakes.append(Mistake(dotted(path), origin, text))
        null = unquoted and (event.value in _NULLS or event.value == "~")
        return Scalar(None if null else event.value, origin, unquoted)

    def _table(self, event: events.MappingStartEvent, stream: Iterator[events.Event], path: Path) -> Table:
        table = Table({}, self.origin(event.start_mark))
        merged: list[Node] = []
        while not isinstance(key_event := next(stream), events.MappingEndEvent):
            key_origin = self.origin(key_event.start_mark)
            key = self._node(key_event, stream, (*path, "?"))
            name = key.text if isinstance(key, Scalar) and key.text is not None else "?"
            value = self._node(next(stream), stream, (*path, name))
            if not isinstance(key, Scalar) or key.text is None:
                self.mistakes.append(Mistake(dotted(path), key_origin, "expected the name of a key in front of the colon"))
            elif key.text == "<<" and key.plain:
                merged += value.nodes if isinstance(value, Items) else [value]
            elif key.text in table.nodes:
                first = table.key_origins[key.text]
                self.mistakes.append(Mistake(dotted((*path, key.text)), key_origin, f"written twice in one place; the first is on {first}"))
            else:
                table.nodes[key.text] = value
                table.key_origins[key.text] = key_origin
        for node in merged:
            if not isinstance(node, Table):
                self.mistakes.append(Mistake(dotted((*path, "<<")), node.origin, "expected a mapping to merge"))
                continue
            for inherited, child in node.nodes.items():
                if inherited not in table.nodes:
                    table.nodes[inherited] = child
                    table.key_origins[inherited] = node.key_origins[inherited]
        return table

    def _alias(self, event: events.AliasEvent) -> Node:
        if event.anchor in self._open:
            raise self._unreadable(event, f"*{event.anchor} stands inside of what it refers to")
        if event.anchor not in self._anchors:
            raise self._unreadable(event, f"*{event.anchor} refers to nothing; &{event.anchor} must come first")
        node = self._anchors[event.anchor]
        self._grow(_size(node), event)
        # A copy, because the environment may change one of them.
        return copy.deepcopy(node)

    def _grow(self, count: int, event: events.Event) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise self._unreadable(event, f"more than {MAX_NODES:,} values, aliases counted as what they stand for")

    def _unreadable(self, event: events.Event, text: str) -> _UnreadableError:
        return _UnreadableError(Mistake("", self.origin(event.start_mark), text))


def _size(node: Node) -> int:
    if isinstance(node, Table):
        return 1 + sum(map(_size, node.nodes.values()))
    if isinstance(node, Items):
        return 1 + sum(map(_size, node.nodes))
    return 1
