"""Takes the pictures in docs/: real commands against the demo's stand-in container, in a pseudo terminal, as SVG.

    make pictures

Nothing in them is drawn by hand: each command runs as a user's would, a terminal emulator follows what it writes, and the screen is
kept whenever it stands still. The picture of a sync shows two of those: one from the middle of the transfer, and the last. While the
watch is taken, pictures are written to the container as in the demo, each once the one before was shown.
"""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from itertools import groupby
from pathlib import Path
from struct import pack
from termios import TIOCSWINSZ
from typing import Any

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from demo.live import Act, acts  # noqa: E402 - from the checkout
from demo.pictures import draw_later, write_pictures  # noqa: E402
from demo.run import Demo  # noqa: E402

_STILL_SECONDS = 0.03  # the display is drawn ten times a second, each time at once
_COMMAND_SECONDS = 120
_ROWS = 60
_THEME = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252)],
)
# rich's own names a font on somebody's server, which a picture in a README may not load.
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
_WINDOW = """<svg y="{{y}}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: FONTS; font-size: {char_height}px; line-height: {line_height}px; white-space: pre; }}
.{unique_id}-title {{ font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; font-size: 15px; }}
{styles}
</style>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>""".replace("FONTS", _FONTS)
_GAP = 14


@dataclass(frozen=True)
class Shot:
    """What a terminal showed at a moment."""

    columns: int
    lines: tuple[Text, ...]

    @property
    def plain(self) -> str:
        """Without colours."""
        return "\n".join(line.plain for line in self.lines)


class _Screen(pyte.Screen):
    """Knows dim text too, which pyte does not. It is kept as blinking, which nothing here does."""

    def select_graphic_rendition(self, *attributes: int, **options: Any) -> None:
        super().select_graphic_rendition(*attributes, **options)
        left = list(attributes)
        while left:
            match left.pop(0):
                case 38 | 48:  # a colour follows: 5 and its number, or 2 and three parts
                    del left[: 2 if left[:1] == [5] else 4]
                case 2:
                    self.cursor.attrs = self.cursor.attrs._replace(blink=True)
                case 22:
                    self.cursor.attrs = self.cursor.attrs._replace(blink=False)

    def shot(self) -> Shot:
        """What it shows now, without the empty rest."""
        lines = []
        for row in range(self.lines):
            cells = [self.buffer[row][column] for column in range(self.columns)]
            line = Text()
            for style, alike in groupby(cells, _style):
                # Gaps apart: some viewers drop the spaces that a piece of text begins with.
                for piece in re.findall(r"\s+|\S+(?: \S+)*", "".join(cell.data for cell in alike)):
                    line.append(piece, style)
            line.rstrip()
            lines.append(line)
        while lines and not lines[-1].plain:
            lines.pop()
        return Shot(self.columns, tuple(lines))


def _style(cell: pyte.screens.Char) -> Style:
    def colour(name: str) -> str | None:
        if name == "default":
            return None
        if re.fullmatch("[0-9a-f]{6}", name):
            return f"#{name}"
        # pyte calls the third colour brown, as terminals of old showed it.
        return name.replace("brown", "yellow").replace("bright", "bright_")

    return Style(
        color=colour(cell.fg), bgcolor=colour(cell.bg), bold=cell.bold, dim=cell.blink, italic=cell.italics, underline=cell.underscore
    )


class Meanwhile:
    """What happens in the container while a watch is looked at: one thing after the other, and then its end."""

    def __init__(self, todo: list[Act]) -> None:
        self._todo = todo
        self._done = 0

    def still(self, shot: Shot, process: subprocess.Popen[bytes]) -> None:
        """The screen stands still: if it shows what was done last, the next is done."""
        last = shot.plain.rpartition("\n")[2]
        if self._done > len(self._todo) or not last.endswith(f"({self._done} so far)" if self._done else "watching"):
            return
        if self._done < len(self._todo):
            asyncio.run(self._todo[self._done].happen())
        else:
            process.send_signal(signal.SIGINT)
        self._done += 1


