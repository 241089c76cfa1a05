"""I7: names of any bytes go there and come back as they are, through a real shell."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.sources.agent.connection import NamedFolders
from mediasync.sources.posix.connection import PosixConnection
from mediasync.sources.process import ChildLauncher
from mediasync.sources.shell_posix import posix_arguments
from tests.fixtures.posix_backends import busybox_tools, gnu_tools
from tests.fixtures.sources import Collector, read, scan, want

NAMES = st.lists(
    st.binary(min_size=1, max_size=40).map(lambda name: b"n" + name.replace(b"/", b"").replace(b"\0", b"") + b"."), min_size=1, unique=True
)


@pytest.mark.parametrize("tools", [gnu_tools, busybox_tools])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names=NAMES)
async def test_i7_any_name_round_trips(tmp_path: Path, tools: object, names: list[bytes]) -> None:
    path = tmp_path / "tools"
    if not path.exists():
        assert callable(tools)
        tools(path)
    root = tempfile.mkdtemp(dir=tmp_path).encode()
    for name in names:
        os.mkdir(root + b"/" + name)
        with open(root + b"/" + name + b"/" + name, "wb") as file:
            file.write(name)
    launcher = ChildLauncher(["env", "-i", "HOME=/", f"PATH={path}", *posix_arguments(str(path / "sh"))])
    connection = await PosixConnection.open(launcher, [root], "child", NamedFolders())
    try:
        found = await scan(connection)
        assert set(found.files) == {name + b"/" + name for name in names}
        sinks = Collector()
        await read(connection, [want(entry, settle_seconds=0) for entry in found.files.values()], sinks)
        assert {path: bytes(data) for path, data in sinks.files.items()} == {name + b"/" + name: name for name in names}
        assert await connection.missing_folders([*names, b"nowhere"]) == [b"nowhere"]
    finally:
        await connection.close()
        shutil.rmtree(root)
