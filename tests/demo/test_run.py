"""The demo as a whole: what a newcomer sees, and that nothing is left running."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from demo.run import Demo
from tests.faults import event_checker

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def demo(folder: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, in a session of its own; stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.run", "--folder", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started has its stdout too
        process.communicate()


def left_behind(folder: Path) -> list[str]:
    """Commands that still run and have the demo's folder in their environment or arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in said and int(entry.name) != os.getpid():
            found.append(said.replace(b"\0", b" ").decode(errors="replace"))
    return found


def kill_event_log(folder: Path) -> None:
    """SIGKILL to the process that keeps the event log and the catalog."""
    for entry in Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and os.fsencode(folder) in (entry / "environ").read_bytes()
            if ours and b"services.ingest" in (entry / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                return
        except OSError:
            continue
    pytest.fail("there was nobody to kill")


@pytest.mark.timeout(300)
def test_i6_it_shows_a_sync_and_a_watch_in_which_everything_arrives_though_the_event_log_is_killed(tmp_path: Path) -> None:
    library = tmp_path / "demo" / "library"
    # What the caller works with is none of the demo's.
    with demo(tmp_path / "demo", MEDIASYNC_COORDINATOR_ADDRESS="127.0.0.1:1") as process:
        assert process.stdout is not None
        said = ""
        while "$ mediasync sync" not in said:
            said += (line := process.stdout.readline())
            assert line, said
        while not any(library.glob("txt2img-images/*/*.png")) and process.poll() is None:
            os.sched_yield()
        kill_event_log(tmp_path / "demo")
        said += process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    assert re.search(r"transferred +208 files", said)
    told = said.split("What came meanwhile")[1].split("Nothing was replaced")[0]
    assert len(re.findall(r"^ *[0-9.]+ s +.*\.png .*\w+, ", told, re.MULTILINE)) == 5, told
    assert re.search(r"a name that came back +ComfyUI/flux/Flux_00001_~\d{8}T\d{6}\.png", told)
    assert "unchanged" in said.split("6. One more sync")[1]
    before, cleaned = said.split("8. Now for real")
    assert "Nothing was deleted. A clean-up would do this:" in before.split("7. The container fills up")[1]
    deleted = re.search(r"deleted +(\d+) files", cleaned)
    assert deleted and 150 < int(deleted[1]) < 175, cleaned
    assert ".png is gone from demo: a clean-up deleted it" in cleaned
    assert len(list((tmp_path / "demo" / "container").rglob("txt2img-images/*/*.png"))) == 2  # the highest number of each day
    with closing(sqlite3.connect(tmp_path / "demo" / "data" / "catalog.db")) as catalog:
        event_checker.check_pictures(dict(catalog.execute("SELECT library_path, sha256 FROM files")), library, ())
    assert len(list(library.glob("ComfyUI/flux/Flux_00001_*.png"))) == 2
    assert len(list(library.glob("ComfyUI/flux/*.png"))) == 15
    assert left_behind(tmp_path) == []


@pytest.mark.timeout(300)
def test_stopped_in_the_middle_it_leaves_nothing_running(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "all services run" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(timeout=60) == 130, said
    assert "The demo was stopped" in said
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []


def test_a_command_that_fails_ends_it_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="mediasync syn ended with exit code 2"):
        Demo(tmp_path).run("syn", "demo")


def test_a_folder_that_it_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with demo(tmp_path) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was not made by the demo; name another with --folder" in said
    assert (tmp_path / "mine.txt").exists()
