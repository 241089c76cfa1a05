"""What the architecture page names is there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "ARCHITECTURE.md").read_text()


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
    assert len(targets) > 5
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_every_module_it_names_is_there() -> None:
    named = re.findall(r"`((?:mediasync|services|protos)/[^`]*)`", TEXT)
    assert len(named) > 5
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
    table = TEXT.split("**A unit of work** goes", 1)[1].split("**A clean-up**", 1)[0]
    parts = {part for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for part in re.findall(r"`([^`]*)`", row)}
    parts |= set(re.findall(r"`([a-z]+)`", " ".join(re.findall(r"^\*\*(?:Watching|Keeping)[^)]*\)", table, re.MULTILINE))))
    assert len(parts) > 12
    folder = REPOSITORY / "services" / "transfer"
    assert [part for part in parts if not (folder / part).is_dir() and not (folder / f"{part}.py").exists()] == []
    cleanup = TEXT.split("| in `services/cleanup` |", 1)[1].split("**Events.**", 1)[0]
    parts = {part for row in re.findall(r"^\| (`[^|]*) \|", cleanup, re.MULTILINE) for part in re.findall(r"`([^`]*)`", row)}
    assert len(parts) > 12
    assert [part for part in parts if not (REPOSITORY / "services" / "cleanup" / f"{part}.py").exists()] == []
    events = TEXT.split("| in `services/ingest` |", 1)[1].split("**One trace", 1)[0]
    parts = {part for row in re.findall(r"^\| (`[^|]*) \|", events, re.MULTILINE) for part in re.findall(r"`([^`]*)`", row)}
    assert len(parts) > 12
    assert [part for part in parts if not (REPOSITORY / "services" / "ingest" / f"{part}.py").exists()] == []