def run(arguments: list[str], environ: dict[str, str], columns: int, meanwhile: Meanwhile | None = None, answer: bytes = b"") -> list[Shot]:
    """Runs `mediasync` with these arguments in a terminal of its own; the shots of every moment at which the screen stood still. What it
    asks is answered with `answer`. Ends the program if the command fails."""
    screen = _Screen(columns, _ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(b"\x1b[1;32m$\x1b[0m \x1b[1mmediasync " + " ".join(arguments).encode() + b"\x1b[0m\r\n")
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, pack("HHHH", _ROWS, columns, 0, 0))
    environ = {key: value for key, value in environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    command = [str(Path(sys.executable).with_name("mediasync")), *arguments]
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shots = []
        while True:
            if not select.select([ours], [], [], _STILL_SECONDS)[0]:
                shots.append(screen.shot())
                if meanwhile is not None:
                    meanwhile.still(shots[-1], process)
                if answer and shots[-1].plain.endswith("[y/N]:"):
                    os.write(ours, answer)
                    answer = b""
                if not select.select([ours], [], [], _COMMAND_SECONDS)[0]:
                    process.kill()
                    raise SystemExit(f"mediasync {arguments[0]} said nothing for {_COMMAND_SECONDS} s")
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # how Linux says that nobody has the other end open any more
                break
            stream.feed(data)
    os.close(ours)
    if process.returncode != 0:
        raise SystemExit(f"mediasync {arguments[0]} ended with exit code {process.returncode}:\n{screen.shot().plain}")
    return [*shots, screen.shot()]


def choose(shots: list[Shot], fits: Callable[[str], bool], percent: int) -> Shot:
    """Of the shots that fit, the one nearest to so many percent."""

    def distance(shot: Shot) -> int:
        found = re.search(r"(\d+) %", shot.plain)
        return abs(int(found[1]) - percent) if found else 1000

    fitting = [shot for shot in shots if fits(shot.plain)]
    if not fitting:
        raise SystemExit("the command was over before its display showed what the picture is to show; run it again")
    return min(fitting, key=distance)


def draw(path: Path, windows: list[tuple[str, Shot]]) -> None:
    """Writes one SVG with these windows, each with its title, below one another."""
    parts, y, width = [], 0.0, 0.0
    for number, (title, shot) in enumerate(windows):
        console = Console(record=True, width=shot.columns, file=io.StringIO(), color_system="truecolor", legacy_windows=False)
        for line in shot.lines:
            console.print(line, no_wrap=True, overflow="crop", crop=True)
        # The advance of most fonts for terminals; the others are stretched to it, so that bars have no gaps.
        part = console.export_svg(title=title, theme=_THEME, code_format=_WINDOW, font_aspect_ratio=0.6, unique_id=f"{path.stem}-{number}")
        part = re.sub(r' clip-path="[^"]*"', "", part.replace(" textLength=", ' lengthAdjust="spacingAndGlyphs" textLength='))
        size = re.search(r'width="([\d.]+)" height="([\d.]+)"', part)
        assert size
        parts.append(part.replace("{y}", f"{y:g}", 1))
        width, y = max(width, float(size[1])), y + float(size[2]) + _GAP
    height = y - _GAP
    body = re.sub(r"(?m)^\s+|\s+$", "", "\n".join(parts))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">\n'
        f"<!-- Written by scripts/record_svg.py -->\n{body}\n</svg>\n"
    )
    print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "mediasync-demo"  # its name is in the pictures
    if folder.exists():
        shutil.rmtree(folder)
    demo = Demo(folder)
    demo.library.mkdir(parents=True)
    docs = REPOSITORY / "docs"
    try:
        with demo.container() as container:
            root = Path(str(container["home"])) / "outputs"
            write_pictures(root)
            demo.configure(container, root)
            with demo.services():
                shots = run(["sync", "demo"], demo.environ, 92)
                middle = choose(shots, lambda text: "left" in text and text.count("━") > 200, 55)
                draw(docs / "sync.svg", [("in the middle of a sync", middle), ("at its end", shots[-1])])
                draw(
                    docs / "files.svg",
                    [("the catalog", run(["files", "list", "--prefix", "ComfyUI/", "--limit", "10"], demo.environ, 118)[-1])],
                )
                todo = acts(root, draw_later(root))
                watch = run(["sync", "demo", "--watch"], demo.environ, 132, Meanwhile(todo))[-1]
                known = run(["files", "list", "--limit", str(len(todo))], demo.environ, 132)[-1]
                draw(docs / "watch.svg", [("while pictures are written in the container", watch), ("and then", known)])
                gone = str(sorted((root / "txt2img-images").rglob("*.png"))[1].relative_to(root))
                cleaned = run(["clean", "demo", "--older-than", "3h"], demo.environ, 108, answer=b"y\n")[-1]
                why = run(["clean", "why", "demo", gone], demo.environ, 108)[-1]
                draw(docs / "clean.svg", [("a plan, a question, a clean-up", cleaned), ("and why one file is gone", why)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
