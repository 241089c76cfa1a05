"""The project installed as a user installs it: what git has, nothing else, into an environment that is empty."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mediasync import __version__
from tests.fixtures.installation import Installation

REPOSITORY = Path(__file__).parents[2]
INSTALL_SECONDS = 900
COMMAND_SECONDS = 120

# About forty packages are installed, with whatever line there is to the package index.
pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 2 * COMMAND_SECONDS)


@dataclass(frozen=True)
class Installed:
    """An environment with `mediasync` in it, and a folder to be in that would take its place."""

    environment: Path
    elsewhere: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def run(self, program: str, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, away from the checkout."""
        clean = {
            key: value for key, value in (environ or dict(os.environ)).items() if not key.startswith(("PYTHON", "COVERAGE", "VIRTUAL_ENV"))
        }
        return subprocess.run(
            [self.environment / "bin" / program, *arguments],
            cwd=self.elsewhere,
            env=clean,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )


def _cannot(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and with CI=true nothing is skipped")
    pytest.skip(reason)


def _pip(*arguments: str, environment: Path | None = None) -> subprocess.CompletedProcess[str]:
    where = ["--python", str(environment / "bin" / "python")] if environment else []
    command = [sys.executable, "-m", "pip", *where, "--disable-pip-version-check", "--no-input", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False)
    if listed.returncode != 0:
        _cannot("needs a checkout, to know what belongs to the project")
    return [name for name in os.fsdecode(listed.stdout).split("\0") if name and (REPOSITORY / name).exists()]


def _install(folder: Path) -> None:
    """`pip install .` in a copy of what git has."""
    copy = folder / "checkout"
    for name in _tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, copy / name)
    # The environment has no pip of its own: not every Python can put one there, and it needs none.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "environment")], check=True)
    done = _pip("install", "--quiet", str(copy), environment=folder / "environment")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(copy)  # nor does it help afterwards


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Installed:
    """Made once for all tests that run at the same time."""
    base = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder = base / "installed"
    with (base / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if _pip("download", "--quiet", "--no-deps", "--dest", str(folder / "probe"), "hatchling").returncode != 0:
                _cannot("needs a package index that can be reached")
            _install(folder)
            for name in ("mediasync", "services"):
                (folder / "elsewhere" / name).mkdir(parents=True)
                (folder / "elsewhere" / name / "__init__.py").write_text("raise SystemExit('the wrong package was imported')\n")
            (folder / "complete").touch()
    return Installed(folder / "environment", folder / "elsewhere")


def test_the_command_answers(installed: Installed) -> None:
    version = installed.run("mediasync", "--version")
    assert (version.returncode, version.stdout) == (0, f"mediasync {__version__}\n")
    helped = installed.run("mediasync", "--help")
    assert helped.returncode == 0 and "mediasync sync ssh://" in helped.stdout


def test_the_python_api_is_there_with_its_types(installed: Installed) -> None:
    # -P as scripts do not see the folder that they are started in either; `python -c` would.
    code = "import mediasync; print(mediasync.Client.__name__, mediasync.SyncConfig.__name__, mediasync.__file__)"
    said = installed.run("python", "-P", "-c", code)
    assert said.returncode == 0, said.stderr
    names, _, file = said.stdout.strip().rpartition(" ")
    assert names == "Client SyncConfig"
    assert Path(file).is_relative_to(installed.environment)


def test_a_sync_with_services_of_its_own_brings_a_file(installed: Installed, installation: Installation) -> None:
    installation.write("a/picture.txt", b"content")
    done = installed.run(
        "mediasync", "sync", installation.url, str(installation.library), *installation.login, "--json", environ=installation.environ
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files_transferred"] == 1
    assert (installation.library / "a" / "picture.txt").read_bytes() == b"content"
    assert installation.services() == {}


def test_everything_of_both_packages_is_installed_and_nothing_else(installed: Installed) -> None:
    code = (
        "import importlib.metadata as m, json; d = m.distribution('forge-media-sync'); "
        "print(json.dumps([str(f) for f in d.files])); print(json.dumps([e.name for e in d.entry_points]))"
    )
    said = installed.run("python", "-P", "-c", code)
    assert said.returncode == 0, said.stderr
    files, commands = (json.loads(line) for line in said.stdout.splitlines())
    brought = {name for name in files if ".dist-info/" not in name and "__pycache__" not in name and not name.startswith("..")}
    assert brought == {name for name in _tracked() if name.startswith(("mediasync/", "services/"))}
    # So that a folder that git lacks too does not make both sides equal.
    assert brought > {
        "mediasync/py.typed",
        "mediasync/config/example.yaml",
        "mediasync/sources/agent/program/frames.py",
        "mediasync/v1/coordinator_pb2.py",
        "mediasync/v1/coordinator_pb2.pyi",
        "mediasync/v1/coordinator_pb2_grpc.py",
        "services/coordinator/__main__.py",
        "services/ingest/subscribers/catalog/__main__.py",
        "services/progress/__main__.py",
        "services/transfer/pipeline/metadata/comfyui.py",
    }
    assert commands == ["mediasync"]
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_what_it_needs_fits_together(installed: Installed) -> None:
    checked = _pip("check", environment=installed.environment)
    assert checked.returncode == 0, checked.stdout
