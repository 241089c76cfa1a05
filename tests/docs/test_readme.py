"""The README is held to what it says: its commands are run or looked up, its tables and examples compared."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from mediasync.cli.main import _build
from mediasync.cli.targets import Wishes, spec_from_url
from mediasync.config import Configuration
from mediasync.errors import ExitCode
from mediasync.model import DockerConnection, Engine, LocalConnection, SshConnection
from tests.fixtures.installation import MEDIASYNC, Installation
from tests.fixtures.peer import Cli

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def section(heading: str) -> str:
    """What is below a heading, up to the next of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def block(text: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, language
    return found[1]


def commands() -> list[list[str]]:
    """Every `mediasync …` that the README shows, in blocks and in lines."""
    shown = re.findall(r"^(mediasync .*)$", README, re.MULTILINE) + re.findall(r"`(mediasync [^`]*)`", README)
    return [shlex.split(command, comments=True)[1:] for command in shown]


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert len(targets) > 10
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test", "pictures"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


async def test_every_command_and_every_option_is_known(cli: Cli) -> None:
    helps: dict[str, str] = {}
    assert len(commands()) > 10
    for words in commands():
        names = []
        for word in words:
            if not re.fullmatch("[a-z]+", word) or len(names) == 2 or names[:1] in (["sync"], ["up"], ["trace"]):
                break
            names.append(word)
        name = " ".join(names)
        if name not in helps:
            ended = await cli(*names, "--help")
            assert ended.code == 0, (name, ended.stderr)
            helps[name] = ended.stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in helps[name], (name, option)


async def test_the_configuration_has_no_mistakes(cli: Cli) -> None:
    text = block(section("Sources with names"), "yaml")
    (cli.folder / "config.yaml").write_text(text)
    ended = await cli("config", "check", "--config", "config.yaml", "--json")
    assert ended.code == 0, ended.stdout
    assert "not yet" not in ended.stderr


def test_every_way_to_a_source_is_understood() -> None:
    sync = typer.main.get_command(_build()).commands["sync"]
    rows = re.findall(r"^\| [^|]+ \| `mediasync (sync [^`]*)` \|", section("Sources"), re.MULTILINE)
    assert len(rows) == 6
    kinds = set()
    for row in rows:
        given = sync.make_context("sync", shlex.split(row.replace("HOST:PORT", "example.net:2222"))[1:]).params
        wishes = Wishes(given["dest"], profile=given["profile"], engine=given["engine"])
        spec = spec_from_url(given["source"], wishes, Configuration())
        kinds.add((type(spec.source.connection), spec.source.engine))
    assert {kind for kind, _ in kinds} == {SshConnection, DockerConnection, LocalConnection}
    assert (SshConnection, Engine.RSYNC) in kinds


def test_the_exit_codes_are_all_there() -> None:
    listed = re.findall(r"^\| (\d+) \|", section("For scripts"), re.MULTILINE)
    assert listed == [str(code.value) for code in sorted(ExitCode)]


@pytest.mark.timeout(240)
def test_the_first_sync_goes_as_it_is_written(installation: Installation) -> None:
    """With a real host in place of HOST:PORT, the key in ~/.ssh/config, and the fingerprint given, as there is nobody to ask."""
    server, user_home = installation.server, installation.folder / "user"
    (user_home / ".ssh").mkdir(parents=True)
    (user_home / ".ssh" / "config").write_text(f"Host {server.host}\n  IdentityFile {server.identity_file}\n")
    environ = installation.environ | {"HOME": str(user_home), "PATH": f"{MEDIASYNC.parent}:/usr/bin:/bin"}
    environ.pop("SSH_AUTH_SOCK", None)
    installation.write("workspace/ComfyUI/output/picture.txt", b"content")
    fingerprint = server.host_key.get_fingerprint()
    script = block(section("The first sync from your own container"), "sh")
    script = script.replace("root@HOST:PORT", f"{server.user}@{server.host}:{server.port}").replace(
        "/workspace/", f"{server.root}/workspace/"
    )
    script = re.sub(r"^(mediasync sources trust \S+)", rf"\1 --fingerprint {fingerprint}", script, flags=re.MULTILINE)
    done = subprocess.run(["sh", "-e", "-c", script], env=environ, cwd=installation.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (user_home / "Pictures" / "generated" / "picture.txt").read_bytes() == b"content"
    assert "Sync complete" in done.stdout and "picture.txt" in done.stdout.split("Sync complete")[1]

    again = re.search(r"^mediasync (sync .*)$", script, re.MULTILINE)
    assert again
    result = subprocess.run(
        ["sh", "-c", f"mediasync {again[1]} --json"], env=environ, cwd=installation.folder, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")
    said, promised = json.loads(result.stdout), json.loads(block(section("For scripts"), "json"))
    assert list(said) == list(promised)
    assert [type(value) for value in said.values()] == [type(value) for value in promised.values()]
