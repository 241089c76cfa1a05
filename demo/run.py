"""`make demo`: a stand-in container, a library, and two syncs between them, run with the commands that a user types.

Everything goes into one folder, which is made anew each time; nothing else on the machine is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from demo.pictures import carry_on, write_pictures

_MEDIASYNC = Path(sys.executable).with_name("mediasync")
_LINE_BYTES_PER_SECOND = 25_000_000  # slow enough to watch
_STOP_SECONDS = 15


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
        self.console.print(f"[cyan]$ mediasync {shlex.join(arguments)}[/cyan]")
        result = subprocess.run([_MEDIASYNC, *arguments], env=self.environ, check=False)
        if result.returncode != 0:
            raise SystemExit(f"the demo stopped: mediasync {arguments[0]} ended with exit code {result.returncode}")

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
            process.send_signal(signal.SIGTERM)
            try:
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
    demo = Demo(folder)
    demo.library.mkdir(parents=True)
    started = time.monotonic()

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
            demo.run("files", "list", "--limit", "12")

            meanwhile = carry_on(root)
            demo.say("5. Meanwhile, in the container")
            demo.console.print(
                f"{len(meanwhile.added)} new pictures; the half-written one is finished; a folder of {len(meanwhile.removed)} was cleared,"
                f" so its counter started again and {len(meanwhile.reused)} names came back with other pictures"
            )
            demo.say("6. The second sync brings only these, and keeps the old pictures beside the new ones of the same name")
            demo.run("sync", "demo")
            reused = (demo.library / meanwhile.reused[0]).name
            stem = Path(reused).stem
            beside = sorted(path.name for path in (demo.library / meanwhile.reused[0]).parent.glob(f"{stem}*"))
            demo.console.print(f"for example {meanwhile.reused[0].parent}/: " + ", ".join(beside))

    _farewell(demo, time.monotonic() - started)
    return 0


def _farewell(demo: Demo, seconds: float) -> None:
    command = os.path.relpath(_MEDIASYNC)
    here = os.path.relpath(demo.folder)
    demo.say(f"Done in {seconds:.0f} s. Now with your own container (vast.ai: ssh_host and ssh_port of your instance):")
    demo.console.print(f"  {command} sources trust ssh://root@HOST:PORT        # once: shows the host key's fingerprint and asks")
    demo.console.print("  mkdir -p ~/Pictures/generated")
    demo.console.print(f"  {command} sync ssh://root@HOST:PORT/workspace/ComfyUI/output ~/Pictures/generated")
    demo.console.print(f"\nEverything of the demo is in {here}: library/, data/, config.yaml. To remove it: rm -r {here}")


if __name__ == "__main__":
    sys.exit(main())
