"""`mediasync config`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mediasync.cli.config import app
from mediasync.config import load, schema
from mediasync.errors import MediasyncError

RIGHT = """
sync: {generate_xmp: true, retry_attempts: 4}
sources:
  forge: {type: forge, host: forge.lan, password: s3cret}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def run_json(*arguments: object) -> tuple[int, Any]:
    result = run(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_check_says_what_is_in_force_and_what_is_not_yet_with_lines(file: Path) -> None:
    file.write_text(RIGHT)
    result = run("check", "--config", file)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{file}: no mistakes",
        "",
        "In force",
        "  line 2  sync.retry_attempts = 4",
        "  line 4  sources.forge.type = forge",
        "  line 4  sources.forge.host = forge.lan",
        "  line 4  sources.forge.password = ********",
        "",
        "Not yet in force",
        "  line 2  sync.generate_xmp = true  no XMP sidecars are written",
        "",
        "Note: the source forge has no destination: give it one, set media_base, or name one in `mediasync sync forge DEST`",
    ]


def test_check_as_json_holds_the_same(file: Path) -> None:
    file.write_text(RIGHT)
    code, document = run_json("check", "--config", file)
    assert code == 0
    assert document["valid"] is True
    assert (document["file"], document["mistakes"]) == (str(file), [])
    assert [row["key"] for row in document["not_yet"]] == ["sync.generate_xmp"]
    assert document["in_force"][0] == {
        "key": "sync.retry_attempts",
        "value": 4,
        "origin": f"{file}:2",
        "line": 2,
        "in_force": True,
        "note": "",
    }
    assert len(document["notes"]) == 1


def test_check_says_that_a_watch_waits_for_no_subscriber(file: Path) -> None:
    file.write_text(
        "ingest: {async_mode: false}\nmedia_base: /m\nsources: {forge: {type: forge, host: h, watch: true}, other: {type: forge, host: h}}"
    )
    code, document = run_json("check", "--config", file)
    assert code == 0
    assert document["notes"] == ["the source forge is watched: its job never ends, so that it waits for no subscriber"]


def test_check_ends_with_2_and_every_mistake(file: Path) -> None:
    file.write_text("sync: {retry: 4}\nsurces: {}\n")
    result = run("check", "--config", file)
    assert isinstance(result.exception, MediasyncError)
    assert result.exception.exit_code == 2
    assert len(result.exception.fields) == 2
    code, document = run_json("check", "--config", file)
    assert code == 2
    assert document["valid"] is False
    assert document["mistakes"][1] == {
        "key": "surces",
        "line": 2,
        "variable": None,
        "message": "unknown key; did you mean `sources`?",
    }


def test_check_without_a_file_says_where_it_looked(tmp_path: Path) -> None:
    result = run("check", env={"XDG_CONFIG_HOME": str(tmp_path), "MEDIASYNC_SYNC__RETRY_ATTEMPTS": "4", "MEDIASYNC_CONFIG": ""})
    assert result.exit_code == 0
    assert f"there is no {tmp_path}/mediasync/config.yaml; defaults and environment apply" in result.stdout
    assert "MEDIASYNC_SYNC__RETRY_ATTEMPTS  sync.retry_attempts = 4" in result.stdout


def test_show_prints_every_value_with_where_it_comes_from_and_no_secret(file: Path) -> None:
    file.write_text(RIGHT)
    result = run("show", "--config", file, env={"MEDIA_BASE": "/media"})
    assert result.exit_code == 0
    rows = {key: origin for key, origin, _ in (re.split(" {2,}", line) for line in result.stdout.splitlines()[1:])}
    assert rows["media_base"] == "MEDIA_BASE"
    assert rows["sources.forge.port"] == "type forge, unless ~/.ssh/config has one"
    assert rows["sources.forge.destination"] == "media_base"
    assert rows["sources.forge.retry_attempts"] == "sync.retry_attempts"
    assert rows["sources.forge.host"] == f"{file}:4"
    assert rows["sources.forge.password"] == f"{file}:4"
    assert rows["sync.generate_xmp"] == f"{file}:2 (not yet in force)"
    assert rows["coordinator.listen"] == "default"
    assert "s3cret" not in result.output


def test_show_as_json_has_the_values_as_they_are(file: Path) -> None:
    file.write_text(RIGHT)
    code, document = run_json("show", "--config", file)
    assert code == 0
    values = {row["key"]: row["value"] for row in document["settings"]}
    assert values["sources.forge.retry_attempts"] == 4
    assert values["sources.forge.folders"][0] == "txt2img-images"
    assert values["sources.forge.password"] == "********"


def test_the_example_passes_check_with_everything_in_force(file: Path) -> None:
    result = run("example")
    file.write_text(result.stdout)
    code, document = run_json("check", "--config", file)
    assert code == 0, document
    assert document["not_yet"] == []
    assert document["notes"] == []
    assert run_json("example")[1] == {"yaml": result.stdout}


def test_the_example_passes_with_its_comments_taken_off_too(file: Path) -> None:
    lines = run("example").stdout.splitlines()
    # A commented key is `# key: value` or an item of a list; text for people is a sentence.
    taken = [line.replace("# ", "", 1) if re.match(r" *# ([a-z][a-z_-]*:( |$)|  )", line) else line for line in lines]
    file.write_text("\n".join(taken))
    configuration = load(file, {"HOME": "/home/ann"})
    assert set(configuration.sources) == {"forge", "comfyui", "any-host", "container", "disk", "forge_local"}
    assert configuration.sources["any-host"].source.root == b"~/renders"
    assert configuration.ingest.subscribers[0].name == "gallery"
    assert configuration.not_yet == ()


def test_the_example_names_every_key_that_is_in_force() -> None:
    text = run("example").stdout
    for path in schema.paths():
        section = schema.section_of(schema.at(tuple(0 if step == "[]" else step for step in path[:-1])))
        assert section is not None
        later = any(isinstance(mark, schema.Later) for mark in section.known()[path[-1]].metadata)
        if not later and path[0] != "cleanup" and path[:2] != ("sync", "source"):
            assert f"{path[-1]}:" in text or path[-1] in ("identity_files",) or path[-2:] == ("destination", "path"), path
