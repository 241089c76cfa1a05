"""`mediasync sync`: bring what is new from a source into the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import (
    AcceptNew,
    AsJson,
    Config,
    Coordinator,
    EngineName,
    Folders,
    IdentityFiles,
    KnownHosts,
    Parallel,
    PassphraseFile,
    PasswordFile,
    Profile,
)

if TYPE_CHECKING:
    from mediasync.cli.targets import Wishes
    from mediasync.client import JobHandle
    from mediasync.config import Configuration


def sync(
    source: Annotated[
        str,
        typer.Argument(
            help=r"ssh://\[user@]host\[:port]/path, docker://\[context@]container/path, a folder such as /path or ./path, "
            "or a name from the configuration or `sources add`.",
            show_default=False,
        ),
    ],
    dest: Annotated[str, typer.Argument(help="The library's folder. Default: the source's own, else MEDIA_BASE.", show_default=False)] = "",
    folders: Folders = None,
    profile: Profile = "",
    identity_files: IdentityFiles = None,
    known_hosts: KnownHosts = None,
    accept_new_host_key: AcceptNew = False,
    parallel_transfers: Parallel = None,
    full: Annotated[
        bool, typer.Option("--full", help="Look at everything at the source, not only at what moved since the last look.")
    ] = False,
    password_file: PasswordFile = None,
    passphrase_file: PassphraseFile = None,
    engine: EngineName = "",
    config: Config = None,
    as_json: AsJson = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return; the job goes on.")] = False,
    coordinator: Coordinator = "",
) -> None:
    """Bring every new picture and video from SOURCE into the library at DEST.

    Nothing in the library is ever overwritten, and nothing is deleted at the source.

    Uses the services of `mediasync up` if they run, else starts its own for as long as it takes.

    Example: mediasync sync ssh://user@forge.lan:2222/outputs /media/library

    Example: mediasync sync docker://comfyui /media/library --profile comfyui

    Example: mediasync sync forge --folder txt2img-images --json
    """
    import asyncio

    from mediasync.cli.session import configure
    from mediasync.cli.targets import Wishes

    wishes = Wishes(
        dest,
        folders or (),
        profile,
        identity_files or (),
        known_hosts or (),
        accept_new_host_key,
        parallel_transfers,
        full,
        password_file,
        passphrase_file,
        engine,
    )
    configuration = configure(config)
    code = asyncio.run(_sync(source, wishes, configuration, config is not None, coordinator, as_json, detach))
    if code:
        raise typer.Exit(code)


async def _sync(
    source: str, wishes: Wishes, configuration: Configuration, own_file: bool, coordinator: str, as_json: bool, detach: bool
) -> int:
    from contextlib import ExitStack

    from mediasync.cli import report
    from mediasync.cli.display import open_display
    from mediasync.cli.follow import Interrupt, follow
    from mediasync.cli.session import connected
    from mediasync.cli.targets import resolve_sync, spec_from_url
    from mediasync.config import is_url
    from mediasync.runtime.context import SYNC_ID_BAGGAGE

    if is_url(source):
        spec_from_url(source, wishes, configuration)  # a mistake is said before anything is started
    with Interrupt(as_json).handled() as interrupt, ExitStack() as shown:
        display = shown.enter_context(open_display(quiet=as_json or detach))
        async with connected("sync", coordinator) as (client, root):
            spec = await resolve_sync(client, source, wishes, configuration, own_file=own_file)
            job = await client.start_sync(spec)
            root.set_attribute(SYNC_ID_BAGGAGE, job.sync_id)
            if detach:
                _print_detached(job, as_json)
                return 0
            ended = await follow(job, display, interrupt)
            shown.close()
            # Told before the services are let go of, which takes a moment when they are our own.
            code = report.print_result(ended, as_json)
            interrupt.job_ended(code)
            return code


def _print_detached(job: JobHandle, as_json: bool) -> None:
    from mediasync.cli import output

    if as_json:
        output.print_json({"job_id": job.job_id, "sync_id": job.sync_id})
        return
    output.line(job.job_id)
    output.note(f"Follow it with `mediasync jobs watch {job.job_id}`.")
