"""What the environment adds to a configuration: a variable for every key, and `${VAR}` in values.

`MEDIASYNC_SYNC__PARALLEL_TRANSFERS` is the key `sync.parallel_transfers`: two underscores stand for a dot. In a source's name every
character but letters and digits is an underscore: `MEDIASYNC_SOURCES__MY_FORGE__HOST` sets the host of the source `my-forge`
if there is one, else of a source called `my_forge`. A variable that is empty counts as not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from mediasync.config import schema, tree
from mediasync.config.tree import Items, Mistake, Node, Origin, Scalar, Table
from mediasync.suggest import did_you_mean, nearest

PREFIX = "MEDIASYNC_"
_PROCESS = ("CONFIG", "CRASH_AT", "DEBUG", "HOME", "LISTEN", "LOG_LEVEL", "READY_FD", "SSH_PASSPHRASE", "SSH_PASSWORD", "SUPERVISED")
PROCESS_VARIABLES = frozenset(PREFIX + name for name in _PROCESS)
"""Variables that speak to a process, not to the configuration; and `MEDIASYNC_<SERVICE>_ADDRESS`."""
_ADDRESS = re.compile(r"MEDIASYNC_[A-Z]+_ADDRESS")
_SHORT = {"MEDIA_BASE": "media_base", "LOG_BASE": "log_base"}
_REFERENCE = re.compile(r"\$(?P<escaped>\$\{)|\$\{(?P<inside>[^{}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?P<value>.*))?", re.DOTALL)
_MAX_EXPANDED_CHARACTERS = 4 * 1024 * 1024


def substitute(root: Node, environ: Mapping[str, str]) -> list[Mistake]:
    """Replaces `${VAR}` and `${VAR:-default}` in every value; `$${` stands for `${`. A default also serves for an empty variable.
    Returns what is wrong. What a variable holds is not looked through again."""
    return _Substitution(environ).visit(root, ())


class _Substitution:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._left = _MAX_EXPANDED_CHARACTERS

    def visit(self, node: Node, path: tree.Path) -> list[Mistake]:
        """Replaces everything at and below `node`."""
        if isinstance(node, Table):
            return [mistake for key, child in node.nodes.items() for mistake in self.visit(child, (*path, key))]
        if isinstance(node, Items):
            return [mistake for place, child in enumerate(node.nodes) for mistake in self.visit(child, (*path, place))]
        if node.text is None or "${" not in node.text:
            return []
        mistakes: list[str] = []
        text = _REFERENCE.sub(lambda match: self._replacement(match, mistakes), node.text)
        # As in a file: nothing behind the colon is no value, and an empty text needs quotes.
        node.text = None if node.plain and not text else text
        return [Mistake(tree.dotted(path), node.origin, mistake) for mistake in mistakes]

    def _replacement(self, match: re.Match[str], mistakes: list[str]) -> str:
        if match["escaped"]:
            return "${"
        inside = _INSIDE.fullmatch(match["inside"])
        if not inside or not match["end"]:
            mistakes.append("expected ${NAME} or ${NAME:-default} (write $${ for a plain ${)")
            return ""
        name = inside["name"]
        value = self._environ.get(name)
        if inside["default"] and not value:
            value = inside["value"]
        if value is None:
            hint = did_you_mean(name, self._environ)
            mistakes.append(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}{hint}")
            return ""
        self._left -= len(value)
        if self._left < 0:
            mistakes.append(f"more than {_MAX_EXPANDED_CHARACTERS:,} characters come out of variables")
            return ""
        return value


def overlay(root: Table, environ: Mapping[str, str]) -> list[Mistake]:
    """Puts what the environment sets over the tree; returns what is wrong."""
    mistakes = []
    for variable, key in _SHORT.items():
        if value := environ.get(variable):
            _put(root, (key,), value, _origin(variable))
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and environ[variable] and not _is_process_variable(variable):
            mistake = _apply(root, variable, environ[variable])
            mistakes += [Mistake(variable, _origin(variable), mistake)] if mistake else []
    return mistakes


def _is_process_variable(variable: str) -> bool:
    return variable in PROCESS_VARIABLES or bool(_ADDRESS.fullmatch(variable))


def _origin(variable: str) -> Origin:
    return Origin(os.getcwd(), variable=variable)


def variable_of(path: Iterable[str]) -> str:
    """The variable that sets the key at `path`."""
    return PREFIX + "__".join(_folded(step) for step in path)


def _folded(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper())


def _apply(root: Table, variable: str, value: str) -> str:
    """Sets one key; returns what is wrong, or nothing."""
    path: tuple[str, ...] = ()
    for segment in variable.removeprefix(PREFIX).split("__"):
        annotation = schema.at(path)
        if schema.names_of(annotation):
            table = tree.find(root, path)
            names = [name for name in (table.nodes if isinstance(table, Table) else ()) if _folded(name) == segment]
            exact = [name for name in names if name.upper() == segment]
            if len(names) > 1 and len(exact) != 1:
                return f"stands for each of {', '.join(names)}; rename one of them"
            name = (exact or names or [segment.lower()])[0]
        else:
            name = segment.lower()
        if schema.inside(annotation, name) is None:
            return "sets no key" + _hint(variable, path, name)
        path = (*path, name)
    annotation = schema.at(path)
    if schema.names_of(annotation) or (schema.section_of(annotation) and path[-1] != "destination"):
        return f"`{tree.dotted(path)}` holds keys; set them one by one, as in {_example(path)}"
    return _put(root, path, value, _origin(variable))


def _example(path: tuple[str, ...]) -> str:
    first = next(key for key in schema.paths(schema.at(path)))
    return variable_of((*path, *("NAME" if step == "*" else step for step in first)))


def _hint(variable: str, path: tuple[str, ...], name: str) -> str:
    section = schema.section_of(schema.at(path))
    if section and (near := nearest(name, section.known())) and schema.section_of(schema.at((*path, near))) is None:
        return f"; did you mean `{variable_of((*path, near))}`?"
    every = [variable_of(key) for key in schema.paths() if not {"*", "[]"} & set(key)]
    return did_you_mean(variable, [*every, *PROCESS_VARIABLES])


def _put(root: Table, path: tuple[str, ...], value: str, origin: Origin) -> str:
    table = root
    for depth, step in enumerate(path[:-1], 1):
        below = table.nodes.get(step)
        if isinstance(below, Scalar):
            # A destination may be written as its path alone.
            written = {"path": below} if below.text is not None and step == "destination" else {}
            if below.text is not None and not written:
                return f"`{tree.dotted(path[:depth])}` is no mapping, so that nothing can be set below it"
            below = Table(dict(written), below.origin, dict.fromkeys(written, below.origin))
        elif isinstance(below, Items):
            return f"`{tree.dotted(path[:depth])}` is a list, so that nothing can be set below it"
        elif below is None:
            below = Table({}, origin)
        table.nodes[step] = below
        table.key_origins.setdefault(step, origin)
        table = below
    node: Node = Scalar(value, origin)
    if value.startswith("[") and schema.is_list(schema.at(path)):
        node, mistakes = tree.parse(value, origin.folder, origin)
        if mistakes:
            return "is not a list such as [one, two]"
    table.nodes[path[-1]] = node
    table.key_origins[path[-1]] = origin
    return ""
