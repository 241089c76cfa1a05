"""What surrounds every command: help, completion, exit codes, bugs, closed pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediasync import __version__
from mediasync.cli import main as cli_main
from mediasync.cli import output
from mediasync.errors import MediasyncError, Reason
from tests.fixtures.peer import Cli, PeerServer


async def test_help_and_version_need_nothing(cli: Cli) -> None:
    helped = await cli("--help")
    assert helped.code == 0
    for name in ("sync", "up", "serve", "status", "jobs", "sources", "files", "config", "logs", "trace"):
        assert f" {name} " in helped.stdout
    assert (await cli("--version")).stdout == f"mediasync {__version__}\n"
    assert not (cli.folder / "home").exists()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mediasync.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60).stderr.split()
    assert not {"grpc", "pydantic", "google.protobuf", "opentelemetry", "yaml", "asyncio", "sqlalchemy"} & set(loaded)


@pytest.mark.parametrize(
    ("shell", "words"),
    [("bash", "complete -o default -F"), ("zsh", "#compdef mediasync"), ("fish", "complete --command mediasync")],
)
async def test_completion_is_offered_for_each_shell_by_name(cli: Cli, shell: str, words: str) -> None:
    ended = await cli("--show-completion", shell)
    assert (ended.code, ended.stderr) == (0, "")
    assert words in ended.stdout and "_MEDIASYNC_COMPLETE" in ended.stdout
    assert (await cli("--show-completion", "tcsh")).code == 2


@pytest.mark.parametrize(
    "environ",
    [
        {"_MEDIASYNC_COMPLETE": "complete_bash", "COMP_WORDS": "mediasync sy", "COMP_CWORD": "1"},
        {"_MEDIASYNC_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "mediasync sy"},
        {
            "_MEDIASYNC_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_ARGS": "mediasync sy",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    ],
    ids=["bash", "zsh", "fish"],
)
async def test_a_tab_in_each_shell_completes_a_command(cli: Cli, environ: dict[str, str]) -> None:
    cli.environ |= environ
    ended = await cli()
    assert (ended.code, ended.stderr) == (0, "")
    assert "sync" in ended.stdout
    assert "sources" not in ended.stdout


async def test_completion_names_commands_and_options(cli: Cli) -> None:
    cli.environ |= {"_MEDIASYNC_COMPLETE": "complete_bash", "COMP_WORDS": "mediasync so", "COMP_CWORD": "1"}
    ended = await cli()
    assert (ended.code, ended.stdout.split()) == (0, ["sources"])
    cli.environ |= {"COMP_WORDS": "mediasync sync --para", "COMP_CWORD": "2"}
    assert (await cli()).stdout.split() == ["--parallel-transfers"]


async def test_a_closed_pipe_is_no_error(peer: PeerServer, cli: Cli) -> None:
    peer.peer.files = 400
    ours, theirs = os.pipe()
    os.close(ours)  # whoever read has left
    process = await cli.start("files", "list", "--limit", "400", "--coordinator", peer.address, stdout=theirs)
    os.close(theirs)
    _, stderr = await process.communicate()
    assert (process.returncode, stderr) == (141, b"")


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("MEDIASYNC_HOME", f"{tmp_path}/home")
    monkeypatch.delenv("MEDIASYNC_DEBUG", raising=False)


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    """The exit code of a command that raises `error`."""

    def app(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli_main, "_build", lambda: app)
    code = cli_main._run(arguments)
    cli_main._stop_recording()
    return code


def test_a_bug_ends_with_70_one_line_and_where_the_log_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], breaking: None
) -> None:
    assert run(monkeypatch, ZeroDivisionError("by zero")) == 70
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: unexpected ZeroDivisionError: by zero\n  → This is a bug")
    assert "Traceback" not in stderr
    log = stderr.split("the details are in ")[1].split(" (")[0]
    entry = json.loads(Path(log).read_text().splitlines()[-1])
    assert entry["level"] == "error" and "ZeroDivisionError: by zero" in entry["exception"]


def test_a_bug_shows_its_traceback_when_asked_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], breaking: None
) -> None:
    monkeypatch.setenv("MEDIASYNC_DEBUG", "1")
    assert run(monkeypatch, ZeroDivisionError("by zero"), "--json") == 70
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert json.loads(captured.out)["error"]["reason"] == "INTERNAL"


def test_a_bug_without_a_data_folder_is_still_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], breaking: None
) -> None:
    monkeypatch.setenv("MEDIASYNC_HOME", "/proc/nowhere")
    assert run(monkeypatch, ZeroDivisionError("by zero")) == 70
    assert "please report it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 5),
        (BrokenPipeError(), 141),
        (MediasyncError(Reason.LIBRARY_READ_ONLY, "no"), 4),
        (MediasyncError(Reason.SERVICE_FAILED_TO_START, "no", metadata={"exit_code": "2"}), 2),
        (SystemExit(0), 0),
        (SystemExit(3), 3),
    ],
)
def test_what_a_command_raises_decides_its_exit_code(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    assert run(monkeypatch, error) == code


def test_an_exception_that_is_nobodys_business_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GeneratorExit):
        run(monkeypatch, GeneratorExit())


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_499, "99.5 kB"), (123_456, "123 kB"), (1_234_567_890, "1.2 GB"), (5e15, "5000 TB")],
)
def test_sizes_are_for_people(size_bytes: float, text: str) -> None:
    assert output.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.97, "1 min 0 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")]
)
def test_spans_of_time_are_for_people(seconds: float, text: str) -> None:
    assert output.span(seconds) == text
