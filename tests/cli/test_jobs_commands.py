"""`mediasync jobs pause|resume|limit|retry` as processes against a scripted coordinator."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mediasync.model import JobActivity, JobState
from tests.cli.test_sync_command import url
from tests.fixtures.peer import NOW, Cli, PeerServer


async def started(peer: PeerServer, cli: Cli, root: str = "hang") -> str:
    """A job at the coordinator."""
    ended = await cli("sync", url(root), "lib", "--detach", "--coordinator", peer.address)
    return ended.stdout.strip()


async def test_a_job_is_paused_and_resumed(peer: PeerServer, cli: Cli) -> None:
    job = await started(peer, cli)
    ended = await cli("jobs", "pause", job, "--coordinator", peer.address)
    assert (ended.code, ended.stdout) == (0, "job_1 is paused; `mediasync jobs resume job_1` lets it go on\n")
    assert peer.peer.jobs[job].state is JobState.PAUSED
    shown = await cli("jobs", "show", job, "--coordinator", peer.address)
    assert "Sync is paused" in shown.stdout
    ended = await cli("jobs", "resume", job, "--json", "--coordinator", peer.address)
    assert (ended.code, json.loads(ended.stdout)["state"]) == (0, "running")
    assert all(request.request_id for request in peer.peer.requests)


@pytest.mark.parametrize(
    ("rate", "megabits", "said"),
    [
        ("20mbit", 20.0, "job_1 comes at most 20 Mbit/s"),
        ("off", 0.0, "job_1 comes as fast as it can"),
        ("default", None, "job_1 comes as fast as it began with"),
    ],
)
async def test_a_limit_is_changed(peer: PeerServer, cli: Cli, rate: str, megabits: float | None, said: str) -> None:
    job = await started(peer, cli)
    ended = await cli("jobs", "limit", job, rate, "--coordinator", peer.address)
    assert (ended.code, ended.stdout) == (0, said + "\n")
    assert peer.peer.jobs[job].limit_mbps == megabits


async def test_a_rate_that_is_none_is_told_before_anything_is_asked(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("jobs", "limit", "job_1", "fast", "--coordinator", peer.address)
    assert ended.code == 2
    assert "RATE 'fast': expected a rate such as 20mbit, 2.5MB or off" in ended.stderr
    assert peer.peer.requests == []


async def test_a_retry_is_a_job_of_its_own_that_is_followed(peer: PeerServer, cli: Cli) -> None:
    ended = await cli("sync", url("errors"), "lib", "--json", "--coordinator", peer.address)
    former = json.loads(ended.stdout)["job_id"]
    ended = await cli("jobs", "retry", former, "--json", "--coordinator", peer.address)
    assert (ended.code, json.loads(ended.stdout)["state"]) == (0, "complete")
    shown = await cli("jobs", "show", "job_2", "--coordinator", peer.address)
    assert "retry of  job_1" in shown.stdout
    ended = await cli("jobs", "retry", "job_2", "--coordinator", peer.address)
    assert ended.code == 2
    assert "job_2 has taken every file" in ended.stderr
    ended = await cli("jobs", "pause", "job_2", "--coordinator", peer.address)
    assert ended.code == 2
    assert "job_2 has ended already: complete\n  → `mediasync jobs retry JOB`" in ended.stderr


async def test_show_tells_since_when_a_watched_source_is_gone_and_when_it_is_tried_next(peer: PeerServer, cli: Cli) -> None:
    job = await started(peer, cli)
    activities = (JobActivity(b"a", "the source is gone: no route to host", NOW, NOW + 40), JobActivity(b"b", "watching"))
    peer.peer.jobs[job] = replace(peer.peer.jobs[job], state=JobState.RUNNING, activities=activities)
    cli.environ["TZ"] = "UTC"
    shown = await cli("jobs", "show", job, "--coordinator", peer.address)
    assert "a: the source is gone: no route to host; gone since 2026-11-18 11:06:40; next try at 2026-11-18 11:07:20" in shown.stdout
    assert "b: watching" in shown.stdout
    shown = await cli("jobs", "show", job, "--json", "--coordinator", peer.address)
    assert json.loads(shown.stdout)["activities"][1] == {"folder": "b", "text": "watching", "gone_since": 0.0, "next_try": 0.0}
