"""Names: bytes, never a command and never a way out."""

from __future__ import annotations

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, ReadStatus, WantedFile
from tests.fixtures.backends import Can, lacks, needs
from tests.fixtures.sources import Collector, FarSide, read, scan, want

ODD_NAMES = [
    b" leading and trailing ",
    b"quote'\"`",
    b"new\nline",
    b"-rf",
    b"--help",
    b"$(touch pwned)",
    b"; exit 1 #",
    b"back\\slash",
    b"tab\tbell\a",
    b"invalid \xff\xfe utf-8",
    b"latin-\xe4",
    "ümläut 图像 \N{PARTY POPPER}".encode(),
    b"*?[a]",
    b"~root",
    b"%s%n",
    b"%d{}",
    b"\x01\x7f",
    b"n" * 255,
    b"a..b",
    b"con:prn|<>",
]


async def test_temporary_and_hidden_names_are_counted_and_not_reported(far: FarSide, connection: Connection) -> None:
    kept = ["a.png", "tmp", "part.png", "x.tmp.png", "tmp.tmpx"]
    dropped = [
        "a.tmp",
        "A.TMP",
        "b.part",
        "c.partial",
        "d.crdownload",
        "e.rsync-tmp",
        ".DS_Store",
        ".~tmp~",
        ".a.png.Xy12",
        "Thumbs.db",
        "f~",
    ]
    for name in kept + dropped:
        far.put(name)
    far.put(".hidden/inside.png")
    far.put("folder.tmp/inside.png")
    found = await scan(connection)
    assert set(found.files) == {name.encode() for name in kept} | {b"folder.tmp/inside.png"}
    # A hidden folder counts once: nobody looks into it.
    assert found.finished.files_filtered == len(dropped) + 1
    assert found.finished.files_seen == len(kept) + 1


@needs(Can.ANY_NAME)
async def test_i7_odd_names_come_as_they_are(far: FarSide, connection: Connection) -> None:
    for name in ODD_NAMES:
        far.put(name + b"/" + name, name)
    found = await scan(connection)
    assert set(found.files) == {name + b"/" + name for name in ODD_NAMES}
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert {path: bytes(data) for path, data in sinks.files.items()} == {name + b"/" + name: name for name in ODD_NAMES}
    for name in ODD_NAMES:
        assert set((await scan(connection, name)).files) == {name + b"/" + name}
    assert not (far.root / "pwned").exists()


@pytest.mark.parametrize("path", [b"../x", b"/etc/passwd", b"a/../../x", b"a//b", b"", b"a\0b", b"."])
async def test_i7_a_path_that_leads_out_is_never_asked_for(far: FarSide, connection: Connection, path: bytes) -> None:
    with pytest.raises(MediasyncError) as raised:
        await read(connection, [WantedFile(path, 1, 1, 1)])
    assert raised.value.reason is Reason.FILE_NAME_UNSAFE


@lacks(Can.ANY_NAME)
async def test_i7_names_that_cannot_be_carried_are_counted(far: FarSide, connection: Connection) -> None:
    for name in ODD_NAMES:
        far.put(name, name)
    found = await scan(connection)
    plain = {name for name in ODD_NAMES if b"\n" not in name and name.decode("utf-8", "ignore").encode() == name}
    assert plain <= set(found.files)
    assert found.finished.files_seen + found.finished.files_filtered == len(ODD_NAMES)
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert {path: bytes(data) for path, data in sinks.files.items()} == {name: name for name in found.files}
