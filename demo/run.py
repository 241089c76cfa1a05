"""`make demo`: a stand-in container, a library, a sync between them, a watch and a clean-up, run with the commands that a user types.

Everything goes into one folder, which is made anew each time; nothing else on the machine is touched. Ctrl-C, SIGTERM and a command that
fails end everything that was started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from demo.live import Outcome, acts, watch
from demo.pictures import draw_later, write_pictures
from mediasync.cli import output
from mediasync.paths import display

_MEDIASYNC = Path(sys.executable).with_name("mediasync")
_LINE_BYTES_PER_SECOND = 25_000_000  # slow enough to watch
_STOP_SECONDS = 15
_STOPPED = 130  # what a shell calls the end by SIGINT


class Demo:
    """The demo's folder and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "library"
        self.console = Console(highlight=False, soft_wrap=True)
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("MEDIASYNC_")}
        self.environ |= {"MEDIASYNC_HOME": str(folder / "data"), "MEDIASYNC_CONFIG": str(folder / "config.yaml")}

    def say(self, text: str) -> None:
        """A line between commands."""
        self.console.print(f"\n[bold]{text}[/bold]")

    def run(self, *arguments: str) -> None:
        """Shows a command and runs it in this terminal. Ends the demo if it fails."""
        self.show(*arguments)
        with subprocess.Popen([_MEDIASYNC, *arguments], env=self.environ) as process:
            try:
                code = process.wait()
            except BaseException:
                _stop(process)
                raise
        if code != 0:
            raise SystemExit(f"the demo stopped: mediasync {arguments[0]} ended with exit code {code}")

    def show(self, *arguments: str) -> None:
        """A command, as a user would type it."""
        self.console.print(f"[cyan]$ mediasync {shlex.join(arguments)}[/cyan]")

    def watch(self, root: Path) -> list[Outcome]:
        """Watches the container while pictures are written there."""
        todo = acts(root, draw_later(root))  # drawn before, so that only the writing takes time
        arguments = ["sync", "demo", "--watch"]
        self.show(*arguments)
        command = [str(_MEDIASYNC), *arguments]
        return asyncio.run(watch(command, self.environ, self.folder / "data", todo, self.console.print))

    def tell(self, outcomes: list[Outcome]) -> None:
        """What became of each picture, and how fast."""
        rows = []
        for outcome in outcomes:
            assert outcome.file.metadata is not None
            path, prompt = display(outcome.file.library_path), display(outcome.file.metadata.prompt.encode())
            rows.append([f"{outcome.seconds:.2f} s", outcome.act.short, path, prompt])
        output.table(["after", "how it came", "in the library", "prompt"], rows, right=["after"], cut=["prompt"])

    @contextmanager
    def container(self) -> Iterator[dict[str, object]]:
        """The stand-in container, in a process of its own."""
        command = [sys.executable, "-m", "demo.container", str(self.folder / "container")]
        command += ["--bytes-per-second", str(_LINE_BYTES_PER_SECOND)]
        with _process(command, dict(os.environ)) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the stand-in container did not start")
            yield json.loads(line)

    @contextmanager
    def services(self) -> Iterator[None]:
        """`mediasync up`, which says on stdout when it is ready."""
        self.console.print("[cyan]$ mediasync up &[/cyan]")
        with _process([str(_MEDIASYNC), "up", "--listen", "127.0.0.1:0"], self.environ) as process:
            assert process.stdout is not None
            started = time.monotonic()
            if not process.stdout.readline():
                raise SystemExit("the services did not start; they say why above")
            self.console.print(f"all services run (after {time.monotonic() - started:.1f} s)")
            yield

    def configure(self, container: dict[str, object], root: Path) -> None:
        """Names the container in a configuration file, as a user would theirs."""
        lines = [
            "# Written by make demo: the stand-in container as a named source.",
            "sources:",
            "  demo:",
            "    type: ssh",
            *(f"    {key}: {json.dumps(container[key])}" for key in ("host", "port", "user")),
            f"    path: {json.dumps(str(root))}",
            f"    destination: {json.dumps(str(self.library))}",
            f"    identity_file: {json.dumps(container['identity_file'])}",
            f"    known_hosts: {json.dumps(container['known_hosts_file'])}",
        ]
        (self.folder / "config.yaml").write_text("\n".join(lines) + "\n")


