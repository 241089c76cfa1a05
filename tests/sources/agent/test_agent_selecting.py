"""Selections: the agent's, ours, git's and a plain oracle's have to agree on what is a result."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason
from mediasync.sources.agent import requests
from mediasync.sources.agent.program.frames import HEADER, Fields
from mediasync.sources.agent.program.selecting import Selecting
from mediasync.sources.selection import Selection, rules

NAMES = ["a", "b", "ab", "a.b", "B", "ü", "a.tmp", ".a", "Thumbs.db", "~$a"]
PARTS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "*b", "[ab]", "[!a]", "a?", "?.b", "[a-b]*", "\\*", "a**b", "ü"])
PLAIN_PARTS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "*b", "[ab]", "[!a]", "a?", "?.b", "[a-b]*"])


def patterns(parts: st.SearchStrategy[str], *, negated: bool) -> st.SearchStrategy[list[str]]:
    one = st.tuples(
        st.sampled_from(["", "!"]) if negated else st.just(""),
        st.sampled_from(["", "/"]),
        st.lists(parts, min_size=1, max_size=3).map("/".join),
        st.sampled_from(["", "/"]),
    )
    return st.lists(one.map("".join), max_size=4)


PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)


def told(selection: Selection) -> Selecting:
    """The selection as the agent takes it from the line."""
    return Selecting(Fields(requests.select(selection)[HEADER.size :]))


def agents_reason(selection: Selecting, path: bytes, size: int, age: float) -> int:
    folder, _, name = path.rpartition(b"/")
    selection.enter(folder)
    return selection.name_reason(path, name) or selection.look_reason(size, age)


@given(
    included=patterns(PARTS, negated=True),
    excluded=patterns(PARTS, negated=True),
    extensions=st.lists(st.sampled_from([b".b", b".png"]), max_size=2),
    limits=st.tuples(*[st.integers(0, 3)] * 4),
    paths=st.lists(PATHS, min_size=1, max_size=8),
    size=st.integers(0, 4),
    age=st.floats(0, 4),
)
def test_the_agent_decides_as_this_side_does(
    included: list[str],
    excluded: list[str],
    extensions: list[bytes],
    limits: tuple[int, int, int, int],
    paths: list[str],
    size: int,
    age: float,
) -> None:
    ours = Selection(
        min_size_bytes=limits[0],
        max_size_bytes=limits[1],
        min_age_seconds=limits[2],
        max_age_seconds=limits[3],
        extensions=tuple(extensions),
        included=rules(included),
        excluded=rules(excluded),
    )
    agents = told(ours)
    for text in paths:
        path = text.encode()
        expected = ours.file_reason(path, size, age)
        assert agents_reason(agents, path, size, age) == (expected.value if expected else 0), text
        agents.enter(path.rpartition(b"/")[0])
        of_folder = ours.folder_reason(path)
        assert agents.folder_reason(path, path.rpartition(b"/")[2]) == (of_folder.value if of_folder else 0), text


def parts_match(wanted: list[str], found: list[str]) -> bool:
    if not wanted:
        return not found
    if wanted[0] == "**":
        if len(wanted) == 1:
            return bool(found)
        return any(parts_match(wanted[1:], found[at:]) for at in range(len(found) + 1))
    return bool(found) and fnmatch.fnmatchcase(found[0], wanted[0]) and parts_match(wanted[1:], found[1:])


def oracle(listed: list[str], path: str) -> bool:
    """What the documentation of patterns says, in the plainest words."""
    parts = path.split("/")
    for pattern in reversed(listed):
        bare = pattern.removeprefix("!")
        wanted = bare.strip("/").split("/")
        if "/" not in bare.rstrip("/"):
            wanted = ["**", *wanted]
        lengths = range(1, len(parts)) if bare.endswith("/") else range(1, len(parts) + 1)
        if any(parts_match(wanted, parts[:length]) for length in lengths):
            return not pattern.startswith("!")
    return False


@given(listed=patterns(PLAIN_PARTS, negated=True), path=st.lists(st.sampled_from(NAMES[:5]), min_size=1, max_size=4).map("/".join))
def test_patterns_mean_what_is_documented(listed: list[str], path: str) -> None:
    excluded = Selection(excluded=rules(listed)).file_reason(path.encode(), 1, 1) is FilterReason.EXCLUDED
    assert excluded == oracle(listed, path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with a few folders."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", folder], check=True, capture_output=True)
    for first in ("a", "b", "ab"):
        for second in ("a", "b", "a.b"):
            (folder / first / second).mkdir(parents=True)
            for third in ("a", "ab", "a.b"):
                (folder / first / second / third).touch()
        (folder / first / "bb").touch()
    (folder / "a.b").touch()
    return folder


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listed=patterns(PLAIN_PARTS, negated=False))
def test_without_negation_patterns_match_as_gits_do(repository: Path, listed: list[str]) -> None:
    (repository / ".git" / "info" / "exclude").write_text("".join(f"{pattern}\n" for pattern in listed))
    paths = sorted(str(file.relative_to(repository)) for file in repository.rglob("*") if file.is_file() and ".git" not in file.parts)
    asked = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--stdin", "-z"], input="\0".join(paths), capture_output=True, text=True, check=False
    )
    selection = Selection(excluded=rules(listed))
    ours = [path for path in paths if selection.file_reason(path.encode(), 1, 1)]
    assert ours == [path for path in asked.stdout.split("\0") if path]


def test_more_patterns_than_fit_on_the_line_are_refused() -> None:
    with pytest.raises(MediasyncError) as raised:
        requests.select(Selection(excluded=rules(["?" * 200] * 100)))
    assert raised.value.reason is Reason.INVALID_ARGUMENT
