"""Texts and values in a ComfyUI graph that may stand elsewhere than where they are used."""

from __future__ import annotations

from services.transfer.pipeline.metadata.graph import MAX_DEPTH, Graph, Link, Node

_ENCODED_TEXTS = ("text", "prompt", "populated_text", "text_g", "text_l", "t5xxl", "clip_g", "clip_l", "wildcard_text", "mt5xl", "bert",
                  "llama", "caption", "tags")  # fmt: skip
_VALUES = ("value", "string", "text", "int", "float", "number", "Number", "Value", "String", "seed", "boolean", "result", "prompt")
_JOINED_PREFIXES = ("string", "text", "prompt", "conditioning", "cond")
_OPTIONS = frozenset({"text_operation", "string_delimiter", "text_delimiter", "conditioning_to_strength", "conditioning_strength"})
_MAX_JOINED_CHARS = 256 << 10
_MAX_PARTS = 32


def scalar(graph: Graph, node: Node, names: tuple[str, ...]) -> object:
    """The value of the first of these inputs that there is, also where it is linked; None if there is none."""
    for name in names:
        if name in node.values:
            return node.values[name]
        if name in node.links:
            return _linked(graph, node.links[name], names, set(), 0)
    return None


def _linked(graph: Graph, link: Link, names: tuple[str, ...], seen: set[str], depth: int) -> object:
    node = graph.follow(link)
    if node is None or depth >= MAX_DEPTH or node.id in seen:
        return None
    seen.add(node.id)
    for name in (*names, *_VALUES):
        value = node.values.get(name)
        if isinstance(value, (int, float, str)):
            return value
    if len(node.values) == 1 and not node.links:
        return next(iter(node.values.values()))
    for following in node.links.values():
        if (value := _linked(graph, following, names, seen, depth + 1)) is not None:
            return value
    return None


def conditioning(graph: Graph, node: Node, role: str) -> str:
    """The text that guides a sampler or guider in a role, `positive` or `negative`."""
    return _Walk(graph, role).start(node)


class _Walk:
    """One search for the text in a role. Each node is entered once: a graph may have cycles, and a text counts once."""

    def __init__(self, graph: Graph, role: str) -> None:
        self._graph = graph
        self._role = role
        self._seen: set[tuple[str, str]] = set()

    def start(self, node: Node) -> str:
        self._seen.add((node.id, self._role))
        for name in ("positive", "cond1", "conditioning") if self._role == "positive" else ("negative",):
            if name in node.links:
                return self._enter(node.links[name], self._role, 0)
            if text := node.text(name):
                return text
        for name in ("text_embeds", "pipe", "basic_pipe", "sdxl_tuple"):
            if name in node.links:
                return self._enter(node.links[name], self._role, 0, bundled=True)
        return ""

    def _enter(self, link: Link, role: str, depth: int, *, bundled: bool = False) -> str:
        """The text behind a link. A `bundled` link carries both roles, so that the number of the output says nothing."""
        node = self._graph.follow(link)
        if node is None or depth >= MAX_DEPTH or (node.id, role) in self._seen:
            return ""
        self._seen.add((node.id, role))
        if "zeroout" in node.kind.lower():
            return ""  # whatever text it was given has no effect
        if node.has("positive") and node.has("negative"):
            # Nodes that take both hand on both, the positive one first, if they are links; loaders with texts of their own have
            # other outputs, and there the role decides.
            if not bundled and "positive" in node.links and "negative" in node.links and link.slot in (0, 1):
                role = ("positive", "negative")[link.slot]
            return self._input(node, role, depth)
        if node.has(role + "_prompt"):
            return self._input(node, role + "_prompt", depth)
        if node.has(role):
            return self._input(node, role, depth)
        return self._encoded(node, depth) or self._passed_on(node, role, depth, bundled)

    def _input(self, node: Node, name: str, depth: int) -> str:
        if name in node.links:
            role = name.removesuffix("_prompt")
            return self._enter(node.links[name], role, depth + 1) or self._text(node.links[name], depth + 1)
        return node.text(name)

    def _encoded(self, node: Node, depth: int) -> str:
        """The texts of an encoder: some have several, for their several text models, usually all the same."""
        parts = []
        for name in _ENCODED_TEXTS:
            if name in node.links:
                parts.append(self._text(node.links[name], depth + 1))
            else:
                parts.append(node.text(name))
        return _join(parts)

    def _passed_on(self, node: Node, role: str, depth: int, bundled: bool) -> str:
        """Of a node that changes or combines conditionings, those that it was given."""
        named = [link for name, link in node.links.items() if name.startswith(("conditioning", "cond")) and name not in _OPTIONS]
        links = named or [link for name, link in node.links.items() if name not in ("clip", "vae", "model", "image", "pixels", "latent")]
        return _join([self._enter(link, role, depth + 1, bundled=bundled) for link in links[:_MAX_PARTS]])

    def _text(self, link: Link, depth: int) -> str:
        """A text that a node puts out: a constant, several joined, or one handed on."""
        node = self._graph.follow(link)
        if node is None or depth >= MAX_DEPTH or (node.id, "text") in self._seen:
            return ""
        self._seen.add((node.id, "text"))
        parts = []
        delimiter = node.text("delimiter") if "delimiter" in node.values else "\n"
        for name, value in node.values.items():
            if isinstance(value, str) and _holds_text(name):
                parts.append(value)
        for name, following in node.links.items():
            if name == "text" and "text_0" in node.values:
                continue  # a node that shows a text keeps what it showed, and that is what was used
            if _holds_text(name) or not any(parts):
                parts.append(self._text(following, depth + 1))
        return _join(parts, delimiter)


def _holds_text(name: str) -> bool:
    return name not in _OPTIONS and (name in _VALUES or name.startswith(_JOINED_PREFIXES) or name in ("positive", "negative", ""))


def _join(parts: list[str], delimiter: str = "\n") -> str:
    return delimiter.join(dict.fromkeys(part for part in parts[:_MAX_PARTS] if part.strip()))[:_MAX_JOINED_CHARS]
