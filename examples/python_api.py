"""Brings new pictures into a library from Python, and says what came.

python examples/python_api.py forge.lan /app/outputs /media/library
"""

from __future__ import annotations

import argparse
import asyncio

from mediasync import Client, MediasyncError, SyncConfig


async def bring(config: SyncConfig) -> int:
    # Without an address the client uses the services of this machine: those that run, or its own until the block ends.
    async with Client() as client:
        job = await client.start_sync(config)
        async for progress in client.watch(job):
            print(f"{progress.percent:3.0f} %  {progress.current_stage}  {progress.files_done} of {progress.files_total} files")
        result = await job.result()
        print(f"{result.state.value}: {result.summary.files_transferred} new, {result.summary.files_unchanged} unchanged")
        # What failed single files, and what failed the whole.
        for problem in (*result.summary.problems, *([result.problem] if result.problem else [])):
            print(f"  {problem.reason.value}: {problem.message}. {problem.remedy}")
        async for file in client.list_files(sync_id=job.sync_id):
            seed = file.metadata.seed if file.metadata else None
            print(f"  {file.library_path!r}  {file.size_bytes} bytes  seed {seed}")
        return 1 if result.problem else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", help="host name, address, or an alias of ~/.ssh/config")
    parser.add_argument("path", help="folder there that holds the pictures")
    parser.add_argument("library", help="folder here that they go to")
    parser.add_argument("--port", type=int, help="SSH port")
    parser.add_argument("--user", help="login name")
    parser.add_argument("--identity-file", default=(), help="private key")
    parser.add_argument("--known-hosts", default=(), help="known-hosts file")
    options = parser.parse_args()
    config = SyncConfig(
        source_host=options.host,
        source_port=options.port,
        source_user=options.user,
        source_path=options.path,
        dest_path=options.library,
        identity_file=options.identity_file,
        known_hosts=options.known_hosts,
    )
    try:
        return asyncio.run(bring(config))
    except MediasyncError as error:
        print(f"{error.reason.value}: {error}\n{error.remedy}")
        return int(error.exit_code)


if __name__ == "__main__":
    raise SystemExit(main())