@contextmanager
def _process(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A background process, stopped at the end. Ctrl-C is for the demo alone, which then stops it."""
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Ends it and waits. Whoever is impatient and presses Ctrl-C again has it end at once."""
    process.terminate()
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    """Runs the demo; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where everything goes; emptied first")
    folder = parser.parse_args().folder.absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.yaml").exists():
        raise SystemExit(f"{folder} is not empty and was not made by the demo; name another with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo = Demo(folder)
    for name in set(os.environ) - set(demo.environ):
        del os.environ[name]  # the services of whoever runs this are none of the demo's
    demo.library.mkdir(parents=True)
    started = time.monotonic()
    try:
        _play(demo)
    except KeyboardInterrupt:
        demo.say(f"The demo was stopped. What it made is in {os.path.relpath(folder)}.")
        return _STOPPED
    except SystemExit:
        demo.say(f"What the services logged is in {os.path.relpath(folder)}/data/logs.")
        raise
    _farewell(demo, time.monotonic() - started)
    return 0


def _play(demo: Demo) -> None:
    demo.say("1. A stand-in for a Forge and ComfyUI container: a real SSH server with real commands, and pictures in it")
    with demo.container() as container:
        root = Path(str(container["home"])) / "outputs"
        written = write_pictures(root)
        demo.configure(container, root)
        size = f"{written.size_bytes / 1e6:.0f} MB"
        demo.console.print(f"{written.files} files, {size}, and one picture that is only half written: {written.unfinished.name}")

        demo.say("2. The services, as processes of this machine")
        with demo.services():
            demo.say("3. The first sync brings everything but the half-written picture")
            demo.run("sync", "demo")

            demo.say("4. What the catalog knows: prompt, model, seed and size, read out of the pictures")
            demo.run("files", "list", "--limit", "8")

            demo.say("5. From now on, each picture as it comes")
            outcomes = demo.watch(root)
            demo.say("What came meanwhile, and how long after its last byte the catalog had it with its prompt")
            demo.tell(outcomes)
            demo.console.print("Nothing was replaced: the Flux_00001_.png of before is still there, beside the new one.")

            demo.say("6. One more sync: there is nothing to bring, and nothing is deleted here for what was emptied there")
            demo.run("sync", "demo")

            demo.say("7. The container fills up. What would go, if all that is older than 13 hours may? Nothing is deleted yet")
            demo.run("clean", "demo", "--older-than", "13h", "--dry-run")

            demo.say("8. Now for real, and more of it: each file's copy is read back from the library before the file goes")
            gone = sorted((root / "txt2img-images").rglob("*.png"))[1].relative_to(root)
            demo.run("clean", "demo", "--older-than", "3h", "--yes")

            demo.say("9. Each of them is on record. Why is this one gone, and where is it?")
            demo.run("clean", "why", "demo", str(gone))


def _farewell(demo: Demo, seconds: float) -> None:
    command = os.path.relpath(_MEDIASYNC)
    here = os.path.relpath(demo.folder)
    demo.say(f"Done in {seconds:.0f} s. Now with your own; --watch behind any of these goes on with what comes:")
    demo.console.print("  mkdir -p ~/Pictures/generated")
    for comment, line in (
        ("a container with SSH (vast.ai: HOST and PORT are in the instance's Connect box)", "sources trust ssh://root@HOST:PORT"),
        ("", "sync ssh://root@HOST:PORT/workspace/ComfyUI/output ~/Pictures/generated"),
        ("a Docker container on this machine, named comfyui", "sync docker://comfyui ~/Pictures/generated --profile comfyui"),
        ("a folder of this machine, such as a mounted output folder", "sync /path/to/outputs ~/Pictures/generated"),
        (
            "then, to make room there: a plan, a question",
            "clean /path/to/outputs --library ~/Pictures/generated",
        ),
    ):
        if comment:
            demo.console.print(f"  [dim]# {comment}[/dim]")
        demo.console.print(f"  {command} {line}")
    demo.console.print(f"\nEverything of the demo is in {here}: library/, data/, config.yaml. To remove it: rm -r {here}")


if __name__ == "__main__":
    sys.exit(main())
