"""Pulling files out of a container: ours and `docker cp`, in turn, in one run, through a Docker engine that is started for it.

    python -m benchmarks.docker --rounds 5

Needs root and dockerd. The files lie in a folder that is mounted into the container. With `--engine auto` ours reads them directly, as on
any engine of this machine; with `agent` they come through `docker exec`, as from one elsewhere: the container has Python.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.pulling import OURS, Bench, Timing, surroundings, table
from benchmarks.trees import TREES
from mediasync.client import Client
from mediasync.model import DockerConnection, Engine, SourceSpec, SourceType, SyncOptions
from tests.fixtures.docker import start_engine


async def measure(options: argparse.Namespace, work: Path) -> None:
    """Runs the contestants in turn, and prints a table of medians."""
    tree = next(tree for tree in TREES if tree.name == options.tree)
    source = work / "source"
    source.mkdir()
    size_bytes = tree.make(source, options.files or tree.files)
    console = Console()
    console.print(
        f"{options.files or tree.files} files ({tree.name}), {size_bytes / 1e9:.2f} GB, {options.rounds} rounds, "
        f"engine: {options.engine}; {surroundings(work)}"
    )
    engine = start_engine()
    try:
        engine.create("bench", python=True, binds=(f"{source}:/outputs",))
        engine.start("bench")
        bench = Bench(work, source)
        spec = SourceSpec(DockerConnection("bench", engine_url=engine.url), b"/outputs", SourceType.DOCKER, engine=Engine(options.engine))

        def copy(target: Path) -> None:
            subprocess.run(["docker", "-H", engine.url, "cp", "-q", "bench:/outputs/.", str(target)], check=True)

        results: dict[str, list[Timing]] = {name: [] for name in (*OURS, "docker cp")}
        async with Client(home=work / "home") as client:
            for _ in range(options.rounds):
                for name, durability in OURS.items():
                    results[name].append(await bench.ours(client, spec, SyncOptions(durability=durability)))
                results["docker cp"].append(await bench.peer(copy))
        console.print(table("out of a container", results, size_bytes))
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=[tree.name for tree in TREES], default="pictures", help="what there is to pull")
    parser.add_argument("--files", type=int, default=0, help="how many; by default as many as the tree has")
    parser.add_argument("--engine", choices=[Engine.AUTO.value, Engine.AGENT.value], default=Engine.AUTO.value, help="how ours reads them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder to work in, on the disk to be measured; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="mediasync-bench-") as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
