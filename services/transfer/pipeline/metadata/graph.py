"""ComfyUI's API graph as a structure to walk: nodes, their inputs, and the links between them, within bounds.

`{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "model": ["4", 0], ...}}, ...}`: an input is a value, or a link to an output of
another node, written as that node's id and the output's number. Ids are strings; those of nodes inside a subgraph look like `"57:8"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_NODES = 5000
MAX_DEPTH = 64
MAX_STEPS = 20_000
"""Links followed in one graph in all, so that no graph, however tangled, takes long."""


class Link(NamedTuple):
    """An output of a node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """A node. `values` holds the inputs that are no links."""

    id: str
    kind: str
    values: Mapping[str, object]
    links: Mapping[str, Link]

    def text(self, name: str) -> str:
        """The value of an input if it is a text, else an empty one."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def has(self, name: str) -> bool:
        """Whether there is such an input, as value or link."""
        return name in self.values or name in self.links


@dataclass
class Graph:
    """All nodes, in the file's order, and how many more links may be followed."""

    nodes: dict[str, Node] = field(default_factory=dict)
    steps_left: int = MAX_STEPS

    @classmethod
    def of(cls, value: object) -> Graph | None:
        """The graph that a JSON value describes; None if it is none."""
        if not isinstance(value, dict):
            return None
        inner = value.get("prompt")  # as it is sent to the server
        graph = cls()
        for key, raw in (inner if isinstance(inner, dict) else value).items():
            if isinstance(raw, dict) and isinstance(raw.get("class_type"), str) and isinstance(raw.get("inputs"), dict):
                graph.nodes[key] = _node(key, raw["class_type"], raw["inputs"])
            if len(graph.nodes) >= MAX_NODES:
                break
        return graph if graph.nodes else None

    def follow(self, link: Link | None) -> Node | None:
        """The node that a link leads to; None for one that leads nowhere, and once the graph has been walked for long enough."""
        if link is None or self.steps_left <= 0:
            return None
        self.steps_left -= 1
        return self.nodes.get(link.node)

    def upstream(self, start: Node, names: frozenset[str] | None = None, without: frozenset[str] = frozenset()) -> Iterator[Node]:
        """`start` and the nodes it depends on, nearest first, each once; by the inputs of these `names` only, if given."""
        queue, seen = [start], {start.id}
        for node in queue:
            yield node
            for name, link in node.links.items():
                if name in without or (names is not None and name not in names):
                    continue
                following = self.follow(link)
                if following is not None and following.id not in seen:
                    seen.add(following.id)
                    queue.append(following)


def _node(key: str, kind: str, inputs: dict[str, object]) -> Node:
    values: dict[str, object] = {}
    links: dict[str, Link] = {}
    for name, value in inputs.items():
        link = _link(value)
        if link is None:
            values[name] = value
        else:
            links[name] = link
    return Node(key, kind, values, links)


def _link(value: object) -> Link | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    node, slot = value
    if isinstance(node, int) and not isinstance(node, bool):
        node = str(node)
    return Link(node, slot) if isinstance(node, str) and isinstance(slot, int) and not isinstance(slot, bool) else None
