from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mediasync.runtime.appender import LineFile


def lines_of(folder: Path) -> list[bytes]:
    return [line for file in sorted(folder.iterdir(), reverse=True) for line in file.read_bytes().splitlines(keepends=True)]


def test_lines_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for text in (b"1\n", b"2\n"):
        file = LineFile(path)
        file.append(text)
        file.close()
    assert path.read_bytes() == b"1\n2\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_large_is_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "x", max_bytes=4, keep=2)
    for number in range(8):
        file.append(b"%d\n" % number)
    assert sorted(os.listdir(tmp_path)) == ["x", "x.1", "x.2"]
    assert lines_of(tmp_path) == [b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"7\n"]
    assert file.lost == 0


def test_a_writer_follows_when_another_has_rotated(tmp_path: Path) -> None:
    first, second = (LineFile(tmp_path / "x", max_bytes=4) for _ in range(2))
    first.append(b"aaaa\n")
    second.append(b"b\n")
    first.append(b"c\n")
    assert (tmp_path / "x.1").read_bytes() == b"aaaa\n"
    assert (tmp_path / "x").read_bytes() == b"b\nc\n"


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "x")
    file.append(b"1\n")
    (tmp_path / "x").unlink()
    file.append(b"2\n")
    assert (tmp_path / "x").read_bytes() == b"2\n"


def test_a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried_again(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "gone" / "x")
    file.append(b"1\n")
    assert file.lost == 1
    (tmp_path / "gone").mkdir()
    file.append(b"2\n")
    assert (tmp_path / "gone" / "x").read_bytes() == b"2\n"


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    file = LineFile(Path("/dev/full"))
    file.append(b"1\n")
    file.append(b"2\n")
    assert file.lost == 2
    file.close()


PROGRAM = """
import sys
from pathlib import Path
from mediasync.runtime.appender import LineFile
file = LineFile(Path(sys.argv[1]), max_bytes=20_000, keep=50)
for number in range(400):
    file.append(f"{sys.argv[2]} {number} {'x' * 200}\\n".encode())
assert file.lost == 0
"""


def test_several_processes_write_and_rotate_without_losing_or_mixing_lines(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "x"), str(number)]) for number in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    counted = Counter(lines_of(tmp_path))
    assert counted == Counter(f"{process} {number} {'x' * 200}\n".encode() for process in range(4) for number in range(400))
    assert len(os.listdir(tmp_path)) > 10
