"""Whatever stands in a configuration file ends in a configuration or in one error that names a line, quickly."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.config import Examination, schema, tree
from mediasync.config.loading import MAX_FILE_BYTES, parse
from mediasync.errors import MediasyncError
from tests.fixtures.configuration import Configured, Refused

KEYS = sorted({step for path in schema.paths() for step in path})
WORDS = st.one_of(
    st.sampled_from(["forge", "ssh", "true", "3", "/media", "~", "127.0.0.1:7171", "${HOME}", "${", "keep", "[a]", "a: b", "*x", "!t"]),
    st.text(max_size=12),
    st.integers().map(str),
)
NODES = st.recursive(
    st.one_of(WORDS, st.none(), st.booleans(), st.integers(), st.floats()),
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), below, max_size=6)
    ),
    max_leaves=30,
)
RELAXED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(text: str, environ: dict[str, str] | None = None) -> Examination:
    found = parse(text, Path("/etc/mediasync.yaml"), environ or {"HOME": "/home/ann"})
    assert (found.configuration is None) == bool(found.mistakes)
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029") + 1
    for mistake in found.mistakes:
        assert mistake.text
        assert mistake.origin.variable or 1 <= mistake.origin.line <= lines
    return found


@RELAXED
@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_mistakes(text: str) -> None:
    read(text)


@RELAXED
@given(
    st.lists(
        st.sampled_from(
            ["sync", ":", " ", "\n", "- ", "&a ", "*a", "{", "}", "[", "]", ",", "'", '"', "\\x", "<<", "!!", "---", "%", "|", "#", "\t"]
        )
    )
)
def test_any_mixture_of_yamls_marks_is_a_configuration_or_mistakes(parts: list[str]) -> None:
    read("".join(parts))


@RELAXED
@given(NODES)
def test_any_tree_is_a_configuration_or_mistakes(node: Any) -> None:
    read(yaml.safe_dump(node, allow_unicode=True))


@RELAXED
@given(st.dictionaries(st.sampled_from(KEYS), NODES, max_size=4), st.dictionaries(st.sampled_from(schema.paths()), WORDS, max_size=4))
def test_any_known_key_anywhere_with_any_variables_is_a_configuration_or_mistakes(
    node: dict[str, Any], variables: dict[tuple[str, ...], str]
) -> None:
    environ = {"MEDIASYNC_" + "__".join(step.upper() for step in path).replace("*", "A"): value for path, value in variables.items()}
    read(yaml.safe_dump(node), environ)


@RELAXED
@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_one_error(configured: Configured, tmp_path: Path, raw: bytes) -> None:
    from mediasync.config import load

    file = tmp_path / "bytes.yaml"
    file.write_bytes(raw)
    try:
        load(file, {})
    except MediasyncError as error:
        assert error.fields
        assert all(character.isprintable() or character == "\n" for character in error.message)


def test_a_tree_of_aliases_that_would_grow_without_end_is_refused_at_once(refused: Refused) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.process_time()
    error = refused("\n".join(lines))
    assert time.process_time() - start < 5
    assert "aliases counted as what they stand for" in error.message


def test_a_tree_of_merges_that_would_grow_without_end_is_refused(refused: Refused) -> None:
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x]}"] + [f"a{n}: &a{n} {{l: *a{n - 1}, m: *a{n - 1}, n: *a{n - 1}}}" for n in range(1, 20)]
    assert "aliases counted" in refused("\n".join(lines)).message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_is_bounded(refused: Refused, opening: str) -> None:
    assert f"more than {tree.MAX_DEPTH} levels deep" in refused(opening * 5000).message


def test_the_largest_file_is_still_read_in_seconds(tmp_path: Path) -> None:
    text = ("# " + "x" * 78 + "\n") * (MAX_FILE_BYTES // 81)
    start = time.process_time()
    read(text)
    assert time.process_time() - start < 10
