"""`mediasync sync`: bring what is new from a source into the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import (
    AcceptNew,
    AsJson,
    BandwidthLimit,
    Compress,
    Config,
    Coordinator,
    DuplicatesChoice,
    DurabilityChoice,
    EngineName,
    Exclude,
    Extensions,
    Folders,
    IdentityFiles,
    Include,
    KnownHosts,
    MaxAge,
    MaxSize,
    MinAge,
    MinSize,
    NewestFirst,
    Parallel,
    PassphraseFile,
    PasswordFile,
    Profile,
    Restore,
    Symlinks,
)

if TYPE_CHECKING:
    from mediasync.cli.targets import Wishes
    from mediasync.config import Configuration
    from mediasync.handle import JobHandle


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
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Do not end: bring each new file as it comes, until Ctrl-C.", show_default=False)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="Take nothing: list what would come, and why the rest would not.", show_default=False),
    ] = False,
    clean: Annotated[
        bool | None,
        typer.Option(
            "--clean/--no-clean",
            help="End with a clean-up: delete at the source what the library has and is older than 24 h, as `mediasync clean` does. "
            "Default: what the source's configuration says; for a URL no.",
            show_default=False,
        ),
    ] = None,
    folders: Folders = None,
    include: Include = None,
    exclude: Exclude = None,
    extensions: Extensions = None,
    min_size: MinSize = "",
    max_size: MaxSize = "",
    min_age: MinAge = "",
    max_age: MaxAge = "",
    follow_symlinks: Symlinks = "",
    bandwidth_limit: BandwidthLimit = "",
    newest_first: NewestFirst = False,
    compress: Compress = False,
    restore: Restore = False,
    duplicates: DuplicatesChoice = "",
    durability: DurabilityChoice = "",
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

    Nothing in the library is ever overwritten. Nothing is deleted at the source but by its clean-up: with --clean, or where the
    configuration has one.

    Uses the services of `mediasync up` if they run, else starts its own for as long as it takes.

    Example: mediasync sync ssh://user@forge.lan:2222/outputs /media/library

    Example: mediasync sync docker://comfyui /media/library --profile comfyui

    Example: mediasync sync forge --folder txt2img-images --json

    Example: mediasync sync forge --watch --bandwidth-limit 20mbit

    Example: mediasync sync forge --dry-run --ext png,webp --exclude 'temp/'

    Example: mediasync sync ssh://user@forge.lan:2222/outputs /media/library --clean
    """
    import asyncio

    from mediasync.cli import sync_options
    from mediasync.cli.session import configure
    from mediasync.cli.targets import Wishes, check_sync

    if dry_run and (watch or detach):
        other = "--watch" if watch else "--detach"
        raise sync_options.wrong("--dry-run", f"--dry-run ends with its list, so it does not go with {other}")
    if clean and watch:
        raise sync_options.wrong(
            "--clean", "--watch does not end, so no clean-up comes after it; `mediasync clean` is one, and `cleanup:` in the configuration"
        )
    if clean and dry_run:
        raise sync_options.wrong("--clean", "--dry-run of a sync shows no clean-up; `mediasync clean SOURCE --dry-run` does")
    options = sync_options.given(
        bandwidth_limit=bandwidth_limit,
        newest_first=newest_first,
        include=include or (),
        exclude=exclude or (),
        extensions=extensions or (),
        min_size=min_size,
        max_size=max_size,
        min_age=min_age,
        max_age=max_age,
        follow_symlinks=follow_symlinks,
        restore=restore,
        duplicates=duplicates,
        durability=durability,
    )
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
        # A source that is watched under `mediasync up` is synced once when it is asked for here, unless a watch is.
        {**options, "watch": watch},
        compress,
        clean,
    )
    configuration = configure(config)
    check_sync(source, wishes, configuration)  # a mistake is said before anything is started
    if dry_run:
        asyncio.run(_preview(source, wishes, configuration, config is not None, coordinator, as_json))
        return
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
    from mediasync.cli.targets import resolve_sync
    from mediasync.runtime.context import SYNC_ID_BAGGAGE

    watch = bool(wishes.options["watch"])
    with Interrupt(as_json, watch=watch).handled() as interrupt, ExitStack() as shown:
        display = shown.enter_context(open_display(quiet=as_json or detach, watch=watch))
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
            code = report.print_result(ended, as_json, watch_ended=watch and interrupt.happened)
            interrupt.job_ended(code)
            return code


async def _preview(source: str, wishes: Wishes, configuration: Configuration, own_file: bool, coordinator: str, as_json: bool) -> None:
    from mediasync.cli.preview import preview
    from mediasync.cli.session import connected
    from mediasync.cli.targets import resolve_sync

    async with connected("sync --dry-run", coordinator) as (client, _):
        spec = await resolve_sync(client, source, wishes, configuration, own_file=own_file)
        await preview(client, spec, as_json)


def _print_detached(job: JobHandle, as_json: bool) -> None:
    from mediasync.cli import output

    if as_json:
        output.print_json({"job_id": job.job_id, "sync_id": job.sync_id})
        return
    output.line(job.job_id)
    output.note(f"Follow it with `mediasync jobs watch {job.job_id}`.")
