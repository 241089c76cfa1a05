from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import baggage

from mediasync.runtime import crash
from mediasync.runtime.context import SYNC_ID_BAGGAGE, bound, sync_id


def now() -> tuple[str, object]:
    return sync_id.get(), baggage.get_baggage(SYNC_ID_BAGGAGE)


def test_a_sync_is_known_inside_and_forgotten_outside() -> None:
    assert now() == ("", None)
    with bound("sync_1"):
        assert now() == ("sync_1", "sync_1")
        with pytest.raises(ValueError), bound("sync_2"):
            assert now() == ("sync_2", "sync_2")
            raise ValueError
        assert now() == ("sync_1", "sync_1")
    assert now() == ("", None)


async def test_tasks_started_inside_belong_to_it_and_others_do_not() -> None:
    async def look() -> tuple[str, object]:
        await asyncio.sleep(0)
        return now()

    with bound("sync_1"):
        inside = asyncio.create_task(look())
    outside = asyncio.create_task(look())
    assert (await inside, await outside) == (("sync_1", "sync_1"), ("", None))


def test_leaving_it_in_another_context_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> Iterator[None]:
        with bound("sync_1"):
            yield

    generator = work()
    contextvars.copy_context().run(next, generator)
    with caplog.at_level(logging.DEBUG):
        generator.close()
    assert not caplog.records
    assert now() == ("", None)


def test_crash_points_are_inert_without_the_variable() -> None:
    crash.point("anything")


@pytest.mark.parametrize(("text", "passes"), [("a.b", 1), ("a.b:3", 3), ("a.b:0", 1), ("a.b:x", 1)])
def test_a_crash_point_is_named_with_an_optional_count(text: str, passes: int) -> None:
    armed = crash.parse(text)
    assert armed is not None
    assert (armed.point, armed.passes_left) == ("a.b", passes)


def test_nobody_dies_twice_at_the_same_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASYNC_HOME", str(tmp_path))
    monkeypatch.setattr(crash, "_armed", crash.parse("a.b:2"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "crashed.a.b").touch()
    for _ in range(3):
        crash.point("other")
        crash.point("a.b")


def test_a_file_names_one_point_after_the_other_and_goes_with_who_died_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: died.append(number))
    file = tmp_path / "armed"
    monkeypatch.setattr(crash, "_armed", crash.parse(f"@{file}"))
    crash.point("a.b")
    file.write_text("a.b")
    crash.point("other")
    assert (died, file.exists()) == ([], True)
    for _ in range(2):
        crash.point("a.b")
    assert (died, file.exists()) == ([signal.SIGKILL], False)
    file.write_text("a.b")
    crash.point("a.b")
    assert len(died) == 2
